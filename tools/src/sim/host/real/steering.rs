//! The scenario's hand on a real host, and what is seen of it.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use transport_rdma::host::HostFailure;

use crate::sim::host::fate::Fate;

/// One association of a real host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Association {
    /// Commands of each CPU. Then it ends.
    pub io_count: u32,
    /// It is ended this many of the host's turns after its beginning, wherever it is then.
    pub ends_after_turns: Option<u32>,
}

/// What is seen of a real host.
#[derive(Debug, Default)]
pub struct Observed {
    /// It has left, or is dead.
    pub is_done: bool,
    /// Associations that are over.
    pub ended_count: u32,
    /// Of them, those that did all that was planned.
    pub as_planned_count: u32,
    /// Its workloads have a controller and its queues.
    pub is_serving: bool,
    /// Commands that ended with success.
    pub io_count: u64,
    /// Commands that the device failed.
    pub io_failed_count: u64,
    /// Why associations ended that were not as planned, oldest first.
    pub failures: Vec<HostFailure>,
    /// What is left of it now that it has left: gauges that are not zero.
    pub left_over: Vec<(&'static str, u64)>,
}

/// A scenario's hand on a real host.
#[derive(Clone, Debug)]
pub struct Steering {
    pub(super) associations: Rc<RefCell<VecDeque<Association>>>,
    pub(super) fate: Rc<Cell<Fate>>,
    pub(super) is_interrupted: Rc<Cell<bool>>,
    pub(super) is_kept: Rc<Cell<bool>>,
    pub(super) may_leave_over: Rc<Cell<bool>>,
    pub(super) observed: Rc<RefCell<Observed>>,
}

impl Steering {
    pub(super) fn new(associations: Vec<Association>) -> Self {
        Self {
            associations: Rc::new(RefCell::new(associations.into())),
            fate: Rc::default(),
            is_interrupted: Rc::default(),
            is_kept: Rc::default(),
            may_leave_over: Rc::default(),
            observed: Rc::default(),
        }
    }

    /// Another association after those that are planned.
    pub fn associate(&self, association: Association) {
        self.associations.borrow_mut().push_back(association);
    }

    /// Whether it has begun all that it was told to.
    #[must_use]
    pub fn has_begun_all(&self) -> bool {
        self.associations.borrow().is_empty()
    }

    /// Ends the association that is under way, if one is. One that has not begun is none.
    pub fn interrupt(&self) {
        self.is_interrupted.set(true);
    }

    /// Whether it stays when it has nothing left to do, for more to come.
    pub fn keep(&self, is_kept: bool) {
        self.is_kept.set(is_kept);
    }

    /// Whether something may be left over when it leaves, since its machine owes it something. Otherwise that is a finding.
    pub fn excuse(&self, is_excused: bool) {
        self.may_leave_over.set(is_excused);
    }

    /// Its process and its device stop, as under SIGSTOP.
    pub fn stop(&self) {
        if self.fate.get() == Fate::Runs {
            self.fate.set(Fate::Stopped);
        }
    }

    /// They go on.
    pub fn go_on(&self) {
        if self.fate.get() == Fate::Stopped {
            self.fate.set(Fate::Runs);
        }
    }

    /// Its machine is gone, at its next turn to act.
    pub fn die(&self) {
        self.fate.set(Fate::Dead);
    }

    /// What is seen of it.
    #[must_use]
    pub fn observed(&self) -> Ref<'_, Observed> {
        self.observed.borrow()
    }
}
