//! Queue pairs: made, failed, destroyed.
//!
//! Control plane only; the queue pair itself travels by value. Destroying: close the gate; wait until no copy of the peer's can be under way (none can where it was offered no memory), and every event of it is
//! acknowledged; tell the peer that its place on the board is free; unmap the rings on the worker; then the ticket's event. A peer that is stopped delays that and nothing else.

use std::io;
use std::os::fd::OwnedFd;

use super::SharedProvider;
use super::connection::{Ending, QueuePairRecord};
use super::doorbell::{Doorbell, PeerDoorbell};
use super::link::{Link, memory_len};
use super::mapping::Mapping;
use super::message::Message;
use super::peer::Peer;
use super::worker::Outcome;
use crate::soft::nic::{QueuePair, QueuePairSerial};
use crate::verbs::{ConnectionId, Event, PortId, QueuePairOptions, Ticket, VerbsError};

/// Queue pair numbers have 24 bits; 0 and 1 are special on InfiniBand.
const NUMBER_MASK: u32 = 0xFF_FFFF;

/// A queue pair whose rings the worker makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    ticket: Ticket,
    connection: u64,
    port: usize,
    options: QueuePairOptions,
}

impl SharedProvider {
    /// Begins to make one.
    pub(super) fn create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: u64,
        port: PortId,
        options: QueuePairOptions,
    ) -> Result<(), VerbsError> {
        let attributes = crate::verbs::Provider::attributes(self);
        let limits = [
            ("queue pairs", self.queue_pairs.len() as u64 + 1, attributes.queue_pair_count_max.into()),
            ("send_count", options.send_count.into(), attributes.work_request_count_max.into()),
            ("receive_count", options.receive_count.into(), attributes.work_request_count_max.into()),
            ("segment_count", options.segment_count.into(), attributes.segment_count_max.into()),
            ("inline_len", options.inline_len.into(), attributes.inline_len_max.into()),
            ("port", port.0.into(), (self.ports.len() as u64).saturating_sub(1)),
        ];
        if let Some(&(what, value, limit)) = limits.iter().find(|(_, value, limit)| value > limit) {
            return Err(VerbsError::Limit { what, value, limit });
        }
        let wrong = |text: &str| VerbsError::System { call: "creating a queue pair", source: io::Error::other(text) };
        let record = self.connections.get_mut(&connection).ok_or_else(|| wrong("no such connection"))?;
        if record.queue_pair.is_some() {
            return Err(wrong("the connection has one already"));
        }
        let order = Order { ticket, connection, port: port.0 as usize, options };
        if let Some((mapping, ring_len)) = record.memory.take() {
            return self.build_queue_pair(order, (mapping, None), ring_len);
        }
        if record.remote.is_some() {
            return Err(wrong("the connection had one before"));
        }
        let serial = self.number();
        let ring_len = self.options.ring_len;
        self.orders.insert(serial, order);
        self.worker.begin(move || Outcome::RingsMade {
            serial,
            result: Mapping::create("quiesce-rings", memory_len(ring_len)),
        });
        Ok(())
    }

    pub(super) fn rings_made(&mut self, serial: u64, result: io::Result<(Mapping, OwnedFd)>) {
        let Some(order) = self.orders.remove(&serial) else { return };
        let built = match result {
            Ok((mapping, descriptor)) => {
                self.build_queue_pair(order, (mapping, Some(descriptor)), self.options.ring_len)
            }
            Err(source) => Err(VerbsError::System { call: "making the rings", source }),
        };
        if let Err(error) = built {
            self.events.push_back(Event::QueuePairCreated { ticket: order.ticket, result: Err(error) });
        }
    }

    /// Of rings that are there; what cannot be built gives them back.
    fn build_queue_pair(
        &mut self,
        order: Order,
        memory: (Mapping, Option<OwnedFd>),
        ring_len: u32,
    ) -> Result<(), VerbsError> {
        // Rings that the peer made are charged to it.
        let is_charged = memory.1.is_none();
        let mut memory = Some(memory);
        let built = self.try_build_queue_pair(order, &mut memory, ring_len);
        if let Some(memory) = memory {
            self.worker.discard(memory);
            let connection = self.connections.get(&order.connection);
            if let Some(peer) = connection.filter(|_| is_charged).map(|connection| connection.peer) {
                self.uncharge(peer, memory_len(ring_len) as u64);
            }
        }
        built
    }

    fn try_build_queue_pair(
        &mut self,
        order: Order,
        memory: &mut Option<(Mapping, Option<OwnedFd>)>,
        ring_len: u32,
    ) -> Result<(), VerbsError> {
        let gone = || VerbsError::System {
            call: "creating a queue pair",
            source: io::Error::other("the connection or its peer is gone"),
        };
        let serial = self.number();
        let number = self.free_queue_pair_number();
        let connection = self.connections.get_mut(&order.connection).ok_or_else(gone)?;
        let peer = self.peers.get_mut(&connection.peer).ok_or_else(gone)?;
        let port = u32::try_from(order.port).unwrap_or(u32::MAX);
        let news_slot = peer.board.take(port).ok_or(VerbsError::Limit {
            what: "queue pairs with one peer process (places of its news board, in lines of 16 for each port)",
            value: u64::from(super::pair::NEWS_SLOT_COUNT) + 1,
            limit: super::pair::NEWS_SLOT_COUNT.into(),
        })?;
        let made = QueuePair::<Link>::new(QueuePairSerial(serial), number, &order.options);
        let (queue_pair, control) = match made {
            Ok(made) => made,
            Err(error) => {
                peer.board.give_back(news_slot);
                return Err(error);
            }
        };
        peer.queue_pair_count += 1;
        if let Some(pair) = peer.pair() {
            pair.our_news(news_slot).store(0, std::sync::atomic::Ordering::Relaxed);
        }
        connection.queue_pair = Some(serial);
        let record = QueuePairRecord {
            control,
            connection: order.connection,
            peer: connection.peer,
            port: order.port,
            news_slot,
            ring_len,
            memory: memory.take(),
            core: None,
            unacknowledged: 0,
            ending: None,
        };
        let (peer, port) = (record.peer, record.port);
        self.queue_pairs.insert(serial, record);
        self.hand_over_doorbell(peer, port);
        self.events.push_back(Event::QueuePairCreated { ticket: order.ticket, result: Ok(queue_pair) });
        Ok(())
    }

    /// From its first queue pair with a peer on, a port can be woken by it.
    fn hand_over_doorbell(&mut self, number: u64, port: usize) {
        let Some((pair, _)) = self.peers.get(&number).and_then(Peer::live_pair) else { return };
        let Some(alarm) = self.alarms.get(port).filter(|_| pair.doorbell(port).is_none()) else { return };
        let made = Doorbell::new().and_then(|(doorbell, theirs)| {
            alarm.add(&doorbell, number)?;
            Ok((doorbell, theirs))
        });
        match made {
            Ok((doorbell, theirs)) => {
                // There is none yet.
                let _ = pair.add_doorbell(port, doorbell);
                let port = u32::try_from(port).unwrap_or(u32::MAX);
                self.say(number, &Message::Doorbell { port }, vec![theirs]);
            }
            // The port looks at this peer every millisecond, instead.
            Err(error) => {
                tracing::warn!(peer = number, port, %error, "no doorbell: a sleeping CPU looks at its peer at intervals")
            }
        }
    }

    /// A peer hands over how to wake one of its ports.
    pub(super) fn take_doorbell(&mut self, number: u64, port: u32, descriptors: Vec<OwnedFd>) {
        let Some((pair, _)) = self.peers.get(&number).and_then(Peer::live_pair) else { return };
        let doorbell = descriptors.into_iter().next().and_then(PeerDoorbell::take_over);
        let Some(doorbell) = doorbell else {
            return self.blame(number, "a doorbell that is no Unix socket of messages");
        };
        // One for each port of a pair, so descriptors are limited with the peers.
        if pair.add_peer_doorbell(port, doorbell).is_err() {
            self.blame(number, "a second doorbell of a port, or one of a port that nobody has");
        }
    }

    fn free_queue_pair_number(&mut self) -> u32 {
        loop {
            self.queue_pair_number = (self.queue_pair_number + 1) & NUMBER_MASK;
            let number = self.queue_pair_number;
            if number > 1 && !self.queue_pairs.values().any(|record| record.control.number() == number) {
                return number;
            }
        }
    }

    /// Moves one to the error state.
    pub(super) fn fail_queue_pair(&mut self, serial: u64) {
        let Some(record) = self.queue_pairs.get(&serial) else { return };
        if record.ending.is_none()
            && let Some(port) = self.ports.get_mut(record.port)
        {
            port.fail(&record.control);
        }
    }

    /// A NIC says something of one.
    pub(super) fn queue_pair_event(&mut self, serial: u64, is_fatal: bool) {
        let Some(record) = self.queue_pairs.get(&serial).filter(|record| record.ending.is_none()) else { return };
        let connection = ConnectionId(record.connection);
        self.events.push_back(if is_fatal {
            Event::QueuePairFatal { connection }
        } else {
            Event::LastWqeReached { connection }
        });
    }

    /// Begins to destroy one.
    pub(super) fn destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: Box<QueuePair<Link>>) {
        let serial = queue_pair.serial().0;
        // The shared half is in its record as well.
        drop(queue_pair.into_link());
        let Some(record) = self.queue_pairs.get_mut(&serial) else { return };
        // To whom nothing is offered copies nothing, whatever its busy words say: they must not keep anything.
        let may_copy = self.regions.is_offered_to(record.peer);
        let copies = record.core.as_ref().and_then(|core| {
            core.set_state(crate::soft::wire::LinkState::Error);
            core.wake_peer();
            may_copy.then(|| (std::sync::Arc::clone(core.pair()), core.pair().copies()))
        });
        let connection = record.connection;
        record.ending = Some(Ending { ticket, copies, is_unmapping: false });
        // What nobody has fetched of its own events goes with it.
        self.events.retain(|event| {
            !matches!(event, Event::LastWqeReached { connection: id } | Event::QueuePairFatal { connection: id } if id.0 == connection)
        });
    }

    /// Goes on with those whose copies have ended and whose events are acknowledged.
    pub(super) fn finish_queue_pairs(&mut self) {
        let is_ready = |record: &QueuePairRecord| {
            record.ending.as_ref().is_some_and(|ending| {
                let is_quiet = ending.copies.as_ref().is_none_or(|(pair, copies)| pair.have_ended(copies));
                !ending.is_unmapping && is_quiet && record.unacknowledged == 0
            })
        };
        let ready: Vec<u64> =
            self.queue_pairs.iter().filter(|(_, record)| is_ready(record)).map(|(&serial, _)| serial).collect();
        for serial in ready {
            let Some(record) = self.queue_pairs.get_mut(&serial) else { continue };
            if let Some(ending) = &mut record.ending {
                ending.copies = None;
                ending.is_unmapping = true;
            }
            let (core, memory) = (record.core.take(), record.memory.take());
            self.worker.begin(move || {
                drop((core, memory));
                Outcome::QueuePairUnmapped { serial }
            });
        }
    }

    pub(super) fn queue_pair_unmapped(&mut self, serial: u64) {
        let Some(record) = self.queue_pairs.remove(&serial) else { return };
        let Some(ending) = record.ending else { return };
        let mut told = None;
        let mut is_passive = false;
        let mut is_place_known = false;
        if let Some(connection) = self.connections.get_mut(&record.connection) {
            connection.queue_pair = None;
            told = connection.remote;
            is_place_known = connection.is_place_known;
            is_passive = connection.is_passive;
        }
        if let Some(peer) = self.peers.get_mut(&record.peer) {
            peer.queue_pair_count -= 1;
            // The peer may store at our place until it has ended its queue pair.
            if is_place_known {
                peer.board.linger(record.connection, record.news_slot);
            } else {
                peer.board.give_back(record.news_slot);
            }
        }
        if is_passive {
            self.uncharge(record.peer, memory_len(record.ring_len) as u64);
        }
        if let Some(remote) = told {
            self.say(record.peer, &Message::Ended { to: remote }, Vec::new());
        }
        self.events.push_back(Event::QueuePairDestroyed { ticket: ending.ticket, result: Ok(()) });
        self.return_arenas(record.peer);
    }

    /// The peer has destroyed the queue pair of a connection: nothing is stored at our place any more.
    pub(super) fn queue_pair_ended(&mut self, peer: u64, to: u64) {
        if let Some(connection) = self.connections.get_mut(&to).filter(|connection| connection.peer == peer) {
            connection.is_place_known = false;
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.board.end_linger(to);
        }
    }
}
