//! The reservation commands as the host makes them, and the report as it reads it.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::request::fill;
use crate::command::DataPointer;
use crate::wire::reservation::{
    AcquireAction, REPORT_EXTENDED, RegisterAction, ReleaseAction, ReservationKeys, ReservationRegistrant,
    ReservationStatus, ReservationType, cdw10,
};
use crate::wire::{IoOpcode, SubmissionEntry};

/// What becomes of a registration. Data: [`keys`] of the current and the new key.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn reservation_register(
    command_id: u16,
    nsid: u32,
    action: RegisterAction,
    ignore_existing_key: bool,
    persistence: Option<bool>,
    data: DataPointer,
) -> [u8; 64] {
    let ignore = if ignore_existing_key { cdw10::IGNORE_EXISTING_KEY } else { 0 };
    let persistence = match persistence {
        None => 0,
        Some(false) => cdw10::PERSISTENCE_CLEAR,
        Some(true) => cdw10::PERSISTENCE_SET,
    };
    let dword = u32::from(action.to_byte()) | ignore | persistence << cdw10::PERSISTENCE_SHIFT;
    command(IoOpcode::ReservationRegister, command_id, nsid, [dword, 0], data)
}

/// A reservation of this type. Data: [`keys`] of the host and of whoever is preempted.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn reservation_acquire(
    command_id: u16,
    nsid: u32,
    action: AcquireAction,
    kind: ReservationType,
    data: DataPointer,
) -> [u8; 64] {
    let dword = u32::from(action.to_byte()) | u32::from(kind.to_byte()) << cdw10::TYPE_SHIFT;
    command(IoOpcode::ReservationAcquire, command_id, nsid, [dword, 0], data)
}

/// No reservation any more. Data: the first half of [`keys`] at least.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn reservation_release(
    command_id: u16,
    nsid: u32,
    action: ReleaseAction,
    kind: ReservationType,
    data: DataPointer,
) -> [u8; 64] {
    let dword = u32::from(action.to_byte()) | u32::from(kind.to_byte()) << cdw10::TYPE_SHIFT;
    command(IoOpcode::ReservationRelease, command_id, nsid, [dword, 0], data)
}

/// The report, as much of it as there is room for: a multiple of 4 bytes, which [`ReservationReport::parse`] reads.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn reservation_report(command_id: u16, nsid: u32, data: DataPointer) -> [u8; 64] {
    let dword_count_zero_based = (data.len() / 4).saturating_sub(1);
    command(IoOpcode::ReservationReport, command_id, nsid, [dword_count_zero_based, REPORT_EXTENDED], data)
}

/// One of the four commands, without what a transport decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationRequest {
    /// [`reservation_register`].
    Register {
        /// RREGA.
        action: RegisterAction,
        /// IEKEY.
        ignore_existing_key: bool,
        /// CPTPL. `None`: no change.
        persistence: Option<bool>,
    },
    /// [`reservation_acquire`].
    Acquire {
        /// RACQA.
        action: AcquireAction,
        /// RTYPE.
        kind: ReservationType,
    },
    /// [`reservation_release`].
    Release {
        /// RRELA.
        action: ReleaseAction,
        /// RTYPE.
        kind: ReservationType,
    },
    /// [`reservation_report`].
    Report,
}

impl ReservationRequest {
    /// Bytes of [`keys`] that go with it. `None`: its data is the report, which comes back.
    #[must_use]
    pub const fn keys_len(self) -> Option<usize> {
        match self {
            Self::Register { .. } | Self::Acquire { .. } => Some(ReservationKeys::LEN as usize),
            Self::Release { .. } => Some(ReservationKeys::RELEASE_LEN as usize),
            Self::Report => None,
        }
    }

    /// The command.
    ///
    /// # Panics
    /// As [`fill`].
    #[must_use]
    pub fn command(self, command_id: u16, nsid: u32, data: DataPointer) -> [u8; 64] {
        match self {
            Self::Register { action, ignore_existing_key, persistence } => {
                reservation_register(command_id, nsid, action, ignore_existing_key, persistence, data)
            }
            Self::Acquire { action, kind } => reservation_acquire(command_id, nsid, action, kind, data),
            Self::Release { action, kind } => reservation_release(command_id, nsid, action, kind, data),
            Self::Report => reservation_report(command_id, nsid, data),
        }
    }
}

/// Data of Register and Acquire, and in its first half of Release.
#[must_use]
pub fn keys(current: u64, other: u64) -> [u8; ReservationKeys::LEN as usize] {
    let keys = ReservationKeys { current: U64::new(current), other: U64::new(other) };
    let mut bytes = [0; ReservationKeys::LEN as usize];
    bytes.copy_from_slice(keys.as_bytes());
    bytes
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationReport {
    /// GEN.
    pub generation: u32,
    /// `None`: nobody holds a reservation.
    pub kind: Option<ReservationType>,
    /// PTPLS.
    pub is_persistent: bool,
    /// Registrants that there are, also those that found no room.
    pub registrant_count: u16,
    /// Those that did.
    pub registrants: Vec<ReservationRegistrant>,
}

impl ReservationReport {
    /// `None`: too short for a report.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (status, rest) = ReservationStatus::read_from_prefix(bytes).ok()?;
        let count = usize::from(status.registrant_count.get());
        let entries = rest.chunks_exact(ReservationRegistrant::LEN).take(count);
        Some(Self {
            generation: status.generation.get(),
            kind: ReservationType::from_byte(status.reservation_type),
            is_persistent: status.persistence != 0,
            registrant_count: status.registrant_count.get(),
            registrants: entries.filter_map(|entry| ReservationRegistrant::read_from_bytes(entry).ok()).collect(),
        })
    }
}

fn command(opcode: IoOpcode, command_id: u16, nsid: u32, dwords: [u32; 2], data: DataPointer) -> [u8; 64] {
    let mut entry = SubmissionEntry::new(opcode.to_byte());
    entry.nsid = U32::new(nsid);
    entry.cdw10 = U32::new(dwords[0]);
    entry.cdw11 = U32::new(dwords[1]);
    let mut bytes = entry.to_bytes();
    fill(&mut bytes, command_id, data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RemoteBuffer;
    use crate::command::{Command, IoCommand, IoKind, QueueKind, ReservationCommand};

    fn parsed(bytes: &[u8; 64]) -> ReservationCommand {
        let parsed = Command::parse(QueueKind::Io, bytes);
        let Ok(Command::Io(IoCommand { nsid: 3, kind: IoKind::Reservation(command), .. })) = parsed else {
            panic!("{parsed:?}")
        };
        command
    }

    #[test]
    fn what_a_host_makes_the_target_reads() {
        let data = DataPointer::Keyed { buffer: RemoteBuffer { address: 1, len: 64, key: 2 }, invalidate: true };
        for action in [RegisterAction::Register, RegisterAction::Unregister, RegisterAction::Replace] {
            for (ignore_existing_key, persistence) in [(false, None), (true, Some(false)), (false, Some(true))] {
                let bytes = reservation_register(1, 3, action, ignore_existing_key, persistence, data);
                let expected = ReservationCommand::Register { action, ignore_existing_key, persistence, data };
                assert_eq!(parsed(&bytes), expected);
            }
        }
        for kind in ReservationType::ALL {
            for action in [AcquireAction::Acquire, AcquireAction::Preempt, AcquireAction::PreemptAndAbort] {
                let bytes = reservation_acquire(1, 3, action, kind, data);
                assert_eq!(parsed(&bytes), ReservationCommand::Acquire { action, kind, data });
            }
            for action in [ReleaseAction::Release, ReleaseAction::Clear] {
                let bytes = reservation_release(1, 3, action, kind, data);
                assert_eq!(parsed(&bytes), ReservationCommand::Release { action, kind: Some(kind), data });
            }
        }
        assert_eq!(parsed(&reservation_report(1, 3, data)), ReservationCommand::Report { len: 64, data });
    }

    #[test]
    fn a_report_that_is_cut_short() {
        let mut bytes = ReservationStatus::new(7, None, 2, false).as_bytes().to_vec();
        bytes.extend_from_slice(ReservationRegistrant::new([1; 16], 5, false).as_bytes());
        bytes.extend_from_slice(&[0; 20]);
        let report = ReservationReport::parse(&bytes).unwrap();
        assert_eq!((report.registrant_count, report.registrants.len()), (2, 1));
        assert_eq!(ReservationReport::parse(&bytes[..63]), None);
    }
}
