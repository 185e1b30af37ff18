//! The verifying workload: writes a pattern to each place, reads all of them back, compares every block.
//!
//! A *pass* writes each of its places once and then reads each once; between the two, and between passes, all commands have ended, so that
//! what a read must bring is known. CPUs have parts of their own. The order of places is a permutation that the seed decides (randwrite)
//! or ascending (write), and the reads come in another order than the writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use reactor::{Progress, Segment};
use transport_rdma::host::{Ended, HostFailure, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::outcome::{End, Live, NamespaceOutcome, Outcome, Stop, latencies};
use crate::pattern::{self, Stamp};
use crate::plan::{Places, places};
use crate::random::{Permutation, mix};
use crate::settings::{Extent, Job, Settings};

/// Mismatches that are told in words.
const TOLD_MAX: usize = 16;

struct Slot {
    buffer: Segment,
    submit_ns: u64,
    place: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Writing,
    Reading,
    Done,
}

/// Where a pass is: one namespace after the other.
struct Namespace {
    places: Places,
    /// Places of one pass.
    pass_len: u64,
    outcome: NamespaceOutcome,
}

/// One CPU's verification.
pub(crate) struct VerifyWorkload {
    settings: Arc<Settings>,
    live: Arc<Live>,
    stop: Arc<Stop>,
    ends: Sender<End>,
    phase: Phase,
    slots: Vec<Slot>,
    idle: Vec<u32>,
    namespaces: Vec<Namespace>,
    /// The namespace that is being verified.
    current: usize,
    /// Counts passes of the current namespace, from 1: the generation of its blocks.
    generation: u64,
    /// Commands of the phase that were submitted.
    submitted: u64,
    begin_ns: u64,
    end_ns: u64,
    /// Private memory to make and check a pattern in.
    scratch: Vec<u8>,
    outcome: Outcome,
}

impl VerifyWorkload {
    pub(crate) fn new(settings: Arc<Settings>, live: Arc<Live>, stop: Arc<Stop>, ends: Sender<End>) -> Self {
        let scratch = vec![0; settings.io_len];
        Self {
            settings,
            live,
            stop,
            ends,
            phase: Phase::Waiting,
            slots: Vec::new(),
            idle: Vec::new(),
            namespaces: Vec::new(),
            current: 0,
            generation: 1,
            submitted: 0,
            begin_ns: 0,
            end_ns: 0,
            scratch,
            outcome: Outcome::default(),
        }
    }

    fn begin(&mut self, start: &Start<'_>) -> Result<(), String> {
        let all = places(&self.settings, start)?;
        let namespace_count = all.len() as u64;
        for (places, index) in all.into_iter().zip(0..) {
            pattern::fits(places.block_len)?;
            let pass_len = match self.settings.job {
                Job::Verify(Extent::Count(count)) => {
                    let share = self.settings.share(count, start.cpu);
                    // What does not divide goes to the first namespaces.
                    let share = share / namespace_count + u64::from(index < share % namespace_count);
                    share.min(places.count)
                }
                Job::Load(_)
                | Job::Verify(_)
                | Job::Digest
                | Job::Durability(_)
                | Job::Discover
                | Job::Identify
                | Job::Reservation(_) => places.count,
            };
            let outcome = NamespaceOutcome { nsid: places.nsid, read_count: 0, write_count: 0, latencies: latencies() };
            self.namespaces.push(Namespace { places, pass_len, outcome });
        }
        let io_len = self.settings.io_len;
        for index in 0..self.settings.slot_count() {
            self.slots.push(Slot { buffer: start.memory.part(index * io_len, io_len), submit_ns: 0, place: 0 });
        }
        self.idle = (0..u32::try_from(self.slots.len()).expect("at most 2^20")).rev().collect();
        self.begin_ns = start.now_ns;
        if let Job::Verify(Extent::Time(time)) = self.settings.job {
            self.end_ns = start.now_ns + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
        } else {
            self.live.io_total.set(self.namespaces.iter().map(|namespace| 2 * namespace.pass_len).sum());
        }
        Ok(())
    }

    /// The `index`-th place of a phase.
    fn place(&self, index: u64) -> u64 {
        let Namespace { places, pass_len, .. } = &self.namespaces[self.current];
        let order = |seed: u64| Permutation::new(*pass_len, mix(self.settings.seed ^ mix(seed)));
        let index = match self.phase {
            Phase::Reading => order(2 * self.generation + 1).at(index),
            Phase::Waiting | Phase::Writing | Phase::Done => index,
        };
        // Which places belong to the pass is the same for writes and reads: the permutation of the whole part, cut off.
        let place = if self.settings.pattern.is_random() {
            Permutation::new(places.count, mix(self.settings.seed)).at(index)
        } else {
            index
        };
        places.first + place
    }

    fn stamp(&self, lba: u64) -> Stamp {
        // The run: its lower 32 bits are enough to tell runs apart.
        #[allow(clippy::cast_possible_truncation)]
        let seed = mix(self.settings.seed) as u32;
        Stamp { seed, nsid: self.namespaces[self.current].places.nsid, lba, generation: self.generation }
    }

    fn submit<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> bool {
        let mut any = false;
        while self.submitted < self.namespaces[self.current].pass_len && !self.stop.is_asked() {
            let Some(index) = self.idle.pop() else { break };
            let queue = u16::try_from(index / u32::from(self.settings.io_depth)).expect("slots are counted per queue");
            if io.room(queue) == 0 {
                self.idle.push(index);
                break;
            }
            let place = self.place(self.submitted);
            let places = self.namespaces[self.current].places;
            let buffer = self.slots[index as usize].buffer;
            let command = if self.phase == Phase::Writing {
                let stamp = self.stamp(places.slba(place));
                for (block, lba) in self.scratch.chunks_exact_mut(places.block_len).zip(stamp.lba..) {
                    pattern::fill(block, Stamp { lba, ..stamp });
                }
                buffer.write(0, &self.scratch);
                places.write(place, buffer)
            } else {
                // A read that brings nothing must not find what the last one brought.
                buffer.zero();
                places.read(place, buffer)
            };
            let slot = &mut self.slots[index as usize];
            (slot.place, slot.submit_ns) = (place, now_ns);
            if io.submit(queue, u64::from(index), &command).is_err() {
                self.idle.push(index);
                break;
            }
            self.submitted += 1;
            any = true;
        }
        any
    }

    fn compare(&mut self, slot: usize) {
        let Slot { buffer, place, .. } = self.slots[slot];
        let mut scratch = std::mem::take(&mut self.scratch);
        buffer.read(0, &mut scratch);
        let places = self.namespaces[self.current].places;
        let first = self.stamp(places.slba(place));
        for (block, lba) in scratch.chunks_exact(places.block_len).zip(first.lba..) {
            self.outcome.verified_block_count += 1;
            let Err(mismatch) = pattern::check(block, Stamp { lba, ..first }) else { continue };
            self.outcome.mismatch_count += 1;
            if self.outcome.mismatches.len() < TOLD_MAX {
                let expected = self.generation;
                let told = format!("namespace {} LBA {lba}, expected write {expected}: {mismatch}", places.nsid);
                self.outcome.mismatches.push(told);
            }
        }
        self.scratch = scratch;
    }

    /// All commands of the phase have ended.
    fn next_phase(&mut self, now_ns: u64) {
        self.submitted = 0;
        if self.phase == Phase::Writing {
            self.phase = Phase::Reading;
            return;
        }
        self.phase = Phase::Writing;
        self.current += 1;
        if self.current == self.namespaces.len() {
            self.current = 0;
            self.generation += 1;
            if now_ns >= self.end_ns {
                self.finish(now_ns);
            }
        }
    }

    fn finish(&mut self, now_ns: u64) {
        self.phase = Phase::Done;
        self.outcome.elapsed_ns = now_ns - self.begin_ns;
        self.outcome.namespaces = self.namespaces.drain(..).map(|namespace| namespace.outcome).collect();
        let outcome = std::mem::take(&mut self.outcome);
        let _ = self.ends.send(End::Outcome(Box::new(outcome)));
    }

    fn must_stop(&mut self) -> bool {
        if self.stop.is_asked() {
            self.outcome.was_stopped = true;
        }
        let has_failed = !self.outcome.errors.is_empty() && !self.settings.continue_on_error;
        self.outcome.was_stopped || has_failed
    }
}

impl Workload for VerifyWorkload {
    fn ready(&mut self, start: Start<'_>) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        self.phase = Phase::Writing;
        if let Err(refused) = self.begin(&start) {
            self.outcome.refused = Some(refused);
            self.begin_ns = start.now_ns;
            self.finish(start.now_ns);
        }
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        if !matches!(self.phase, Phase::Writing | Phase::Reading) {
            return Progress::Idle;
        }
        let all_ended = self.idle.len() == self.slots.len();
        if self.must_stop() {
            if all_ended {
                self.finish(now_ns);
            }
            return Progress::Idle;
        }
        if all_ended && self.submitted == self.namespaces[self.current].pass_len {
            self.next_phase(now_ns);
            return Progress::Busy;
        }
        Progress::busy_if(self.submit(now_ns, io))
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        for &Ended { tag, status, .. } in ended {
            let index = u32::try_from(tag).expect("our own tag");
            self.idle.push(index);
            let latency_ns = now_ns - self.slots[index as usize].submit_ns;
            if !status.is_success() {
                *self.outcome.errors.entry(status).or_default() += 1;
                continue;
            }
            let outcome = &mut self.namespaces[self.current].outcome;
            outcome.latencies.saturating_record(latency_ns);
            if self.phase == Phase::Reading {
                outcome.read_count += 1;
                self.compare(index as usize);
            } else {
                outcome.write_count += 1;
            }
        }
        self.live.io_count.add(ended.len() as u64);
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    fn failed(&mut self, failure: &HostFailure) {
        let _ = self.ends.send(End::Failed(failure.clone()));
    }
}
