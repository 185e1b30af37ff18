//! The software NIC: a state machine without I/O, over any [`Wire`].
//!
//! Owned by one polling CPU, which alone calls it; its provider, on the control plane, speaks to it by [`PortCommand`]s and hears of it by [`PortEvent`]s. It owns the
//! wire, one completion queue, at most one SRQ and the attached queue pairs. It has no clock (time comes with [`Port::poll`]) and allocates nothing once it runs.
//!
//! | part | what it is |
//! |---|---|
//! | [`inside`] | what the simulated ports, which are built around this one, reach of it |
//! | [`requester`] | sends, reads and writes: begun in order, completed in order, failed by the peer's state or by time |
//! | [`responder`] | the peer's messages meet receives |
//! | [`device`] | what all queue pairs of the port share; how one fails |
//! | [`queue_pair`] | one queue pair, by value |
//! | [`command`] | what provider and NIC tell each other |
//! | [`send_queue`], [`receive_queue`], [`completion_queue`] | fixed rings |
//! | [`state`] | the states of a queue pair, as a table |
//!
//! Invariants:
//! - completions come in order per queue; what fails always completes, and after it everything is flushed;
//! - a queue pair whose sends are all completed and that has no message waiting costs nothing per poll;
//! - a wire's link is visited only between its attach and its detach, by this CPU.

mod inside;

mod device;
mod requester;
mod responder;

mod queue_pair;

mod command;
mod completion_queue;
mod receive_queue;
mod send_queue;
mod state;

#[cfg(test)]
mod tests;

pub use command::{
    LinkParameters, NicCounters, PortCommand, PortEvent, PortHandle, QueuePairControl, QueuePairSerial, WakePort,
    WakeProvider,
};
pub(in crate::soft) use completion_queue::{Credit, Entry};
pub(in crate::soft) use inside::Outstanding;
pub use queue_pair::QueuePair;
pub use state::QueuePairState;

use std::os::fd::RawFd;

use reactor::{Rest, doorbell};

use self::completion_queue::CompletionQueue;
use self::device::Device;
use self::receive_queue::ReceiveQueue;
use self::state::Move;
use super::wire::{LinkState, Wire};
use crate::verbs::{Completion, LocalSegment, Port, PortOptions, PostError, QueuePairName, SendRequest};

/// How a NIC behaves; equal for all its queue pairs.
#[derive(Clone, Copy, Debug)]
pub struct NicOptions {
    /// How long a sender waits for a receive to be posted, per try.
    pub rnr_timer_ns: u64,
    /// How long a sender waits for the peer to consume anything, per try.
    pub transport_timeout_ns: u64,
    /// Longest SEND.
    pub send_len_max: u32,
    /// Longest READ or WRITE.
    pub transfer_len_max: u32,
    /// Most segments of a receive on the SRQ.
    pub shared_receive_segment_count_max: u32,
    /// Whether queue pairs on an SRQ raise LAST_WQE_REACHED.
    pub raises_last_wqe: bool,
    /// Whether it follows the rules of iWARP: a message that finds no receive ends the connection, and with one side's queue pair the other's is in error, too.
    pub is_iwarp: bool,
}

impl Default for NicOptions {
    fn default() -> Self {
        Self {
            rnr_timer_ns: 640_000,
            transport_timeout_ns: 4_000_000_000,
            send_len_max: 1 << 20,
            transfer_len_max: 1 << 30,
            shared_receive_segment_count_max: 16,
            raises_last_wqe: true,
            is_iwarp: false,
        }
    }
}

/// Attached queue pairs by slot.
type Slots<L> = Vec<Option<Box<QueuePair<L>>>>;

/// One CPU's software NIC over the wire `W`.
pub struct Nic<W: Wire> {
    device: Device<W>,
    slots: Slots<W::Link>,
    free: Vec<u32>,
    /// Scratch for the wire's news.
    news: Vec<u32>,
    /// Numbers the polls.
    turn: u64,
    /// What [`Port::arm`] answered, until [`Port::disarm`].
    rest: Rest,
}

impl<W: Wire> Nic<W> {
    /// A NIC and the provider's end of it. `wake` is called on the NIC's CPU after it sent an event, `wake_port` by the provider where the NIC's CPU sleeps.
    #[must_use]
    pub fn new(
        wire: W,
        port: PortOptions,
        options: NicOptions,
        wake: Option<WakeProvider>,
        wake_port: Option<WakePort>,
    ) -> (Self, PortHandle<W::Link>) {
        let (handle, end) = command::ends(wake, wake_port);
        let shared_receives = (port.shared_receive_count > 0).then(|| {
            ReceiveQueue::new(port.shared_receive_count as usize, options.shared_receive_segment_count_max as usize)
        });
        let device = Device {
            wire,
            completions: CompletionQueue::new(port.completion_count as usize),
            shared_receives,
            end,
            options,
            now_ns: 0,
            dirty: Vec::new(),
            active: Vec::new(),
        };
        let nic = Self { device, slots: Vec::new(), free: Vec::new(), news: Vec::new(), turn: 0, rest: Rest::Poll };
        (nic, handle)
    }

    /// Its wire.
    pub fn wire(&mut self) -> &mut W {
        &mut self.device.wire
    }

    /// The state of an attached queue pair.
    #[must_use]
    pub fn state(&self, name: QueuePairName) -> Option<QueuePairState> {
        let queue_pair = self.slots.get(name.index as usize)?.as_ref()?;
        (queue_pair.number() == name.number).then_some(queue_pair.state)
    }

    /// The provider's commands.
    #[cold]
    fn execute(&mut self, command: PortCommand<W::Link>) {
        match command {
            PortCommand::Connect { queue_pair, link, parameters } => self.connect(queue_pair, link, parameters),
            PortCommand::ToError { queue_pair } => match Self::find(&mut self.slots, queue_pair) {
                Some((queue_pair, slot)) => {
                    self.device.fail(queue_pair, slot, LinkState::Error, None);
                }
                None => self.device.end.counters().misses.add(1),
            },
            PortCommand::Break => self.break_off(),
        }
    }

    fn connect(&mut self, serial: QueuePairSerial, link: W::Link, parameters: LinkParameters) {
        let Some((queue_pair, slot)) = Self::find(&mut self.slots, serial) else {
            self.device.end.counters().misses.add(1);
            self.device.end.send(PortEvent::Unconnected { queue_pair: serial, link });
            return;
        };
        if queue_pair.link.is_some() {
            self.device.end.send(PortEvent::Unconnected { queue_pair: serial, link });
            return;
        }
        let mut link = Box::new(link);
        let device = &mut self.device;
        device.wire.attach(slot, &mut link);
        queue_pair.parameters = parameters;
        let ready = queue_pair.state.next(Move::Link).and_then(|state| state.next(Move::Start));
        if let Some(state) = ready {
            queue_pair.state = state;
            queue_pair.said = LinkState::Ready;
            device.wire.set_state(&mut link, LinkState::Ready);
            queue_pair.link = Some(link);
            // There may be messages already, which came before any news could name this slot.
            queue_pair.check_ns = 0;
            device.mark_active(queue_pair, slot);
        } else {
            device.say(queue_pair, &mut link, LinkState::Error);
            queue_pair.link = Some(link);
        }
        device.end.send(PortEvent::Connected { queue_pair: serial });
    }

    /// Every queue pair breaks, and nothing completes any more.
    fn break_off(&mut self) {
        self.device.completions.break_off();
        for (slot, queue_pair) in (0..).zip(&mut self.slots) {
            if let Some(queue_pair) = queue_pair {
                self.device.fail(queue_pair, slot, LinkState::Error, None);
                self.device.end.send(PortEvent::Fatal { queue_pair: queue_pair.serial() });
            }
        }
    }

    /// By serial: for commands, so a search will do.
    fn find(slots: &mut Slots<W::Link>, serial: QueuePairSerial) -> Option<(&mut QueuePair<W::Link>, u32)> {
        let mut attached = (0..).zip(slots).filter_map(|(slot, queue_pair)| Some((queue_pair.as_deref_mut()?, slot)));
        attached.find(|(queue_pair, _)| queue_pair.serial() == serial)
    }

    /// Looks at one queue pair. Whether every poll has to from now on.
    #[inline]
    fn visit(device: &mut Device<W>, queue_pair: &mut QueuePair<W::Link>, slot: u32, has_news: bool) -> bool {
        let Some(link) = &mut queue_pair.link else { return false };
        if queue_pair.state == QueuePairState::Error {
            return false;
        }
        // The peer's state before its messages and its consumed count: what it says last, it says after those.
        let state = (has_news || device.now_ns >= queue_pair.check_ns).then(|| device.wire.peer_state(link));
        if state.is_some() {
            queue_pair.check_ns = device.next_check_ns();
        }
        let mut result = Ok(());
        if state.is_some() || queue_pair.is_blocked {
            result = device.respond(queue_pair, slot);
        }
        if result.is_ok() && queue_pair.state != QueuePairState::Error {
            result = device.follow(queue_pair, slot, state);
        }
        if result.is_err() {
            device.fail_by_fault(queue_pair, slot);
        }
        if state == Some(LinkState::Gone) {
            // A device would notice with its next send; here the wire knows.
            device.fail(queue_pair, slot, LinkState::Error, None);
        }
        queue_pair.state != QueuePairState::Error && (queue_pair.is_blocked || !queue_pair.send.is_empty())
    }

    /// Visits what has news, then what has work under way.
    #[inline]
    fn visit_all(&mut self) {
        let Self { device, slots, news, turn, .. } = self;
        *turn += 1;
        news.clear();
        device.wire.news(device.now_ns, news);
        for &slot in news.iter() {
            // The wire's hint may name anything.
            let Some(Some(queue_pair)) = slots.get_mut(slot as usize) else { continue };
            queue_pair.polled = *turn;
            if Self::visit(device, queue_pair, slot, true) {
                device.mark_active(queue_pair, slot);
            }
        }
        let mut active = std::mem::take(&mut device.active);
        active.retain(|&slot| {
            let Some(Some(queue_pair)) = slots.get_mut(slot as usize) else { return false };
            let stays = if queue_pair.polled == *turn {
                queue_pair.state != QueuePairState::Error && (queue_pair.is_blocked || !queue_pair.send.is_empty())
            } else {
                Self::visit(device, queue_pair, slot, false)
            };
            queue_pair.is_active = stays;
            stays
        });
        device.active = active;
    }

    /// The doorbell but for the peers that sleep.
    #[inline]
    fn publish_dirty(&mut self) {
        let Self { device, slots, .. } = self;
        for slot in device.dirty.drain(..) {
            let Some(Some(queue_pair)) = slots.get_mut(slot as usize) else { continue };
            queue_pair.is_dirty = false;
            if let Some(link) = &mut queue_pair.link {
                device.wire.publish(link);
                device.wire.release(link);
            }
        }
    }

    /// Whether there is anything to poll for, after it was announced that this CPU sleeps.
    fn last_look(&mut self) -> Rest {
        if self.device.end.has_command() {
            return Rest::Poll;
        }
        let mut rest = self.device.wire.last_look(self.device.now_ns);
        if self.device.end.is_waiting() {
            rest = rest.and(self.device.look_again());
        }
        // News and states were looked at by the wire; what was consumed, and what time brings, by visiting. An early end would only cost a poll.
        let Self { device, slots, .. } = self;
        let active = std::mem::take(&mut device.active);
        for &slot in &active {
            let Some(Some(queue_pair)) = slots.get_mut(slot as usize) else { continue };
            if Self::visit(device, queue_pair, slot, true) {
                rest = rest.and(device.rest_of(queue_pair));
            }
        }
        device.active = active;
        // What the visits began.
        self.ring();
        if self.device.completions.is_empty() { rest } else { Rest::Poll }
    }

    #[inline]
    fn look(&mut self, name: QueuePairName) -> Result<(&mut Device<W>, &mut QueuePair<W::Link>), PostError> {
        match self.slots.get_mut(name.index as usize) {
            Some(Some(queue_pair)) if queue_pair.number() == name.number => Ok((&mut self.device, queue_pair)),
            Some(_) | None => Err(PostError::WrongState),
        }
    }

    /// Gives the polled completions out, and their room back.
    #[inline]
    fn give(&mut self, limit: usize, completions: &mut Vec<Completion>) -> usize {
        let mut count = 0;
        while count < limit {
            let Some(entry) = self.device.completions.pop() else { break };
            completions.push(entry.completion);
            count += 1;
            self.credit(&entry);
        }
        count
    }

    /// A completion was polled: its room is free.
    #[inline]
    pub(in crate::soft) fn credit(&mut self, entry: &Entry) {
        if entry.credit == Credit::SharedReceive {
            if let Some(shared) = &mut self.device.shared_receives {
                shared.credit();
            }
            return;
        }
        if let Some(Some(queue_pair)) = self.slots.get_mut(entry.slot as usize)
            && queue_pair.serial() == entry.serial
        {
            queue_pair.credit(entry.credit);
        }
    }

    /// [`Port::poll`] but for giving completions out.
    #[inline]
    pub(in crate::soft) fn turn(&mut self, now_ns: u64) {
        self.device.now_ns = now_ns;
        // For what the last poll consumed and said, if nothing was posted since: see below.
        self.device.wire.ring();
        while let Some(command) = self.device.end.next_command() {
            self.execute(command);
        }
        self.visit_all();
        if self.device.completions.take_overrun() {
            self.overrun();
        }
        // Peers that sleep are rung for with what this turn will post: one fence for both.
        self.publish_dirty();
        self.device.end.flush();
    }

    /// The completion queue has overrun: the port breaks.
    #[cold]
    pub(in crate::soft) fn overrun(&mut self) {
        self.device.end.counters().overruns.add(1);
        self.break_off();
        self.device.end.send(PortEvent::CompletionQueueOverrun);
    }
}

impl<W: Wire> Port for Nic<W> {
    type QueuePair = Box<QueuePair<W::Link>>;

    fn attach(&mut self, mut queue_pair: Self::QueuePair) -> QueuePairName {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // More than 2^32 queue pairs do not fit into any memory.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let number = queue_pair.number();
        if let Some(state) = queue_pair.state.next(Move::Attach) {
            queue_pair.state = state;
        }
        if queue_pair.control.is_failed() {
            self.device.fail(&mut queue_pair, slot, LinkState::Error, None);
        }
        self.slots[slot as usize] = Some(queue_pair);
        // Room for all, so that listing one allocates nothing later.
        self.device.dirty.reserve(self.slots.len());
        self.device.active.reserve(self.slots.len());
        self.device.end.counters().queue_pairs_attached.add(1);
        QueuePairName { index: slot, number }
    }

    fn detach(&mut self, name: QueuePairName) -> Option<Self::QueuePair> {
        let place = self.slots.get_mut(name.index as usize)?;
        if place.as_ref()?.number() != name.number {
            return None;
        }
        let mut queue_pair = place.take()?;
        let device = &mut self.device;
        if let Some(mut link) = queue_pair.link.take() {
            // What was posted has started, and what was taken is told, before the end is.
            device.wire.publish(&mut link);
            device.wire.release(&mut link);
            if queue_pair.state != QueuePairState::Error {
                device.say(&mut queue_pair, &mut link, LinkState::Error);
            }
            device.wire.detach(name.index, &mut link);
            queue_pair.link = Some(link);
        }
        if let Some(state) = queue_pair.state.next(Move::Detach) {
            queue_pair.state = state;
        }
        device.dirty.retain(|&slot| slot != name.index);
        device.active.retain(|&slot| slot != name.index);
        device.end.counters().queue_pairs_attached.sub(1);
        self.free.push(name.index);
        Some(queue_pair)
    }

    #[inline]
    fn post_receive(&mut self, name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        let (device, queue_pair) = self.look(name)?;
        if !queue_pair.state.takes_receives() {
            return Err(PostError::WrongState);
        }
        queue_pair.receive.as_mut().ok_or(PostError::WrongState)?.post(id, segments)?;
        device.end.counters().receives_posted.add(1);
        if queue_pair.state == QueuePairState::Error {
            device.flush_receives(queue_pair, name.index);
        }
        Ok(())
    }

    #[inline]
    fn post_shared_receive(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        self.device.shared_receives.as_mut().ok_or(PostError::WrongState)?.post(id, segments)?;
        self.device.end.counters().receives_posted.add(1);
        Ok(())
    }

    #[inline]
    fn post_send(&mut self, name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        let (device, queue_pair) = self.look(name)?;
        device.post_send(queue_pair, name.index, request)
    }

    #[inline]
    fn ring(&mut self) {
        self.publish_dirty();
        self.device.wire.ring();
    }

    #[inline]
    fn poll(&mut self, now_ns: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        self.turn(now_ns);
        self.give(limit, completions)
    }

    fn arm(&mut self, now_ns: u64) -> Rest {
        self.device.now_ns = now_ns;
        self.ring();
        self.device.end.flush();
        self.device.end.announce();
        self.device.wire.announce();
        doorbell::before_last_look();
        self.rest = self.last_look();
        self.rest
    }

    fn disarm(&mut self) {
        self.device.end.withdraw();
        self.device.wire.withdraw(self.rest != Rest::Poll);
        self.rest = Rest::Poll;
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.device.wire.wake_descriptor()
    }
}
