//! What was posted to a queue and has not been completed, as the program that posts knows it: counted apart from the device, to compare with it.

use std::collections::VecDeque;

use crate::verbs::{Flags, LocalSegment, SendOperation, SendRequest};

/// One posted request.
pub(super) struct Posted {
    pub(super) id: u64,
    /// Empty where the data was copied while posting.
    pub(super) segments: Vec<LocalSegment>,
    /// Whether the device writes into the segments.
    pub(super) is_written: bool,
    /// Does not complete if it succeeds.
    is_silent: bool,
    /// Its completion was lost.
    is_lost: bool,
}

impl Posted {
    pub(super) fn send(request: &SendRequest<'_>) -> Self {
        let is_inline = request.flags.contains(Flags::INLINE);
        Self {
            id: request.id,
            segments: if is_inline { Vec::new() } else { request.segments.to_vec() },
            is_written: matches!(request.operation, SendOperation::Read { .. }),
            is_silent: !request.flags.contains(Flags::SIGNALED),
            is_lost: false,
        }
    }

    pub(super) fn receive(id: u64, segments: &[LocalSegment]) -> Self {
        Self { id, segments: segments.to_vec(), is_written: true, is_silent: false, is_lost: false }
    }
}

/// One queue's: `posted = completed + in flight + lost` at any time.
#[derive(Default)]
pub(super) struct Ledger {
    open: VecDeque<Posted>,
    pub(super) posted_count: u64,
    pub(super) completed_count: u64,
    /// Completions that never come: dropped, swept or swallowed.
    pub(super) lost_count: u64,
}

impl Ledger {
    pub(super) fn post(&mut self, posted: Posted) {
        self.open.push_back(posted);
        self.posted_count += 1;
    }

    /// The program polled a completion of a queue that completes in order. What succeeded before it without a word has ended too. False if it is not its turn.
    ///
    /// Requests may have the same id, as the writes of one command have, and all but the last of them be silent: which of them failed, only the device can say,
    /// which says it by the count of requests that end with this completion.
    pub(super) fn complete(&mut self, id: u64, has_succeeded: bool, ended_count: u32) -> bool {
        let Some(position) = self.turn(id, has_succeeded, ended_count) else { return false };
        let ended = self.open.drain(..=position).filter(|posted| !posted.is_lost).count();
        self.completed_count += ended as u64;
        true
    }

    /// That completion will never come, although older ones may. Its request counts as posted until a later one completes; the `silent_count` before it, which had
    /// succeeded without a word, have ended. False if there is none.
    pub(super) fn lose(&mut self, id: u64, silent_count: usize) -> bool {
        let position = self.open.iter().position(|posted| posted.id == id && !posted.is_lost);
        let Some(position) = position else { return false };
        self.open[position].is_lost = true;
        self.lost_count += 1;
        let first = position.saturating_sub(silent_count);
        self.completed_count += self.open.drain(first..position).count() as u64;
        true
    }

    /// Where the request is whose turn it is to complete: of several with that id, the one up to which so many end; otherwise the first.
    fn turn(&self, id: u64, has_succeeded: bool, ended_count: u32) -> Option<usize> {
        let mut first = None;
        let live = self.open.iter().enumerate().filter(|(_, posted)| !posted.is_lost);
        for ((at, posted), count) in live.zip(1..) {
            if posted.id == id && !(has_succeeded && posted.is_silent) {
                first = first.or(Some(at));
                if count == ended_count {
                    return Some(at);
                }
            }
            if !posted.is_silent {
                break;
            }
        }
        first
    }

    /// The same of a queue whose completions come in any order. False if there is none.
    pub(super) fn complete_any(&mut self, id: u64) -> bool {
        let is_there = self.remove(id);
        self.completed_count += u64::from(is_there);
        is_there
    }

    /// One of such a queue never completes, and the device has left it. False if there is none.
    pub(super) fn lose_for_good(&mut self, id: u64) -> bool {
        let is_there = self.remove(id);
        self.lost_count += u64::from(is_there);
        is_there
    }

    fn remove(&mut self, id: u64) -> bool {
        let position = self.open.iter().position(|posted| posted.id == id);
        position.and_then(|at| self.open.remove(at)).is_some()
    }

    pub(super) fn in_flight_count(&self) -> u64 {
        self.open.iter().filter(|posted| !posted.is_lost).count() as u64
    }

    /// Posted and not completed, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = &Posted> {
        self.open.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(id: u64, flags: Flags) -> Posted {
        Posted::send(&SendRequest { id, operation: SendOperation::Send, flags, segments: &[] })
    }

    fn counts(ledger: &Ledger) -> [u64; 4] {
        let counts = [ledger.posted_count, ledger.completed_count, ledger.in_flight_count(), ledger.lost_count];
        assert_eq!(counts[0], counts[1] + counts[2] + counts[3]);
        counts
    }

    #[test]
    fn silent_ones_end_with_the_next_that_speaks() {
        let mut ledger = Ledger::default();
        for (id, flags) in [(1, Flags::empty()), (2, Flags::SIGNALED), (3, Flags::empty()), (4, Flags::SIGNALED)] {
            ledger.post(send(id, flags));
        }
        assert!(!ledger.complete(4, true, 1), "2 speaks before it");
        assert!(!ledger.complete(1, true, 1), "1 says nothing when it succeeds");
        assert!(ledger.complete(2, true, 1));
        assert_eq!(counts(&ledger), [4, 2, 2, 0]);
        assert!(ledger.complete(3, false, 1), "it speaks when it fails");
        assert!(ledger.complete(4, false, 1));
        assert!(!ledger.complete(4, false, 1));
        assert_eq!(counts(&ledger), [4, 4, 0, 0]);
    }

    #[test]
    fn of_several_silent_ones_with_one_id_the_device_says_which_failed() {
        for ended_count in 1..=3 {
            let mut ledger = Ledger::default();
            for flags in [Flags::empty(), Flags::empty(), Flags::SIGNALED] {
                ledger.post(send(7, flags));
            }
            assert!(ledger.complete(7, false, ended_count));
            let ended_count = u64::from(ended_count);
            assert_eq!(counts(&ledger), [3, ended_count, 3 - ended_count, 0]);
        }
    }

    #[test]
    fn what_is_lost_is_counted_apart_and_ends_with_a_later_one() {
        let mut ledger = Ledger::default();
        for (id, flags) in [(1, Flags::SIGNALED), (2, Flags::empty()), (3, Flags::SIGNALED), (4, Flags::SIGNALED)] {
            ledger.post(send(id, flags));
        }
        assert!(ledger.lose(3, 1) && !ledger.lose(3, 0));
        assert_eq!((counts(&ledger), ledger.open().count()), ([4, 1, 2, 1], 3));
        assert!(ledger.complete(1, true, 1), "it is still to be polled");
        assert_eq!((counts(&ledger), ledger.open().count()), ([4, 2, 1, 1], 2));
        assert!(ledger.complete(4, false, 1));
        assert_eq!((counts(&ledger), ledger.open().count()), ([4, 3, 0, 1], 0));
    }

    #[test]
    fn a_shared_queue_completes_in_any_order() {
        let mut ledger = Ledger::default();
        for id in 1..=3 {
            ledger.post(Posted::receive(id, &[]));
        }
        assert!(ledger.complete_any(3) && !ledger.complete_any(3));
        assert!(ledger.lose_for_good(1));
        assert_eq!(counts(&ledger), [3, 1, 1, 1]);
    }
}
