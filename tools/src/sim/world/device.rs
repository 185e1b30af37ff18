//! A block device whose operations end when it is chosen that they do.
//!
//! Blocks are in memory, and always whole. An operation takes effect when it ends, so what was not acknowledged may or may not be there. Operations of
//! one channel end in any order. They can be held: then none ends until they are let go, as on a backend that hangs.
//!
//! It outlives the target: what a target that is killed had under way takes effect, or not, when its channel goes. In place its blocks are memory
//! that reads are pushed straight out of, as the memory device's are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bdev::{BdevError, Channel, Completion, Deallocation, Device, DeviceError, Geometry, Operation, OperationKind};
use reactor::{Arena, Choices, Progress, Rest, Segment, Wake};

/// Most polls that an operation waits beyond the first.
const POLLS_MAX: u32 = 6;

thread_local! {
    /// Memory of devices of earlier runs, by its length: arenas are never unmapped, and there are many runs in a process.
    static STORE: RefCell<Vec<Segment>> = const { RefCell::new(Vec::new()) };
}

/// What a device can do wrong to writes while it says that all is well: so that tests see hosts notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Writes nothing.
    Loses,
    /// Writes one block further on.
    Misplaces,
    /// Writes the first half of each block.
    Tears,
}

/// See the module.
pub struct SimulatedDevice {
    name: &'static str,
    geometry: Geometry,
    blocks: Segment,
    in_place: bool,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    choices: Choices,
    blocks: Segment,
    is_held: bool,
    /// Whether it can stop what it has, all or some of it.
    cancels: bool,
    /// Operations that are failed from here on: one in so many.
    fails_one_in: u32,
    failed_count: u64,
    /// One in so many writes.
    lies: Option<(Lie, u32)>,
    wakes: Vec<Wake>,
    outstanding_count: usize,
    submitted_count: u64,
    /// As it says. The medium has as many as it was made with.
    block_count: u64,
}

impl SimulatedDevice {
    /// `in_place`: its memory is registered, and reads need no operation.
    pub(super) fn new(
        name: &'static str,
        choices: Choices,
        block_len: u32,
        block_count: u64,
        in_place: bool,
    ) -> Arc<Self> {
        let geometry = Geometry {
            volatile_write_cache: true,
            deallocation: Deallocation::Zeroes,
            ..Geometry::plain(block_len, block_count, block_count)
        };
        let len = usize::try_from(u64::from(block_len) * block_count).unwrap_or_default();
        let blocks = memory(len);
        blocks.zero();
        let shared = Shared {
            choices,
            blocks,
            is_held: false,
            cancels: false,
            fails_one_in: 0,
            failed_count: 0,
            lies: None,
            wakes: Vec::new(),
            outstanding_count: 0,
            submitted_count: 0,
            block_count,
        };
        Arc::new(Self { name, geometry, blocks, in_place, shared: Arc::new(Mutex::new(shared)) })
    }

    /// Whom to wake when operations may end again.
    pub(super) fn wake_with(&self, wakes: Vec<Wake>) {
        self.shared().wakes = wakes;
    }

    /// From here on no operation ends.
    pub fn hold(&self) {
        self.shared().is_held = true;
    }

    /// Operations end again.
    pub fn let_go(&self) {
        let mut shared = self.shared();
        shared.is_held = false;
        shared.wakes.iter().for_each(Wake::wake);
    }

    /// Whether it stops operations from here on that need not be done, each or not: those that it stops have no effect.
    pub fn set_cancels(&self, cancels: bool) {
        self.shared().cancels = cancels;
    }

    /// One in so many operations fails from here on; 0 for none.
    pub fn fail_one_in(&self, count: u32) {
        self.shared().fails_one_in = count;
    }

    /// One in so many writes is not done as it is said to be.
    pub fn lie(&self, lie: Lie, one_in: u32) {
        self.shared().lies = Some((lie, one_in));
    }

    /// Operations that it has failed.
    #[must_use]
    pub fn failed_count(&self) -> u64 {
        self.shared().failed_count
    }

    /// All its bytes, as they are on the medium.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.blocks.len()];
        self.blocks.read(0, &mut bytes);
        bytes
    }

    /// Operations that were submitted and have not ended.
    #[must_use]
    pub fn outstanding_count(&self) -> usize {
        self.shared().outstanding_count
    }

    /// Operations that were ever submitted.
    #[must_use]
    pub fn submitted_count(&self) -> u64 {
        self.shared().submitted_count
    }

    /// It says that it has so many blocks. No more than it was made with.
    pub fn shrink_to(&self, block_count: u64) {
        self.shared().block_count = block_count;
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for SimulatedDevice {
    fn drop(&mut self) {
        STORE.with_borrow_mut(|store| store.push(self.blocks));
    }
}

/// Memory of this length, from the store or new.
fn memory(len: usize) -> Segment {
    let stored = STORE.with_borrow_mut(|store| {
        let index = store.iter().position(|segment| segment.len() == len)?;
        Some(store.swap_remove(index))
    });
    stored.unwrap_or_else(|| match Arena::new(len, false) {
        Ok(arena) => arena.segment().part(0, len),
        Err(error) => panic!("memory of the simulated device: {error}"),
    })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SimulatedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDevice").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Device for SimulatedDevice {
    fn name(&self) -> &'static str {
        self.name
    }

    fn product(&self) -> &'static str {
        "Simulated disk"
    }

    fn geometry(&self) -> Geometry {
        Geometry { block_count: self.shared().block_count, ..self.geometry }
    }

    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        let mut shared = self.shared();
        assert!(block_count >= shared.block_count, "the target asks for less than it was given");
        if block_count > self.geometry.block_count {
            return Err(BdevError::Field {
                device: self.name.to_owned(),
                field: "size",
                value: format!("{block_count} blocks"),
                allowed: "as many as its medium has",
            });
        }
        shared.block_count = block_count;
        Ok(())
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let block_len = self.geometry.block_len as usize;
        let in_place = self.in_place.then_some(self.blocks);
        Ok(Box::new(SimulatedChannel {
            shared: Arc::clone(&self.shared),
            block_len,
            in_place,
            waiting: VecDeque::new(),
            cancelled: Vec::new(),
        }))
    }

    fn memory(&self) -> Option<Segment> {
        self.in_place.then_some(self.blocks)
    }
}

struct SimulatedChannel {
    shared: Arc<Mutex<Shared>>,
    block_len: usize,
    in_place: Option<Segment>,
    /// Each with how many polls it still waits.
    waiting: VecDeque<(u32, Operation)>,
    cancelled: Vec<u64>,
}

impl Channel for SimulatedChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        let mut shared = lock(&self.shared);
        for operation in operations.drain(..) {
            shared.outstanding_count += 1;
            shared.submitted_count += 1;
            let polls = shared.choices.between("block operation", 0, POLLS_MAX);
            self.waiting.push_back((polls, operation));
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let before = completions.len();
        let result = Err(DeviceError::Cancelled);
        completions.extend(self.cancelled.drain(..).map(|token| Completion { token, result }));
        let mut shared = lock(&self.shared);
        if shared.is_held {
            return Progress::busy_if(completions.len() > before);
        }
        for (polls, operation) in std::mem::take(&mut self.waiting) {
            if polls > 0 {
                self.waiting.push_back((polls - 1, operation));
                continue;
            }
            shared.outstanding_count -= 1;
            let result = shared.end(&operation, self.block_len);
            completions.push(Completion { token: operation.token, result });
        }
        Progress::busy_if(completions.len() > before)
    }

    fn cancel_all(&mut self) {
        let mut shared = lock(&self.shared);
        if !shared.cancels {
            return;
        }
        for (polls, operation) in std::mem::take(&mut self.waiting) {
            if shared.choices.one_in("it cannot be stopped", 3) {
                self.waiting.push_back((polls, operation));
            } else {
                shared.outstanding_count -= 1;
                self.cancelled.push(operation.token);
            }
        }
    }

    fn in_place(&self, start_block: u64, block_count: u64) -> Option<Segment> {
        part(self.in_place?, self.block_len, start_block, block_count)
    }

    fn outstanding_count(&self) -> usize {
        self.waiting.len() + self.cancelled.len()
    }

    fn arm(&mut self) -> Rest {
        let is_held = lock(&self.shared).is_held;
        if self.cancelled.is_empty() && (self.waiting.is_empty() || is_held) { Rest::Sleep } else { Rest::Poll }
    }
}

/// A channel that goes with operations under way is a killed target's: what it asked for takes effect, or not.
impl Drop for SimulatedChannel {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        for (_, operation) in self.waiting.drain(..) {
            shared.outstanding_count -= 1;
            // Reads would write into the memory of the dead.
            if operation.kind != OperationKind::Read && shared.choices.one_in("takes effect after death", 2) {
                let _ = shared.end(&operation, self.block_len);
            }
        }
    }
}

impl Shared {
    fn end(&mut self, operation: &Operation, block_len: usize) -> Result<(), DeviceError> {
        let fails = self.choices.one_in("block operation fails", self.fails_one_in);
        let (start, count) = (operation.start_block, operation.block_count);
        let blocks = part(self.blocks, block_len, start, count).ok_or(DeviceError::OutOfRange)?;
        let error = match (operation.kind, operation.data) {
            (OperationKind::Read, Some(_)) if fails => DeviceError::ReadFault,
            (kind, _) if fails && kind.is_change() => DeviceError::WriteFault,
            (OperationKind::Read, Some(data)) => {
                blocks.copy_to(data);
                return Ok(());
            }
            (OperationKind::Write { .. }, Some(data)) => {
                self.write(data, blocks, start, block_len);
                return Ok(());
            }
            (OperationKind::WriteZeroes { .. } | OperationKind::Deallocate, _) => {
                blocks.zero();
                return Ok(());
            }
            (OperationKind::Flush, _) => return Ok(()),
            (OperationKind::Read | OperationKind::Write { .. }, None) => DeviceError::Internal,
            (OperationKind::WriteUncorrectable, _) => DeviceError::Unsupported,
        };
        self.failed_count += 1;
        Err(error)
    }
}

impl Shared {
    fn write(&self, data: Segment, blocks: Segment, start_block: u64, block_len: usize) {
        let lie = self.lies.filter(|(_, one_in)| self.choices.one_in("the device lies", *one_in));
        match lie.map(|(lie, _)| lie) {
            None => data.copy_to(blocks),
            Some(Lie::Loses) => {}
            Some(Lie::Misplaces) => {
                let count = (data.len() / block_len) as u64;
                if let Some(further_on) = part(self.blocks, block_len, start_block + 1, count) {
                    data.copy_to(further_on);
                }
            }
            Some(Lie::Tears) => {
                for offset in (0..data.len()).step_by(block_len) {
                    data.part(offset, block_len / 2).copy_to(blocks.part(offset, block_len / 2));
                }
            }
        }
    }
}

/// Some blocks' memory.
fn part(blocks: Segment, block_len: usize, start_block: u64, block_count: u64) -> Option<Segment> {
    let offset = usize::try_from(start_block).ok()?.checked_mul(block_len)?;
    let len = usize::try_from(block_count).ok()?.checked_mul(block_len)?;
    (offset.checked_add(len)? <= blocks.len()).then(|| blocks.part(offset, len))
}
