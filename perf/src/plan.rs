//! A namespace as a workload sees it: places of one I/O each, and this CPU's part of them.

use nvmf_core::host::Attached;
use transport_rdma::host::{IoCommand, Start};

use crate::settings::Settings;

/// One namespace, cut into places of one I/O each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) nsid: u32,
    pub(crate) block_len: usize,
    /// Blocks of an I/O.
    pub(crate) blocks_per_io: u32,
    /// The first place of this CPU's part.
    pub(crate) first: u64,
    /// Places of this CPU's part.
    pub(crate) count: u64,
    /// Places of the namespace.
    pub(crate) total: u64,
}

impl Places {
    /// First block of a place.
    pub(crate) fn slba(&self, place: u64) -> u64 {
        place * u64::from(self.blocks_per_io)
    }

    /// Reads a place.
    pub(crate) fn read(&self, place: u64, buffer: reactor::Segment) -> IoCommand {
        IoCommand::Read { nsid: self.nsid, slba: self.slba(place), block_count: self.blocks_per_io, buffer }
    }

    /// Has reads of a place fail until it is written.
    pub(crate) fn spoil(&self, place: u64) -> IoCommand {
        IoCommand::WriteUncorrectable { nsid: self.nsid, slba: self.slba(place), block_count: self.blocks_per_io }
    }

    /// Writes a place.
    pub(crate) fn write(&self, place: u64, buffer: reactor::Segment) -> IoCommand {
        IoCommand::Write {
            nsid: self.nsid,
            slba: self.slba(place),
            block_count: self.blocks_per_io,
            force_unit_access: false,
            buffer,
        }
    }
}

/// The namespaces that the settings name, in order.
pub(crate) fn places(settings: &Settings, start: &Start<'_>) -> Result<Vec<Places>, String> {
    let attached = start.attached;
    let nsids: Vec<u32> = if settings.nsids.is_empty() {
        attached.namespaces.iter().map(|namespace| namespace.nsid).collect()
    } else {
        settings.nsids.clone()
    };
    if nsids.is_empty() {
        return Err("the controller has no namespace".to_owned());
    }
    let io_len = settings.io_len;
    if io_len > attached.transfer_len_max as usize {
        return Err(format!(
            "io-size is {io_len}, the controller transfers at most {} bytes with one command",
            attached.transfer_len_max
        ));
    }
    nsids.into_iter().map(|nsid| places_of(nsid, settings, start)).collect()
}

fn places_of(nsid: u32, settings: &Settings, start: &Start<'_>) -> Result<Places, String> {
    let namespace = start
        .attached
        .namespaces
        .iter()
        .find(|namespace| namespace.nsid == nsid)
        .ok_or_else(|| format!("nsid is {nsid}; {}", known(start.attached)))?;
    let block_len = namespace.block_len as usize;
    let io_len = settings.io_len;
    if block_len == 0 || !io_len.is_multiple_of(block_len) {
        return Err(format!(
            "io-size is {io_len}, which is no multiple of namespace {nsid}'s blocks of {block_len} bytes"
        ));
    }
    let blocks_per_io = u32::try_from(io_len / block_len).ok().filter(|&count| count <= 1 << 16);
    let blocks_per_io = blocks_per_io
        .ok_or_else(|| format!("io-size is {io_len}, a command has at most 65536 blocks of {block_len}"))?;
    let total = namespace.block_count / u64::from(blocks_per_io);
    let (cpu, cpus) = (u64::from(start.cpu), u64::from(settings.cpu_count));
    if total < cpus {
        return Err(format!(
            "namespace {nsid} has {total} places for an I/O of {io_len} bytes: too few for {cpus} CPUs"
        ));
    }
    // Widened: a namespace may have 2^64 blocks.
    let edge = |cpu: u64| u64::try_from(u128::from(total) * u128::from(cpu) / u128::from(cpus)).expect("below total");
    let (first, end) = (edge(cpu), edge(cpu + 1));
    Ok(Places { nsid, block_len, blocks_per_io, first, count: end - first, total })
}

fn known(attached: &Attached) -> String {
    let nsids: Vec<_> = attached.namespaces.iter().map(|namespace| namespace.nsid.to_string()).collect();
    format!("the controller has {}", if nsids.is_empty() { "none".to_owned() } else { nsids.join(", ") })
}
