//! The I/O qpairs of a controller: who is in, who waits to come in, and the leases that are out.
//!
//! Changes only on the controller's CPU. A member holds its [`ControllerLease`] until its qpair is reaped, and the controller cannot retire while one
//! is out; so a queue id is free again only when nothing late of its old qpair is left.

use crate::limits::JOIN_WAIT_NS;
use crate::membership::{ControllerLease, Join, Remote, SubsystemLease};
use crate::{ControllerKind, Qpair};

/// A Connect whose queue id is still taken.
struct Waiting {
    join: Box<Join>,
    deadline_ns: u64,
}

/// What became of a Join.
#[derive(Debug)]
pub(crate) enum Admission {
    /// In.
    Joined(Joined),
    /// The queue id is taken; the answer comes with the old member's leaving, or at this time.
    Waits {
        /// ns.
        deadline_ns: u64,
    },
    /// Another Connect waits for this queue id already.
    Contended(Box<Join>),
}

/// Who is in, and with what.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) qpair: Remote<Qpair>,
    pub(crate) lease: ControllerLease,
}

/// One queue id.
#[derive(Clone, Copy)]
enum Queue {
    /// Nobody's.
    Free,
    /// A member's.
    Joined(Remote<Qpair>),
    /// A member's that has been told to end. Once only.
    Ending(Remote<Qpair>),
}

/// The members of one controller.
pub(crate) struct Members {
    /// By qid - 1.
    queues: Vec<Queue>,
    count: usize,
    waiting: Vec<Waiting>,
}

impl Members {
    /// For queue ids 1 to `queue_count`.
    pub(crate) fn new(queue_count: u16) -> Self {
        let mut queues = Vec::new();
        queues.resize_with(usize::from(queue_count), || Queue::Free);
        Self { queues, count: 0, waiting: Vec::new() }
    }

    /// Takes a new member in, or makes it wait for the old one. The caller has checked that the queue id is one of this controller's.
    pub(crate) fn admit(
        &mut self,
        controller: Remote<ControllerKind>,
        owner: &SubsystemLease,
        join: Box<Join>,
        now_ns: u64,
    ) -> Admission {
        let queue = &mut self.queues[usize::from(join.qid) - 1];
        if matches!(queue, Queue::Free) {
            *queue = Queue::Joined(join.qpair);
            self.count += 1;
            let lease = ControllerLease::new(controller, owner, join.qid);
            return Admission::Joined(Joined { qpair: join.qpair, lease });
        }
        if self.waiting.iter().any(|waiting| waiting.join.qid == join.qid) {
            return Admission::Contended(join);
        }
        let deadline_ns = now_ns + JOIN_WAIT_NS;
        self.waiting.push(Waiting { join, deadline_ns });
        Admission::Waits { deadline_ns }
    }

    /// A lease came home. Gives the Join that waited for its queue id.
    pub(crate) fn leave(&mut self, lease: ControllerLease) -> Option<Box<Join>> {
        let queue = &mut self.queues[usize::from(lease.qid()) - 1];
        let was = std::mem::replace(queue, Queue::Free);
        assert!(!matches!(was, Queue::Free), "a lease goes home once");
        self.count -= 1;
        let index = self.waiting.iter().position(|waiting| waiting.join.qid == lease.qid())?;
        Some(self.waiting.remove(index).join)
    }

    /// Joins that have waited too long.
    pub(crate) fn expire(&mut self, now_ns: u64) -> Option<Box<Join>> {
        let index = self.waiting.iter().position(|waiting| waiting.deadline_ns <= now_ns)?;
        Some(self.waiting.remove(index).join)
    }

    /// When the next Join will have waited too long.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        self.waiting.iter().map(|waiting| waiting.deadline_ns).min()
    }

    /// All Joins that wait, since none can be granted any more.
    pub(crate) fn turn_away(&mut self) -> impl Iterator<Item = Box<Join>> {
        std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.join)
    }

    /// The members that have not been told to end, by queue id. They have from now on.
    pub(crate) fn end(&mut self) -> impl Iterator<Item = Remote<Qpair>> {
        self.queues.iter_mut().filter_map(|queue| match *queue {
            Queue::Joined(member) => {
                *queue = Queue::Ending(member);
                Some(member)
            }
            Queue::Free | Queue::Ending(_) => None,
        })
    }

    /// The member with this queue id.
    pub(crate) fn member(&self, qid: u16) -> Option<Remote<Qpair>> {
        match *self.queues.get(usize::from(qid.checked_sub(1)?))? {
            Queue::Joined(member) | Queue::Ending(member) => Some(member),
            Queue::Free => None,
        }
    }

    /// All members.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Remote<Qpair>> {
        self.queues.iter().filter_map(|queue| match *queue {
            Queue::Joined(member) | Queue::Ending(member) => Some(member),
            Queue::Free => None,
        })
    }

    /// Leases that are out.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
