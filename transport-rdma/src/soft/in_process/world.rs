//! What all machines of a fabric share: keys, links, mail between connection managers, the choices.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reactor::{Choices, Segment};

use super::FabricOptions;
use super::audit::Discrepancy;
use super::cm::Letter;
use super::keys::KeyError;
use super::link::{Arrival, End, Held, Link, LinkId, Message};
use super::machine::{Machine, MachineId};
use crate::soft::wire::{LinkState, Transfer};
use crate::verbs::{Access, ListenerId, LocalSegment};

/// The fabric.
pub(super) struct World {
    pub(super) choices: Choices,
    /// What new machines begin with.
    pub(super) options: FabricOptions,
    pub(super) machines: Vec<Machine>,
    pub(super) listeners: BTreeMap<SocketAddr, (MachineId, ListenerId)>,
    links: BTreeMap<LinkId, [End; 2]>,
    next_link: u64,
    /// Completions that nothing was posted for.
    pub(super) strays: Vec<Discrepancy>,
}

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Write,
    Read,
}

impl World {
    pub(super) fn new(choices: Choices, options: FabricOptions) -> Self {
        Self {
            choices,
            options,
            machines: Vec::new(),
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            strays: Vec::new(),
        }
    }

    pub(super) fn add_machine(&mut self) -> MachineId {
        self.machines.push(Machine::new(self.options.clone()));
        MachineId(self.machines.len() - 1)
    }

    pub(super) fn machine(&mut self, machine: MachineId) -> &mut Machine {
        &mut self.machines[machine.0]
    }

    /// Rings for every port that sleeps: what held something back may have changed.
    pub(super) fn ring_all(&self) {
        for port in self.machines.iter().flat_map(|machine| &machine.ports) {
            port.bell.ring_if_asleep();
        }
    }

    /// A machine's addresses are nobody's any more.
    pub(super) fn listeners_lose(&mut self, machine: MachineId) {
        self.listeners.retain(|_, (of, _)| *of != machine);
    }

    /// How many looks the delivery of `what` to `machine` takes.
    pub(super) fn delay(&self, machine: MachineId, what: &'static str) -> u32 {
        self.choices.between(what, 0, self.machines[machine.0].options.delay_max)
    }

    /// Posts a letter. The dead get none.
    pub(super) fn post(&mut self, to: MachineId, letter: Letter) {
        let delay = self.delay(to, letter.name());
        let machine = self.machine(to);
        if machine.is_alive {
            machine.mail.push_back((delay, letter));
        }
    }

    /// The next letter that has come. One look.
    pub(super) fn next_letter(&mut self, machine: MachineId) -> Option<Letter> {
        let mail = &mut self.machine(machine).mail;
        let (remaining, _) = mail.front_mut()?;
        if *remaining > 0 {
            *remaining -= 1;
            return None;
        }
        mail.pop_front().map(|(_, letter)| letter)
    }

    /// The two ends of a new link: the machine's that makes it, and its peer's, which is still to be sent.
    pub(super) fn connect(&mut self, maker: MachineId, peer: MachineId) -> [Link; 2] {
        let id = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(id, [End::new(maker, Held::ByItsMachine), End::new(peer, Held::ByThePeer)]);
        [Link { id, side: 0 }, Link { id, side: 1 }]
    }

    /// An end goes from hand to hand.
    pub(super) fn hand_over(&mut self, link: &Link, held: Held) {
        if let Some(end) = self.end(link) {
            end.held = held;
        }
    }

    /// Ends of links that this machine has and that were not destroyed. What is on its way here is not here.
    pub(super) fn link_count(&self, machine: MachineId) -> u64 {
        let is_one = |end: &&End| end.machine == machine && end.held == Held::ByItsMachine && !end.is_closed;
        self.links.values().flatten().filter(is_one).count() as u64
    }

    /// Destroys one end: closes it, and forgets the link with the second. Until [`Self::is_quiet`] a copy of the peer may be half way.
    pub(super) fn close(&mut self, link: &Link) {
        let Some(end) = self.end(link) else { return };
        end.is_closed = true;
        end.copy = None;
        if !end.said.is_error() {
            end.said = LinkState::Error;
            self.tell(link, LinkState::Error);
        }
        if let Some(ends) = self.links.get_mut(&link.id)
            && ends[1 - link.side].is_closed
        {
            self.links.remove(&link.id);
        }
    }

    /// Sends a state on its way to the other end, unless nobody is left who could.
    fn tell(&mut self, link: &Link, state: LinkState) {
        let Self { links, choices, machines, .. } = self;
        let Some(ends) = links.get_mut(&link.id) else { return };
        let (end, peer) = pair(ends, link.side);
        if machines[end.machine.0].is_silent() {
            return;
        }
        let delay = choices.between("state of a link", 0, machines[peer.machine.0].options.delay_max);
        peer.arrivals.push_back((delay, Arrival::State(state)));
        wake(peer);
    }

    /// Whether no copy of the peer to or from this end is half way.
    pub(super) fn is_quiet(&self, link: &Link) -> bool {
        self.links.get(&link.id).is_none_or(|ends| ends[1 - link.side].copy.is_none())
    }

    /// Whether a copy under this key of this machine is half way.
    pub(super) fn is_copying(&self, machine: MachineId, key: u32) -> bool {
        self.links.values().flatten().any(|end| end.copy == Some((machine, key)))
    }

    /// The machine stops in the midst of everything.
    pub(super) fn kill(&mut self, machine: MachineId) {
        if !std::mem::replace(&mut self.machine(machine).is_alive, false) {
            return;
        }
        self.machine(machine).mail.clear();
        self.listeners.retain(|_, (of, _)| *of != machine);
        let Self { links, choices, machines, .. } = self;
        for ends in links.values_mut() {
            for side in 0..2 {
                let (end, peer) = pair(ends, side);
                if end.machine == machine && !end.is_closed {
                    end.is_closed = true;
                    end.copy = None;
                    end.said = LinkState::Gone;
                    let delay = choices.between("state of a link", 0, machines[peer.machine.0].options.delay_max);
                    peer.arrivals.push_back((delay, Arrival::State(LinkState::Gone)));
                    // What the dead had in hand goes with them; a letter arrives all the same.
                    peer.is_closed |= peer.held == Held::ByThePeer;
                    wake(peer);
                }
            }
        }
        links.retain(|_, ends| !ends.iter().all(|end| end.is_closed));
        for peer in (0..self.machines.len()).map(MachineId) {
            self.post(peer, Letter::PeerDied { machine });
        }
    }

    // What the wire does.

    /// Delivers what has come to this end. Whether there was anything.
    pub(super) fn deliver(&mut self, link: &Link) -> bool {
        let Some(end) = self.end(link) else { return false };
        let mut any = false;
        while let Some((remaining, _)) = end.arrivals.front_mut() {
            if *remaining > 0 {
                *remaining -= 1;
                break;
            }
            any = true;
            match end.arrivals.pop_front() {
                Some((_, Arrival::Message(message))) => end.inbox.push_back(message),
                Some((_, Arrival::Consumed(count))) => end.consumed_count = count,
                Some((_, Arrival::State(state))) => end.peer_state = state,
                None => break,
            }
        }
        any
    }

    pub(super) fn end(&mut self, link: &Link) -> Option<&mut End> {
        self.links.get_mut(&link.id).map(|ends| &mut ends[link.side])
    }

    /// Sends what was not published yet on its way. True if there was anything.
    pub(super) fn publish(&mut self, link: &Link) -> bool {
        let Self { links, choices, machines, .. } = self;
        let Some(ends) = links.get_mut(&link.id) else { return false };
        let (end, peer) = pair(ends, link.side);
        if machines[end.machine.0].is_mute() {
            return false;
        }
        let any = !end.unpublished.is_empty();
        for message in end.unpublished.drain(..) {
            let delay = choices.between("message", 0, machines[peer.machine.0].options.delay_max);
            peer.arrivals.push_back((delay, Arrival::Message(message)));
        }
        any
    }

    /// Sends the count of consumed messages on its way. True if it has changed.
    pub(super) fn release(&mut self, link: &Link) -> bool {
        let Self { links, choices, machines, .. } = self;
        let Some(ends) = links.get_mut(&link.id) else { return false };
        let (end, peer) = pair(ends, link.side);
        let is_news = end.released_count != end.taken_count && !machines[end.machine.0].is_mute();
        if is_news {
            let delay = choices.between("count of consumed messages", 0, machines[peer.machine.0].options.delay_max);
            end.released_count = end.taken_count;
            peer.arrivals.push_back((delay, Arrival::Consumed(end.taken_count)));
        }
        is_news
    }

    /// Rings for the port of a link's other end.
    pub(super) fn wake_peer(&self, link: &Link) {
        if let Some(ends) = self.links.get(&link.id) {
            wake(&ends[1 - link.side]);
        }
    }

    /// Sends the state on its way; the gate for the peer's copies closes at once.
    pub(super) fn set_state(&mut self, link: &Link, state: LinkState) {
        let Some(end) = self.end(link) else { return };
        end.said = state;
        if state.is_error() {
            end.copy = None;
        }
        self.tell(link, state);
    }

    /// Whether a message has room, and counts it.
    pub(super) fn send(&mut self, link: &Link, message: impl FnOnce() -> Message) -> bool {
        let Some(end) = self.links.get_mut(&link.id).map(|ends| &mut ends[link.side]) else { return true };
        let room = self.machines[end.machine.0].options.ring_message_count;
        if end.sent_count.wrapping_sub(end.consumed_count) >= room {
            return false;
        }
        end.sent_count = end.sent_count.wrapping_add(1);
        end.unpublished.push(message());
        true
    }

    /// A copy, all of it or its first half: the second half finds key and gate as they are then.
    pub(super) fn copy(
        &mut self,
        link: &Link,
        key: u32,
        address: u64,
        local: &[LocalSegment],
        direction: Direction,
    ) -> Transfer {
        let Self { links, machines, choices, .. } = self;
        let Some(ends) = links.get_mut(&link.id) else { return Transfer::Gone };
        let (end, peer) = pair(ends, link.side);
        let us = end.machine;
        if machines[us.0].is_mute() {
            // Nothing moves, and a copy that is half way stays so.
            return Transfer::Unfinished;
        }
        let splits = machines[us.0].options.splits_copies;
        let in_two = splits && choices.one_in("copy in two", 2) || machines[us.0].stops_in_copy;
        let began = end.copy.take().is_some();
        if peer.said.is_error() || peer.is_closed {
            return Transfer::Gone;
        }
        let len: u64 = local.iter().map(|segment| segment.memory.len() as u64).sum();
        if len == 0 {
            // Neither key nor address are looked at (InfiniBand Architecture, volume 1, 9.7.5.2.8).
            return Transfer::Done;
        }
        let machine = peer.machine;
        let right = match direction {
            Direction::Write => Access::REMOTE_WRITE,
            Direction::Read => Access::REMOTE_READ,
        };
        let keeper = &machines[machine.0];
        let remote = match keeper.keys.find_remote(key, address, len, right) {
            Ok(remote) => remote,
            Err(error) => {
                assert!(
                    !(keeper.options.forbids_ended_remote_keys && error == KeyError::Ended),
                    "remote key {key:#x} was used after it had ended"
                );
                return Transfer::Denied;
            }
        };
        let half = remote.len() / 2;
        if !began && in_two && half > 0 {
            copy_range(local, remote, direction, 0, half);
            end.copy = Some((machine, key));
            let us = &mut machines[us.0];
            us.is_stopped |= std::mem::take(&mut us.stops_in_copy);
            return Transfer::Unfinished;
        }
        copy_range(local, remote, direction, if began { half } else { 0 }, remote.len());
        Transfer::Done
    }
}

/// Copies bytes `from` to `to` of the remote segment, from or to the list.
fn copy_range(local: &[LocalSegment], remote: Segment, direction: Direction, from: usize, to: usize) {
    let mut offset = 0;
    for segment in local {
        let segment = segment.memory;
        let (begin, end) = (from.max(offset), to.min(offset + segment.len()));
        if begin < end {
            let (here, there) = (segment.part(begin - offset, end - begin), remote.part(begin, end - begin));
            match direction {
                Direction::Write => here.copy_to(there),
                Direction::Read => there.copy_to(here),
            }
        }
        offset += segment.len();
    }
}

/// Rings for an end's port, if it sleeps.
fn wake(end: &End) {
    if let Some(bell) = &end.bell {
        bell.ring_if_asleep();
    }
}

/// This end and the other.
fn pair(ends: &mut [End; 2], side: usize) -> (&mut End, &mut End) {
    let [first, second] = ends;
    if side == 0 { (first, second) } else { (second, first) }
}
