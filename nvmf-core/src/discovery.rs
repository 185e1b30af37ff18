//! The discovery service: which subsystems a host may connect to, and where; where else it may ask; and the service itself.

use std::net::SocketAddr;

use zerocopy::IntoBytes;

use crate::referral::Referral;
use crate::spec::ControllerModel;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subsystem, SubsystemPort};
use crate::wire::log::window;
use crate::wire::{
    ANY_STATIC_CONTROLLER_ID, DiscoveryEntry, DiscoveryHeader, Nqn, SubsystemType, U16, discovery_flags,
};

const RECORD_LEN: u64 = DiscoveryHeader::LEN as u64;
/// PORTID of this service, whose addresses have no numbers: a host sees one of them.
const OWN_PORT_ID: u16 = 0;

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// HOSTNQN.
    pub(crate) host_nqn: &'a str,
    /// The address that it came by.
    pub(crate) listener: SocketAddr,
}

/// Writes the part of the log that starts at `offset` into `data`, record by record: the whole log is never in memory.
pub(crate) fn write_log(snapshot: &Snapshot, asker: Asker<'_>, offset: u64, data: &mut [u8]) -> Result<(), Status> {
    let count = records(snapshot, asker).count() as u64;
    if offset > (count + 1) * RECORD_LEN {
        return Err(Status::INVALID_FIELD);
    }
    let header = DiscoveryHeader::new(snapshot.discovery.of(asker.host_nqn), count);
    write_record(0, header.as_bytes(), offset, data);
    for (index, record) in (1u64..).zip(records(snapshot, asker)) {
        let start = index * RECORD_LEN;
        // Records wholly before or after the part are not made.
        if start + RECORD_LEN <= offset || start >= offset + data.len() as u64 {
            continue;
        }
        let entry = record.entry(snapshot.controller.admin_queue_depth_max);
        write_record(start, entry.as_bytes(), offset, data);
    }
    Ok(())
}

/// What one entry is about.
enum Record<'s> {
    /// A subsystem, by one of its listeners.
    Subsystem(&'s Subsystem, &'s SubsystemPort),
    /// Somebody else.
    Referral(&'s Referral),
    /// This service, at the address that the host came by.
    Itself(SocketAddr),
}

impl Record<'_> {
    fn entry(&self, admin_depth: u16) -> DiscoveryEntry {
        match self {
            Self::Subsystem(subsystem, port) => {
                let mut entry =
                    DiscoveryEntry::rdma(SubsystemType::Nvm, &subsystem.nqn, port.address, port.id, admin_depth);
                // One entry for all of its static controllers [NVMe Base 2.0, 5.16.1.23].
                if subsystem.controller_model == ControllerModel::Static {
                    entry.controller_id = U16::new(ANY_STATIC_CONTROLLER_ID);
                }
                entry
            }
            Self::Referral(referral) => referral.entry(),
            Self::Itself(address) => {
                let nqn = Nqn::discovery();
                let mut entry =
                    DiscoveryEntry::rdma(SubsystemType::CurrentDiscovery, &nqn, *address, OWN_PORT_ID, admin_depth);
                // A host learns the same by every address, and may stay: there are Keep Alive and events [NVMe Base 2.0, 5.16.1.23].
                let flags = discovery_flags::DUPLICATE_INFORMATION | discovery_flags::PERSISTENT_CONNECTION;
                entry.flags = U16::new(flags);
                entry
            }
        }
    }
}

/// Subsystems that take this host, by each of their listeners; referrals; this service. In a fixed order.
///
/// Of this service's addresses there is the one that the host came by, as nvmet has it: the others are those of subsystems, of which a host sees only its own.
fn records<'s>(snapshot: &'s Snapshot, asker: Asker<'s>) -> impl Iterator<Item = Record<'s>> {
    snapshot
        .offered()
        .filter(move |subsystem| subsystem.allows(asker.host_nqn))
        .flat_map(|subsystem| subsystem.listeners.iter().map(move |port| Record::Subsystem(subsystem, port)))
        .chain(snapshot.referrals.iter().map(Record::Referral))
        .chain([Record::Itself(asker.listener)])
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
