//! Fabrics commands [NVMe Base 2.0, 6].

use super::{CommandError, DataPointer, QueueKind, Sgl, data_from_host, data_to_host, exact};
use crate::limits::AUTHENTICATION_MESSAGE_LEN_MAX;
use crate::wire::auth::AuthenticationEntry;
use crate::wire::{ConnectData, ConnectEntry, DisconnectEntry, FabricsType, PropertyEntry};

/// A Fabrics command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricsCommand {
    /// Ties a queue to a controller.
    Connect(Connect),
    /// Writes a property. On the admin queue only.
    PropertySet(PropertySet),
    /// Reads a property. On the admin queue only.
    PropertyGet(PropertyGet),
    /// Authentication, host to controller.
    AuthenticationSend(Message),
    /// Authentication, controller to host.
    AuthenticationReceive(Message),
    /// Ends an I/O queue.
    Disconnect,
}

/// Connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Which queue; 0 is the admin queue.
    pub qid: u16,
    /// Entries of the queue: a count, 1 to 65,536. 1 is no legal size: the answer is *Connect Invalid Parameters*.
    pub entry_count: u32,
    /// The host does not look at SQHD.
    pub sq_flow_control_disabled: bool,
    /// Keep-alive timeout; 0 for none.
    pub keep_alive_ms: u32,
    /// 1024 bytes.
    pub data: DataPointer,
}

/// Property Set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertySet {
    /// Where.
    pub offset: u32,
    /// Eight bytes rather than four.
    pub is_wide: bool,
    /// What; of four bytes where it is not wide.
    pub value: u64,
}

/// Property Get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyGet {
    /// Where.
    pub offset: u32,
    /// Eight bytes rather than four.
    pub is_wide: bool,
}

/// Authentication Send or Receive: a message, or room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes, at least one.
    pub len: u32,
    /// As many bytes.
    pub data: DataPointer,
}

/// The type decides; flags are checked already.
pub(super) fn parse(queue: QueueKind, bytes: &[u8; 64], sgl: Sgl) -> Result<FabricsCommand, CommandError> {
    let property = PropertyEntry::from_bytes(*bytes);
    let unknown = CommandError::FabricsType { fabrics_type: property.fabrics_type };
    let admin_only = match queue {
        QueueKind::Admin => Ok(()),
        QueueKind::Io => Err(unknown),
    };
    match FabricsType::from_byte(property.fabrics_type).ok_or(unknown)? {
        FabricsType::Connect => connect(&ConnectEntry::from_bytes(*bytes), sgl),
        FabricsType::PropertySet => {
            admin_only?;
            let is_wide = is_wide(&property)?;
            let value = property.value.get();
            let value = if is_wide { value } else { value & u64::from(u32::MAX) };
            Ok(FabricsCommand::PropertySet(PropertySet { offset: property.offset.get(), is_wide, value }))
        }
        FabricsType::PropertyGet => {
            admin_only?;
            Ok(FabricsCommand::PropertyGet(PropertyGet { offset: property.offset.get(), is_wide: is_wide(&property)? }))
        }
        FabricsType::AuthenticationSend => {
            let len = message_len(&AuthenticationEntry::from_bytes(*bytes), AUTHENTICATION_MESSAGE_LEN_MAX)?;
            Ok(FabricsCommand::AuthenticationSend(Message { len, data: exact(data_from_host(sgl)?, len)? }))
        }
        FabricsType::AuthenticationReceive => {
            let len = message_len(&AuthenticationEntry::from_bytes(*bytes), u32::MAX)?;
            Ok(FabricsCommand::AuthenticationReceive(Message { len, data: exact(data_to_host(sgl)?, len)? }))
        }
        FabricsType::Disconnect => match queue {
            // The admin queue ends with its controller [NVMe Base 2.0, 6.4].
            QueueKind::Admin => Err(CommandError::QueueKind),
            QueueKind::Io if DisconnectEntry::from_bytes(*bytes).record_format.get() != 0 => {
                Err(CommandError::RecordFormat)
            }
            QueueKind::Io => Ok(FabricsCommand::Disconnect),
        },
    }
}

fn connect(entry: &ConnectEntry, sgl: Sgl) -> Result<FabricsCommand, CommandError> {
    if entry.record_format.get() != 0 {
        return Err(CommandError::RecordFormat);
    }
    Ok(FabricsCommand::Connect(Connect {
        qid: entry.qid.get(),
        entry_count: u32::from(entry.entry_count_zero_based.get()) + 1,
        sq_flow_control_disabled: entry.attributes & ConnectEntry::ATTRIBUTE_NO_SQ_FLOW_CONTROL != 0,
        keep_alive_ms: entry.keep_alive_ms.get(),
        data: exact(data_from_host(sgl)?, ConnectData::LEN)?,
    }))
}

/// TL or AL, of the one protocol that there is [NVMe Base 2.0, 6.1, 6.2].
fn message_len(entry: &AuthenticationEntry, len_max: u32) -> Result<u32, CommandError> {
    for (byte, value, known) in [
        (41, entry.specific_0, AuthenticationEntry::SPECIFIC),
        (42, entry.specific_1, AuthenticationEntry::SPECIFIC),
        (43, entry.security_protocol, AuthenticationEntry::SECURITY_PROTOCOL),
    ] {
        if value != known {
            return Err(CommandError::Field { byte });
        }
    }
    Some(entry.len.get()).filter(|len| (1..=len_max).contains(len)).ok_or(CommandError::Field { byte: 44 })
}

fn is_wide(entry: &PropertyEntry) -> Result<bool, CommandError> {
    match entry.attributes & PropertyEntry::ATTRIBUTE_SIZE_MASK {
        PropertyEntry::SIZE_4 => Ok(false),
        PropertyEntry::SIZE_8 => Ok(true),
        _ => Err(CommandError::Field { byte: 40 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RemoteBuffer;
    use crate::command::Command;
    use crate::status::Status;

    fn fabrics(queue: QueueKind, bytes: &[u8; 64]) -> Result<FabricsCommand, Status> {
        match Command::parse(queue, bytes).map_err(CommandError::status)? {
            Command::Fabrics(command) => Ok(command),
            other @ (Command::Admin(_) | Command::Io(_)) => panic!("{other:?}"),
        }
    }

    /// As a Linux host sends it on the admin queue: 1024 bytes behind a key, queue size 32, five seconds of keep-alive and ten of grace.
    fn linux_connect() -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = 0x7F; // opcode
        bytes[1] = 0x40; // PSDT: SGL
        bytes[2..4].copy_from_slice(&[0x00, 0x10]); // command id
        bytes[4] = 0x01; // Connect
        bytes[24..32].copy_from_slice(&0x1_2345_6000u64.to_le_bytes()); // SGL1: address
        bytes[32..35].copy_from_slice(&[0x00, 0x04, 0x00]); // length 1024
        bytes[35..39].copy_from_slice(&0x0011_2233u32.to_le_bytes()); // key
        bytes[39] = 0x4F; // keyed, invalidate
        bytes[44..46].copy_from_slice(&[31, 0]); // SQSIZE
        bytes[48..52].copy_from_slice(&15_000u32.to_le_bytes()); // KATO
        bytes
    }

    #[test]
    fn connect_as_a_linux_host_sends_it() {
        assert_eq!(
            fabrics(QueueKind::Admin, &linux_connect()),
            Ok(FabricsCommand::Connect(Connect {
                qid: 0,
                entry_count: 32,
                sq_flow_control_disabled: false,
                keep_alive_ms: 15_000,
                data: DataPointer::Keyed {
                    buffer: RemoteBuffer { address: 0x1_2345_6000, len: 1024, key: 0x0011_2233 },
                    invalidate: true
                },
            }))
        );
    }

    #[test]
    fn connect_with_data_in_the_capsule() {
        let mut bytes = linux_connect();
        bytes[24..40].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x01]);
        bytes[42..44].copy_from_slice(&[3, 0]);
        bytes[44..46].copy_from_slice(&[0xFF, 0xFF]);
        bytes[46] = 0x04;
        let Ok(FabricsCommand::Connect(connect)) = fabrics(QueueKind::Io, &bytes) else { panic!() };
        assert_eq!(connect.qid, 3);
        assert_eq!(connect.entry_count, 65536);
        assert!(connect.sq_flow_control_disabled);
        assert_eq!(connect.data, DataPointer::InCapsule { offset: 0, len: 1024 });
    }

    #[test]
    fn wrong_connects() {
        let mut bytes = linux_connect();
        bytes[40] = 1;
        assert_eq!(fabrics(QueueKind::Admin, &bytes), Err(Status::CONNECT_INCOMPATIBLE_FORMAT));
        let mut bytes = linux_connect();
        bytes[33] = 3;
        assert_eq!(fabrics(QueueKind::Admin, &bytes), Err(Status::SGL_LENGTH_INVALID));
        let mut bytes = linux_connect();
        bytes[39] = 0x00;
        assert_eq!(fabrics(QueueKind::Admin, &bytes), Err(Status::SGL_TYPE_INVALID));
    }

    #[test]
    fn properties() {
        let mut bytes = PropertyEntry::new(FabricsType::PropertyGet).to_bytes();
        bytes[40] = 1;
        assert_eq!(
            fabrics(QueueKind::Admin, &bytes),
            Ok(FabricsCommand::PropertyGet(PropertyGet { offset: 0, is_wide: true }))
        );
        bytes[40] = 2;
        assert_eq!(fabrics(QueueKind::Admin, &bytes), Err(Status::INVALID_FIELD));

        let mut bytes = PropertyEntry::new(FabricsType::PropertySet).to_bytes();
        bytes[44] = 0x14;
        bytes[48..56].copy_from_slice(&0xFFFF_FFFF_0046_0001u64.to_le_bytes());
        assert_eq!(
            fabrics(QueueKind::Admin, &bytes),
            Ok(FabricsCommand::PropertySet(PropertySet { offset: 0x14, is_wide: false, value: 0x0046_0001 }))
        );
        assert_eq!(fabrics(QueueKind::Io, &bytes), Err(Status::INVALID_OPCODE));
    }

    #[test]
    fn authentication_as_a_linux_host_sends_it() {
        let bytes = |fabrics_type: u8, len: u32| {
            let mut bytes = linux_connect();
            bytes[4] = fabrics_type;
            bytes[32..35].copy_from_slice(&len.to_le_bytes()[..3]);
            bytes[40..44].copy_from_slice(&[0, 1, 1, 0xE9]);
            bytes[44..48].copy_from_slice(&len.to_le_bytes());
            bytes[48..52].fill(0);
            bytes
        };
        for queue in [QueueKind::Admin, QueueKind::Io] {
            let Ok(FabricsCommand::AuthenticationSend(send)) = fabrics(queue, &bytes(5, 72)) else { panic!() };
            assert_eq!((send.len, send.data.len()), (72, 72));
            let Ok(FabricsCommand::AuthenticationReceive(receive)) = fabrics(queue, &bytes(6, 4096)) else { panic!() };
            assert_eq!(receive.len, 4096);
        }
        // No message is of 0 bytes, none that a host sends is of more than a page; receives may have any room.
        for (fabrics_type, len, refused) in
            [(5, 0, true), (6, 0, true), (5, 4096, false), (5, 4097, true), (6, 4097, false)]
        {
            let parsed = fabrics(QueueKind::Admin, &bytes(fabrics_type, len));
            assert_eq!(parsed.err(), refused.then_some(Status::INVALID_FIELD), "{fabrics_type} {len}");
        }
        for byte in [41, 42, 43] {
            let mut wrong = bytes(5, 72);
            wrong[byte] = 2;
            assert_eq!(fabrics(QueueKind::Admin, &wrong), Err(Status::INVALID_FIELD), "byte {byte}");
        }
        let mut wrong = bytes(5, 72);
        wrong[32] = 71;
        assert_eq!(fabrics(QueueKind::Admin, &wrong), Err(Status::SGL_LENGTH_INVALID));
    }

    #[test]
    fn disconnect_is_for_io_queues() {
        let mut bytes = DisconnectEntry::new(FabricsType::Disconnect).to_bytes();
        assert_eq!(fabrics(QueueKind::Io, &bytes), Ok(FabricsCommand::Disconnect));
        assert_eq!(fabrics(QueueKind::Admin, &bytes), Err(Status::INVALID_QUEUE_TYPE));
        bytes[40] = 1;
        assert_eq!(fabrics(QueueKind::Io, &bytes), Err(Status::CONNECT_INCOMPATIBLE_FORMAT));
    }
}
