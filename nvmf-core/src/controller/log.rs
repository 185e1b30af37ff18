//! Get Log Page.

use zerocopy::{FromZeros, IntoBytes};

use super::Controller;
use crate::command::GetLogPage;
use crate::discovery;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::wire::log::{ErrorEntry, FirmwareSlotLog, LogPageId, SmartLog, window};
use crate::wire::pad_text;

/// NSID for the whole controller.
const ALL_NAMESPACES: u32 = 0xFFFF_FFFF;
/// Percent.
const SPARE: u8 = 100;

impl Controller {
    /// Puts the part of the page that was asked for into `data`. What is behind the page's end reads as zero.
    pub(super) fn log_page(
        &mut self,
        command: &GetLogPage,
        snapshot: &Snapshot,
        data: &mut Vec<u8>,
    ) -> Result<(), Status> {
        // MDTS bounds this as it does every transfer.
        if command.len > snapshot.controller.transfer_len_max {
            return Err(Status::INVALID_FIELD);
        }
        let page = LogPageId::from_byte(command.log_page).ok_or(Status::INVALID_LOG_PAGE)?;
        let len = usize::try_from(command.len).map_err(|_| Status::INVALID_FIELD)?;
        data.resize(len, 0);
        match (page, self.subject) {
            (LogPageId::Discovery, Subject::Discovery) => {
                discovery::write_log(snapshot, self.host.nqn.as_str(), command.offset, data)?;
                if !command.retain_async_event {
                    self.discovery_log_was_read();
                }
                Ok(())
            }
            // No error is kept: ELPE says one entry, and an entry of zeroes is none [NVMe 1.4, 5.14.1.1].
            (LogPageId::Error, _) => part(ErrorEntry::new_zeroed().as_bytes(), command.offset, data),
            (LogPageId::Smart, Subject::Nvm(_)) => {
                // LPA bit 0 is 0: not by namespace.
                if command.nsid != 0 && command.nsid != ALL_NAMESPACES {
                    return Err(Status::INVALID_FIELD);
                }
                let mut log = SmartLog::new_zeroed();
                log.available_spare = SPARE;
                part(log.as_bytes(), command.offset, data)
            }
            (LogPageId::FirmwareSlot, Subject::Nvm(_)) => {
                let mut log = FirmwareSlotLog::new_zeroed();
                log.active_firmware = 1;
                log.revisions[0] = pad_text(env!("CARGO_PKG_VERSION"));
                part(log.as_bytes(), command.offset, data)
            }
            (LogPageId::ChangedNamespaces, Subject::Nvm(_)) => {
                part(self.changed_namespaces(command.retain_async_event).as_bytes(), command.offset, data)
            }
            (LogPageId::Reservation, Subject::Nvm(_)) => {
                part(self.reservation_log(command.retain_async_event).as_bytes(), command.offset, data)
            }
            (
                LogPageId::Supported
                | LogPageId::Smart
                | LogPageId::FirmwareSlot
                | LogPageId::ChangedNamespaces
                | LogPageId::Effects
                | LogPageId::Ana
                | LogPageId::Discovery
                | LogPageId::Reservation,
                _,
            ) => Err(Status::INVALID_LOG_PAGE),
        }
    }
}

/// An offset past the page's end is an invalid field [NVMe 1.4, 5.14.1].
fn part(page: &[u8], offset: u64, data: &mut [u8]) -> Result<(), Status> {
    if usize::try_from(offset).is_ok_and(|offset| offset <= page.len()) {
        window(page, offset, data);
        Ok(())
    } else {
        Err(Status::INVALID_FIELD)
    }
}
