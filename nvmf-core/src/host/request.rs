//! Commands as the host makes them: 64 bytes each.
//!
//! Those of the admin state machines carry no command id and no SGL yet ([`fill`] puts them in); those of the data path are whole.

mod block;

pub use block::{compare, copy, copy_list, deallocate, deallocation_list, fuse, verify, write_uncorrectable};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use crate::command::{BlockRange, DataPointer, cdw12};
use crate::host::identity::HostIdentity;
use crate::wire::identify::IdentifyKind;
use crate::wire::log::LogPageId;
use crate::wire::{
    AdminOpcode, Configuration, ConnectData, ConnectEntry, DisconnectEntry, FabricsType, FeatureId, IoOpcode,
    NQN_LEN_MAX, Property, PropertyEntry, QueueCounts, SglDescriptor, SubmissionEntry,
};

/// Fills in what the transport decides: the command id and where the data is.
///
/// # Panics
/// If a keyed length has no room in 24 bits: the caller's limits are wrong.
pub fn fill(command: &mut [u8; 64], command_id: u16, data: DataPointer) {
    let mut entry = SubmissionEntry::from_bytes(*command);
    entry.command_id = U16::new(command_id);
    entry.sgl1 = descriptor(data);
    *command = entry.to_bytes();
}

/// Read blocks.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn read(command_id: u16, nsid: u32, range: BlockRange, data: DataPointer) -> [u8; 64] {
    transfer(IoOpcode::Read, command_id, nsid, range, 0, data)
}

/// Write blocks.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn write(command_id: u16, nsid: u32, range: BlockRange, force_unit_access: bool, data: DataPointer) -> [u8; 64] {
    transfer(IoOpcode::Write, command_id, nsid, range, access(force_unit_access), data)
}

/// Make blocks read as zero.
#[must_use]
pub fn write_zeroes(
    command_id: u16,
    nsid: u32,
    range: BlockRange,
    deallocate: bool,
    force_unit_access: bool,
) -> [u8; 64] {
    let flags = access(force_unit_access) | if deallocate { cdw12::DEALLOCATE } else { 0 };
    transfer(IoOpcode::WriteZeroes, command_id, nsid, range, flags, DataPointer::None)
}

/// Everything completed to stable storage.
#[must_use]
pub fn flush(command_id: u16, nsid: u32) -> [u8; 64] {
    let mut entry = plain(IoOpcode::Flush.to_byte(), command_id);
    entry.nsid = U32::new(nsid);
    entry.to_bytes()
}

/// The host is alive.
#[must_use]
pub fn keep_alive(command_id: u16) -> [u8; 64] {
    plain(AdminOpcode::KeepAlive.to_byte(), command_id).to_bytes()
}

/// Tell me when something happens.
#[must_use]
pub fn async_event_request(command_id: u16) -> [u8; 64] {
    plain(AdminOpcode::AsyncEventRequest.to_byte(), command_id).to_bytes()
}

/// End of an I/O queue.
#[must_use]
pub fn disconnect(command_id: u16) -> [u8; 64] {
    let mut entry = DisconnectEntry::new(FabricsType::Disconnect);
    entry.command_id = U16::new(command_id);
    entry.to_bytes()
}

/// A normal shutdown of the controller: Property Set of CC with SHN. For the admin queue, after the I/O queues' end.
#[must_use]
pub fn shutdown(command_id: u16) -> [u8; 64] {
    let mut command = property_set(Property::Configuration, u64::from(Configuration::enabled(0, 0).with_shutdown(1).0));
    fill(&mut command, command_id, DataPointer::None);
    command
}

/// Connect for an I/O queue: the command and its 1024 bytes of data. `depth` is a count.
#[must_use]
pub fn connect_io(
    identity: &HostIdentity,
    subsystem_nqn: &str,
    controller_id: u16,
    qid: u16,
    depth: u16,
) -> ([u8; 64], Vec<u8>) {
    connect(identity, subsystem_nqn, controller_id, qid, depth, 0)
}

/// Connect for any queue. The keep-alive timeout is the admin queue's.
pub(super) fn connect(
    identity: &HostIdentity,
    subsystem_nqn: &str,
    controller_id: u16,
    qid: u16,
    depth: u16,
    keep_alive_ms: u32,
) -> ([u8; 64], Vec<u8>) {
    let mut entry = ConnectEntry::new(FabricsType::Connect);
    entry.qid = U16::new(qid);
    entry.entry_count_zero_based = U16::new(depth.saturating_sub(1));
    entry.keep_alive_ms = U32::new(keep_alive_ms);
    let mut data = ConnectData::new_zeroed();
    data.host_id = identity.id;
    data.controller_id = U16::new(controller_id);
    data.subsystem_nqn = name_field(subsystem_nqn);
    data.host_nqn = name_field(&identity.nqn);
    (entry.to_bytes(), data.as_bytes().to_vec())
}

/// Whether a name is legal was asked before the admin queue's Connect; here it only must fit.
fn name_field(name: &str) -> [u8; 256] {
    let mut field = [0; 256];
    for (place, byte) in field.iter_mut().zip(name.bytes().take(NQN_LEN_MAX)) {
        *place = byte;
    }
    field
}

pub(super) fn property_get(property: Property) -> [u8; 64] {
    let mut entry = PropertyEntry::new(FabricsType::PropertyGet);
    entry.attributes = property_size(property);
    entry.offset = U32::new(property.offset());
    entry.to_bytes()
}

pub(super) fn property_set(property: Property, value: u64) -> [u8; 64] {
    let mut entry = PropertyEntry::new(FabricsType::PropertySet);
    entry.attributes = property_size(property);
    entry.offset = U32::new(property.offset());
    entry.value = U64::new(value);
    entry.to_bytes()
}

fn property_size(property: Property) -> u8 {
    if property.is_wide() { PropertyEntry::SIZE_8 } else { PropertyEntry::SIZE_4 }
}

pub(super) fn identify(kind: IdentifyKind, nsid: u32) -> [u8; 64] {
    let mut entry = plain(AdminOpcode::Identify.to_byte(), 0);
    entry.nsid = U32::new(nsid);
    entry.cdw10 = U32::new(u32::from(kind.to_byte()));
    entry.to_bytes()
}

pub(super) fn set_queue_count(count: u16) -> [u8; 64] {
    let counts = QueueCounts { submission: u32::from(count), completion: u32::from(count) };
    let mut entry = plain(AdminOpcode::SetFeatures.to_byte(), 0);
    entry.cdw10 = U32::new(u32::from(FeatureId::NumberOfQueues.to_byte()));
    entry.cdw11 = U32::new(counts.to_dword());
    entry.to_bytes()
}

/// `len` is a multiple of 4 and not zero.
pub(super) fn log_page(page: LogPageId, offset: u64, len: u32) -> [u8; 64] {
    let dword_count_zero_based = (len / 4).saturating_sub(1);
    let mut entry = plain(AdminOpcode::GetLogPage.to_byte(), 0);
    entry.cdw10 = U32::new(u32::from(page.to_byte()) | (dword_count_zero_based & 0xFFFF) << 16);
    entry.cdw11 = U32::new(dword_count_zero_based >> 16);
    let [a, b, c, d, e, f, g, h] = offset.to_le_bytes();
    entry.cdw12 = U32::from_bytes([a, b, c, d]);
    entry.cdw13 = U32::from_bytes([e, f, g, h]);
    entry.to_bytes()
}

fn transfer(
    opcode: IoOpcode,
    command_id: u16,
    nsid: u32,
    range: BlockRange,
    flags: u32,
    data: DataPointer,
) -> [u8; 64] {
    let mut entry = plain(opcode.to_byte(), command_id);
    entry.nsid = U32::new(nsid);
    entry.sgl1 = descriptor(data);
    let [a, b, c, d, e, f, g, h] = range.start_block().to_le_bytes();
    entry.cdw10 = U32::from_bytes([a, b, c, d]);
    entry.cdw11 = U32::from_bytes([e, f, g, h]);
    entry.cdw12 = U32::new(u32::from(range.count_zero_based()) | flags);
    entry.to_bytes()
}

const fn access(force_unit_access: bool) -> u32 {
    if force_unit_access { cdw12::FORCE_UNIT_ACCESS } else { 0 }
}

fn plain(opcode: u8, command_id: u16) -> SubmissionEntry {
    let mut entry = SubmissionEntry::new(opcode);
    entry.command_id = U16::new(command_id);
    entry.sgl1 = SglDescriptor::NO_DATA;
    entry
}

fn descriptor(data: DataPointer) -> SglDescriptor {
    let Some(descriptor) = data.to_descriptor() else {
        panic!("a keyed descriptor of {} bytes: it can say {} at most", data.len(), SglDescriptor::KEYED_LEN_MAX);
    };
    descriptor
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RemoteBuffer;
    use crate::command::{
        AdminCommand, Command, FabricsCommand, Fuse, IoCommand, IoKind, PropertySet, QueueKind, command_id,
    };

    fn pointer() -> impl Strategy<Value = DataPointer> {
        prop_oneof![
            (any::<u64>(), 0..=SglDescriptor::KEYED_LEN_MAX, any::<u32>(), any::<bool>()).prop_map(
                |(address, len, key, invalidate)| DataPointer::Keyed {
                    buffer: RemoteBuffer { address, len, key },
                    invalidate
                }
            ),
            (any::<u64>(), any::<u32>()).prop_map(|(offset, len)| DataPointer::InCapsule { offset, len }),
        ]
    }

    #[test]
    fn a_read_in_bytes() {
        let buffer = RemoteBuffer { address: 0x7F00_1000, len: 4096, key: 0xAABB_CCDD };
        let data = DataPointer::Keyed { buffer, invalidate: false };
        let mut expected = [0; 64];
        expected[..8].copy_from_slice(&[0x02, 0x40, 0x34, 0x12, 3, 0, 0, 0]);
        expected[24..40]
            .copy_from_slice(&[0x00, 0x10, 0x00, 0x7F, 0, 0, 0, 0, 0x00, 0x10, 0x00, 0xDD, 0xCC, 0xBB, 0xAA, 0x40]);
        expected[40..50].copy_from_slice(&[6, 5, 4, 3, 2, 1, 0, 0, 7, 0]);
        assert_eq!(read(0x1234, 3, BlockRange::new(0x0102_0304_0506, 8).unwrap(), data), expected);
    }

    #[test]
    fn commands_without_data() {
        assert_eq!(
            Command::parse(QueueKind::Io, &flush(7, 9)),
            Ok(Command::Io(IoCommand { nsid: 9, fuse: Fuse::Alone, kind: IoKind::Flush }))
        );
        assert_eq!(Command::parse(QueueKind::Admin, &keep_alive(7)), Ok(Command::Admin(AdminCommand::KeepAlive)));
        assert_eq!(
            Command::parse(QueueKind::Admin, &async_event_request(7)),
            Ok(Command::Admin(AdminCommand::AsyncEventRequest))
        );
        assert_eq!(Command::parse(QueueKind::Io, &disconnect(7)), Ok(Command::Fabrics(FabricsCommand::Disconnect)));
        let set = PropertySet { offset: 0x14, is_wide: false, value: 0x0046_4001 };
        assert_eq!(
            Command::parse(QueueKind::Admin, &shutdown(7)),
            Ok(Command::Fabrics(FabricsCommand::PropertySet(set)))
        );
        for command in [flush(7, 9), keep_alive(7), async_event_request(7), disconnect(7), shutdown(7)] {
            assert_eq!(command_id(&command), 7);
        }
    }

    /// As a Linux host fills the same fields: opcode, PSDT, type, SQSIZE, KATO.
    #[test]
    fn an_admin_connect_in_bytes() {
        let (mut command, data) = connect(&HostIdentity::from_uuid([7; 16]), "nqn.x", 0xFFFF, 0, 32, 15_000);
        let buffer = RemoteBuffer { address: 0x1_2345_6000, len: 1024, key: 0x0011_2233 };
        fill(&mut command, 0x1000, DataPointer::Keyed { buffer, invalidate: true });
        let mut expected = [0; 64];
        expected[..5].copy_from_slice(&[0x7F, 0x40, 0x00, 0x10, 0x01]);
        expected[24..40]
            .copy_from_slice(&[0x00, 0x60, 0x45, 0x23, 1, 0, 0, 0, 0x00, 0x04, 0x00, 0x33, 0x22, 0x11, 0x00, 0x4F]);
        expected[44] = 31;
        expected[48..50].copy_from_slice(&[0x98, 0x3A]);
        assert_eq!(command, expected);
        assert_eq!((data.len(), &data[16..18]), (1024, &[0xFF, 0xFF][..]));
    }

    #[test]
    fn an_io_connect() {
        let identity = HostIdentity::from_uuid([7; 16]);
        let (mut command, data) = connect_io(&identity, "nqn.2016-06.io.quiesce:one", 5, 2, 128);
        fill(&mut command, 0, DataPointer::InCapsule { offset: 0, len: 1024 });
        let Ok(Command::Fabrics(FabricsCommand::Connect(connect))) = Command::parse(QueueKind::Io, &command) else {
            panic!()
        };
        assert_eq!((connect.qid, connect.entry_count, connect.keep_alive_ms), (2, 128, 0));
        let parameters = ConnectData::parse(&data).unwrap();
        assert_eq!(parameters.controller_id, 5);
        assert_eq!(parameters.host_nqn.as_str(), identity.nqn);
        assert_eq!(parameters.subsystem_nqn.as_str(), "nqn.2016-06.io.quiesce:one");
        assert_eq!(parameters.host_id, identity.id);
    }

    #[test]
    fn log_page_lengths_need_both_halves() {
        let mut command = log_page(LogPageId::Discovery, 0x1_0000_0400, 0x0008_0000);
        let buffer = RemoteBuffer { address: 0, len: 0x0008_0000, key: 0 };
        fill(&mut command, 1, DataPointer::Keyed { buffer, invalidate: true });
        let Ok(Command::Admin(AdminCommand::GetLogPage(log))) = Command::parse(QueueKind::Admin, &command) else {
            panic!()
        };
        assert_eq!((log.log_page, log.offset, log.len), (0x70, 0x1_0000_0400, 0x0008_0000));
    }

    #[test]
    #[should_panic(expected = "keyed descriptor of 16777216 bytes")]
    fn a_length_that_cannot_be_said_is_our_bug() {
        let buffer = RemoteBuffer { address: 0, len: 1 << 24, key: 0 };
        fill(&mut [0; 64], 0, DataPointer::Keyed { buffer, invalidate: false });
    }

    proptest! {
        #[test]
        fn what_a_host_makes_the_target_reads(
            id: u16, nsid: u32, start: u64, count in 1..=BlockRange::COUNT_MAX, force_unit_access: bool, data in pointer(),
        ) {
            let range = BlockRange::new(start, count).unwrap();
            let bytes = write(id, nsid, range, force_unit_access, data);
            prop_assert_eq!(command_id(&bytes), id);
            let kind = IoKind::Write { range, force_unit_access, data };
            prop_assert_eq!(Command::parse(QueueKind::Io, &bytes), Ok(Command::Io(IoCommand { nsid, fuse: Fuse::Alone, kind })));

            let bytes = read(id, nsid, range, data);
            let parsed = Command::parse(QueueKind::Io, &bytes);
            match data {
                DataPointer::Keyed { .. } => {
                    prop_assert_eq!(parsed, Ok(Command::Io(IoCommand { nsid, fuse: Fuse::Alone, kind: IoKind::Read { range, data } })));
                }
                DataPointer::InCapsule { .. } | DataPointer::Listed(_) | DataPointer::None => prop_assert!(parsed.is_err()),
            }

            let bytes = write_zeroes(id, nsid, range, !force_unit_access, force_unit_access);
            let kind = IoKind::WriteZeroes { range, deallocate: !force_unit_access, force_unit_access };
            prop_assert_eq!(Command::parse(QueueKind::Io, &bytes), Ok(Command::Io(IoCommand { nsid, fuse: Fuse::Alone, kind })));
        }
    }
}
