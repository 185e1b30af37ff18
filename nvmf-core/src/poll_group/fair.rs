//! Requests that wait for the same thing: a line for each host, and the hosts take turns.
//!
//! So a host that has a thousand requests waiting delays another's one request by one of its own, not by a thousand. Within a line: first come, first served.
//! Nothing here allocates once a qpair is connected ([`FairQueue::reserve`]).

use std::collections::VecDeque;

use super::buffers::RequestName;
use super::hosts::HostIndex;

/// See the module.
#[derive(Default)]
pub(crate) struct FairQueue {
    /// By host.
    lines: Vec<VecDeque<RequestName>>,
    /// Hosts whose lines are not empty, each once. The first is next.
    turns: VecDeque<HostIndex>,
    len: usize,
}

impl FairQueue {
    /// Makes sure that so many requests of a host can wait without an allocation.
    pub(crate) fn reserve(&mut self, host: HostIndex, request_count: usize) {
        if self.lines.len() <= host.place() {
            self.lines.resize_with(host.place() + 1, VecDeque::new);
        }
        self.turns.reserve(self.lines.len() - self.turns.len());
        let line = &mut self.lines[host.place()];
        line.reserve(request_count.saturating_sub(line.len()));
    }

    /// To the end of its host's line.
    pub(crate) fn push(&mut self, host: HostIndex, request: RequestName) {
        let line = &mut self.lines[host.place()];
        if line.is_empty() {
            self.turns.push_back(host);
        }
        line.push_back(request);
        self.len += 1;
    }

    /// The first of the line whose turn it is. The turn goes on.
    pub(crate) fn pop(&mut self) -> Option<RequestName> {
        let host = self.turns.pop_front()?;
        let line = &mut self.lines[host.place()];
        let request = line.pop_front()?;
        if !line.is_empty() {
            self.turns.push_back(host);
        }
        self.len -= 1;
        Some(request)
    }

    /// Requests that match wait no longer.
    pub(crate) fn forget(&mut self, matches: impl Fn(RequestName) -> bool) {
        if self.len == 0 {
            return;
        }
        let Self { lines, turns, len } = self;
        turns.retain(|host| {
            let line = &mut lines[host.place()];
            *len -= line.len();
            line.retain(|request| !matches(*request));
            *len += line.len();
            !line.is_empty()
        });
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reactor::Handle;

    use super::*;

    fn name(qpair: u64, slot: u16) -> RequestName {
        (Handle::from_bits(qpair), slot)
    }

    fn queue(host_count: u16) -> FairQueue {
        let mut queue = FairQueue::default();
        for host in 0..host_count {
            queue.reserve(HostIndex(host), 8);
        }
        queue
    }

    #[test]
    fn one_request_waits_for_one_of_each_other_host() {
        let mut queue = queue(3);
        for slot in 0..4 {
            queue.push(HostIndex(0), name(0, slot));
        }
        queue.push(HostIndex(2), name(2, 0));
        queue.push(HostIndex(1), name(1, 0));
        queue.push(HostIndex(2), name(2, 1));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(qpair, slot)| (qpair.to_bits(), slot)).collect();
        assert_eq!(order, [(0, 0), (2, 0), (1, 0), (0, 1), (2, 1), (0, 2), (0, 3)]);
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        /// Against lists: nothing is lost, doubled or overtaken within a host, and no host has two turns while another waits.
        #[test]
        fn turns_are_fair(steps in prop::collection::vec((0..3_u8, 0..4_u16), 1..200)) {
            let mut queue = queue(4);
            let mut lines: Vec<Vec<u16>> = vec![Vec::new(); 4];
            let mut served_since: Vec<u32> = vec![0; 4];
            for (number, (kind, host)) in (0_u16..).zip(steps) {
                let place = usize::from(host);
                match kind {
                    0 => {
                        if lines[place].is_empty() {
                            served_since[place] = 0;
                        }
                        lines[place].push(number);
                        queue.push(HostIndex(host), name(host.into(), number));
                    }
                    1 => {
                        let popped = queue.pop();
                        prop_assert_eq!(popped.is_none(), lines.iter().all(Vec::is_empty));
                        let Some((qpair, slot)) = popped else { continue };
                        let from = usize::try_from(qpair.to_bits()).unwrap();
                        prop_assert_eq!(lines[from].remove(0), slot);
                        for other in 0..4 {
                            let is_passed = other != from && !lines[other].is_empty();
                            served_since[other] = if is_passed { served_since[other] + 1 } else { 0 };
                            prop_assert!(served_since[other] <= 3, "three others at most are before it");
                        }
                    }
                    _ => {
                        queue.forget(|(qpair, slot)| qpair.to_bits() == u64::from(host) && slot % 2 == 0);
                        lines[place].retain(|slot| slot % 2 != 0);
                    }
                }
                prop_assert_eq!(queue.len(), lines.iter().map(Vec::len).sum::<usize>());
            }
        }
    }
}
