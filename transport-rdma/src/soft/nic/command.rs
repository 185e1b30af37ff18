//! What a provider (on the control plane) and a NIC (on a polling CPU) tell each other.
//!
//! Owned half by each: the provider holds a [`PortHandle`] per port, the NIC the other end. Between them are two bounded lockless queues; what does not fit waits, in
//! order, on its sender's side, so nothing is lost and neither side waits for the other. The NIC looks at its queue once per poll.
//!
//! Queue pairs are named by [`QueuePairSerial`], which is never reused (their numbers are): a command for one that has left is a miss, counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_queue::ArrayQueue;
use reactor::{Counter, doorbell};

/// Names a queue pair between provider and NIC. Given by the provider; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueuePairSerial(pub u64);

/// What a queue pair learns when it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkParameters {
    /// 0–7: how many transport timeouts beyond the first.
    pub retry_count: u8,
    /// 0–7; 7 means for ever.
    pub rnr_retry_count: u8,
}

/// The provider to the NIC.
#[derive(Debug)]
pub enum PortCommand<L> {
    /// Gives the queue pair its end of the link and moves it to ready-to-send. In the error state it only tells the peer so.
    /// If the queue pair has left, the link comes back ([`PortEvent::Unconnected`]).
    Connect {
        /// Which.
        queue_pair: QueuePairSerial,
        /// Its end.
        link: L,
        /// How often it tries.
        parameters: LinkParameters,
    },
    /// Moves the queue pair to the error state: its work is flushed. Sent by [`PortHandle::fail`].
    ToError {
        /// Which.
        queue_pair: QueuePairSerial,
    },
    /// As after a device's fatal event: all queue pairs of the port go to the error state, and the completion queue is dead: nothing completes any more.
    Break,
}

/// The NIC to the provider.
#[derive(Debug)]
pub enum PortEvent<L> {
    /// [`PortCommand::Connect`] is done. Before this a send of the queue pair would be refused, so nobody is told earlier that the connection is up: the active
    /// side raises ESTABLISHED then, the passive side answers its peer then.
    Connected {
        /// Which.
        queue_pair: QueuePairSerial,
    },
    /// A queue pair on an SRQ came to the error state and takes no receive any more. Once.
    LastWqe {
        /// Which.
        queue_pair: QueuePairSerial,
    },
    /// A queue pair broke for a reason that no completion tells (its peer broke the wire's protocol, or ended a key that it could not; the completion queue overran).
    Fatal {
        /// Which.
        queue_pair: QueuePairSerial,
    },
    /// [`PortCommand::Connect`] came after the queue pair had left, or a second time.
    Unconnected {
        /// Which.
        queue_pair: QueuePairSerial,
        /// Its end.
        link: L,
    },
    /// The completion queue overran: it and all its queue pairs are broken.
    CompletionQueueOverrun,
}

/// What a NIC counts. Written by its CPU, read by anybody.
#[derive(Debug, Default)]
pub struct NicCounters {
    /// Sends, reads, writes that were posted.
    pub sends_posted: Counter,
    /// Receives that were posted, to queue pairs or the SRQ.
    pub receives_posted: Counter,
    /// Completions that were made, flushes included.
    pub completions: Counter,
    /// Completions with another status than success.
    pub failures: Counter,
    /// Requests that had to wait for room on the wire.
    pub wire_full: Counter,
    /// Times that a queue pair found a message and no receive.
    pub receiver_not_ready: Counter,
    /// Completion queue overruns: 0, or 1 and the queue is dead.
    pub overruns: Counter,
    /// Peers that broke the wire's protocol.
    pub peer_faults: Counter,
    /// Commands for queue pairs that had left.
    pub misses: Counter,
    /// Attached queue pairs.
    pub queue_pairs_attached: Counter,
}

/// What a provider keeps of a queue pair that it gave away.
#[derive(Clone, Debug)]
pub struct QueuePairControl {
    serial: QueuePairSerial,
    number: u32,
    failed: Arc<AtomicBool>,
}

impl QueuePairControl {
    pub(super) fn new(serial: QueuePairSerial, number: u32) -> Self {
        Self { serial, number, failed: Arc::new(AtomicBool::new(false)) }
    }

    /// Its name.
    #[must_use]
    pub fn serial(&self) -> QueuePairSerial {
        self.serial
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether it was failed before it was attached. Acquire: pairs with [`PortHandle::fail`].
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

struct Shared<L> {
    commands: ArrayQueue<PortCommand<L>>,
    events: ArrayQueue<PortEvent<L>>,
    counters: NicCounters,
    /// Whether the NIC's CPU sleeps.
    asleep: AtomicU32,
}

/// Commands and events that may be under way; more wait on their sender's side.
const QUEUE_LEN: usize = 256;

/// The provider's end of one port.
pub struct PortHandle<L> {
    shared: Arc<Shared<L>>,
    waiting: VecDeque<PortCommand<L>>,
    wake: Option<WakePort>,
}

impl<L: Send> PortHandle<L> {
    /// Sends a command, after all earlier ones.
    pub fn send(&mut self, command: PortCommand<L>) {
        self.waiting.push_back(command);
        self.flush();
    }

    /// Moves a queue pair to the error state, whether it is attached, on its way to be attached (then it is attached in that state), or gone (a miss).
    pub fn fail(&mut self, queue_pair: &QueuePairControl) {
        // Release, before the command: a NIC that consumed the command before it attached the queue pair sees the mark when it does.
        queue_pair.failed.store(true, Ordering::Release);
        self.send(PortCommand::ToError { queue_pair: queue_pair.serial });
    }

    /// Sends what had no room. To be called regularly, while [`Self::is_waiting`].
    pub fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        while let Some(command) = self.waiting.pop_front() {
            if let Err(command) = self.shared.commands.push(command) {
                self.waiting.push_front(command);
                break;
            }
        }
        self.wake();
    }

    /// Wakes the NIC's CPU if it sleeps: it polls then. Called by itself after a command; to be called after whatever else a poll would find.
    pub fn wake(&self) {
        doorbell::after_news();
        if doorbell::take(&self.shared.asleep)
            && let Some(wake) = &self.wake
        {
            wake();
        }
    }

    /// Whether commands wait for room.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The NIC's next event.
    pub fn next_event(&mut self) -> Option<PortEvent<L>> {
        self.flush();
        self.shared.events.pop()
    }

    /// What the NIC counts.
    #[must_use]
    pub fn counters(&self) -> &NicCounters {
        &self.shared.counters
    }
}

/// Called by the NIC's CPU after it sent an event: makes the provider look. Rare, so it may be a system call.
pub type WakeProvider = Box<dyn Fn() + Send>;

/// Called by the provider where the NIC's CPU sleeps: makes its wire's descriptor readable.
pub type WakePort = Box<dyn Fn() + Send>;

/// The NIC's end.
pub(super) struct NicEnd<L> {
    shared: Arc<Shared<L>>,
    waiting: VecDeque<PortEvent<L>>,
    wake: Option<WakeProvider>,
}

impl<L> NicEnd<L> {
    /// The next command. One load when there is none.
    pub(super) fn next_command(&mut self) -> Option<PortCommand<L>> {
        if self.has_command() { self.shared.commands.pop() } else { None }
    }

    /// Whether there is one.
    #[inline]
    pub(super) fn has_command(&self) -> bool {
        !self.shared.commands.is_empty()
    }

    /// Whether events wait for room, of which nothing rings.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Its CPU would sleep: the provider wakes it from here on. A fence and another look are the caller's.
    pub(super) fn announce(&self) {
        doorbell::announce(&self.shared.asleep);
    }

    /// It is awake.
    pub(super) fn withdraw(&self) {
        doorbell::withdraw(&self.shared.asleep);
    }

    /// Sends an event, after all earlier ones.
    pub(super) fn send(&mut self, event: PortEvent<L>) {
        self.waiting.push_back(event);
        self.flush();
    }

    /// Sends what had no room.
    #[inline]
    pub(super) fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let before = self.waiting.len();
        while let Some(event) = self.waiting.pop_front() {
            if let Err(event) = self.shared.events.push(event) {
                self.waiting.push_front(event);
                break;
            }
        }
        // Not where nothing fitted: a provider that is slow would cost a system call per poll.
        if let Some(wake) = &self.wake
            && self.waiting.len() < before
        {
            wake();
        }
    }

    pub(super) fn counters(&self) -> &NicCounters {
        &self.shared.counters
    }
}

/// Both ends of one port.
pub(super) fn ends<L>(wake: Option<WakeProvider>, wake_port: Option<WakePort>) -> (PortHandle<L>, NicEnd<L>) {
    let shared = Arc::new(Shared {
        commands: ArrayQueue::new(QUEUE_LEN),
        events: ArrayQueue::new(QUEUE_LEN),
        counters: NicCounters::default(),
        asleep: AtomicU32::new(0),
    });
    (
        PortHandle { shared: Arc::clone(&shared), waiting: VecDeque::new(), wake: wake_port },
        NicEnd { shared, waiting: VecDeque::new(), wake },
    )
}
