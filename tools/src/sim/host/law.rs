//! What I/O commands of each host on each namespace may end with, and how that changes while they are under way.
//!
//! A scenario that changes something says what is right from now on: while the change is on its way often both of what held before and what will.
//! A command may end with whatever was right at some moment between its beginning and its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::raw::status;

/// What is right at one time: status codes, 0 for success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// For commands that change nothing.
    pub reads: Vec<u16>,
    /// For the others.
    pub writes: Vec<u16>,
}

impl Permit {
    /// The same for all.
    #[must_use]
    pub fn of(statuses: &[u16]) -> Self {
        Self { reads: statuses.to_vec(), writes: statuses.to_vec() }
    }

    /// Nothing but success.
    #[must_use]
    pub fn success() -> Self {
        Self::of(&[status::SUCCESS])
    }

    /// This, or the other.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let both = |a: &[u16], b: &[u16]| [a, b].concat();
        Self { reads: both(&self.reads, &other.reads), writes: both(&self.writes, &other.writes) }
    }
}

/// A place in the history of what is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since(usize);

/// By host and namespace, oldest first.
type Permits = BTreeMap<(u32, u32), Vec<Permit>>;

/// See the module. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Law(Rc<RefCell<Permits>>);

impl Law {
    /// From now on this is right for a host on a namespace. Before the first time it is success alone.
    pub fn set(&self, host: u32, nsid: u32, permit: Permit) {
        self.0.borrow_mut().entry((host, nsid)).or_insert_with(|| vec![Permit::success()]).push(permit);
    }

    /// What is right now.
    #[must_use]
    pub fn now(&self, host: u32, nsid: u32) -> Permit {
        self.0.borrow().get(&(host, nsid)).and_then(|permits| permits.last().cloned()).unwrap_or_else(Permit::success)
    }

    /// A command begins.
    #[must_use]
    pub fn since(&self, host: u32, nsid: u32) -> Since {
        Since(self.0.borrow().get(&(host, nsid)).map_or(0, |permits| permits.len() - 1))
    }

    /// Whether a command that began then may end now with this.
    #[must_use]
    pub fn allows(&self, host: u32, nsid: u32, since: Since, is_write: bool, status: u16) -> bool {
        let laws = self.0.borrow();
        let Some(permits) = laws.get(&(host, nsid)) else { return status == status::SUCCESS };
        permits[since.0..].iter().any(|permit| if is_write { &permit.writes } else { &permit.reads }.contains(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_end_with_what_was_right_while_it_was_under_way() {
        let law = Law::default();
        let first = law.since(1, 1);
        assert!(law.allows(1, 1, first, true, 0) && !law.allows(1, 1, first, true, 0x83));
        law.set(1, 1, Permit { reads: vec![0], writes: vec![0x83] });
        let second = law.since(1, 1);
        assert!(law.allows(1, 1, first, true, 0) && law.allows(1, 1, first, true, 0x83));
        assert!(!law.allows(1, 1, second, true, 0) && law.allows(1, 1, second, false, 0));
        assert!(law.allows(2, 1, law.since(2, 1), true, 0), "another host's is its own");
        law.set(1, 1, law.now(1, 1).or(&Permit::success()));
        assert!(law.allows(1, 1, second, true, 0));
    }
}
