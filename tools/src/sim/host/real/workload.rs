//! What the real host's CPUs submit: any commands on its blocks, held against the model of the data.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use nvmf_core::status::Status;
use reactor::{Choices, Progress, Rest, Segment};
use transport_rdma::host::{Ended, HostFailure, IoCommand, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use super::{Observed, Shape};
use crate::sim::failure::Findings;
use crate::sim::host::blocks::any_extent;
use crate::sim::host::model::{Model, POISON, Read, Write};
use crate::sim::world::World;
use crate::sim::world::device::SimulatedDevice;
use crate::sim::world::layout::BLOCK_LEN;

const NSID: u32 = 1;

/// What the workloads of one host have in common.
pub(super) struct Pool {
    number: u32,
    shape: Shape,
    /// Commands of each CPU in this association.
    io_count: Cell<u32>,
    /// CPUs that have nothing of the association any more.
    apart_count: Cell<u16>,
    failure: RefCell<Option<HostFailure>>,
    observed: Rc<RefCell<Observed>>,
    model: Model,
    devices: Vec<Arc<SimulatedDevice>>,
    choices: Choices,
    findings: Findings,
}

impl Pool {
    pub(super) fn new(number: u32, world: &World, shape: Shape, observed: Rc<RefCell<Observed>>) -> Self {
        Self {
            number,
            shape,
            io_count: Cell::new(0),
            apart_count: Cell::new(0),
            failure: RefCell::default(),
            observed,
            model: world.model.clone(),
            devices: world.target.shared_devices(),
            choices: world.choices.clone(),
            findings: world.findings.clone(),
        }
    }

    /// Another association, with so many commands for each CPU.
    pub(super) fn begin(&self, io_count: u32) {
        self.io_count.set(io_count);
        self.apart_count.set(0);
        self.failure.borrow_mut().take();
    }

    /// Whether nothing of the association is left on any CPU.
    pub(super) fn is_apart(&self) -> bool {
        self.apart_count.get() == self.shape.cpu_count
    }

    /// Why the association that is over came to nothing, or broke.
    pub(super) fn take_failure(&self) -> Option<HostFailure> {
        self.failure.borrow_mut().take()
    }

    fn report(&self, what: &str) {
        self.findings.report("data", format!("real host {}: {what}", self.number));
    }
}

/// A command that is under way.
enum Doing {
    Write(Write),
    Zeroes(Write),
    Read(Read),
    Flush,
}

struct Slot {
    buffer: Segment,
    doing: Option<Doing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Done,
    Failed,
}

/// One CPU's.
pub(super) struct ModelWorkload {
    cpu: u16,
    pool: Rc<Pool>,
    depth: usize,
    slots: Vec<Slot>,
    submitted_count: u32,
    phase: Phase,
}

impl ModelWorkload {
    pub(super) fn new(cpu: u16, pool: Rc<Pool>) -> Self {
        Self { cpu, pool, depth: 0, slots: Vec::new(), submitted_count: 0, phase: Phase::Waiting }
    }

    fn submit_any<Q: Port>(&mut self, io: &mut IoQueues<'_, Q>, index: usize) -> bool {
        const KINDS: [u8; 10] = *b"WRWRWRWRZF";
        let Ok(queue) = u16::try_from(index / self.depth) else { return false };
        if io.room(queue) == 0 {
            return false;
        }
        let pool = &self.pool;
        let extent = any_extent(&pool.choices, pool.number, pool.shape.block_count_max, pool.shape.shares_one_in);
        let (slba, block_count) = (extent.start_block(), u32::from(extent.count));
        let buffer = self.slots[index].buffer.part(0, extent.len());
        let (doing, command) = match pool.choices.one_of("I/O command", &KINDS) {
            b'W' => {
                let mut data = vec![0; extent.len()];
                let write = pool.model.begin_write(pool.number, extent, &mut data);
                buffer.write(0, &data);
                (
                    Doing::Write(write),
                    IoCommand::Write { nsid: NSID, slba, block_count, force_unit_access: false, buffer },
                )
            }
            b'R' => {
                buffer.write(0, &vec![POISON; extent.len()]);
                let read = pool.model.begin_read(extent);
                (Doing::Read(read), IoCommand::Read { nsid: NSID, slba, block_count, buffer })
            }
            b'Z' => {
                let write = pool.model.begin_write_zeroes(pool.number, extent);
                (Doing::Zeroes(write), IoCommand::WriteZeroes { nsid: NSID, slba, block_count })
            }
            _ => (Doing::Flush, IoCommand::Flush { nsid: NSID }),
        };
        if io.submit(queue, index as u64, &command).is_err() {
            // It was not posted.
            if let Doing::Write(write) | Doing::Zeroes(write) = doing {
                pool.model.fail(write);
            }
            return false;
        }
        self.slots[index].doing = Some(doing);
        true
    }

    fn ended(&mut self, ended: &Ended) {
        let slot = usize::try_from(ended.tag).ok().and_then(|index| self.slots.get_mut(index));
        let Some((doing, buffer)) = slot.and_then(|slot| Some((slot.doing.take()?, slot.buffer))) else {
            self.pool.report(&format!("a command ended that was not under way: {ended:?}"));
            return;
        };
        let (pool, is_success) = (&self.pool, ended.status.is_success());
        let may_fail = match &doing {
            Doing::Write(_) | Doing::Zeroes(_) => ended.status.is(Status::WRITE_FAULT),
            Doing::Read(_) => ended.status.is(Status::UNRECOVERED_READ_ERROR),
            Doing::Flush => false,
        };
        let is_right = is_success || (may_fail && pool.devices.iter().any(|device| device.failed_count() > 0));
        if !is_right {
            pool.report(&format!("a command ended with {}", ended.status));
        }
        {
            let mut observed = pool.observed.borrow_mut();
            observed.io_count += u64::from(is_success);
            observed.io_failed_count += u64::from(!is_success);
        }
        match doing {
            Doing::Write(write) | Doing::Zeroes(write) if is_success => pool.model.acknowledge(write),
            Doing::Write(write) | Doing::Zeroes(write) => pool.model.fail(write),
            Doing::Read(read) if is_success => {
                let mut data = vec![0; read.extent.len()];
                buffer.read(0, &mut data);
                if let Err(what) = pool.model.end_read(read, &data) {
                    pool.report(&what);
                }
            }
            Doing::Read(_) | Doing::Flush => {}
        }
    }

    /// Nobody answers what is under way.
    fn lose_all(&mut self) {
        for doing in self.slots.iter_mut().filter_map(|slot| slot.doing.take()) {
            if let Doing::Write(write) | Doing::Zeroes(write) = doing {
                self.pool.model.lose(write);
            }
        }
    }
}

impl Workload for ModelWorkload {
    fn ready(&mut self, start: Start<'_>) {
        let len = usize::from(self.pool.shape.block_count_max) * BLOCK_LEN as usize;
        self.depth = usize::from(start.queue_depth);
        let count = self.depth * usize::from(start.queue_count);
        self.slots =
            (0..count).map(|index| Slot { buffer: start.memory.part(index * len, len), doing: None }).collect();
        (self.submitted_count, self.phase) = (0, Phase::Running);
        self.pool.observed.borrow_mut().is_serving = true;
    }

    fn poll<Q: Port>(&mut self, _now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        let mut any = false;
        for index in 0..self.slots.len() {
            if self.submitted_count < self.pool.io_count.get()
                && self.slots[index].doing.is_none()
                && self.submit_any(io, index)
            {
                self.submitted_count += 1;
                any = true;
            }
        }
        let is_idle = self.slots.iter().all(|slot| slot.doing.is_none());
        if self.submitted_count >= self.pool.io_count.get() && is_idle {
            self.phase = Phase::Done;
        }
        Progress::busy_if(any)
    }

    fn completed(&mut self, _now_ns: u64, ended: &[Ended]) {
        ended.iter().for_each(|ended| self.ended(ended));
    }

    fn rest(&mut self, _now_ns: u64) -> Rest {
        // It submits as long as there is room, and room comes with what ends.
        Rest::Sleep
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    fn failed(&mut self, failure: &HostFailure) {
        if self.phase == Phase::Done || self.phase == Phase::Failed {
            self.pool.report(&format!("CPU {} is told of a failure when it is {:?}", self.cpu, self.phase));
        }
        self.phase = Phase::Failed;
        self.lose_all();
        self.pool.failure.borrow_mut().get_or_insert_with(|| failure.clone());
    }

    fn apart(&mut self, _now_ns: u64) {
        self.lose_all();
        self.phase = Phase::Waiting;
        self.pool.observed.borrow_mut().is_serving = false;
        self.pool.apart_count.set(self.pool.apart_count.get() + 1);
    }
}

/// It goes with commands under way when its machine dies.
impl Drop for ModelWorkload {
    fn drop(&mut self) {
        self.lose_all();
    }
}
