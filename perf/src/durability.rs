//! The workload that a power cut interrupts: writes with flushes between and with FUA, and a log of what was acknowledged as durable. Checks first that
//! everything is there that an earlier round's log names.
//!
//! The log is to survive the cut: on another machine, or outside the virtual machine that is killed. A line is written when a place is durable: after a
//! write of it was acknowledged that forced unit access, or a flush that was submitted after a write of it was acknowledged
//! [NVM Command Set 1.0, 3.2.1, 3.2.5]. A place is written by one command at a time, and each write has a greater generation than all before, of
//! earlier rounds too; so what a block holds after the cut is a whole write of its place, and not an older one than the log names.
//!
//! ```text
//! durability io-size 4096 seed 1     what makes logs of several rounds one
//! checked 1536 1024 8192 3           round: places in the log, and blocks compared of all namespaces
//! writing 1536
//! 1 77 6597069766657                 namespace, place, generation
//! ```

mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use reactor::{Progress, Segment};
use transport_rdma::host::{Ended, HostFailure, IoCommand, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::outcome::{End, Live, NamespaceOutcome, Outcome, Stop, latencies};
use crate::pattern::{self, Stamp};
use crate::plan::{Places, places};
use crate::random::{Random, mix};
use crate::settings::{DurabilityJob, Settings};
use log::Log;

/// Mismatches that are told in words.
const TOLD_MAX: usize = 16;
/// Writes between two flushes of a namespace, at most; how many is by chance, so that cuts find few and many.
const FLUSH_PERIOD_MAX: u64 = 256;
/// One of so many writes forces unit access, where some do.
const FORCED_ONE_IN: u64 = 4;
/// A round's generations are above this many times its number.
const ROUND: u64 = 1 << 32;

/// What a slot's command is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Read {
        namespace: usize,
        place: u64,
    },
    Write {
        namespace: usize,
        place: u64,
        generation: u64,
        is_forced: bool,
    },
    /// With what was acknowledged before.
    Flush {
        namespace: usize,
        covered: Vec<(u64, u64)>,
    },
}

struct Slot {
    buffer: Segment,
    submit_ns: u64,
    doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Checking,
    Writing,
    Done,
}

/// What makes the writes of a namespace durable. Each round and namespace has one way: where a disk takes FUA for a flush, either would hide what is wrong
/// with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Flush,
    ForceUnitAccess,
    Both,
}

impl Way {
    fn of(round: u64, namespace: usize) -> Self {
        match (round + namespace as u64) % 3 {
            1 => Self::Flush,
            2 => Self::ForceUnitAccess,
            _ => Self::Both,
        }
    }
}

struct Namespace {
    places: Places,
    way: Way,
    /// Whether a place is being written.
    is_busy: Vec<bool>,
    /// Acknowledged, and no flush submitted since: place and generation.
    acknowledged: Vec<(u64, u64)>,
    is_flushing: bool,
    writes_until_flush: u64,
    outcome: NamespaceOutcome,
}

/// See the module.
pub(crate) struct DurabilityWorkload {
    settings: Arc<Settings>,
    job: DurabilityJob,
    live: Arc<Live>,
    stop: Arc<Stop>,
    ends: Sender<End>,
    phase: Phase,
    slots: Vec<Slot>,
    idle: Vec<usize>,
    namespaces: Vec<Namespace>,
    /// By namespace and place: the generation that is durable.
    durable: BTreeMap<(u32, u64), u64>,
    log: Option<Log>,
    /// The next place to check: of which namespace, which.
    next: (usize, u64),
    generation: u64,
    random: Random,
    scratch: Vec<u8>,
    begin_ns: u64,
    outcome: Outcome,
}

impl DurabilityWorkload {
    /// What becomes of a job of this kind.
    pub(crate) fn new(
        settings: Arc<Settings>,
        job: DurabilityJob,
        live: Arc<Live>,
        stop: Arc<Stop>,
        ends: Sender<End>,
    ) -> Self {
        let scratch = vec![0; settings.io_len];
        let random = Random::new(settings.seed, job.round);
        Self {
            generation: job.round * ROUND,
            settings,
            job,
            live,
            stop,
            ends,
            phase: Phase::Waiting,
            slots: Vec::new(),
            idle: Vec::new(),
            namespaces: Vec::new(),
            durable: BTreeMap::new(),
            log: None,
            next: (0, 0),
            random,
            scratch,
            begin_ns: 0,
            outcome: Outcome::default(),
        }
    }

    fn begin(&mut self, start: &Start<'_>) -> Result<(), String> {
        for places in places(&self.settings, start)? {
            pattern::fits(places.block_len)?;
            let place_count = usize::try_from(places.count).unwrap_or(usize::MAX);
            if place_count < usize::from(self.settings.io_depth) * 2 {
                return Err(format!(
                    "namespace {} has {place_count} places for an I/O of {} bytes: at least twice the depth are needed",
                    places.nsid, self.settings.io_len
                ));
            }
            self.namespaces.push(Namespace {
                places,
                way: Way::of(self.job.round, self.namespaces.len()),
                is_busy: vec![false; place_count],
                acknowledged: Vec::new(),
                is_flushing: false,
                writes_until_flush: self.random.below(FLUSH_PERIOD_MAX) + 1,
                outcome: NamespaceOutcome { nsid: places.nsid, read_count: 0, write_count: 0, latencies: latencies() },
            });
        }
        let (log, durable) = Log::open(&self.job.log, self.settings.io_len, self.settings.seed)?;
        (self.log, self.durable) = (Some(log), durable);
        if let Some(generation) = self.durable.values().max().filter(|generation| **generation >= self.generation) {
            let had = generation / ROUND;
            return Err(format!("--round is {}, and the log has round {had}: name a greater one", self.job.round));
        }
        let io_len = self.settings.io_len;
        for index in 0..self.settings.slot_count() {
            let buffer = start.memory.part(index * io_len, io_len);
            self.slots.push(Slot { buffer, submit_ns: 0, doing: Doing::Nothing });
        }
        self.idle = (0..self.slots.len()).rev().collect();
        self.begin_ns = start.now_ns;
        Ok(())
    }

    fn say(&mut self, line: &str) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(line)
        {
            // What cannot be logged is not known to be durable, and shows nothing.
            self.outcome.refused = Some(format!("--log {}: {error}", self.job.log.display()));
        }
    }

    /// The command that comes next for this slot.
    fn next_command(&mut self, slot: usize) -> Option<IoCommand> {
        let (doing, command) = match self.phase {
            Phase::Checking => self.next_read(slot)?,
            Phase::Writing => self.next_flush().or_else(|| self.next_write(slot))?,
            Phase::Waiting | Phase::Done => return None,
        };
        self.slots[slot].doing = doing;
        Some(command)
    }

    fn next_read(&mut self, slot: usize) -> Option<(Doing, IoCommand)> {
        let (namespace, place) = self.next;
        let places = self.namespaces.get(namespace)?.places;
        self.next = if place + 1 < places.count { (namespace, place + 1) } else { (namespace + 1, 0) };
        let buffer = self.slots[slot].buffer;
        // A read that brings nothing must not find what the last one brought.
        buffer.zero();
        Some((Doing::Read { namespace, place }, places.read(place, buffer)))
    }

    fn next_flush(&mut self) -> Option<(Doing, IoCommand)> {
        let due = |it: &Namespace| it.way != Way::ForceUnitAccess && it.writes_until_flush == 0 && !it.is_flushing;
        let namespace = self.namespaces.iter().position(due)?;
        let it = &mut self.namespaces[namespace];
        it.is_flushing = true;
        it.writes_until_flush = self.random.below(FLUSH_PERIOD_MAX) + 1;
        let covered = std::mem::take(&mut it.acknowledged);
        Some((Doing::Flush { namespace, covered }, IoCommand::Flush { nsid: it.places.nsid }))
    }

    fn next_write(&mut self, slot: usize) -> Option<(Doing, IoCommand)> {
        let namespace = usize::try_from(self.random.below(self.namespaces.len() as u64)).expect("below the number");
        let may_force = self.random.below(FORCED_ONE_IN) == 0;
        let it = &mut self.namespaces[namespace];
        let place = self.random.below(it.places.count);
        let is_busy = it.is_busy.get_mut(usize::try_from(place).ok()?)?;
        // Another place is chosen in the next turn.
        if std::mem::replace(is_busy, true) {
            return None;
        }
        it.writes_until_flush = it.writes_until_flush.saturating_sub(1);
        let is_forced = match it.way {
            Way::Flush => false,
            Way::ForceUnitAccess => true,
            Way::Both => may_force,
        };
        self.generation += 1;
        let generation = self.generation;
        let places = it.places;
        let first = stamp(&self.settings, &places, place, generation);
        for (block, lba) in self.scratch.chunks_exact_mut(places.block_len).zip(first.lba..) {
            pattern::fill(block, Stamp { lba, ..first });
        }
        let buffer = self.slots[slot].buffer;
        buffer.write(0, &self.scratch);
        let command = IoCommand::Write {
            nsid: places.nsid,
            slba: places.slba(place),
            block_count: places.blocks_per_io,
            force_unit_access: is_forced,
            buffer,
        };
        Some((Doing::Write { namespace, place, generation, is_forced }, command))
    }

    /// A command that was not taken is as if it had not been thought of, but for its generation.
    fn take_back(&mut self, slot: usize) {
        match std::mem::replace(&mut self.slots[slot].doing, Doing::Nothing) {
            Doing::Nothing => {}
            Doing::Read { namespace, place } => self.next = (namespace, place),
            Doing::Write { namespace, place, .. } => self.free(namespace, place),
            Doing::Flush { namespace, covered } => {
                let it = &mut self.namespaces[namespace];
                (it.is_flushing, it.writes_until_flush) = (false, 0);
                it.acknowledged.extend(covered);
            }
        }
        self.idle.push(slot);
    }

    fn free(&mut self, namespace: usize, place: u64) {
        if let Ok(place) = usize::try_from(place) {
            self.namespaces[namespace].is_busy[place] = false;
        }
    }

    fn succeeded(&mut self, slot: usize, latency_ns: u64, news: &mut String) {
        use std::fmt::Write as _;
        match std::mem::replace(&mut self.slots[slot].doing, Doing::Nothing) {
            Doing::Nothing => {}
            Doing::Read { namespace, place } => {
                self.namespaces[namespace].outcome.read_count += 1;
                self.compare(slot, namespace, place);
            }
            Doing::Write { namespace, place, generation, is_forced } => {
                self.free(namespace, place);
                let it = &mut self.namespaces[namespace];
                it.outcome.write_count += 1;
                it.outcome.latencies.saturating_record(latency_ns);
                if is_forced {
                    let _ = writeln!(news, "{} {place} {generation}", it.places.nsid);
                } else {
                    it.acknowledged.push((place, generation));
                }
            }
            Doing::Flush { namespace, covered } => {
                let it = &mut self.namespaces[namespace];
                it.is_flushing = false;
                for (place, generation) in covered {
                    let _ = writeln!(news, "{} {place} {generation}", it.places.nsid);
                }
            }
        }
    }

    fn compare(&mut self, slot: usize, namespace: usize, place: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.slots[slot].buffer.read(0, &mut scratch);
        let places = self.namespaces[namespace].places;
        let durable = self.durable.get(&(places.nsid, place)).copied();
        let first = stamp(&self.settings, &places, place, durable.unwrap_or(0));
        for (block, lba) in scratch.chunks_exact(places.block_len).zip(first.lba..) {
            self.outcome.verified_block_count += 1;
            let Err(what) = wrong(block, Stamp { lba, ..first }) else { continue };
            self.outcome.mismatch_count += 1;
            if self.outcome.mismatches.len() < TOLD_MAX {
                self.outcome.mismatches.push(format!("namespace {} LBA {lba}: {what}", places.nsid));
            }
        }
        self.scratch = scratch;
    }

    /// Everything was read and compared.
    fn checked(&mut self) -> bool {
        let Outcome { verified_block_count, mismatch_count, .. } = self.outcome;
        let (round, place_count) = (self.job.round, self.durable.len());
        self.say(&format!("checked {round} {place_count} {verified_block_count} {mismatch_count}\n"));
        if self.job.check_only || mismatch_count > 0 {
            return false;
        }
        self.say(&format!("writing {round}\n"));
        self.phase = Phase::Writing;
        true
    }

    fn finish(&mut self, now_ns: u64) {
        self.phase = Phase::Done;
        self.outcome.elapsed_ns = now_ns - self.begin_ns;
        self.outcome.namespaces = self.namespaces.drain(..).map(|namespace| namespace.outcome).collect();
        let _ = self.ends.send(End::Outcome(Box::new(std::mem::take(&mut self.outcome))));
    }
}

/// The stamp of a place's first block.
fn stamp(settings: &Settings, places: &Places, place: u64, generation: u64) -> Stamp {
    // The run: its lower 32 bits are enough to tell runs apart.
    #[allow(clippy::cast_possible_truncation)]
    let seed = mix(settings.seed) as u32;
    Stamp { seed, nsid: places.nsid, lba: places.slba(place), generation }
}

/// What is wrong with a block of which a write is durable: that of the stamp's generation, or with 0 none.
fn wrong(block: &[u8], durable: Stamp) -> Result<(), String> {
    if durable.generation == 0 && block.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let found = pattern::generation(block);
    match pattern::check(block, Stamp { generation: found, ..durable }) {
        Ok(()) if found >= durable.generation => Ok(()),
        Ok(()) => Err(format!(
            "write {} was acknowledged as durable, and is lost: write {found} is there",
            durable.generation
        )),
        Err(mismatch) if durable.generation > 0 => {
            Err(format!("write {} was acknowledged as durable, and is lost: {mismatch}", durable.generation))
        }
        Err(mismatch) => Err(format!("neither whole nor untouched: {mismatch}")),
    }
}

impl Workload for DurabilityWorkload {
    fn ready(&mut self, start: Start<'_>) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        self.begin_ns = start.now_ns;
        self.phase = Phase::Checking;
        if let Err(refused) = self.begin(&start) {
            self.outcome.refused = Some(refused);
            self.finish(start.now_ns);
        }
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        if !matches!(self.phase, Phase::Checking | Phase::Writing) {
            return Progress::Idle;
        }
        let all_ended = self.idle.len() == self.slots.len();
        self.outcome.was_stopped |= self.stop.is_asked();
        if self.outcome.was_stopped || self.outcome.refused.is_some() || !self.outcome.errors.is_empty() {
            if all_ended {
                self.finish(now_ns);
            }
            return Progress::Idle;
        }
        if self.phase == Phase::Checking && self.next.0 == self.namespaces.len() {
            if all_ended && !self.checked() {
                self.finish(now_ns);
            }
            return Progress::busy_if(all_ended);
        }
        let mut any = false;
        while let Some(slot) = self.idle.pop() {
            let queue = u16::try_from(slot / usize::from(self.settings.io_depth)).expect("slots are counted per queue");
            let command = if io.room(queue) > 0 { self.next_command(slot) } else { None };
            let Some(command) = command else {
                self.idle.push(slot);
                break;
            };
            self.slots[slot].submit_ns = now_ns;
            if io.submit(queue, slot as u64, &command).is_err() {
                self.take_back(slot);
                break;
            }
            any = true;
        }
        Progress::busy_if(any)
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        let mut news = String::new();
        for &Ended { tag, status, .. } in ended {
            let slot = usize::try_from(tag).expect("our own tag");
            self.idle.push(slot);
            if status.is_success() {
                self.succeeded(slot, now_ns - self.slots[slot].submit_ns, &mut news);
            } else {
                *self.outcome.errors.entry(status).or_default() += 1;
            }
        }
        if !news.is_empty() {
            self.say(&news);
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

#[cfg(test)]
mod tests {
    use super::*;

    const DURABLE: Stamp = Stamp { seed: 1, nsid: 1, lba: 9, generation: ROUND + 5 };

    fn block(stamp: Stamp) -> Vec<u8> {
        let mut block = vec![0; 512];
        pattern::fill(&mut block, stamp);
        block
    }

    #[test]
    fn a_later_write_is_as_good_and_an_earlier_one_is_a_loss() {
        assert_eq!(wrong(&block(DURABLE), DURABLE), Ok(()));
        assert_eq!(wrong(&block(Stamp { generation: 2 * ROUND, ..DURABLE }), DURABLE), Ok(()));
        let older = wrong(&block(Stamp { generation: ROUND + 4, ..DURABLE }), DURABLE).unwrap_err();
        assert!(older.contains("acknowledged as durable, and is lost: write 4294967300 is there"), "{older}");
        let nothing = wrong(&[0; 512], DURABLE).unwrap_err();
        assert!(nothing.contains("acknowledged as durable, and is lost: no pattern"), "{nothing}");
    }

    #[test]
    fn where_nothing_is_durable_a_block_is_whole_or_untouched() {
        let nothing = Stamp { generation: 0, ..DURABLE };
        assert_eq!(wrong(&[0; 512], nothing), Ok(()));
        assert_eq!(wrong(&block(DURABLE), nothing), Ok(()));
        let mut torn = block(DURABLE);
        torn[256..].fill(0);
        assert!(wrong(&torn, nothing).unwrap_err().starts_with("neither whole nor untouched"));
        assert!(wrong(&block(Stamp { lba: 8, ..DURABLE }), nothing).is_err());
    }
}
