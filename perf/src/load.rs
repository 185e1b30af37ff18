//! The measuring workload: keeps every queue at its depth, and records how long each command took.
//!
//! A command belongs to a slot for the whole run: the slot has a buffer, a queue and a namespace. Time is the turn's: a command that is
//! submitted and one that ends in the same turn have the same time, so a latency is off by at most one turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use reactor::{Progress, Segment};
use transport_rdma::host::{Ended, HostFailure, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::arguments::Pattern;
use crate::outcome::{End, Live, NamespaceOutcome, Outcome, Stop, latencies};
use crate::plan::{Places, places};
use crate::random::Random;
use crate::settings::{Extent, Job, Settings};

struct Slot {
    buffer: Segment,
    submit_ns: u64,
    namespace: u16,
    is_read: bool,
}

struct Namespace {
    places: Places,
    /// The next place of a sequential load.
    cursor: u64,
    outcome: NamespaceOutcome,
}

enum Phase {
    Waiting,
    Running,
    /// Submits nothing more; commands are still out.
    Stopping,
    Done,
}

/// One CPU's load.
pub(crate) struct LoadWorkload {
    settings: Arc<Settings>,
    live: Arc<Live>,
    stop: Arc<Stop>,
    ends: Sender<End>,
    random: Random,
    phase: Phase,
    slots: Vec<Slot>,
    /// Slots without a command, last in first out.
    idle: Vec<u32>,
    namespaces: Vec<Namespace>,
    /// I/Os that may still be submitted.
    remaining: u64,
    /// Measured from here …
    begin_ns: u64,
    /// … to here.
    end_ns: u64,
    last_ns: u64,
    outcome: Outcome,
}

impl LoadWorkload {
    pub(crate) fn new(settings: Arc<Settings>, cpu: u16, live: Arc<Live>, stop: Arc<Stop>, ends: Sender<End>) -> Self {
        let random = Random::new(settings.seed, u64::from(cpu));
        Self {
            settings,
            live,
            stop,
            ends,
            random,
            phase: Phase::Waiting,
            slots: Vec::new(),
            idle: Vec::new(),
            namespaces: Vec::new(),
            remaining: u64::MAX,
            begin_ns: 0,
            end_ns: u64::MAX,
            last_ns: 0,
            outcome: Outcome::default(),
        }
    }

    fn begin(&mut self, start: &Start<'_>) -> Result<(), String> {
        let slot_count = self.settings.slot_count();
        for (places, index) in places(&self.settings, start)?.into_iter().zip(0..) {
            let outcome = NamespaceOutcome { nsid: places.nsid, read_count: 0, write_count: 0, latencies: latencies() };
            self.namespaces.push(Namespace { cursor: 0, places, outcome });
            assert!(index < u16::MAX, "more namespaces than slots can name");
        }
        let io_len = self.settings.io_len;
        let mut noise = vec![0; io_len];
        for index in 0..slot_count {
            let buffer = start.memory.part(index * io_len, io_len);
            // Not zeroes: those are what a device could cheat with.
            for word in noise.as_chunks_mut::<8>().0 {
                *word = self.random.next().to_le_bytes();
            }
            buffer.write(0, &noise);
            let namespace = u16::try_from(index % self.namespaces.len()).expect("checked above");
            self.slots.push(Slot { buffer, submit_ns: 0, namespace, is_read: true });
        }
        self.idle = (0..u32::try_from(slot_count).expect("at most 2^20")).rev().collect();

        let warmup_ns = ns(self.settings.warmup);
        self.begin_ns = start.now_ns + warmup_ns;
        match self.settings.job {
            Job::Load(Extent::Time(time)) => self.end_ns = self.begin_ns + ns(time),
            Job::Load(Extent::Count(count)) => {
                self.remaining = self.settings.share(count, start.cpu);
                self.live.io_total.set(self.remaining);
            }
            Job::Load(Extent::Once)
            | Job::Verify(_)
            | Job::Digest
            | Job::Durability(_)
            | Job::Discover
            | Job::Identify
            | Job::Reservation(_) => {
                return Err("a load without an end".to_owned());
            }
        }
        Ok(())
    }

    fn submit<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> bool {
        let mut any = false;
        while self.remaining > 0 {
            let Some(index) = self.idle.pop() else { break };
            let slot = &mut self.slots[index as usize];
            slot.namespace = next_namespace(slot.namespace, self.settings.slot_count(), self.namespaces.len());
            let namespace = &mut self.namespaces[usize::from(slot.namespace)];
            let places = &namespace.places;
            let place = if self.settings.pattern.is_random() {
                self.random.below(places.total)
            } else {
                let place = places.first + namespace.cursor;
                namespace.cursor = if namespace.cursor + 1 == places.count { 0 } else { namespace.cursor + 1 };
                place
            };
            slot.is_read = match self.settings.read_percent {
                100 => true,
                0 => false,
                percent => self.random.below(100) < u64::from(percent),
            };
            let command = if self.settings.pattern == Pattern::Uncorrectable {
                places.spoil(place)
            } else if slot.is_read {
                places.read(place, slot.buffer)
            } else {
                places.write(place, slot.buffer)
            };
            let queue = u16::try_from(index / u32::from(self.settings.io_depth)).expect("slots are counted per queue");
            if io.submit(queue, u64::from(index), &command).is_err() {
                self.idle.push(index);
                break;
            }
            slot.submit_ns = now_ns;
            self.remaining -= 1;
            any = true;
        }
        any
    }

    fn finish(&mut self, now_ns: u64) {
        self.phase = Phase::Done;
        let measured_end_ns = match self.settings.job {
            _ if self.outcome.was_stopped => now_ns,
            Job::Load(Extent::Time(_)) => self.end_ns,
            Job::Load(_)
            | Job::Verify(_)
            | Job::Digest
            | Job::Durability(_)
            | Job::Discover
            | Job::Identify
            | Job::Reservation(_) => self.last_ns,
        };
        self.outcome.elapsed_ns = measured_end_ns.saturating_sub(self.begin_ns);
        self.outcome.namespaces = self.namespaces.drain(..).map(|namespace| namespace.outcome).collect();
        let outcome = std::mem::take(&mut self.outcome);
        let _ = self.ends.send(End::Outcome(Box::new(outcome)));
    }
}

/// A slot keeps its namespace, so that a slow one does not hold up the others; fewer slots than namespaces take them in turn.
fn next_namespace(last: u16, slot_count: usize, namespace_count: usize) -> u16 {
    if slot_count >= namespace_count {
        last
    } else if usize::from(last) + 1 == namespace_count {
        0
    } else {
        last + 1
    }
}

fn ns(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
}

impl Workload for LoadWorkload {
    fn ready(&mut self, start: Start<'_>) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        self.phase = Phase::Running;
        if let Err(refused) = self.begin(&start) {
            self.outcome.refused = Some(refused);
            self.namespaces.clear();
            self.finish(start.now_ns);
        }
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        match self.phase {
            Phase::Running if self.stop.is_asked() => {
                self.outcome.was_stopped = true;
                self.end_ns = now_ns;
                self.phase = Phase::Stopping;
            }
            Phase::Running if now_ns < self.end_ns && self.remaining > 0 => {
                return Progress::busy_if(self.submit(now_ns, io));
            }
            Phase::Running => self.phase = Phase::Stopping,
            Phase::Waiting | Phase::Stopping | Phase::Done => {}
        }
        if matches!(self.phase, Phase::Stopping) && self.idle.len() == self.slots.len() {
            self.finish(now_ns);
        }
        Progress::Idle
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        let is_measured = (self.begin_ns..=self.end_ns).contains(&now_ns);
        for &Ended { tag, status, .. } in ended {
            let index = u32::try_from(tag).expect("our own tag");
            let slot = &self.slots[index as usize];
            self.idle.push(index);
            if !status.is_success() {
                *self.outcome.errors.entry(status).or_default() += 1;
                if !self.settings.continue_on_error {
                    self.phase = Phase::Stopping;
                }
            } else if is_measured {
                let outcome = &mut self.namespaces[usize::from(slot.namespace)].outcome;
                outcome.latencies.saturating_record(now_ns - slot.submit_ns);
                if slot.is_read {
                    outcome.read_count += 1;
                } else {
                    outcome.write_count += 1;
                }
            }
        }
        self.last_ns = now_ns;
        self.live.io_count.add(ended.len() as u64);
    }

    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    fn failed(&mut self, failure: &HostFailure) {
        let _ = self.ends.send(End::Failed(failure.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_gets_its_share_whatever_the_depth() {
        let turns = |slots, namespaces| {
            let mut last = 0;
            std::array::from_fn::<u16, 5, _>(|_| {
                last = next_namespace(last, slots, namespaces);
                last
            })
        };
        assert_eq!(turns(1, 3), [1, 2, 0, 1, 2]);
        assert_eq!(turns(3, 3), [0; 5]);
        assert_eq!(turns(1, 1), [0; 5]);
    }
}
