//! A device in a vector, whose operations a test can hold back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bdev::{BdevError, Channel, Completion, Deallocation, Device, DeviceError, Geometry, Operation, OperationKind};
use reactor::Progress;

pub const BLOCK_LEN: u32 = 512;

#[derive(Debug)]
pub struct State {
    pub blocks: Vec<u8>,
    /// Keeps operations from completing.
    pub hold: bool,
    /// Ends operations that are held when they are cancelled.
    pub cancels: bool,
    /// What the next operations end with.
    pub failure: Option<DeviceError>,
    /// Every operation's kind, in order, and the address of its data.
    pub seen: Vec<(OperationKind, Option<u64>)>,
}

#[derive(Debug)]
pub struct TestDevice {
    name: String,
    pub state: Arc<Mutex<State>>,
    alignment: usize,
    read_only: bool,
    writes_uncorrectable: bool,
}

impl TestDevice {
    pub fn new(name: &str, block_count: usize) -> Self {
        let blocks = vec![0; block_count * BLOCK_LEN as usize];
        let state = State { blocks, hold: false, cancels: false, failure: None, seen: Vec::new() };
        Self {
            name: name.into(),
            state: Arc::new(Mutex::new(state)),
            alignment: 1,
            read_only: false,
            writes_uncorrectable: false,
        }
    }

    pub fn aligned(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    pub fn writing_uncorrectable(mut self) -> Self {
        self.writes_uncorrectable = true;
        self
    }

    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

impl Device for TestDevice {
    fn name(&self) -> &str {
        &self.name
    }
    fn product(&self) -> &'static str {
        "Test disk"
    }
    fn geometry(&self) -> Geometry {
        let block_count = self.state.lock().unwrap().blocks.len() as u64 / u64::from(BLOCK_LEN);
        Geometry {
            data_alignment: self.alignment,
            volatile_write_cache: true,
            read_only: self.read_only,
            deallocation: Deallocation::Zeroes,
            writes_uncorrectable: self.writes_uncorrectable,
            ..Geometry::plain(BLOCK_LEN, block_count, 1 << 16)
        }
    }
    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        self.state.lock().unwrap().blocks.resize(block_count as usize * BLOCK_LEN as usize, 0);
        Ok(())
    }
    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        Ok(Box::new(TestChannel {
            state: Arc::clone(&self.state),
            pending: VecDeque::new(),
            cancelled: Vec::new(),
            alignment: self.alignment,
        }))
    }
}

struct TestChannel {
    state: Arc<Mutex<State>>,
    pending: VecDeque<Operation>,
    cancelled: Vec<u64>,
    alignment: usize,
}

impl Channel for TestChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        // Two at a time: what stays is back-pressure.
        for operation in operations.drain(..operations.len().min(2)) {
            if let Some(data) = operation.data {
                assert_eq!(data.address() % self.alignment as u64, 0, "data is aligned as the device asked");
            }
            self.state.lock().unwrap().seen.push((operation.kind, operation.data.map(|data| data.address())));
            self.pending.push_back(operation);
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let cancelled = !self.cancelled.is_empty();
        let result = Err(DeviceError::Cancelled);
        completions.extend(self.cancelled.drain(..).map(|token| Completion { token, result }));
        let mut state = self.state.lock().unwrap();
        if state.hold || self.pending.is_empty() {
            return Progress::busy_if(cancelled);
        }
        let len = |operation: &Operation| operation.block_count as usize * BLOCK_LEN as usize;
        for operation in self.pending.drain(..) {
            let start = operation.start_block as usize * BLOCK_LEN as usize;
            let result = state.failure.map_or(Ok(()), Err);
            match (operation.kind, operation.data) {
                _ if result.is_err() => {}
                (OperationKind::Read, Some(data)) => data.write(0, &state.blocks[start..start + data.len()]),
                (OperationKind::Write { .. }, Some(data)) => {
                    data.read(0, &mut state.blocks[start..start + data.len()]);
                }
                (OperationKind::WriteZeroes { .. } | OperationKind::Deallocate, None) => {
                    state.blocks[start..start + len(&operation)].fill(0);
                }
                (OperationKind::Flush | OperationKind::WriteUncorrectable, None) => {}
                (kind, data) => panic!("{kind:?} with {data:?}"),
            }
            completions.push(Completion { token: operation.token, result });
        }
        Progress::Busy
    }

    fn cancel(&mut self, token: u64) -> bool {
        let place = self.pending.iter().position(|operation| operation.token == token);
        let Some(place) = place.filter(|_| self.state.lock().unwrap().cancels) else { return false };
        self.pending.remove(place);
        self.cancelled.push(token);
        true
    }

    fn cancel_all(&mut self) {
        let tokens: Vec<u64> = self.pending.iter().map(|operation| operation.token).collect();
        tokens.into_iter().for_each(|token| {
            self.cancel(token);
        });
    }

    fn outstanding_count(&self) -> usize {
        self.pending.len() + self.cancelled.len()
    }
}
