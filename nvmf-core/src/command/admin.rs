//! Admin commands [NVMe Base 2.0, 5].

use super::{CommandError, DataPointer, Sgl, data_from_host, data_to_host, exact};
use crate::wire::{AdminOpcode, FeatureId, SubmissionEntry, identify, log};

/// A command on the admin queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Tells what a controller or namespace is.
    Identify(Identify),
    /// Reads a setting.
    GetFeatures(GetFeatures),
    /// Changes a setting.
    SetFeatures(SetFeatures),
    /// Reads a log.
    GetLogPage(GetLogPage),
    /// The host is alive.
    KeepAlive,
    /// Completes when something happens.
    AsyncEventRequest,
    /// Asks for a command to be aborted.
    Abort {
        /// Of which queue.
        sqid: u16,
        /// Which.
        command_id: u16,
    },
}

/// Identify: all structures are 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identify {
    /// Which structure.
    pub kind: IdentifyKind,
    /// NSID as sent: of the structures that are about a namespace or start after one.
    pub nsid: u32,
    /// CNTID.
    pub controller_id: u16,
    /// CSI: 0 is the NVM command set.
    pub command_set: u8,
    /// 4096 bytes for the host.
    pub data: DataPointer,
}

pub use crate::wire::identify::IdentifyKind;

/// Get Features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFeatures {
    /// Which.
    pub feature: FeatureId,
    /// SEL: 0 current, 1 default, 2 saved, 3 supported capabilities.
    pub select: u8,
    /// NSID as sent.
    pub nsid: u32,
    /// CDW11.
    pub cdw11: u32,
    /// Where a feature that has data puts it: `Err` to be answered if this feature has data.
    pub data: Result<DataPointer, CommandError>,
}

/// Set Features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFeatures {
    /// Which.
    pub feature: FeatureId,
    /// SV: keep it over power cycles.
    pub save: bool,
    /// NSID as sent.
    pub nsid: u32,
    /// CDW11: the value.
    pub value: u32,
    /// Where a feature that has data takes it from: `Err` to be answered if this feature has data.
    pub data: Result<DataPointer, CommandError>,
}

/// Get Log Page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLogPage {
    /// LID. Not looked up yet.
    pub log_page: u8,
    /// LSP: seven bits that depend on the page.
    pub specific: u8,
    /// RAE: reading it does not let the event that named it come again.
    pub retain_async_event: bool,
    /// CSI, of the pages that depend on an I/O command set.
    pub command_set: u8,
    /// NSID as sent.
    pub nsid: u32,
    /// LPO, in bytes. A multiple of 4.
    pub offset: u64,
    /// NUMD as a count of bytes: what the host's buffer takes.
    pub len: u32,
    /// `len` bytes for the host.
    pub data: DataPointer,
}

pub(super) fn parse(entry: &SubmissionEntry, sgl: Sgl) -> Result<AdminCommand, CommandError> {
    let unknown = CommandError::Opcode { opcode: entry.opcode };
    match AdminOpcode::from_byte(entry.opcode).ok_or(unknown)? {
        AdminOpcode::Identify => identify(entry, sgl).map(AdminCommand::Identify),
        AdminOpcode::GetFeatures => get_features(entry, sgl).map(AdminCommand::GetFeatures),
        AdminOpcode::SetFeatures => set_features(entry, sgl).map(AdminCommand::SetFeatures),
        AdminOpcode::GetLogPage => log_page(entry, sgl).map(AdminCommand::GetLogPage),
        AdminOpcode::KeepAlive => Ok(AdminCommand::KeepAlive),
        AdminOpcode::AsyncEventRequest => Ok(AdminCommand::AsyncEventRequest),
        AdminOpcode::Abort => {
            let [a, b, c, d] = entry.cdw10.get().to_le_bytes();
            Ok(AdminCommand::Abort { sqid: u16::from_le_bytes([a, b]), command_id: u16::from_le_bytes([c, d]) })
        }
        // Over fabrics Connect and Disconnect do this [NVMe Base 2.0, 5].
        AdminOpcode::DeleteSubmissionQueue
        | AdminOpcode::CreateSubmissionQueue
        | AdminOpcode::DeleteCompletionQueue
        | AdminOpcode::CreateCompletionQueue => Err(unknown),
    }
}

fn identify(entry: &SubmissionEntry, sgl: Sgl) -> Result<Identify, CommandError> {
    let [structure, _, c, d] = entry.cdw10.get().to_le_bytes();
    Ok(Identify {
        kind: IdentifyKind::from_byte(structure).ok_or(CommandError::Field { byte: 40 })?,
        nsid: entry.nsid.get(),
        controller_id: u16::from_le_bytes([c, d]),
        command_set: entry.cdw11.get().to_le_bytes()[3],
        data: exact(data_to_host(sgl)?, identify::PAGE_LEN)?,
    })
}

fn get_features(entry: &SubmissionEntry, sgl: Sgl) -> Result<GetFeatures, CommandError> {
    let [feature, select, ..] = entry.cdw10.get().to_le_bytes();
    let select = select & 0x7;
    if select > 3 {
        return Err(CommandError::Field { byte: 41 });
    }
    Ok(GetFeatures {
        feature: FeatureId::from_byte(feature).ok_or(CommandError::Field { byte: 40 })?,
        select,
        nsid: entry.nsid.get(),
        cdw11: entry.cdw11.get(),
        data: data_to_host(sgl),
    })
}

fn set_features(entry: &SubmissionEntry, sgl: Sgl) -> Result<SetFeatures, CommandError> {
    let [feature, _, _, save] = entry.cdw10.get().to_le_bytes();
    Ok(SetFeatures {
        feature: FeatureId::from_byte(feature).ok_or(CommandError::Field { byte: 40 })?,
        save: save & 0x80 != 0,
        nsid: entry.nsid.get(),
        value: entry.cdw11.get(),
        data: data_from_host(sgl),
    })
}

fn log_page(entry: &SubmissionEntry, sgl: Sgl) -> Result<GetLogPage, CommandError> {
    let [log_page, specific, low0, low1] = entry.cdw10.get().to_le_bytes();
    let [high0, high1, ..] = entry.cdw11.get().to_le_bytes();
    // Offset type (bit 23): an index into entries, which no page here has [NVMe Base 2.0, 5.16.1].
    if entry.cdw14.get() & log::OFFSET_TYPE_INDEX != 0 {
        return Err(CommandError::Field { byte: 56 });
    }
    let dword_count_zero_based = u32::from_le_bytes([low0, low1, high0, high1]);
    let byte_count = (u64::from(dword_count_zero_based) + 1) * 4;
    // More than an SGL can say has no SGL that says it.
    let len = u32::try_from(byte_count).map_err(|_| CommandError::SglLength)?;
    let offset = u64::from(entry.cdw13.get()) << 32 | u64::from(entry.cdw12.get());
    // Bits 1:0 of the offset shall be 00b [NVMe Base 2.0, 5.16.1].
    if offset % 4 != 0 {
        return Err(CommandError::Field { byte: 52 });
    }
    Ok(GetLogPage {
        log_page,
        specific: specific & 0x7F,
        retain_async_event: specific & 0x80 != 0,
        command_set: entry.cdw14.get().to_le_bytes()[3],
        nsid: entry.nsid.get(),
        offset,
        len,
        data: exact(data_to_host(sgl)?, len)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, QueueKind};
    use crate::status::Status;

    fn admin(bytes: &[u8; 64]) -> Result<AdminCommand, Status> {
        match Command::parse(QueueKind::Admin, bytes).map_err(CommandError::status)? {
            Command::Admin(command) => Ok(command),
            other @ (Command::Io(_) | Command::Fabrics(_)) => panic!("{other:?}"),
        }
    }

    fn command(opcode: u8, data_len: u32, dwords: [u32; 6]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = opcode;
        bytes[1] = 0x40;
        bytes[32..35].copy_from_slice(&data_len.to_le_bytes()[..3]);
        bytes[39] = 0x40;
        for (place, dword) in bytes[40..].chunks_mut(4).zip(dwords) {
            place.copy_from_slice(&dword.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn identify_controller() {
        let Ok(AdminCommand::Identify(identify)) = admin(&command(6, 4096, [0x0005_0001, 0, 0, 0, 0, 0])) else {
            panic!()
        };
        assert_eq!(identify.kind, IdentifyKind::Controller);
        assert_eq!(identify.controller_id, 5);
        assert_eq!(identify.data.len(), 4096);
        assert_eq!(admin(&command(6, 4096, [0xFF, 0, 0, 0, 0, 0])), Err(Status::INVALID_FIELD));
        assert_eq!(admin(&command(6, 512, [1, 0, 0, 0, 0, 0])), Err(Status::SGL_LENGTH_INVALID));
        let mut in_capsule = command(6, 4096, [1, 0, 0, 0, 0, 0]);
        in_capsule[39] = 0x01;
        assert_eq!(admin(&in_capsule), Err(Status::SGL_TYPE_INVALID));
    }

    #[test]
    fn log_page_lengths_and_offsets() {
        // SMART, 512 bytes, RAE.
        let Ok(AdminCommand::GetLogPage(log)) = admin(&command(2, 512, [0x007F_8002, 0, 8, 1, 0, 0])) else { panic!() };
        assert_eq!((log.log_page, log.len, log.offset), (2, 512, 0x1_0000_0008));
        assert!(log.retain_async_event);
        assert_eq!(log.specific, 0);
        // 32 bits of NUMD: 64 KiB needs the upper half.
        let Ok(AdminCommand::GetLogPage(log)) = admin(&command(2, 0x80000, [0xFFFF_0070, 1, 0, 0, 0, 0])) else {
            panic!()
        };
        assert_eq!(log.len, 0x80000);
        assert_eq!(admin(&command(2, 512, [0xFFFF_0002, 0xFFFF, 0, 0, 0, 0])), Err(Status::SGL_LENGTH_INVALID));
        assert_eq!(admin(&command(2, 512, [0x007F_0002, 0, 2, 0, 0, 0])), Err(Status::INVALID_FIELD));
        assert_eq!(admin(&command(2, 512, [0x007F_0002, 0, 0, 0, 1 << 23, 0])), Err(Status::INVALID_FIELD));
    }

    #[test]
    fn features() {
        let Ok(AdminCommand::SetFeatures(set)) = admin(&command(9, 0, [0x8000_0007, 0x0003_0003, 0, 0, 0, 0])) else {
            panic!()
        };
        assert_eq!((set.feature, set.save, set.value), (FeatureId::NumberOfQueues, true, 0x0003_0003));
        let Ok(AdminCommand::GetFeatures(get)) = admin(&command(0x0A, 0, [0x0000_030F, 0, 0, 0, 0, 0])) else {
            panic!()
        };
        assert_eq!((get.feature, get.select), (FeatureId::KeepAliveTimer, 3));
        assert_eq!(admin(&command(9, 0, [0xC0, 0, 0, 0, 0, 0])), Err(Status::INVALID_FIELD));
        assert_eq!(admin(&command(0x0A, 0, [0x0000_070F, 0, 0, 0, 0, 0])), Err(Status::INVALID_FIELD));
    }

    #[test]
    fn abort_names_its_command() {
        assert_eq!(
            admin(&command(8, 0, [0x1234_0003, 0, 0, 0, 0, 0])),
            Ok(AdminCommand::Abort { sqid: 3, command_id: 0x1234 })
        );
    }
}
