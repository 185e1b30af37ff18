//! `nvmf-ctl device create …`: a command for each type.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::super::answer::{Answer, cell, items};
use super::super::client::Client;
use super::super::trouble::Trouble;
use super::super::words::{self, said};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Blocks in the target's own memory, zero at the start and gone at the end.
    #[command(visible_alias = "memory")]
    Malloc(Sized),
    /// Drops what is written and reads as zeroes: for measuring everything but the medium.
    Null(Sized),
    /// A file or block device.
    File {
        /// What it is called.
        name: String,
        /// The file, which is there and which the target can open.
        path: PathBuf,
        /// Bytes of a block: 512 or 4096.
        #[arg(long, default_value_t = 512, value_parser = words::block_size)]
        block_size: u32,
        /// Refuses writes.
        #[arg(long)]
        read_only: bool,
    },
    /// A namespace of a local NVMe drive.
    Nvme {
        /// What it is called.
        name: String,
        /// Its generic character device, such as /dev/ng0n1.
        path: PathBuf,
    },
    /// An image of a Ceph cluster.
    Rbd {
        /// What it is called.
        name: String,
        /// Its pool.
        pool: String,
        /// Its name there.
        image: String,
        /// Bytes of a block: 512 or 4096.
        #[arg(long, default_value_t = 512, value_parser = words::block_size)]
        block_size: u32,
        /// The Ceph user, without `client.`.
        #[arg(long)]
        user: Option<String>,
        /// Ceph's configuration file.
        #[arg(long, value_name = "FILE")]
        conf: Option<PathBuf>,
        /// A connection that was registered: nvmf-ctl rpc bdev_rbd_register_cluster.
        #[arg(long)]
        cluster: Option<String>,
        /// Refuses writes.
        #[arg(long)]
        read_only: bool,
        /// Used only while the target holds the image's exclusive lock.
        #[arg(long)]
        fenced: bool,
    },
    /// Another device, on which things go wrong when nvmf-ctl device fault says so. It is named EE_BASE.
    Fault {
        /// The device below.
        base: String,
    },
    /// Another device, whose operations take longer.
    Delay {
        /// What it is called.
        name: String,
        /// The device below.
        base: String,
        /// How much longer reads take.
        #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
        read_us: u64,
        /// How much longer one read of 100 takes: as the others where it is left out.
        #[arg(long, value_name = "MICROSECONDS")]
        read_p99_us: Option<u64>,
        /// How much longer writes take.
        #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
        write_us: u64,
        /// How much longer one write of 100 takes: as the others where it is left out.
        #[arg(long, value_name = "MICROSECONDS")]
        write_p99_us: Option<u64>,
    },
    /// Partitions of another device, named BASEp0, BASEp1, ….
    Partitions {
        /// The device below.
        base: String,
        /// How many.
        count: u32,
        /// The size of each: all of the device is shared out where it is left out.
        #[arg(long, value_parser = words::mebibytes)]
        size: Option<u64>,
    },
}

/// A device that is as large as it is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Sized {
    /// What it is called.
    name: String,
    /// Its size, such as 64MiB.
    #[arg(value_parser = words::size)]
    size: u64,
    /// Bytes of a block: 512 or 4096.
    #[arg(long, default_value_t = 512, value_parser = words::block_size)]
    block_size: u32,
}

impl Command {
    pub(crate) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let (method, parameters) = match self {
            Self::Malloc(sized) => ("bdev_malloc_create", sized.parameters()?),
            Self::Null(sized) => ("bdev_null_create", sized.parameters()?),
            Self::File { name, path, block_size, read_only } => {
                let path = absolute(path)?;
                let parameters = json!({ "name": name, "filename": path, "block_size": block_size, "readonly": read_only.then_some(true) });
                ("bdev_aio_create", parameters)
            }
            Self::Nvme { name, path } => ("bdev_xnvme_create", json!({ "name": name, "filename": absolute(path)? })),
            Self::Rbd { name, pool, image, block_size, user, conf, cluster, read_only, fenced } => {
                let parameters = json!({
                    "name": name,
                    "pool_name": pool,
                    "rbd_name": image,
                    "block_size": block_size,
                    "user_id": user,
                    "config_file": conf.as_deref().map(absolute).transpose()?,
                    "cluster_name": cluster,
                    "read_only": read_only.then_some(true),
                    "fenced": fenced.then_some(true),
                });
                ("bdev_rbd_create", parameters)
            }
            Self::Fault { base } => ("bdev_error_create", json!({ "base_name": base })),
            Self::Delay { name, base, read_us, read_p99_us, write_us, write_p99_us } => {
                let parameters = json!({
                    "name": name,
                    "base_bdev_name": base,
                    "avg_read_latency": read_us,
                    "p99_read_latency": read_p99_us.unwrap_or(*read_us),
                    "avg_write_latency": write_us,
                    "p99_write_latency": write_p99_us.unwrap_or(*write_us),
                });
                ("bdev_delay_create", parameters)
            }
            Self::Partitions { base, count, size } => {
                ("bdev_split_create", json!({ "base_bdev": base, "split_count": count, "split_size_mb": size }))
            }
        };
        let result = client.call(method, &said(parameters))?;
        let made = match self {
            Self::Fault { base } => format!("EE_{base} is there"),
            Self::Partitions { .. } => {
                let names: Vec<String> = items(&result).iter().map(cell).collect();
                format!("{} are there", names.join(", "))
            }
            Self::Malloc(_)
            | Self::Null(_)
            | Self::File { .. }
            | Self::Nvme { .. }
            | Self::Rbd { .. }
            | Self::Delay { .. } => {
                format!("{} is there; next: nvmf-ctl namespace add NQN {0}", cell(&result))
            }
        };
        Ok(Answer::new(result, made))
    }
}

impl Sized {
    fn parameters(&self) -> Result<serde_json::Value, Trouble> {
        let Self { name, size, block_size } = self;
        if !size.is_multiple_of(u64::from(*block_size)) {
            return Err(Trouble::Usage(format!(
                "the size is {size} bytes, and should be a multiple of the block size, {block_size}"
            )));
        }
        Ok(json!({ "name": name, "num_blocks": size / u64::from(*block_size), "block_size": block_size }))
    }
}

/// The target has a working directory of its own.
fn absolute(path: &Path) -> Result<PathBuf, Trouble> {
    std::path::absolute(path).map_err(|error| Trouble::Usage(format!("{}: {error}", path.display())))
}
