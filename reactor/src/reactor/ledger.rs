//! How a CPU spends its time. Turns that find something are counted one by one; those that find nothing in stretches, since there are tens of
//! millions of them in a second.

use crate::counter::ReactorCounters;
use crate::program::Progress;

/// The longest stretch of idle turns that is not in the counters yet.
const STRETCH_NS: u64 = 10_000;

/// One CPU's turns since its counters were last written.
#[derive(Default)]
pub(super) struct Ledger {
    /// The turn before, unless the CPU slept since.
    last: Option<LastTurn>,
    idle_count: u64,
    idle_ns: u64,
    longest_ns: u64,
}

struct LastTurn {
    began_ns: u64,
    progress: Progress,
}

impl Ledger {
    /// When the last turn began; 0 if the CPU slept since.
    #[inline]
    pub(super) fn turn_ns(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.began_ns)
    }

    /// A turn begins at `now_ns`, and so the one before ends. False if the CPU slept before.
    #[inline]
    pub(super) fn begin_turn(&mut self, now_ns: u64, counters: &ReactorCounters) -> bool {
        let Some(last) = &self.last else { return false };
        let len_ns = now_ns.saturating_sub(last.began_ns);
        if len_ns > self.longest_ns {
            self.longest_ns = len_ns;
            counters.longest_turn_ns.set(len_ns);
        }
        match last.progress {
            Progress::Busy => {
                counters.turn_count.add(1);
                counters.busy_turn_count.add(1);
                counters.busy_ns.add(len_ns);
                counters.turn_lengths.record(len_ns);
            }
            Progress::Idle => {
                self.idle_count += 1;
                self.idle_ns += len_ns;
                if self.idle_ns > STRETCH_NS {
                    self.settle(counters);
                }
            }
        }
        true
    }

    /// The turn that began at `began_ns` has done its work.
    #[inline]
    pub(super) fn end_turn(&mut self, began_ns: u64, progress: Progress, counters: &ReactorCounters) {
        if progress == Progress::Busy {
            self.settle(counters);
        }
        self.last = Some(LastTurn { began_ns, progress });
    }

    /// The CPU sleeps: its last turn has no length.
    pub(super) fn sleep(&mut self, counters: &ReactorCounters) {
        if self.last.take().is_some() {
            self.idle_count += 1;
        }
        self.settle(counters);
    }

    fn settle(&mut self, counters: &ReactorCounters) {
        if self.idle_count > 0 {
            counters.turn_count.add(std::mem::take(&mut self.idle_count));
            counters.idle_ns.add(std::mem::take(&mut self.idle_ns));
        }
    }
}
