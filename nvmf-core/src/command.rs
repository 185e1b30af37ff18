//! Step 2 of the walk: 64 bytes become a typed command.
//!
//! What a [`Command`] says is legal in itself: opcode known for its queue, SGL of a kind that RDMA has and of the length that the command
//! needs, counts widened, reserved combinations refused. Whether it is possible here and now (the namespace exists, the range is inside
//! it, the queue is connected) is asked by those who own that. Nothing here allocates or keeps state; any CPU may call it.

mod admin;
mod error;
mod fabrics;
mod io;
mod reservation;

pub use admin::{AdminCommand, GetFeatures, GetLogPage, Identify, IdentifyKind, SetFeatures};
pub use error::CommandError;
pub use fabrics::{Connect, FabricsCommand, Message, PropertyGet, PropertySet};
pub use io::{BlockRange, Fuse, IoCommand, IoKind};
pub(crate) use io::{COPY_RANGE_LEN, DATASET_RANGE_LEN, cdw11, cdw12};
pub use reservation::ReservationCommand;

pub use crate::wire::DataPointer;

use reactor::Segment;

use crate::wire::{OPCODE_FABRICS, SglError, SubmissionEntry};

/// What kind of queue a command came on: it decides what its opcode means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueKind {
    /// Queue 0.
    Admin,
    /// Every other queue.
    Io,
}

/// A command that is legal in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opcode 7Fh, on any queue.
    Fabrics(FabricsCommand),
    /// On queue 0.
    Admin(AdminCommand),
    /// On an I/O queue.
    Io(IoCommand),
}

/// The host's name for a command: needed for the response whether or not the rest can be parsed.
#[must_use]
pub const fn command_id(bytes: &[u8; 64]) -> u16 {
    u16::from_le_bytes([bytes[2], bytes[3]])
}

/// Whether it is a Connect command, the only one that a queue takes before it is connected.
#[must_use]
pub const fn is_connect(bytes: &[u8; 64]) -> bool {
    bytes[0] == OPCODE_FABRICS && bytes[4] == crate::wire::FabricsType::Connect.to_byte()
}

impl Command {
    /// Any 64 bytes that nothing came with end as a command or as a status.
    ///
    /// # Errors
    /// [`CommandError`], whose [`CommandError::status`] is the answer.
    pub fn parse(queue: QueueKind, bytes: &[u8; 64]) -> Result<Self, CommandError> {
        Self::parse_capsule(queue, bytes, None)
    }

    /// Any 64 bytes, and the `data` that came with them in their capsule, end as a command or as a status.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_capsule(queue: QueueKind, bytes: &[u8; 64], data: Option<Segment>) -> Result<Self, CommandError> {
        let entry = SubmissionEntry::from_bytes(*bytes);
        // Only I/O commands are fused [NVMe Base 2.0, 3.4.2].
        if entry.fuse() != 0 && (queue == QueueKind::Admin || entry.opcode == OPCODE_FABRICS) {
            return Err(CommandError::Field { byte: 1 });
        }
        // PRPs do not exist over fabrics, and metadata has no SGL of its own here [NVMe Base 2.0, 3.3.3.1].
        if !entry.uses_sgl() {
            return Err(CommandError::Field { byte: 1 });
        }
        let sgl = entry.sgl1.resolve(data);
        if entry.opcode == OPCODE_FABRICS {
            return fabrics::parse(queue, bytes, sgl).map(Self::Fabrics);
        }
        match queue {
            QueueKind::Admin => admin::parse(&entry, sgl).map(Self::Admin),
            QueueKind::Io => io::parse(&entry, sgl).map(Self::Io),
        }
    }
}

/// SGL1, resolved: looked at only by commands that have data.
type Sgl = Result<DataPointer, SglError>;

/// Where data for the controller is: in the capsule or in the host's memory.
fn data_from_host(sgl: Sgl) -> Result<DataPointer, CommandError> {
    Ok(sgl?)
}

/// Where data for the host goes. A capsule carries none that way over RDMA [NVMe RDMA Transport 1.0, 3.3].
fn data_to_host(sgl: Sgl) -> Result<DataPointer, CommandError> {
    match sgl? {
        pointer @ (DataPointer::Keyed { .. } | DataPointer::Listed(_) | DataPointer::None) => Ok(pointer),
        DataPointer::InCapsule { .. } => Err(CommandError::SglType),
    }
}

/// The SGL must describe exactly the command's data: SGLS tells hosts that no other length is taken [NVMe Base 2.0, 4.1.2].
fn exact(pointer: DataPointer, len: u32) -> Result<DataPointer, CommandError> {
    if pointer.len() == len { Ok(pointer) } else { Err(CommandError::SglLength) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::Status;

    fn refused(queue: QueueKind, bytes: &[u8; 64]) -> Status {
        Command::parse(queue, bytes).unwrap_err().status()
    }

    #[test]
    fn prps_and_fused_commands_are_refused() {
        for flags in 0..=u8::MAX {
            let mut bytes = SubmissionEntry::new(0x18).to_bytes();
            bytes[1] = flags;
            let accepted = Command::parse(QueueKind::Admin, &bytes).is_ok();
            assert_eq!(accepted, flags & 0b1100_0011 == 0b0100_0000, "{flags:#b}");
            if !accepted {
                assert_eq!(refused(QueueKind::Admin, &bytes), Status::INVALID_FIELD);
            }
        }
    }

    #[test]
    fn opcodes_that_are_answered() {
        let known = |queue| {
            (0..=u8::MAX)
                .filter(|opcode| refused_opcode(queue, *opcode) != Some(Status::INVALID_OPCODE))
                .collect::<Vec<_>>()
        };
        // Queues are created by Connect, so 00h, 01h, 04h and 05h do not exist here [NVMe Base 2.0, 5].
        assert_eq!(known(QueueKind::Admin), [0x02, 0x06, 0x08, 0x09, 0x0A, 0x0C, 0x18]);
        assert_eq!(
            known(QueueKind::Io),
            [0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0C, 0x0D, 0x0E, 0x11, 0x15, 0x19]
        );
    }

    fn refused_opcode(queue: QueueKind, opcode: u8) -> Option<Status> {
        let mut bytes = SubmissionEntry::new(opcode).to_bytes();
        // A Fabrics command of no known type.
        bytes[4] = 0xFF;
        Command::parse(queue, &bytes).err().map(CommandError::status)
    }

    #[test]
    fn the_name_of_a_command() {
        let mut bytes = [0xFF; 64];
        bytes[2..4].copy_from_slice(&[0x34, 0x12]);
        assert_eq!(command_id(&bytes), 0x1234);
        assert!(!is_connect(&bytes));
        bytes[0] = 0x7F;
        bytes[4] = 1;
        assert!(is_connect(&bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 64), admin: bool) {
            let bytes: [u8; 64] = bytes.try_into().unwrap();
            let queue = if admin { QueueKind::Admin } else { QueueKind::Io };
            if let Err(error) = Command::parse(queue, &bytes) {
                prop_assert!(!error.status().is_success());
            }
        }

        /// Most random bytes fall at the first check: here the checks behind it get their share.
        #[test]
        fn any_fields_are_answered(
            bytes in proptest::collection::vec(any::<u8>(), 64),
            opcode in prop_oneof![0u8..0x20, Just(0x7Fu8)],
            fabrics_type in 0u8..10,
            identifier in prop_oneof![Just(0x01u8), Just(0x40u8), Just(0x4Fu8), any::<u8>()],
            admin: bool,
        ) {
            let mut bytes: [u8; 64] = bytes.try_into().unwrap();
            bytes[0] = opcode;
            bytes[1] = 0x40;
            bytes[4] = fabrics_type;
            bytes[39] = identifier;
            let queue = if admin { QueueKind::Admin } else { QueueKind::Io };
            match Command::parse(queue, &bytes) {
                Ok(Command::Fabrics(_)) => prop_assert_eq!(opcode, 0x7F),
                Ok(Command::Admin(_)) => prop_assert!(admin),
                Ok(Command::Io(_)) => prop_assert!(!admin),
                Err(error) => prop_assert!(!error.status().is_success()),
            }
        }
    }
}
