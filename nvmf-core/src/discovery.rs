//! The discovery service: which subsystems a host may connect to, and where.

use zerocopy::IntoBytes;

use crate::status::Status;
use crate::subsystem::{Snapshot, Subsystem, SubsystemPort};
use crate::wire::log::window;
use crate::wire::{DiscoveryEntry, DiscoveryHeader, SubsystemType};

const RECORD_LEN: u64 = DiscoveryHeader::LEN as u64;

/// Writes the part of the log that starts at `offset` into `data`, record by record: the whole log is never in memory.
pub(crate) fn write_log(snapshot: &Snapshot, host_nqn: &str, offset: u64, data: &mut [u8]) -> Result<(), Status> {
    let count = ways(snapshot, host_nqn).count() as u64;
    if offset > (count + 1) * RECORD_LEN {
        return Err(Status::INVALID_FIELD);
    }
    let header = DiscoveryHeader::new(snapshot.discovery.of(host_nqn), count);
    write_record(0, header.as_bytes(), offset, data);
    for (index, (subsystem, port)) in (1u64..).zip(ways(snapshot, host_nqn)) {
        let start = index * RECORD_LEN;
        // Records wholly before or after the part are not made.
        if start + RECORD_LEN <= offset || start >= offset + data.len() as u64 {
            continue;
        }
        let admin_depth = snapshot.controller.admin_queue_depth_max;
        let entry = DiscoveryEntry::rdma(SubsystemType::Nvm, &subsystem.nqn, port.address, port.id, admin_depth);
        write_record(start, entry.as_bytes(), offset, data);
    }
    Ok(())
}

/// Subsystems that take this host, by each of their listeners, in a fixed order.
fn ways<'s>(snapshot: &'s Snapshot, host_nqn: &'s str) -> impl Iterator<Item = (&'s Subsystem, &'s SubsystemPort)> {
    snapshot
        .offered()
        .filter(move |subsystem| subsystem.allows(host_nqn))
        .flat_map(|subsystem| subsystem.listeners.iter().map(move |port| (subsystem, port)))
}

/// Copies what of the record at `start` lies inside the part at `offset`.
fn write_record(start: u64, record: &[u8], offset: u64, data: &mut [u8]) {
    let end = start + record.len() as u64;
    let (from, to) = (start.max(offset), end.min(offset + data.len() as u64));
    if from >= to {
        return;
    }
    // Both differences are within `data`, whose length is a usize.
    let at = usize::try_from(from - offset).unwrap_or(usize::MAX);
    let len = usize::try_from(to - from).unwrap_or(0);
    if let Some(place) = data.get_mut(at..at + len) {
        window(record, from - start, place);
    }
}
