//! A block device whose operations end when it is chosen that they do.
//!
//! Blocks are in memory, and always whole. An operation takes effect when it ends, so what was not acknowledged may or may not be there. Operations of
//! one channel end in any order. They can be held: then none ends until they are let go, as on a backend that hangs.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bdev::{BdevError, Channel, Completion, Device, DeviceError, Geometry, Operation, OperationKind};
use reactor::{Choices, Progress, Rest, Wake};

/// Most polls that an operation waits beyond the first.
const POLLS_MAX: u32 = 6;

/// See the module.
pub struct SimulatedDevice {
    geometry: Geometry,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    choices: Choices,
    blocks: Vec<u8>,
    is_held: bool,
    /// Operations that are failed from here on: one in so many.
    fails_one_in: u32,
    wakes: Vec<Wake>,
    outstanding_count: usize,
}

impl SimulatedDevice {
    pub(super) fn new(choices: Choices, block_len: u32, block_count: u64) -> Arc<Self> {
        let geometry = Geometry {
            block_len,
            block_count,
            operation_block_count_max: block_count,
            data_alignment: 1,
            volatile_write_cache: true,
            read_only: false,
        };
        let len = usize::try_from(u64::from(block_len) * block_count).unwrap_or_default();
        let shared = Shared {
            choices,
            blocks: vec![0; len],
            is_held: false,
            fails_one_in: 0,
            wakes: Vec::new(),
            outstanding_count: 0,
        };
        Arc::new(Self { geometry, shared: Arc::new(Mutex::new(shared)) })
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

    /// One in so many operations fails from here on; 0 for none.
    pub fn fail_one_in(&self, count: u32) {
        self.shared().fails_one_in = count;
    }

    /// Operations that were submitted and have not ended.
    #[must_use]
    pub fn outstanding_count(&self) -> usize {
        self.shared().outstanding_count
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
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
        "simulated0"
    }

    fn product(&self) -> &'static str {
        "Simulated disk"
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let block_len = self.geometry.block_len as usize;
        Ok(Box::new(SimulatedChannel { shared: Arc::clone(&self.shared), block_len, waiting: VecDeque::new() }))
    }
}

struct SimulatedChannel {
    shared: Arc<Mutex<Shared>>,
    block_len: usize,
    /// Each with how many polls it still waits.
    waiting: VecDeque<(u32, Operation)>,
}

impl Channel for SimulatedChannel {
    fn submit(&mut self, operations: &mut VecDeque<Operation>) {
        let mut shared = lock(&self.shared);
        for operation in operations.drain(..) {
            shared.outstanding_count += 1;
            let polls = shared.choices.between("block operation", 0, POLLS_MAX);
            self.waiting.push_back((polls, operation));
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> Progress {
        let mut shared = lock(&self.shared);
        if shared.is_held {
            return Progress::Idle;
        }
        let before = completions.len();
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

    fn outstanding_count(&self) -> usize {
        self.waiting.len()
    }

    fn arm(&mut self) -> Rest {
        let is_held = lock(&self.shared).is_held;
        if self.waiting.is_empty() || is_held { Rest::Sleep } else { Rest::Poll }
    }
}

impl Shared {
    fn end(&mut self, operation: &Operation, block_len: usize) -> Result<(), DeviceError> {
        let fails = self.choices.one_in("block operation fails", self.fails_one_in);
        let (start, count) = (operation.start_block, operation.block_count);
        let range =
            |block: u64| usize::try_from(block).map(|block| block * block_len).map_err(|_| DeviceError::OutOfRange);
        let bytes = range(start)?..range(start.checked_add(count).ok_or(DeviceError::OutOfRange)?)?;
        let blocks = self.blocks.get_mut(bytes).ok_or(DeviceError::OutOfRange)?;
        match (operation.kind, operation.data) {
            (OperationKind::Read, Some(_)) if fails => return Err(DeviceError::ReadFault),
            (OperationKind::Write { .. } | OperationKind::WriteZeroes { .. }, _) if fails => {
                return Err(DeviceError::WriteFault);
            }
            (OperationKind::Read, Some(data)) => data.write(0, blocks),
            (OperationKind::Write { .. }, Some(data)) => data.read(0, blocks),
            (OperationKind::WriteZeroes { .. }, _) => blocks.fill(0),
            (OperationKind::Flush, _) => {}
            (OperationKind::Read | OperationKind::Write { .. }, None) => return Err(DeviceError::Internal),
        }
        Ok(())
    }
}
