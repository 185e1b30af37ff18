//! What is done in each association: blocks are written, read back and compared, then it ends, with commands outstanding if it is to end abruptly.
//!
//! Blocks that are compared and blocks that an abrupt end writes are different ones: when a write that was cut off takes effect, if it does, nobody knows.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use reactor::{Progress, Rest, Segment};
use transport_rdma::host::{Ended, HostFailure, IoCommand, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use super::outcome::Checks;
use super::settings::Settings;
use crate::pattern::{self, Stamp};

/// What the next association is to be like.
pub(crate) struct Order {
    /// Counts the line's associations, from 1: the generation of its blocks.
    pub(crate) number: u64,
    pub(crate) ends_abruptly: bool,
}

/// What happens to an association, in this order; those before [`Self::Apart`] may be left out.
pub(crate) enum Event {
    Ready {
        now_ns: u64,
    },
    /// Nothing more is wanted of it; so many commands are outstanding.
    Done {
        now_ns: u64,
        outstanding_count: u64,
    },
    Failed(HostFailure),
    /// What was asked for cannot be done here, in words.
    Refused(String),
    /// A command ended with an error status.
    CommandFailed(String),
    Apart {
        now_ns: u64,
        checks: Checks,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Apart,
    Writing,
    Reading,
    /// All that was to be compared is.
    Closing,
    Done,
}

/// Where this line's blocks are.
#[derive(Clone, Copy, Debug)]
struct Place {
    nsid: u32,
    block_len: usize,
    blocks_per_io: u32,
    first_block: u64,
}

/// One line's workload.
pub(crate) struct Association {
    settings: Arc<Settings>,
    line: u16,
    orders: Receiver<Order>,
    events: Sender<Event>,
    phase: Phase,
    order: Order,
    place: Option<Place>,
    /// By slot.
    buffers: Vec<Segment>,
    /// Commands of the phase that were submitted, and that have ended.
    submitted_count: usize,
    ended_count: usize,
    checks: Checks,
    /// Private memory to make and check a pattern in.
    scratch: Vec<u8>,
}

impl Association {
    pub(crate) fn new(settings: Arc<Settings>, line: u16, orders: Receiver<Order>, events: Sender<Event>) -> Self {
        let scratch = vec![0; settings.io_len];
        Self {
            settings,
            line,
            orders,
            events,
            phase: Phase::Apart,
            order: Order { number: 0, ends_abruptly: false },
            place: None,
            buffers: Vec::new(),
            submitted_count: 0,
            ended_count: 0,
            checks: Checks::default(),
            scratch,
        }
    }

    /// Who listens has gone only when the process ends.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn begin(&mut self, start: &Start<'_>) -> Result<(), String> {
        let (settings, attached) = (&self.settings, start.attached);
        if settings.slot_count() == 0 {
            return Ok(());
        }
        let found = match settings.nsid {
            None => attached.namespaces.first(),
            Some(nsid) => attached.namespaces.iter().find(|namespace| namespace.nsid == nsid),
        };
        let known: Vec<_> = attached.namespaces.iter().map(|namespace| namespace.nsid.to_string()).collect();
        let namespace = found.ok_or_else(|| match settings.nsid {
            Some(nsid) => format!("nsid is {nsid}; the controller has {}", known.join(", ")),
            None => "the controller has no namespace".to_owned(),
        })?;
        let (nsid, block_len, io_len) = (namespace.nsid, namespace.block_len as usize, settings.io_len);
        if block_len == 0 || !io_len.is_multiple_of(block_len) {
            return Err(format!(
                "io-size is {io_len}, which is no multiple of namespace {nsid}'s blocks of {block_len}"
            ));
        }
        if settings.verified_count > 0 {
            pattern::fits(block_len)?;
        }
        if io_len > attached.transfer_len_max as usize {
            let most = attached.transfer_len_max;
            return Err(format!("io-size is {io_len}, the controller transfers at most {most} bytes with one command"));
        }
        let blocks_per_io = u32::try_from(io_len / block_len).expect("at most 8 MiB");
        // As much again for what an abrupt end leaves.
        let line_len = 2 * settings.slot_count() as u64 * u64::from(blocks_per_io);
        let needed = u128::from(settings.first_block) + u128::from(line_len) * u128::from(settings.line_count);
        if needed > u128::from(namespace.block_count) {
            return Err(format!(
                "namespace {nsid} has {} blocks, {needed} are needed: lower --first-block, --queue-pairs, --io-depth or --at-once",
                namespace.block_count
            ));
        }
        let first_block = settings.first_block + line_len * u64::from(self.line);
        self.place = Some(Place { nsid, block_len, blocks_per_io, first_block });
        self.buffers = (0..settings.slot_count()).map(|slot| start.memory.part(slot * io_len, io_len)).collect();
        Ok(())
    }

    fn stamp(&self, place: &Place, lba: u64) -> Stamp {
        // The lower 32 bits of the seed are enough to tell runs apart.
        #[allow(clippy::cast_possible_truncation)]
        let seed = self.settings.seed as u32;
        Stamp { seed, nsid: place.nsid, lba, generation: self.order.number }
    }

    fn command(&mut self, slot: usize) -> Option<IoCommand> {
        let place = self.place?;
        let Place { nsid, blocks_per_io: block_count, .. } = place;
        let number = slot + if self.phase == Phase::Closing { self.buffers.len() } else { 0 };
        let slba = place.first_block + number as u64 * u64::from(block_count);
        let buffer = self.buffers[slot];
        let is_write = match self.phase {
            Phase::Writing => true,
            // Writes only where writing was asked for.
            Phase::Closing => self.settings.verified_count > 0 && slot % 2 == 1,
            Phase::Apart | Phase::Reading | Phase::Done => false,
        };
        if self.phase == Phase::Writing {
            let first = self.stamp(&place, slba);
            for (block, lba) in self.scratch.chunks_exact_mut(place.block_len).zip(slba..) {
                pattern::fill(block, Stamp { lba, ..first });
            }
            buffer.write(0, &self.scratch);
        } else if self.phase == Phase::Reading {
            // A read that brings nothing must not find what was written.
            buffer.zero();
        }
        Some(if is_write {
            IoCommand::Write { nsid, slba, block_count, force_unit_access: false, buffer }
        } else {
            IoCommand::Read { nsid, slba, block_count, buffer }
        })
    }

    fn compare(&mut self, slot: usize) {
        let Some(place) = self.place else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        self.buffers[slot].read(0, &mut scratch);
        let slba = place.first_block + slot as u64 * u64::from(place.blocks_per_io);
        let first = self.stamp(&place, slba);
        for (block, lba) in scratch.chunks_exact(place.block_len).zip(slba..) {
            self.checks.block_count += 1;
            if let Err(mismatch) = pattern::check(block, Stamp { lba, ..first }) {
                let (nsid, number) = (place.nsid, self.order.number);
                self.checks.mismatch(|| format!("namespace {nsid} LBA {lba}, expected write {number}: {mismatch}"));
            }
        }
        self.scratch = scratch;
    }

    /// Slots of the phase: one command each, on queues in turn.
    fn submit<Q: Port>(&mut self, io: &mut IoQueues<'_, Q>, count: usize) -> bool {
        let before = self.submitted_count;
        while self.submitted_count < count {
            let slot = self.submitted_count;
            let queue = u16::try_from(slot % usize::from(self.settings.queue_count)).expect("below the queues' count");
            if io.room(queue) == 0 {
                break;
            }
            let Some(command) = self.command(slot) else { break };
            if io.submit(queue, slot as u64, &command).is_err() {
                break;
            }
            self.submitted_count += 1;
        }
        self.submitted_count > before
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.submitted_count, self.ended_count) = (phase, 0, 0);
    }

    fn finish(&mut self, now_ns: u64) {
        self.tell(Event::Done { now_ns, outstanding_count: self.submitted_count as u64 });
        self.phase = Phase::Done;
    }
}

impl Workload for Association {
    fn ready(&mut self, start: Start<'_>) {
        self.order = self.orders.try_recv().expect("an order comes before its association is begun");
        self.tell(Event::Ready { now_ns: start.now_ns });
        self.enter(if self.settings.verified_count > 0 { Phase::Writing } else { Phase::Closing });
        if let Err(refused) = self.begin(&start) {
            self.tell(Event::Refused(refused));
            self.finish(start.now_ns);
        }
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        let count = self.settings.verified_count;
        match self.phase {
            Phase::Apart | Phase::Done => return Progress::Idle,
            Phase::Writing if self.ended_count == count => self.enter(Phase::Reading),
            Phase::Reading if self.ended_count == count => self.enter(Phase::Closing),
            Phase::Writing | Phase::Reading | Phase::Closing => {}
        }
        if self.phase != Phase::Closing {
            return Progress::busy_if(self.submit(io, count));
        }
        if self.order.ends_abruptly {
            // What finds no room is not needed: the others are outstanding.
            self.submit(io, self.buffers.len());
        }
        self.finish(now_ns);
        Progress::Busy
    }

    fn completed(&mut self, _now_ns: u64, ended: &[Ended]) {
        for &Ended { tag, status, .. } in ended {
            let slot = usize::try_from(tag).expect("our own tag");
            self.ended_count += 1;
            if !status.is_success() {
                self.tell(Event::CommandFailed(status.to_string()));
            } else if self.phase == Phase::Reading {
                self.compare(slot);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    fn rest(&mut self, _now_ns: u64) -> Rest {
        // What it waits for are ends of commands.
        Rest::Sleep
    }

    fn failed(&mut self, failure: &HostFailure) {
        self.tell(Event::Failed(failure.clone()));
    }

    fn apart(&mut self, now_ns: u64) {
        // Of an association that never was.
        while self.orders.try_recv().is_ok() {}
        self.phase = Phase::Apart;
        let checks = std::mem::take(&mut self.checks);
        self.tell(Event::Apart { now_ns, checks });
    }
}
