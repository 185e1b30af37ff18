//! What a scenario may tell a raw host to do, step by step.
//!
//! Orders are taken in their order, all at the host's next step. A scenario sees what came of them in [`Observed`]. Stopping and dying are not orders to the
//! host but things that happen to its machine: they take effect at once.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use super::claim::Claim;
use super::observed::Observed;
use super::outcome::{Outcome, Tag, Tags};
use super::queue::Stage;
use super::session::Session;
use crate::sim::host::fate::Fate;
use crate::sim::host::model::Extent;
use crate::sim::world::layout::address;

/// How a queue is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which: 0 is the admin queue.
    pub qid: u16,
    /// 2 to 16.
    pub depth: u16,
    /// How far it goes by itself: see [`Order::Advance`].
    pub goal: Stage,
    /// For an admin queue's Connect.
    pub keep_alive_ms: u32,
    /// Private data and RDMA READs of the connection request, if not as they should be.
    pub request: Option<(Vec<u8>, u8)>,
    /// Where.
    pub address: SocketAddr,
}

impl Opening {
    /// A queue of eight that goes all the way, with a keep-alive of a second.
    #[must_use]
    pub fn new(qid: u16) -> Self {
        Self { qid, depth: 8, goal: Stage::Ready, keep_alive_ms: 1000, request: None, address: address() }
    }

    /// The same, and stops when it has come to this.
    #[must_use]
    pub fn until(self, goal: Stage) -> Self {
        Self { goal, ..self }
    }
}

/// A command of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes blocks; in the capsule if it is one block and that is asked for.
    Write {
        /// Where.
        extent: Extent,
        /// Whether the data goes in the capsule.
        in_capsule: bool,
    },
    /// Reads blocks, which are held against the model.
    Read(Extent),
    /// Writes zeroes.
    WriteZeroes(Extent),
    /// Flush.
    Flush,
    /// A pair of Compare and Write: compares with what this host read or wrote there last, zeroes at first.
    Swap(Extent),
    /// Aborts one of the commands that are out on a queue: the first, or one further on. To be sent on the admin queue.
    Abort {
        /// On which queue.
        qid: u16,
        /// How many further on.
        further: usize,
    },
    /// A reservation command on a namespace.
    Claim {
        /// Which.
        nsid: u32,
        /// What.
        claim: Claim,
    },
    /// Reservation Report of a namespace.
    ReservationReport(u32),
    /// Identify of a namespace.
    IdentifyNamespace(u32),
    /// A log page, so many bytes of it: whatever it tells, it tells once.
    LogPage(u8, u32),
    /// An asynchronous event request.
    EventRequest,
    /// Keep Alive.
    KeepAlive,
    /// A read into memory that is not there.
    WrongKey,
    /// A read whose SGL is of a type that does not exist.
    WrongSgl,
    /// These bytes as a capsule, 1 to 64. In 64 the command id is put in place, and any answer to it is right.
    Bytes(Vec<u8>),
}

/// See the module.
#[derive(Clone, Debug)]
pub enum Order {
    /// Opens a queue. One of the same number that was opened before goes on as it is, and is steered no more but by [`Order::DisconnectAll`].
    Open(Opening),
    /// Lets a queue go on, as far as this.
    Advance {
        /// Which.
        qid: u16,
        /// How far.
        goal: Stage,
    },
    /// Sends a command, if the queue is up; more than its depth allows if it is told to.
    Submit {
        /// On which queue.
        qid: u16,
        /// What.
        command: Command,
    },
    /// The same, and says what became of it.
    Send {
        /// On which queue.
        qid: u16,
        /// What.
        command: Command,
        /// Its name.
        tag: Tag,
    },
    /// Disconnects a queue, and destroys it when everything came back.
    Disconnect {
        /// Which.
        qid: u16,
    },
    /// All of them.
    DisconnectAll,
    /// From here on receives are not posted again, or again: responses that find none wait at the target.
    HoldReceives {
        /// On which queue.
        qid: u16,
        /// Whether they are.
        held: bool,
    },
    /// From here on events are fetched and not acknowledged, or all at once and again.
    HoldEvents(bool),
    /// Whether Keep Alive is sent in time.
    KeepAlive(bool),
    /// Whether the end of one queue ends the others. They do for a host that runs sessions.
    EndsTogether(bool),
    /// Whether a queue pair that gives not everything back within this time is destroyed all the same.
    CutsAfter(Option<u64>),
    /// Runs a session by itself.
    Run(Session),
}

/// A scenario's hand on a host.
#[derive(Clone, Debug)]
pub struct Steering {
    pub(super) orders: Rc<RefCell<VecDeque<Order>>>,
    pub(super) fate: Rc<Cell<Fate>>,
    pub(super) observed: Rc<RefCell<Observed>>,
    tags: Tags,
}

impl Steering {
    pub(super) fn new() -> Self {
        Self { orders: Rc::default(), fate: Rc::default(), observed: Rc::default(), tags: Tags::default() }
    }

    /// To be done at its next step.
    pub fn order(&self, order: Order) {
        self.orders.borrow_mut().push_back(order);
    }

    /// Opens a queue.
    pub fn open(&self, opening: Opening) {
        self.order(Order::Open(opening));
    }

    /// Sends a command.
    pub fn submit(&self, qid: u16, command: Command) {
        self.order(Order::Submit { qid, command });
    }

    /// Sends a command, and wants to know what becomes of it.
    #[must_use]
    pub fn send(&self, qid: u16, command: Command) -> Tag {
        let tag = self.tags.next();
        self.order(Order::Send { qid, command, tag });
        tag
    }

    /// What became of a command. `None`: it is under way.
    #[must_use]
    pub fn outcome(&self, tag: Tag) -> Option<Outcome> {
        self.observed().outcomes.get(&tag).cloned()
    }

    /// Its process and its device stop, as under SIGSTOP.
    pub fn stop(&self) {
        self.change(Fate::Stopped);
    }

    /// They go on.
    pub fn go_on(&self) {
        self.change(Fate::Runs);
    }

    /// Its machine is gone, at its next turn to act: nothing of it is heard again.
    pub fn die(&self) {
        self.fate.set(Fate::Dead);
    }

    fn change(&self, fate: Fate) {
        if self.fate.get() != Fate::Dead {
            self.fate.set(fate);
        }
    }

    /// What is seen of it.
    #[must_use]
    pub fn observed(&self) -> Ref<'_, Observed> {
        self.observed.borrow()
    }

    /// How far the last connection of a queue has come; `None` if it has none, or none any more.
    #[must_use]
    pub fn stage(&self, qid: u16) -> Option<Stage> {
        self.observed().stages.get(&qid).copied()
    }

    /// Whether it has taken all orders: what is seen of it is what came of them.
    #[must_use]
    pub fn has_taken_orders(&self) -> bool {
        self.orders.borrow().is_empty()
    }

    /// Whether this queue has come so far and is not on its way out.
    #[must_use]
    pub fn is_at(&self, qid: u16, stage: Stage) -> bool {
        self.stage(qid).is_some_and(|is| is >= stage && !is.is_ending())
    }
}
