//! Whoever computes for the control plane: here, in its turn, when a test lets it. Random bytes are a sequence that begins anew with each test.

use std::collections::VecDeque;

use nvmf_core::Target;
use nvmf_core::auth::Job;
use reactor::Turn;

use super::Letter;

/// See the module.
#[derive(Default)]
pub struct Jobs {
    /// Nothing is finished while set.
    pub hold: bool,
    /// Jobs that were performed.
    pub done_count: usize,
    begun: VecDeque<Job>,
    drawn: u64,
}

/// Jobs at a time.
pub const RUNNING_MAX: usize = 4;

impl Jobs {
    pub fn run(&mut self, turn: &mut Turn<'_, Letter>, target: &mut Target) {
        while let Some(job) = target.next_job(turn, RUNNING_MAX) {
            self.begun.push_back(job);
            if !self.hold {
                self.finish(turn, target);
            }
        }
        if !self.hold {
            self.finish(turn, target);
        }
    }

    fn finish(&mut self, turn: &mut Turn<'_, Letter>, target: &mut Target) {
        while let Some(job) = self.begun.pop_front() {
            let drawn = &mut self.drawn;
            let done = job.perform(&mut |bytes| random(drawn, bytes));
            self.done_count += 1;
            target.job_done(turn, done);
        }
    }
}

/// Bytes that look random enough.
pub fn random(drawn: &mut u64, bytes: &mut [u8]) {
    for byte in bytes {
        *drawn = drawn.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (*drawn ^ *drawn >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        *byte = mixed.to_le_bytes()[7];
    }
}
