//! Get Log Page.

use zerocopy::{FromZeros, IntoBytes};

use super::{Controller, Surroundings, effects, features};
use crate::command::GetLogPage;
use crate::discovery;
use crate::status::Status;
use crate::wire::log::{ErrorEntry, FirmwareSlotLog, LogPageId, ManagementEffectsLog, SmartLog, window};
use crate::wire::pad_text;

/// NSID for the whole controller.
const ALL_NAMESPACES: u32 = 0xFFFF_FFFF;
/// CSI of the NVM command set.
const COMMAND_SET_NVM: u8 = 0;
/// Percent.
const SPARE: u8 = 100;

impl Controller {
    /// Puts the part of the page that was asked for into `data`. What is behind the page's end reads as zero.
    pub(super) fn log_page(
        &mut self,
        command: &GetLogPage,
        around: &Surroundings<'_>,
        data: &mut Vec<u8>,
    ) -> Result<(), Status> {
        // MDTS bounds this as it does every transfer.
        if command.len > around.snapshot.controller.transfer_len_max {
            return Err(Status::INVALID_FIELD);
        }
        let page = LogPageId::from_byte(command.log_page)
            .filter(|page| effects::has_page(*page, self.subject))
            .ok_or(Status::INVALID_LOG_PAGE)?;
        let len = usize::try_from(command.len).map_err(|_| Status::INVALID_FIELD)?;
        data.resize(len, 0);
        let is_retained = command.retain_async_event;
        match page {
            LogPageId::Supported => part(effects::supported_logs(self.subject).as_bytes(), command.offset, data),
            // No error is kept: ELPE says one entry, and an entry of zeroes is none [NVMe Base 2.0, 5.16.1.2].
            LogPageId::Error => part(ErrorEntry::new_zeroed().as_bytes(), command.offset, data),
            LogPageId::Smart => {
                // LPA bit 0 is 0: not by namespace.
                if command.nsid != 0 && command.nsid != ALL_NAMESPACES {
                    return Err(Status::INVALID_FIELD);
                }
                let mut log = SmartLog::new_zeroed();
                log.available_spare = SPARE;
                part(log.as_bytes(), command.offset, data)
            }
            LogPageId::FirmwareSlot => {
                let mut log = FirmwareSlotLog::new_zeroed();
                log.active_firmware = 1;
                log.revisions[0] = pad_text(env!("CARGO_PKG_VERSION"));
                part(log.as_bytes(), command.offset, data)
            }
            LogPageId::ChangedNamespaces => part(self.changed_namespaces(is_retained).as_bytes(), command.offset, data),
            LogPageId::Effects if command.command_set != COMMAND_SET_NVM => Err(Status::INVALID_FIELD),
            LogPageId::Effects => part(effects::commands(self.subject).as_bytes(), command.offset, data),
            LogPageId::FeatureEffects => {
                let has_cache = features::has_volatile_cache(self.subject, around.snapshot);
                part(effects::features(self.subject, has_cache).as_bytes(), command.offset, data)
            }
            LogPageId::ManagementEffects => part(ManagementEffectsLog::none().as_bytes(), command.offset, data),
            LogPageId::Discovery => {
                discovery::write_log(around.snapshot, self.host.nqn.as_str(), command.offset, data)?;
                if !is_retained {
                    self.discovery_log_was_read();
                }
                Ok(())
            }
            LogPageId::Reservation => part(self.reservation_log(is_retained).as_bytes(), command.offset, data),
            LogPageId::Ana => Err(Status::INVALID_LOG_PAGE),
        }
    }
}

/// An offset past the page's end is an invalid field [NVMe Base 2.0, 5.16.1].
fn part(page: &[u8], offset: u64, data: &mut [u8]) -> Result<(), Status> {
    if usize::try_from(offset).is_ok_and(|offset| offset <= page.len()) {
        window(page, offset, data);
        Ok(())
    } else {
        Err(Status::INVALID_FIELD)
    }
}
