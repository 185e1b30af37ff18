//! A host made of verbs alone, which shares no code with what it tests.
//!
//! It opens an admin queue and any number of I/O queues, does I/O against the model of the data, and ends them in every way that it can think of: by itself
//! ([`Session`]s, one after the other) or as a scenario tells it, step by step ([`Steering`]). Everything that could go one way or another is asked of the run's
//! choices.
//!
//! It waits for everything that it posted before it destroys a queue pair, unless it is told otherwise, so that what is left over in the end is the
//! target's. What fails on its own machine (a call, an event that never comes, a device that is removed) ends connections. What the target does wrong is a
//! finding: a response to nothing or a second one, a status that cannot be, data that is not what the model says, a byte touched beside the buffer that
//! was named or after the response.
//!
//! | part | what it is |
//! |---|---|
//! | here | the machine, and one step of it |
//! | [`orders`], [`observed`], [`outcome`] | what a scenario says and sees |
//! | [`session`], [`plan`] | what it does by itself |
//! | [`commands`], [`making`] | commands and responses |
//! | [`judging`] | what is wrong with a response |
//! | [`claim`] | reservations |
//! | [`connections`] | connections and queue pairs |
//! | [`queue`] | one queue |
//! | [`memory`] | buffers with guard bytes |
//! | [`nvme`] | bytes |

mod observed;
mod orders;
mod outcome;

pub mod claim;

mod plan;
mod session;

mod commands;
mod connections;
mod judging;
mod making;

mod queue;

mod memory;
mod nvme;

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use reactor::Choices;
use transport_rdma::soft::in_process::{InProcessPort, InProcessProvider};
use transport_rdma::verbs::{
    Access, Completion, Memory as VerbsMemory, Port, PortId, PortOptions, Provider, RegisteredMemory, Ticket,
    Unacknowledged,
};

pub use claim::Claim;
use memory::{Memory, PLACE_COUNT};
pub use nvme::status;
pub use observed::{Answer, Observed, Reject};
pub use orders::{Command, Opening, Order, Steering};
pub use outcome::{Outcome, Tag};
use plan::Doing;
pub use queue::Stage;
use queue::{Queue, Sent};
pub use session::{End, Session};

use crate::sim::failure::Findings;
use crate::sim::history::History;
use crate::sim::host::fate::Fate;
use crate::sim::host::law::Law;
use crate::sim::host::model::Model;
use crate::sim::world::World;
use crate::sim::world::actor::Actor;
use crate::sim::world::device::SimulatedDevice;

/// Completions taken at a time.
const COMPLETION_BATCH: usize = 64;
/// Entries of the completion queue: all places, and some.
const COMPLETION_COUNT: u32 = 1024;
/// How long a connection may take to come about before the host gives it up.
const CONNECT_TIMEOUT_NS: u64 = 8_000_000_000;

/// Everything of a host that dies with its machine.
struct Machine {
    provider: InProcessProvider,
    port: InProcessPort,
    port_id: PortId,
    keys: Option<RegisteredMemory>,
    holds_events: bool,
    held_events: VecDeque<Unacknowledged<InProcessPort>>,
}

/// See the module.
pub struct RawHost {
    number: u32,
    name: String,
    /// `None`: it is dead.
    machine: Option<Machine>,
    memory: Memory,
    /// By place. More than one may have the same queue id: all but the last are on their way out.
    queues: Vec<Option<Queue>>,
    generation: u32,
    controller_id: u16,
    sessions: VecDeque<Session>,
    doing: Option<Doing>,
    steering: Steering,
    ends_together: bool,
    keeps_alive: bool,
    kept_alive_ns: u64,
    cuts_after_ns: Option<u64>,
    /// Its device was taken away: nothing comes back any more.
    is_removed: bool,
    completions: Vec<Completion>,
    now_ns: u64,
    model: Model,
    law: Law,
    /// What it read or wrote last where it sends pairs, by the first block.
    known: BTreeMap<u64, Vec<u8>>,
    devices: Vec<Arc<SimulatedDevice>>,
    choices: Choices,
    findings: Findings,
    history: History,
}

impl RawHost {
    /// A host on a machine of its own, which does these sessions one after the other, and what it is told.
    ///
    /// # Panics
    /// If this process has no memory for it.
    #[must_use]
    pub fn new(number: u32, world: &World, sessions: Vec<Session>) -> Self {
        let memory = Memory::new().unwrap_or_else(|error| panic!("memory of host {number}: {error}"));
        let steering = Steering::new();
        let machine = Machine::new(world, &memory);
        if machine.is_none() {
            steering.observed.borrow_mut().machine_faults.push("making a port");
        }
        Self {
            number,
            name: format!("host {number}"),
            machine,
            memory,
            queues: (0..PLACE_COUNT).map(|_| None).collect(),
            generation: 0,
            controller_id: 0,
            sessions: sessions.into(),
            doing: None,
            steering,
            ends_together: false,
            keeps_alive: false,
            kept_alive_ns: 0,
            cuts_after_ns: None,
            is_removed: false,
            completions: Vec::new(),
            now_ns: world.now_ns(),
            model: world.model.clone(),
            law: world.law.clone(),
            known: BTreeMap::new(),
            devices: world.target.shared_devices(),
            choices: world.choices.clone(),
            findings: world.findings.clone(),
            history: world.history.clone(),
        }
    }

    /// The scenario's hand on it.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// What is seen of it.
    #[must_use]
    pub fn observed(&self) -> Rc<RefCell<Observed>> {
        Rc::clone(&self.steering.observed)
    }

    fn observe(&self) -> RefMut<'_, Observed> {
        self.steering.observed.borrow_mut()
    }

    /// Its machine stops in the midst of everything.
    fn die(&mut self) {
        (0..PLACE_COUNT).for_each(|place| self.lose_commands(place));
        self.queues.iter_mut().for_each(|queue| {
            // Dead machines destroy nothing.
            if let Some(connection) = queue.take().and_then(|queue| queue.connection) {
                drop(connection);
            }
        });
        (self.machine, self.doing) = (None, None);
        self.sessions.clear();
        self.history.note(&self.name, || "dies".to_owned());
    }

    fn take_orders(&mut self) {
        loop {
            let order = self.steering.orders.borrow_mut().pop_front();
            match order {
                Some(order) => self.take_order(order),
                None => return,
            }
        }
    }

    fn take_order(&mut self, order: Order) {
        self.history.note(&self.name, || format!("is told: {order:?}"));
        match order {
            Order::Open(opening) => {
                let qid = opening.qid;
                assert!(self.open(opening), "{}: no place for queue {qid}", self.name);
            }
            Order::Advance { qid, goal } => {
                if let Some(queue) = self.last_queue(qid) {
                    queue.goal = goal;
                }
            }
            Order::Submit { qid, command } => {
                self.submit_on(qid, &command, None);
            }
            Order::Send { qid, command, tag } => {
                if !self.submit_on(qid, &command, Some(tag)) {
                    self.observe().outcomes.insert(tag, Outcome::LOST);
                }
            }
            Order::Disconnect { qid } => {
                let is_it = |queue: &Queue| queue.qid == qid && !queue.stage.is_ending();
                let place = self.queues.iter().rposition(|queue| queue.as_ref().is_some_and(is_it));
                if let Some(place) = place {
                    self.disconnect(place);
                }
            }
            Order::DisconnectAll => self.disconnect_all(),
            Order::HoldReceives { qid, held } => self.hold_receives(qid, held),
            Order::HoldEvents(held) => {
                if let Some(machine) = &mut self.machine {
                    machine.holds_events = held;
                }
            }
            Order::KeepAlive(keeps) => self.keeps_alive = keeps,
            Order::EndsTogether(together) => self.ends_together = together,
            Order::CutsAfter(limit_ns) => self.cuts_after_ns = limit_ns,
            Order::Run(session) => self.sessions.push_back(session),
        }
    }

    /// Sends a command in the first place that is free: within the queue's depth, or not.
    fn submit_on(&mut self, qid: u16, command: &Command, tag: Option<Tag>) -> bool {
        let Some(place) = self.up_queue(qid) else { return false };
        let Some(queue) = &self.queues[place] else { return false };
        let slot = match tag {
            None => queue.slots.iter().position(queue::Slot::is_free),
            Some(_) => queue.free_slot(),
        };
        let Some(slot) = slot else { return false };
        if !self.submit(place, slot, command) {
            return false;
        }
        if let Some(queue) = &mut self.queues[place] {
            queue.slots[slot].memo.tag = tag;
        }
        true
    }

    fn hold_receives(&mut self, qid: u16, held: bool) {
        let Some(place) = self.up_queue(qid) else { return };
        let Some(queue) = &mut self.queues[place] else { return };
        queue.holds_receives = held;
        if !held {
            for number in std::mem::take(&mut queue.held_receives) {
                self.post_receive(place, number);
            }
        }
    }

    /// Sends Keep Alive twice in each timeout.
    fn keep_alive(&mut self) {
        let Some(place) = self.up_queue(0).filter(|_| self.keeps_alive) else { return };
        let Some(queue) = &self.queues[place] else { return };
        let interval_ns = u64::from(queue.opening.keep_alive_ms) * 1_000_000 / 2;
        let is_due = interval_ns > 0 && self.now_ns.saturating_sub(self.kept_alive_ns) >= interval_ns;
        let is_out = queue.slots.iter().any(|slot| matches!(slot.sent, Some(Sent::KeepAlive)));
        if is_due && !is_out && queue.stage >= Stage::Joined {
            self.kept_alive_ns = self.now_ns;
            self.send_simple(place, Sent::KeepAlive, nvme::keep_alive);
        }
    }

    /// What the target, or the own machine, never answers is given up.
    fn give_up_late(&mut self) {
        for place in 0..PLACE_COUNT {
            let Some(queue) = &self.queues[place] else { continue };
            let is_waiting =
                matches!(queue.stage, Stage::Resolving | Stage::Creating | Stage::Connecting | Stage::Joining);
            let is_late = self.now_ns.saturating_sub(queue.since_ns) > CONNECT_TIMEOUT_NS;
            if is_waiting && is_late && !queue.is_unwanted {
                self.observe().machine_faults.push("a connection that never came about");
                self.end_with(place);
            }
        }
    }

    /// The last of this number, wherever it is.
    fn last_queue(&mut self, qid: u16) -> Option<&mut Queue> {
        self.queues.iter_mut().flatten().filter(|queue| queue.qid == qid).max_by_key(|queue| queue.generation)
    }

    fn stage_of(&self, place: usize) -> Option<Stage> {
        self.queues[place].as_ref().map(|queue| queue.stage)
    }

    fn qid_of(&self, place: usize) -> u16 {
        self.queues[place].as_ref().map_or(u16::MAX, |queue| queue.qid)
    }

    fn is_idle(&self) -> bool {
        let is_left = self.doing.is_some() || !self.sessions.is_empty() || !self.steering.orders.borrow().is_empty();
        !is_left && self.queues.iter().all(Option::is_none)
    }

    fn show(&self) {
        let mut queues: Vec<&Queue> = self.queues.iter().flatten().collect();
        queues.sort_by_key(|queue| queue.generation);
        let is_done = match self.machine {
            Some(_) => self.doing.is_none() && self.sessions.is_empty() && self.steering.orders.borrow().is_empty(),
            None => true,
        };
        let mut observed = self.observe();
        observed.stages = queues.iter().map(|queue| (queue.qid, queue.stage)).collect();
        observed.outstanding_count = queues.iter().map(|queue| queue.awaited_count()).sum();
        observed.is_done = is_done;
    }
}

impl Machine {
    fn new(world: &World, memory: &Memory) -> Option<Self> {
        let mut provider = world.fabric.machine();
        let options = PortOptions { completion_count: COMPLETION_COUNT, shared_receive_count: 0 };
        let (port_id, port) = provider.create_port(options).ok()?;
        let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
        provider.begin_register(Ticket(0), VerbsMemory::Shared(memory.arena()), access);
        Some(Self { provider, port, port_id, keys: None, holds_events: false, held_events: VecDeque::new() })
    }
}

impl Actor for RawHost {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn act(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        match self.steering.fate.get() {
            Fate::Stopped => return,
            Fate::Dead if self.machine.is_some() => self.die(),
            Fate::Dead | Fate::Runs => {}
        }
        while let Some(event) = self.machine.as_mut().and_then(|machine| machine.next_event(now_ns)) {
            self.take_event(event);
        }
        let mut completions = std::mem::take(&mut self.completions);
        if let Some(machine) = &mut self.machine {
            machine.port.poll(now_ns, COMPLETION_BATCH, &mut completions);
        }
        for completion in completions.drain(..) {
            self.take_completion(&completion);
        }
        self.completions = completions;
        if self.machine.as_ref().is_some_and(|machine| machine.keys.is_some()) {
            self.take_orders();
            self.drive();
            (0..PLACE_COUNT).for_each(|place| self.advance(place));
            self.keep_alive();
        }
        self.give_up_late();
        self.destroy_drained();
        if let Some(machine) = &mut self.machine {
            machine.port.ring();
        }
        self.show();
    }

    fn may_act(&self, _now_ns: u64) -> bool {
        match self.steering.fate.get() {
            Fate::Runs => self.machine.is_some() && !self.is_idle(),
            Fate::Stopped => false,
            Fate::Dead => self.machine.is_some(),
        }
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn condition(&self) -> String {
        let queues: Vec<_> = self
            .queues
            .iter()
            .flatten()
            .map(|queue| {
                format!("{} {:?}, {} posted, {} out", queue.qid, queue.stage, queue.posted_count, queue.awaited_count())
            })
            .collect();
        format!("{}: queues {queues:?}, {:?}, {:?}", self.name, self.doing, self.observe())
    }
}
