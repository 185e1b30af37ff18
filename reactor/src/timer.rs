//! Timers on the turn's time.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// Names an armed timer of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    deadline_ns: u64,
    sequence: u64,
}

/// One CPU's timers, by deadline and then by the order in which they were armed.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    tokens: BTreeMap<TimerId, u64>,
    next_sequence: u64,
}

/// One turn's look at the timers that are due: those armed during the turn are left for the next, so that a program that
/// arms for now in `fire` cannot keep the turn from ending.
pub(crate) struct Due {
    now_ns: u64,
    sequence_end: u64,
    last: TimerId,
}

impl Timers {
    pub(crate) fn arm(&mut self, deadline_ns: u64, token: u64) -> TimerId {
        let id = TimerId { deadline_ns, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.tokens.insert(id, token);
        id
    }

    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        self.tokens.remove(&timer).is_some()
    }

    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        self.tokens.first_key_value().map(|(id, _)| id.deadline_ns)
    }

    /// What is due at `now_ns`, if anything.
    pub(crate) fn due(&self, now_ns: u64) -> Option<Due> {
        (self.next_deadline_ns()? <= now_ns).then_some(Due {
            now_ns,
            sequence_end: self.next_sequence,
            last: TimerId { deadline_ns: 0, sequence: 0 },
        })
    }

    /// Takes the next timer out that is due and not yet cancelled.
    pub(crate) fn pop(&mut self, due: &mut Due) -> Option<u64> {
        // The very first timer of all may have the number 0 and the deadline 0.
        let from = if due.last.sequence == 0 && due.last.deadline_ns == 0 { Unbounded } else { Excluded(due.last) };
        let id = self
            .tokens
            .range((from, Unbounded))
            .map(|(id, _)| *id)
            .take_while(|id| id.deadline_ns <= due.now_ns)
            .find(|id| id.sequence < due.sequence_end)?;
        due.last = id;
        self.tokens.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop_all(timers: &mut Timers, now_ns: u64) -> Vec<u64> {
        let Some(mut due) = timers.due(now_ns) else { return Vec::new() };
        std::iter::from_fn(|| timers.pop(&mut due)).collect()
    }

    #[test]
    fn timers_fire_by_deadline_then_by_order_of_arming() {
        let mut timers = Timers::default();
        timers.arm(0, 10);
        timers.arm(5, 11);
        timers.arm(3, 12);
        timers.arm(5, 13);
        timers.arm(6, 14);
        assert_eq!(pop_all(&mut timers, 5), [10, 12, 11, 13]);
        assert_eq!(timers.next_deadline_ns(), Some(6));
        assert_eq!(pop_all(&mut timers, 5), []);
    }

    #[test]
    fn a_timer_cancelled_while_others_fire_does_not_fire() {
        let mut timers = Timers::default();
        timers.arm(1, 1);
        let second = timers.arm(1, 2);
        let mut due = timers.due(1).unwrap();
        assert_eq!(timers.pop(&mut due), Some(1));
        assert!(timers.cancel(second));
        assert!(!timers.cancel(second));
        assert_eq!(timers.pop(&mut due), None);
    }

    #[test]
    fn a_timer_armed_while_others_fire_waits_for_the_next_turn() {
        let mut timers = Timers::default();
        timers.arm(5, 1);
        timers.arm(7, 2);
        let mut due = timers.due(10).unwrap();
        assert_eq!(timers.pop(&mut due), Some(1));
        timers.arm(6, 3);
        timers.arm(0, 4);
        assert_eq!(timers.pop(&mut due), Some(2));
        assert_eq!(timers.pop(&mut due), None);
        assert_eq!(pop_all(&mut timers, 10), [4, 3]);
    }

    #[test]
    #[cfg(not(loom))]
    fn random_operations_agree_with_a_list() {
        use crate::random::Random;
        use crate::trial::seed_count;

        /// Deadline, token, name.
        type Armed = (u64, u64, TimerId);
        fn arm(timers: &mut Timers, list: &mut Vec<Armed>, deadline_ns: u64, token: u64) {
            list.push((deadline_ns, token, timers.arm(deadline_ns, token)));
        }
        for seed in 0..seed_count(2_000) {
            let mut random = Random::new(seed);
            let (mut timers, mut list, mut now_ns, mut cancelled) = (Timers::default(), Vec::new(), 0, Vec::new());
            // Tokens are given in the order of arming.
            for token in 0..100 {
                match random.below(4) {
                    0 | 1 => arm(&mut timers, &mut list, now_ns + random.below(20), token),
                    2 if !list.is_empty() => {
                        let (_, _, timer) = list.remove(usize::try_from(random.below(list.len() as u64)).unwrap());
                        assert!(timers.cancel(timer), "seed {seed}");
                        cancelled.push(timer);
                    }
                    _ => {
                        now_ns += random.below(10);
                        let mut expected: Vec<Armed> = list.extract_if(.., |armed| armed.0 <= now_ns).collect();
                        expected.sort_by_key(|(deadline_ns, token, _)| (*deadline_ns, *token));
                        let mut due = timers.due(now_ns);
                        assert_eq!(due.is_none(), expected.is_empty(), "seed {seed}");
                        while let Some(due) = &mut due {
                            // One that is armed meanwhile waits, and one that is cancelled meanwhile does not fire.
                            if random.below(8) == 0 {
                                arm(&mut timers, &mut list, now_ns.saturating_sub(random.below(3)), token);
                            }
                            if random.below(8) == 0 && !expected.is_empty() {
                                let at = usize::try_from(random.below(expected.len() as u64)).unwrap();
                                assert!(timers.cancel(expected.remove(at).2), "seed {seed}");
                            }
                            let Some(fired) = timers.pop(due) else { break };
                            let (_, expected_token, timer) = expected.remove(0);
                            assert_eq!(fired, expected_token, "seed {seed}");
                            assert!(!timers.cancel(timer), "seed {seed}: it has fired");
                        }
                        assert!(expected.is_empty(), "seed {seed}: {expected:?} did not fire");
                    }
                }
                assert_eq!(timers.next_deadline_ns(), list.iter().map(|armed| armed.0).min(), "seed {seed}");
                assert!(cancelled.iter().all(|timer| !timers.cancel(*timer)), "seed {seed}");
            }
        }
    }
}
