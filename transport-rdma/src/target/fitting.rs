//! What a device gives one polling CPU, and what that has to know of the device: made when the target is built, and again when a device that was removed is
//! back.
//!
//! Made by the control plane, sent by value. What the CPU had before goes home the same way, to be dropped there: that may take a system call.

use super::region::RegionKeys;

/// See the module.
#[derive(Debug)]
pub(crate) struct Fitting<Q> {
    pub(super) port: Q,
    /// Of all registered memory.
    pub(super) keys: RegionKeys,
    /// Entries of the completion queue.
    pub(super) completion_count: usize,
    pub(super) transfer_len_max: u32,
    /// Whether the device takes a response inline.
    pub(super) inline_responses: bool,
    pub(super) raises_last_wqe: bool,
}
