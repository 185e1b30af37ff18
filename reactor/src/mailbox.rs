//! Messages between CPUs.
//!
//! Between each ordered pair of CPUs stands one bounded ring with one writer and one reader; threads that are no reactors
//! share one bounded queue per CPU, its postbox. What finds a ring full waits in the sender's backlog for that CPU, and
//! everything sent to it later waits behind it: so the order between two CPUs is the order of sending. A message to the CPU
//! itself waits in a queue of its own until the next turn.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::bell::{Bell, Stage};
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::doorbell;
use crate::full::Full;
#[cfg(any(loom, test))]
use crate::primitive::mutation::Rule;
use crate::ring::{Consumer, Producer, ring};

/// All bells of a mesh, by CPU.
pub(crate) type Bells = Arc<[CachePadded<Bell>]>;

/// The way into one reactor for threads that are no reactors (signal handling, the verbs worker). Clonable, many-to-one.
pub struct Postbox<M> {
    queue: Arc<ArrayQueue<M>>,
    wake: Wake,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), wake: self.wake.clone() }
    }
}

impl<M: Send + 'static> Postbox<M> {
    pub(crate) fn new(queue: Arc<ArrayQueue<M>>, wake: Wake) -> Self {
        Self { queue, wake }
    }

    /// Posts one message and wakes the reactor if it sleeps. Messages of one thread come in the order in which it posted them.
    ///
    /// # Errors
    /// [`Full`] hands it back: the queue is full, or the reactor has left.
    pub fn post(&self, message: M) -> Result<(), Full<M>> {
        if self.wake.bell().stage() == Stage::Left {
            return Err(Full(message));
        }
        self.queue.push(message).map_err(Full)?;
        self.wake.wake();
        Ok(())
    }

    /// Only the wake-up.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }
}

/// Ends a reactor's sleep, from any thread. Costs an exchange and a load where it is awake.
#[derive(Clone)]
pub struct Wake {
    bells: Bells,
    cpu: Cpu,
}

impl Wake {
    pub(crate) fn new(bells: Bells, cpu: Cpu) -> Self {
        Self { bells, cpu }
    }

    /// Has the reactor make a turn: wakes it if it sleeps, or keeps it from falling asleep before its next turn. What the caller made ready
    /// before is visible to that turn.
    pub fn wake(&self) {
        self.bell().want();
    }

    fn bell(&self) -> &Bell {
        &self.bells[usize::from(self.cpu.0)]
    }
}

/// What one CPU receives by. What each turn writes is padded here and below: two CPUs' ends were allocated side by side.
pub(crate) struct Inbox<M> {
    /// By sender; none from itself.
    pub(crate) rings: Box<[CachePadded<Option<Consumer<M>>>]>,
    pub(crate) postbox: Arc<ArrayQueue<M>>,
}

impl<M> Inbox<M> {
    pub(crate) fn is_empty(&self) -> bool {
        self.rings.iter().filter_map(|ring| ring.as_ref()).all(Consumer::is_empty) && self.postbox.is_empty()
    }
}

/// What one CPU sends by.
pub(crate) struct Outbox<M> {
    cpu: Cpu,
    /// By receiver.
    lanes: Box<[CachePadded<Lane<M>>]>,
    /// To this CPU itself.
    local: VecDeque<M>,
    /// Messages in all lanes' backlogs.
    backlog_len: usize,
    /// CPUs for which there is news since bells were last rung. Never longer than the mesh.
    news: Vec<CachePadded<Cpu>>,
    bells: Bells,
}

struct Lane<M> {
    /// None to itself.
    ring: Option<Producer<M>>,
    backlog: VecDeque<M>,
    has_news: bool,
}

impl<M> Outbox<M> {
    /// Sends, or puts into the backlog. Panics if the receiver has left.
    #[inline]
    pub(crate) fn send(&mut self, to: Cpu, message: M, counters: &ReactorCounters) {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)).map(|lane| &mut **lane) else {
            panic!("a message from cpu {} to cpu {}, which is not in the mesh", self.cpu.0, to.0)
        };
        let Some(ring) = &mut lane.ring else {
            self.local.push_back(message);
            return;
        };
        check_there(&self.bells, self.cpu, to);
        let in_order = lane.backlog.is_empty();
        #[cfg(any(loom, test))]
        let in_order = in_order || Rule::BacklogFirst.is_broken();
        if in_order {
            match ring.push(message) {
                Ok(()) => self.note(to),
                Err(Full(message)) => self.put_off(to, message, counters),
            }
        } else {
            self.put_off(to, message, counters);
        }
    }

    #[cold]
    fn put_off(&mut self, to: Cpu, message: M, counters: &ReactorCounters) {
        self.lanes[usize::from(to.0)].backlog.push_back(message);
        self.backlog_len += 1;
        counters.count_ring_full(to);
    }

    /// Tries the backlogs again, each in order. True if anything moved.
    #[inline]
    pub(crate) fn flush(&mut self) -> bool {
        self.backlog_len > 0 && self.flush_backlogs()
    }

    #[cold]
    fn flush_backlogs(&mut self) -> bool {
        let before = self.backlog_len;
        for to in (0..).map(Cpu).take(self.lanes.len()) {
            let lane = &mut *self.lanes[usize::from(to.0)];
            let Some(ring) = &mut lane.ring else { continue };
            if lane.backlog.is_empty() {
                continue;
            }
            check_there(&self.bells, self.cpu, to);
            let before = lane.backlog.len();
            while ring.has_room() {
                let Some(message) = lane.backlog.pop_front() else { break };
                // Only this CPU fills the ring.
                assert!(ring.push(message).is_ok());
            }
            let moved = before - lane.backlog.len();
            self.backlog_len -= moved;
            if moved > 0 {
                self.note(to);
            }
        }
        self.backlog_len < before
    }

    /// Notes that `to` is to be looked after at the end of the turn, in case it sleeps.
    pub(crate) fn note(&mut self, to: Cpu) {
        let lane = &mut *self.lanes[usize::from(to.0)];
        if !lane.has_news {
            lane.has_news = true;
            self.news.push(CachePadded::new(to));
        }
    }

    /// Wakes those of the receivers of this turn that sleep: one fence for all. To be called before this CPU's quiet point:
    /// `epoch` is still in its slot.
    #[inline]
    pub(crate) fn ring_bells(&mut self, domain: &Domain, epoch: u64) {
        if !self.news.is_empty() {
            self.ring_bells_with_news(domain, epoch);
        }
    }

    fn ring_bells_with_news(&mut self, domain: &Domain, epoch: u64) {
        doorbell::after_news();
        while let Some(to) = self.news.pop().map(CachePadded::into_inner) {
            self.lanes[usize::from(to.0)].has_news = false;
            let bell = &self.bells[usize::from(to.0)];
            match bell.stage() {
                Stage::Absent => {}
                Stage::Live => {
                    domain.hold_for(to.0, epoch);
                    bell.ring();
                }
                Stage::Left => self.check_taken(to),
            }
        }
    }

    /// For a CPU that has left since something was sent to it. Panics if it did not take that.
    #[cold]
    fn check_taken(&self, to: Cpu) {
        #[cfg(any(loom, test))]
        if Rule::SenderLooks.is_broken() {
            return;
        }
        // ORDERING 8: what it took before it left is seen with the stage.
        let lane = &self.lanes[usize::from(to.0)];
        let is_taken = lane.ring.as_ref().is_none_or(Producer::is_taken);
        assert!(is_taken, "a message from cpu {} to cpu {}, which left meanwhile", self.cpu.0, to.0);
    }

    pub(crate) fn backlog_len(&self) -> usize {
        self.backlog_len
    }

    /// Messages in the backlog for one CPU.
    pub(crate) fn backlog_len_to(&self, to: Cpu) -> usize {
        self.lanes[usize::from(to.0)].backlog.len()
    }

    /// Messages pushed into the ring to `to` so far.
    pub(crate) fn position_to(&self, to: Cpu) -> u64 {
        self.lanes[usize::from(to.0)].ring.as_ref().map_or(0, Producer::position)
    }

    /// Messages of this CPU to itself.
    pub(crate) fn local_len(&self) -> usize {
        self.local.len()
    }

    pub(crate) fn pop_local(&mut self) -> Option<M> {
        self.local.pop_front()
    }
}

/// Panics if `to` has left: its program ended while somebody still had something to tell it, which is our bug.
#[inline]
fn check_there(bells: &Bells, from: Cpu, to: Cpu) {
    let stage = bells[usize::from(to.0)].stage();
    assert!(stage != Stage::Left, "a message from cpu {} to cpu {}, which has left", from.0, to.0);
}

/// The ends of all rings and queues of a mesh, by CPU.
pub(crate) fn connect<M>(bells: &Bells, ring_capacity: usize) -> Vec<(Inbox<M>, Outbox<M>)> {
    assert!(ring_capacity > 0, "rings between CPUs that hold no message");
    let cpu_count = bells.len();
    let mut outboxes: Vec<Vec<Option<Producer<M>>>> = (0..cpu_count).map(|_| Vec::new()).collect();
    let mut inboxes: Vec<Vec<Option<Consumer<M>>>> = (0..cpu_count).map(|_| Vec::new()).collect();
    for (from, outbox) in outboxes.iter_mut().enumerate() {
        for (to, inbox) in inboxes.iter_mut().enumerate() {
            let (producer, consumer) = if from == to { (None, None) } else { split(ring(ring_capacity)) };
            outbox.push(producer);
            inbox.push(consumer);
        }
    }
    let ends = inboxes.into_iter().zip(outboxes).zip((0..).map(Cpu));
    ends.map(|((consumers, producers), cpu)| {
        let lane =
            |ring| CachePadded::new(Lane { ring, backlog: VecDeque::with_capacity(ring_capacity), has_news: false });
        let outbox = Outbox {
            cpu,
            lanes: producers.into_iter().map(lane).collect(),
            local: VecDeque::with_capacity(ring_capacity),
            backlog_len: 0,
            news: Vec::with_capacity(cpu_count),
            bells: Arc::clone(bells),
        };
        (
            Inbox {
                rings: consumers.into_iter().map(CachePadded::new).collect(),
                postbox: Arc::new(ArrayQueue::new(ring_capacity)),
            },
            outbox,
        )
    })
    .collect()
}

fn split<M>((producer, consumer): (Producer<M>, Consumer<M>)) -> (Option<Producer<M>>, Option<Consumer<M>>) {
    (Some(producer), Some(consumer))
}
