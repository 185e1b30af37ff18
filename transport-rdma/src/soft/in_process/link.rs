//! The wire within one process: every message, count and state takes a seeded number of the receiver's looks, in order per link.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reactor::Rest;

use super::bell::PortBell;
use super::keys::KeyError;
use super::machine::MachineId;
use super::world::{Direction, World};
use crate::soft::wire::{LinkState, MessageHeader, PeerFault, Transfer, Wire, WireFull};
use crate::verbs::LocalSegment;

/// Names a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(pub(super) u64);

/// One end of a link, as a queue pair holds it.
#[derive(Debug)]
pub struct Link {
    pub(super) id: LinkId,
    pub(super) side: usize,
}

/// A message with its payload.
pub(super) struct Message {
    header: MessageHeader,
    payload: Vec<u8>,
}

/// What comes to an end.
pub(super) enum Arrival {
    Message(Message),
    /// The peer has consumed so many.
    Consumed(u32),
    State(LinkState),
}

/// In whose hands an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Its machine's.
    ByItsMachine,
    /// The accepting side has made it for its peer, and not sent it.
    ByThePeer,
    /// A letter's.
    InALetter,
}

/// What the fabric keeps of one end.
pub(super) struct End {
    pub(super) machine: MachineId,
    pub(super) held: Held,
    pub(super) is_closed: bool,
    /// On the way here, each with how many looks it still takes.
    pub(super) arrivals: VecDeque<(u32, Arrival)>,
    /// Come, and not taken.
    pub(super) inbox: VecDeque<Message>,
    /// How many of ours the peer has consumed, as far as known here.
    pub(super) consumed_count: u32,
    /// What the peer says, as far as known here.
    pub(super) peer_state: LinkState,
    pub(super) sent_count: u32,
    pub(super) unpublished: Vec<Message>,
    pub(super) taken_count: u32,
    pub(super) released_count: u32,
    /// What this end says.
    pub(super) said: LinkState,
    /// A copy of this end's that is half way: whose key, which.
    pub(super) copy: Option<(MachineId, u32)>,
    /// Of the port that it is attached to.
    pub(super) bell: Option<Arc<PortBell>>,
}

impl End {
    pub(super) fn new(machine: MachineId, held: Held) -> Self {
        Self {
            machine,
            held,
            is_closed: false,
            arrivals: VecDeque::new(),
            inbox: VecDeque::new(),
            consumed_count: 0,
            peer_state: LinkState::Ready,
            sent_count: 0,
            unpublished: Vec::new(),
            taken_count: 0,
            released_count: 0,
            said: LinkState::Ready,
            copy: None,
            bell: None,
        }
    }
}

/// One port's way into the fabric.
pub struct InProcessWire {
    world: Arc<Mutex<World>>,
    machine: MachineId,
    attached: BTreeMap<u32, (LinkId, usize)>,
    bell: Arc<PortBell>,
    /// Links whose peers are owed a ring.
    owed: Vec<(LinkId, usize)>,
}

impl InProcessWire {
    pub(super) fn new(world: Arc<Mutex<World>>, machine: MachineId, bell: Arc<PortBell>) -> Self {
        Self { world, machine, attached: BTreeMap::new(), bell, owed: Vec::new() }
    }

    fn owe(&mut self, link: &Link) {
        self.owed.push((link.id, link.side));
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

/// A test that panicked elsewhere has failed already.
pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire for InProcessWire {
    type Link = Link;

    fn attach(&mut self, index: u32, link: &mut Link) {
        self.attached.insert(index, (link.id, link.side));
        let bell = Arc::clone(&self.bell);
        if let Some(end) = self.world().end(link) {
            end.bell = Some(bell);
        }
    }

    fn detach(&mut self, index: u32, link: &mut Link) {
        self.ring();
        self.attached.remove(&index);
        if let Some(end) = self.world().end(link) {
            end.bell = None;
        }
    }

    fn news(&mut self, _now_ns: u64, indices: &mut Vec<u32>) {
        let mut world = lock(&self.world);
        for (&index, &(id, side)) in &self.attached {
            if world.deliver(&Link { id, side }) {
                indices.push(index);
            }
        }
    }

    fn send(&mut self, link: &mut Link, header: &MessageHeader, payload: &[LocalSegment]) -> Result<(), WireFull> {
        let message = || {
            let mut bytes = vec![0; header.len as usize];
            let mut rest = bytes.as_mut_slice();
            for segment in payload {
                let (head, tail) = rest.split_at_mut(segment.memory.len());
                segment.memory.read(0, head);
                rest = tail;
            }
            Message { header: *header, payload: bytes }
        };
        if self.world().send(link, message) { Ok(()) } else { Err(WireFull) }
    }

    fn publish(&mut self, link: &mut Link) {
        if self.world().publish(link) {
            self.owe(link);
        }
    }

    fn consumed_count(&mut self, link: &mut Link) -> Result<u32, PeerFault> {
        Ok(self.world().end(link).map_or(0, |end| end.consumed_count))
    }

    fn peek(&mut self, link: &mut Link) -> Result<Option<MessageHeader>, PeerFault> {
        Ok(self.world().end(link).and_then(|end| end.inbox.front().map(|message| message.header)))
    }

    fn take(&mut self, link: &mut Link, into: &[LocalSegment]) {
        let mut world = self.world();
        let Some(end) = world.end(link) else { return };
        let Some(message) = end.inbox.pop_front() else { return };
        end.taken_count = end.taken_count.wrapping_add(1);
        let mut rest = message.payload.as_slice();
        for segment in into {
            let (head, tail) = rest.split_at(rest.len().min(segment.memory.len()));
            segment.memory.write(0, head);
            rest = tail;
        }
        assert!(rest.is_empty(), "a message was taken into segments that are too short");
    }

    fn release(&mut self, link: &mut Link) {
        if self.world().release(link) {
            self.owe(link);
        }
    }

    fn peer_state(&mut self, link: &mut Link) -> LinkState {
        self.world().end(link).map_or(LinkState::Gone, |end| end.peer_state)
    }

    fn set_state(&mut self, link: &mut Link, state: LinkState) {
        self.world().set_state(link, state);
        self.owe(link);
    }

    fn write(&mut self, link: &mut Link, key: u32, address: u64, from: &[LocalSegment]) -> Transfer {
        self.world().copy(link, key, address, from, Direction::Write)
    }

    fn read(&mut self, link: &mut Link, key: u32, address: u64, into: &[LocalSegment]) -> Transfer {
        self.world().copy(link, key, address, into, Direction::Read)
    }

    fn allows_local(&self, segment: &LocalSegment, write: bool) -> bool {
        if segment.memory.is_empty() {
            return true;
        }
        let world = self.world();
        let machine = &world.machines[self.machine.0];
        let checked = machine.keys.check_local(segment, write);
        assert!(
            !(machine.options.is_strict && checked == Err(KeyError::Ended)),
            "local key {:#x} was used after its deregistration",
            segment.local_key
        );
        checked.is_ok()
    }

    fn invalidate(&mut self, key: u32) -> Transfer {
        let mut world = self.world();
        let finish = !world.is_copying(self.machine, key);
        if !world.machine(self.machine).keys.invalidate(key, finish) {
            return Transfer::Denied;
        }
        if finish { Transfer::Done } else { Transfer::Unfinished }
    }

    fn bind(&mut self, key: u32, address: u64, len: u64) -> bool {
        self.world().machine(self.machine).keys.bind(key, address, len)
    }

    fn ring(&mut self) {
        let world = lock(&self.world);
        for (id, side) in self.owed.drain(..) {
            world.wake_peer(&Link { id, side });
        }
    }

    fn announce(&mut self) {
        self.bell.announce();
    }

    fn last_look(&mut self, _now_ns: u64) -> Rest {
        let mut world = lock(&self.world);
        // What is on its way comes by being looked for.
        let is_coming =
            |&(id, side): &(LinkId, usize)| world.end(&Link { id, side }).is_some_and(|end| !end.arrivals.is_empty());
        let any = self.attached.values().any(is_coming);
        if any || !self.bell.can_wake() { Rest::Poll } else { Rest::Sleep }
    }

    fn withdraw(&mut self, _has_slept: bool) {
        self.bell.withdraw();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}
