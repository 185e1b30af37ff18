//! Get Log Page.

use zerocopy::{FromZeros, IntoBytes};

use super::{Controller, Surroundings, effects, features};
use crate::command::GetLogPage;
use crate::discovery::{self, Asker};
use crate::status::Status;
use crate::subsystem::{Subject, Subsystem};
use crate::wire::log::{FirmwareSlotLog, LogPageId, ManagementEffectsLog, SmartLog, ana, window};
use crate::wire::{U128, pad_text};

/// NSID for the whole controller.
const ALL_NAMESPACES: u32 = 0xFFFF_FFFF;
/// CSI of the NVM command set.
const COMMAND_SET_NVM: u8 = 0;
/// A thousand units of 512 bytes [NVMe Base 2.0, 5.16.1.3].
const DATA_UNIT_LEN: u64 = 512 * 1000;
const NS_PER_HOUR: u64 = 3_600_000_000_000;
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
            .filter(|page| effects::has_page(*page, self.subject, self.reports_ana))
            .ok_or(Status::INVALID_LOG_PAGE)?;
        let len = usize::try_from(command.len).map_err(|_| Status::INVALID_FIELD)?;
        data.resize(len, 0);
        let is_retained = command.retain_async_event;
        match page {
            LogPageId::Supported => {
                part(effects::supported_logs(self.subject, self.reports_ana).as_bytes(), command.offset, data)
            }
            LogPageId::Error => part(&self.errors.page(), command.offset, data),
            LogPageId::Smart => {
                // LPA bit 0 is 0: not by namespace.
                if command.nsid != 0 && command.nsid != ALL_NAMESPACES {
                    return Err(Status::INVALID_FIELD);
                }
                let log = self.health(around);
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
                let asker = Asker { host_nqn: self.host.nqn.as_str(), listener: self.listener };
                discovery::write_log(around.snapshot, asker, command.offset, data)?;
                if !is_retained {
                    self.discovery_log_was_read();
                }
                Ok(())
            }
            LogPageId::Reservation => part(self.reservation_log(is_retained).as_bytes(), command.offset, data),
            LogPageId::Ana => {
                let subsystem = match self.subject {
                    Subject::Nvm(id) => around.snapshot.subsystem(id).ok_or(Status::INTERNAL_ERROR)?,
                    Subject::Discovery => return Err(Status::INVALID_LOG_PAGE),
                };
                let page = self.ana_page(subsystem, command.specific & ana::GROUPS_ONLY != 0);
                part_within(ana_page_len_max(subsystem), &page, command.offset, data)?;
                if !is_retained {
                    self.ana_log_was_read();
                }
                Ok(())
            }
        }
    }
}

impl Controller {
    /// The groups that have namespaces which this host sees, in their states at the address that it came by.
    fn ana_page(&self, subsystem: &Subsystem, groups_only: bool) -> Vec<u8> {
        let groups = subsystem.ana_groups(self.listener, self.id());
        let change_count = subsystem.ana_change_count;
        let group_count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
        let mut page = ana::AnaHeader::new(change_count, group_count).as_bytes().to_vec();
        for group in groups {
            let nsids = if groups_only { &[][..] } else { &group.nsids };
            let nsid_count = u32::try_from(nsids.len()).unwrap_or(u32::MAX);
            let header = ana::AnaGroupHeader::new(group.id, nsid_count, change_count, group.state as u8);
            page.extend_from_slice(header.as_bytes());
            page.extend(nsids.iter().flat_map(|nsid| nsid.to_le_bytes()));
        }
        page
    }

    /// SMART: what its queues have done since they were connected. Commands count when they are fetched.
    fn health(&self, around: &Surroundings<'_>) -> SmartLog {
        let mut tally = self.left_tally;
        tally += around.tally;
        let thousands = |bytes: u64| U128::new(u128::from(bytes.div_ceil(DATA_UNIT_LEN)));
        let mut log = SmartLog::new_zeroed();
        log.available_spare = SPARE;
        log.data_units_read = thousands(tally.read_bytes);
        log.data_units_written = thousands(tally.written_bytes);
        log.host_reads = U128::new(tally.read_count.into());
        log.host_writes = U128::new(tally.write_count.into());
        log.power_on_hours = U128::new((around.now_ns.saturating_sub(around.begun_ns) / NS_PER_HOUR).into());
        log.error_log_entries = U128::new(self.errors.count().into());
        log
    }
}

/// With as many groups and namespaces as Identify says that there may be (NANAGRPID, MNAN). A host cannot know how many there are: it makes room for all of
/// that, and nvme-cli asks for it in parts of 4 KiB, whatever the header says.
fn ana_page_len_max(subsystem: &Subsystem) -> usize {
    let count = usize::try_from(subsystem.nsid_max()).unwrap_or(usize::MAX);
    let each = size_of::<ana::AnaGroupHeader>() + size_of::<u32>();
    size_of::<ana::AnaHeader>().saturating_add(count.saturating_mul(each))
}

fn part(page: &[u8], offset: u64, data: &mut [u8]) -> Result<(), Status> {
    part_within(page.len(), page, offset, data)
}

/// An offset past the page's end is an invalid field [NVMe Base 2.0, 5.16.1].
fn part_within(len_max: usize, page: &[u8], offset: u64, data: &mut [u8]) -> Result<(), Status> {
    if usize::try_from(offset).is_ok_and(|offset| offset <= len_max) {
        window(page, offset, data);
        Ok(())
    } else {
        Err(Status::INVALID_FIELD)
    }
}
