//! The four reservation commands [NVMe Base 2.0, 7.2 to 7.5]: they come on I/O queues.

use super::{CommandError, DataPointer, Sgl, data_from_host, data_to_host};
use crate::wire::SubmissionEntry;
use crate::wire::reservation::{
    AcquireAction, REPORT_EXTENDED, RegisterAction, ReleaseAction, ReservationKeys, ReservationType, cdw10,
};

/// Bytes of CDW10, as errors name fields.
const CDW10: u8 = 40;
const CDW11: u8 = 44;

/// A reservation command. Its keys are in its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationCommand {
    /// Reservation Register.
    Register {
        /// RREGA.
        action: RegisterAction,
        /// IEKEY: the current key is not looked at.
        ignore_existing_key: bool,
        /// CPTPL: what persistence through power loss is to become. `None`: it stays.
        persistence: Option<bool>,
        /// [`ReservationKeys::LEN`] bytes at least.
        data: DataPointer,
    },
    /// Reservation Report, of the extended data structure.
    Report {
        /// Bytes that the host has asked for: a multiple of 4, at least 4.
        len: u64,
        /// Where to: `len` bytes at least.
        data: DataPointer,
    },
    /// Reservation Acquire.
    Acquire {
        /// RACQA.
        action: AcquireAction,
        /// RTYPE.
        kind: ReservationType,
        /// [`ReservationKeys::LEN`] bytes at least.
        data: DataPointer,
    },
    /// Reservation Release.
    Release {
        /// RRELA.
        action: ReleaseAction,
        /// RTYPE. `None`: a value that no reservation has.
        kind: Option<ReservationType>,
        /// [`ReservationKeys::RELEASE_LEN`] bytes at least.
        data: DataPointer,
    },
}

impl ReservationCommand {
    /// Where its data is.
    #[must_use]
    pub const fn data(&self) -> DataPointer {
        match self {
            Self::Register { data, .. }
            | Self::Report { data, .. }
            | Self::Acquire { data, .. }
            | Self::Release { data, .. } => *data,
        }
    }

    /// Bytes that it takes from the host.
    #[must_use]
    pub const fn data_in_len(&self) -> u32 {
        match self {
            Self::Register { .. } | Self::Acquire { .. } => ReservationKeys::LEN,
            Self::Release { .. } => ReservationKeys::RELEASE_LEN,
            Self::Report { .. } => 0,
        }
    }
}

pub(super) fn register(entry: &SubmissionEntry, sgl: Sgl) -> Result<ReservationCommand, CommandError> {
    let field = CommandError::Field { byte: CDW10 };
    let persistence = match entry.cdw10.get() >> cdw10::PERSISTENCE_SHIFT {
        0 => None,
        cdw10::PERSISTENCE_CLEAR => Some(false),
        cdw10::PERSISTENCE_SET => Some(true),
        _ => return Err(field),
    };
    Ok(ReservationCommand::Register {
        action: RegisterAction::from_byte(action(entry)).ok_or(field)?,
        ignore_existing_key: ignores_key(entry),
        persistence,
        data: keys(sgl, ReservationKeys::LEN)?,
    })
}

pub(super) fn acquire(entry: &SubmissionEntry, sgl: Sgl) -> Result<ReservationCommand, CommandError> {
    let field = CommandError::Field { byte: CDW10 };
    // IEKEY is an error here since NVMe 1.3, which RESCAP says (bit 7) [NVMe Base 2.0, 7.2].
    if ignores_key(entry) {
        return Err(field);
    }
    Ok(ReservationCommand::Acquire {
        action: AcquireAction::from_byte(action(entry)).ok_or(field)?,
        kind: kind(entry).ok_or(field)?,
        data: keys(sgl, ReservationKeys::LEN)?,
    })
}

pub(super) fn release(entry: &SubmissionEntry, sgl: Sgl) -> Result<ReservationCommand, CommandError> {
    let field = CommandError::Field { byte: CDW10 };
    if ignores_key(entry) {
        return Err(field);
    }
    Ok(ReservationCommand::Release {
        action: ReleaseAction::from_byte(action(entry)).ok_or(field)?,
        kind: kind(entry),
        data: keys(sgl, ReservationKeys::RELEASE_LEN)?,
    })
}

pub(super) fn report(entry: &SubmissionEntry, sgl: Sgl) -> Result<ReservationCommand, CommandError> {
    // Host identifiers over fabrics have 16 bytes, for which the short structure has no room [NVMe Base 2.0, 7.5].
    if entry.cdw11.get() & REPORT_EXTENDED == 0 {
        return Err(CommandError::HostIdFormat { byte: CDW11 });
    }
    let len = (u64::from(entry.cdw10.get()) + 1) * 4;
    let data = data_to_host(sgl)?;
    if u64::from(data.len()) < len {
        return Err(CommandError::SglLength);
    }
    Ok(ReservationCommand::Report { len, data })
}

fn action(entry: &SubmissionEntry) -> u8 {
    let [low, ..] = (entry.cdw10.get() & cdw10::ACTION_MASK).to_le_bytes();
    low
}

fn ignores_key(entry: &SubmissionEntry) -> bool {
    entry.cdw10.get() & cdw10::IGNORE_EXISTING_KEY != 0
}

fn kind(entry: &SubmissionEntry) -> Option<ReservationType> {
    let [low, ..] = (entry.cdw10.get() >> cdw10::TYPE_SHIFT).to_le_bytes();
    ReservationType::from_byte(low)
}

/// Linux sends 16 bytes with each of them, so more than is needed is taken.
fn keys(sgl: Sgl, len: u32) -> Result<DataPointer, CommandError> {
    let data = data_from_host(sgl)?;
    if data.len() < len { Err(CommandError::SglLength) } else { Ok(data) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RemoteBuffer;
    use crate::command::{Command, IoCommand, IoKind, QueueKind};
    use crate::status::Status;
    use crate::wire::{SglDescriptor, U32};

    fn parse(opcode: u8, dword10: u32, dword11: u32, len: u32) -> Result<ReservationCommand, Status> {
        let mut entry = SubmissionEntry::new(opcode);
        entry.nsid = U32::new(1);
        entry.cdw10 = U32::new(dword10);
        entry.cdw11 = U32::new(dword11);
        entry.sgl1 = SglDescriptor::keyed(RemoteBuffer { address: 0, len, key: 0 }, false).unwrap();
        match Command::parse(QueueKind::Io, &entry.to_bytes()).map_err(CommandError::status)? {
            Command::Io(IoCommand { kind: IoKind::Reservation(command), nsid: 1, .. }) => Ok(command),
            other @ (Command::Io(_) | Command::Admin(_) | Command::Fabrics(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn register_has_three_actions_and_three_persistences() {
        for dword in 0..16 {
            for persistence in 0..4 {
                let known = dword & 7 <= 2 && persistence != 1;
                let parsed = parse(0x0D, dword | persistence << 30, 0, 16);
                assert_eq!(parsed.is_ok(), known, "{dword:#x} {persistence}");
                if let Ok(ReservationCommand::Register { ignore_existing_key, persistence: set, .. }) = parsed {
                    assert_eq!(ignore_existing_key, dword & 8 != 0);
                    assert_eq!(set, [None, None, Some(false), Some(true)][persistence as usize]);
                }
            }
        }
        assert_eq!(parse(0x0D, 0, 0, 15), Err(Status::SGL_LENGTH_INVALID));
    }

    #[test]
    fn acquire_has_a_type_and_release_may_have_none() {
        for kind in 0..=u8::MAX {
            let dword = u32::from(kind) << 8;
            assert_eq!(parse(0x11, dword, 0, 16).is_ok(), (1..=6).contains(&kind));
            let Ok(ReservationCommand::Release { kind: parsed, .. }) = parse(0x15, dword, 0, 8) else { panic!() };
            assert_eq!(parsed.map(ReservationType::to_byte), (1..=6).contains(&kind).then_some(kind));
        }
        for action in 0..8 {
            assert_eq!(parse(0x11, 0x100 | action, 0, 16).is_ok(), action <= 2);
            assert_eq!(parse(0x15, 0x100 | action, 0, 16).is_ok(), action <= 1);
        }
        assert_eq!(parse(0x11, 0x108, 0, 16), Err(Status::INVALID_FIELD), "IEKEY");
        assert_eq!(parse(0x15, 0x108, 0, 16), Err(Status::INVALID_FIELD), "IEKEY");
        assert_eq!(parse(0x15, 0x100, 0, 7), Err(Status::SGL_LENGTH_INVALID));
    }

    #[test]
    fn a_report_is_extended() {
        assert_eq!(parse(0x0E, 15, 0, 64), Err(Status::HOST_ID_FORMAT_INCONSISTENT));
        let Ok(ReservationCommand::Report { len, .. }) = parse(0x0E, 15, 1, 64) else { panic!() };
        assert_eq!(len, 64);
        assert_eq!(parse(0x0E, 16, 1, 64), Err(Status::SGL_LENGTH_INVALID));
        assert_eq!(parse(0x0E, u32::MAX, 1, 64), Err(Status::SGL_LENGTH_INVALID), "16 GiB");
    }
}
