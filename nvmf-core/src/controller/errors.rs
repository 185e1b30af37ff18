//! The error log of one controller: its last failed commands, newest first [NVMe Base 2.0, 5.16.1.2].

use std::collections::VecDeque;

use zerocopy::{FromZeros, IntoBytes};

use super::Controller;
use crate::failure::Failure;
use crate::limits::ERROR_ENTRY_COUNT;
use crate::wire::log::ErrorEntry;
use crate::wire::{TransportKind, U16, U32, U64};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// Newest first, each with its number.
    entries: VecDeque<(u64, Failure)>,
    /// Errors so far, also those that have left or never had an entry.
    count: u64,
}

impl Errors {
    /// Error Information Log Entries, as the SMART log counts them.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The whole page.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(ERROR_ENTRY_COUNT * size_of::<ErrorEntry>());
        for (number, failure) in &self.entries {
            let mut entry = ErrorEntry::new_zeroed();
            entry.error_count = U64::new(*number);
            entry.sqid = U16::new(failure.sqid);
            entry.command_id = U16::new(failure.command_id);
            entry.status_field = U16::new(failure.status.to_field());
            entry.parameter_location = U16::new(failure.location);
            entry.lba = U64::new(failure.lba);
            entry.nsid = U32::new(failure.nsid);
            entry.transport_type = TransportKind::Rdma.to_byte();
            page.extend_from_slice(entry.as_bytes());
        }
        // An entry of zeroes is none.
        page.resize(ERROR_ENTRY_COUNT * size_of::<ErrorEntry>(), 0);
        page
    }
}

impl Controller {
    /// Commands of one of its queues have failed: the last of them, and how many.
    pub(crate) fn failed(&mut self, failure: Failure, count: u64) {
        let errors = &mut self.errors;
        errors.count += count;
        errors.entries.truncate(ERROR_ENTRY_COUNT - 1);
        errors.entries.push_front((errors.count, failure));
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;

    #[test]
    fn a_page_of_none() {
        let page = Errors::default().page();
        assert_eq!(page.len(), ERROR_ENTRY_COUNT * 64);
        assert_eq!(ErrorEntry::ref_from_bytes(&page[..64]).unwrap().error_count.get(), 0);
    }
}
