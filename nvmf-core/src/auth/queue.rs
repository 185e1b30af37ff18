//! The questions that wait for somebody who does them: limits, and turns.
//!
//! Owned by the control plane. Host addresses take turns, so that a storm from one delays itself; each has only so many that wait and so many that are being
//! done. What finds no room is handed back, and its host is told to try again.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use reactor::Full;

use super::job::Question;
use crate::limits::{AUTHENTICATION_WAITING_MAX, AUTHENTICATION_WAITING_PER_ADDRESS_MAX};

/// One host address.
#[derive(Default)]
struct Address {
    waiting: VecDeque<Box<Question>>,
    running_count: usize,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    addresses: BTreeMap<IpAddr, Address>,
    /// Whose turn it is: those that have something waiting, each once.
    turns: VecDeque<IpAddr>,
    waiting_count: usize,
    running_count: usize,
}

impl Queue {
    /// At the end of its address's line.
    pub(crate) fn push(&mut self, question: Box<Question>) -> Result<(), Full<Box<Question>>> {
        let peer = question.peer;
        let in_line = self.addresses.get(&peer).map_or(0, |address| address.waiting.len());
        if self.waiting_count >= AUTHENTICATION_WAITING_MAX || in_line >= AUTHENTICATION_WAITING_PER_ADDRESS_MAX {
            return Err(Full(question));
        }
        self.addresses.entry(peer).or_default().waiting.push_back(question);
        self.waiting_count += 1;
        if in_line == 0 {
            self.turns.push_back(peer);
        }
        Ok(())
    }

    /// The next to be done, `running_max` of all and half of that (at least one) of each address at a time. [`Self::ended`] follows. Those that nobody waits
    /// for any more are left out.
    pub(crate) fn next(&mut self, now_ns: u64, running_max: usize) -> Option<Box<Question>> {
        let per_address_max = (running_max / 2).max(1);
        for _ in 0..self.turns.len() {
            if self.running_count >= running_max {
                return None;
            }
            let peer = self.turns.pop_front()?;
            let Some(address) = self.addresses.get_mut(&peer) else { continue };
            let may = address.running_count < per_address_max;
            let mut found = None;
            while may && found.is_none() && !address.waiting.is_empty() {
                found = address.waiting.pop_front().filter(|question| question.deadline_ns > now_ns);
                self.waiting_count -= 1;
            }
            if !address.waiting.is_empty() {
                self.turns.push_back(peer);
            }
            if found.is_some() {
                address.running_count += 1;
                self.running_count += 1;
                return found;
            }
            self.forget(peer);
        }
        None
    }

    /// One of this address is done.
    pub(crate) fn ended(&mut self, peer: IpAddr) {
        let Some(address) = self.addresses.get_mut(&peer) else { return };
        address.running_count -= 1;
        self.running_count -= 1;
        self.forget(peer);
    }

    /// Waiting, and being done.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.waiting_count, self.running_count)
    }

    fn forget(&mut self, peer: IpAddr) {
        let is_idle = |address: &Address| address.waiting.is_empty() && address.running_count == 0;
        if self.addresses.get(&peer).is_some_and(is_idle) {
            self.addresses.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use reactor::{Cpu, Handle};

    use super::*;
    use crate::auth::job::Work;
    use crate::membership::Remote;
    use crate::subsystem::SubsystemId;
    use crate::wire::Nqn;
    use crate::wire::auth::{GroupId, HashId};

    fn question(peer: u8, number: u32) -> Box<Question> {
        Box::new(Question {
            qpair: Remote { cpu: Cpu(0), handle: Handle::from_bits(1) },
            number,
            peer: IpAddr::from([10, 0, 0, peer]),
            subsystem: SubsystemId(1),
            host: Nqn::new("nqn.2024-01.example:host").unwrap(),
            deadline_ns: 100,
            work: Work::Challenge { hash: HashId::Sha256, group: GroupId::Null },
        })
    }

    fn names(queue: &mut Queue, running_max: usize) -> Vec<(u8, u32)> {
        let mut names = Vec::new();
        while let Some(question) = queue.next(0, running_max) {
            let IpAddr::V4(peer) = question.peer else { panic!() };
            names.push((peer.octets()[3], question.number));
        }
        names
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = Queue::default();
        for number in 0..10 {
            queue.push(question(1, number)).unwrap();
        }
        queue.push(question(2, 0)).unwrap();
        queue.push(question(2, 1)).unwrap();
        // Two of four places for each; the storm's first question was there first.
        assert_eq!(names(&mut queue, 4), [(1, 0), (2, 0), (1, 1), (2, 1)]);
        assert_eq!(queue.counts(), (8, 4));
        // A place of the storm's own comes free: its next; one of the others': nobody may have it.
        queue.ended(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(names(&mut queue, 4), [(1, 2)]);
        queue.ended(IpAddr::from([10, 0, 0, 2]));
        assert_eq!(names(&mut queue, 4), []);
        queue.push(question(3, 0)).unwrap();
        assert_eq!(names(&mut queue, 4), [(3, 0)]);
    }

    #[test]
    fn there_is_an_end_to_waiting() {
        let mut queue = Queue::default();
        let per_address = u32::try_from(AUTHENTICATION_WAITING_PER_ADDRESS_MAX).unwrap();
        for number in 0..per_address {
            queue.push(question(1, number)).unwrap();
        }
        let Err(Full(back)) = queue.push(question(1, per_address)) else { panic!("it has no end") };
        assert_eq!(back.number, per_address);
        queue.push(question(2, 0)).unwrap();
        // All together.
        let mut taken = AUTHENTICATION_WAITING_PER_ADDRESS_MAX + 1;
        'filling: for peer in 3..=255 {
            for number in 0..per_address {
                if queue.push(question(peer, number)).is_err() {
                    break 'filling;
                }
                taken += 1;
            }
        }
        assert_eq!((taken, queue.counts().0), (AUTHENTICATION_WAITING_MAX, AUTHENTICATION_WAITING_MAX));
    }

    #[test]
    fn what_nobody_waits_for_is_left_out_and_nothing_stays_behind() {
        let mut queue = Queue::default();
        queue.push(question(1, 0)).unwrap();
        queue.push(question(2, 0)).unwrap();
        assert!(queue.next(100, 2).is_none());
        assert_eq!(queue.counts(), (0, 0));
        assert!(queue.addresses.is_empty() && queue.turns.is_empty());
        queue.push(question(1, 1)).unwrap();
        assert_eq!(names(&mut queue, 1), [(1, 1)]);
        queue.ended(IpAddr::from([10, 0, 0, 1]));
        assert!(queue.addresses.is_empty() && queue.turns.is_empty() && queue.counts() == (0, 0));
    }
}
