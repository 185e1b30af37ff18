//! How a device that a configuration or a request describes is opened: the one place where it is.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bdev::{Ceph, Connection, Device, FileOptions, NvmeOptions, Rbd};

use crate::clusters::Clusters;
use crate::config::{DeviceKind, DeviceSection, RbdCluster, RbdSection};

/// What devices are opened with.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// Whether hugepages are tried.
    pub huge_pages: bool,
    /// Connections to Ceph clusters that devices share.
    pub clusters: Clusters,
}

impl Means {
    /// Opens a device, made of `base` if it is made of another. May take long.
    ///
    /// # Errors
    /// What keeps it from being opened.
    pub fn open(&self, section: &DeviceSection, base: Option<Arc<dyn Device>>) -> Result<Arc<dyn Device>> {
        let (name, block_len) = (section.name.as_str(), section.block_len);
        let block_count = |len: u64| len / u64::from(block_len);
        let base = || base.with_context(|| format!("device {name}: its base is gone"));
        Ok(match &section.kind {
            DeviceKind::Memory { len } => {
                let memory = bdev::Memory::new(name, block_len, block_count(*len), self.huge_pages)?;
                if let Some(why) = memory.why_ordinary() {
                    tracing::info!(device = name, "memory device is on ordinary pages: {why}");
                }
                Arc::new(memory)
            }
            DeviceKind::Null { len } => Arc::new(bdev::Null::new(name, block_len, block_count(*len))?),
            DeviceKind::File { path, read_only, queue_depth } => {
                let options = FileOptions {
                    block_len,
                    read_only: *read_only,
                    queue_depth: *queue_depth,
                    ..FileOptions::default()
                };
                let file = bdev::File::open(name, path, options).with_context(|| where_from(path))?;
                tracing::info!(
                    device = name,
                    path = %path.display(),
                    direct = file.is_direct(),
                    io_uring = file.uses_ring(),
                    "file device"
                );
                Arc::new(file)
            }
            DeviceKind::Nvme { path, read_only, queue_depth } => {
                let options = NvmeOptions { read_only: *read_only, queue_depth: *queue_depth };
                let drive = bdev::Nvme::open(name, path, options).with_context(|| where_from(path))?;
                tracing::info!(device = name, path = %path.display(), identity = ?drive.identity(), "NVMe drive");
                Arc::new(drive)
            }
            DeviceKind::Rbd(image) => Arc::new(self.open_rbd(name, block_len, image)?),
            DeviceKind::Fault { seed, rules, .. } => {
                let base = base()?;
                tracing::info!(
                    device = name,
                    base = base.name(),
                    rule_count = rules.len(),
                    "fault device: bdev_error_inject_error says what else goes wrong"
                );
                let fault = bdev::Fault::new(name, base, *seed);
                rules.iter().for_each(|rule| fault.inject(rule.clone()));
                Arc::new(fault)
            }
            DeviceKind::Delay { latencies, seed, .. } => Arc::new(bdev::Delay::new(name, base()?, *latencies, *seed)?),
            DeviceKind::Partition { offset, len, .. } => {
                let base = base()?;
                let blocks = blocks_of(*offset, *len, &*base);
                Arc::new(bdev::Partition::new(name, base, blocks.start, blocks.end - blocks.start)?)
            }
        })
    }

    fn open_rbd(&self, name: &str, block_len: u32, section: &RbdSection) -> Result<Rbd> {
        let options = bdev::RbdOptions {
            namespace: section.namespace.clone(),
            snapshot: section.snapshot.clone(),
            block_len,
            read_only: section.read_only,
            fenced: section.fenced,
            queue_depth: section.queue_depth,
            ..bdev::RbdOptions::new(&section.pool, &section.image)
        };
        let connection = match &section.cluster {
            RbdCluster::Shared(cluster) => {
                let shared = self.clusters.find(cluster);
                Connection::Shared(shared.with_context(|| format!("device {name}: there is no cluster \"{cluster}\""))?)
            }
            RbdCluster::Own(options) => Connection::Own(Ceph::load(name)?, options.clone()),
        };
        let rbd = Rbd::open(name, connection, options)?;
        tracing::info!(device = name, image = rbd.options().path(), standing = ?rbd.standing(), "rbd device");
        Ok(rbd)
    }
}

/// Blocks of `base` that begin at a byte, and end after `len` bytes or where it ends.
#[must_use]
pub fn blocks_of(offset: u64, len: Option<u64>, base: &dyn Device) -> Range<u64> {
    let below = base.geometry();
    let blocks = |len: u64| len / u64::from(below.block_len);
    let start = blocks(offset);
    let end = len.map_or_else(|| below.block_count.max(start), |len| start.saturating_add(blocks(len)));
    start..end
}

/// Relative paths are the most likely mistake with files.
fn where_from(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(directory) if path.is_relative() => {
            format!("path = \"{}\" is relative to {}", path.display(), directory.display())
        }
        Ok(_) | Err(_) => format!("path = \"{}\"", path.display()),
    }
}
