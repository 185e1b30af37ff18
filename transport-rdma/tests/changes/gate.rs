//! A memory device with a gate: while it is shut, no operation ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bdev::{BdevError, Channel, Completion, Device, Geometry, Operation};
use reactor::Progress;

#[derive(Debug)]
pub struct Gate {
    memory: bdev::Memory,
    is_shut: Arc<AtomicBool>,
}

impl Gate {
    /// Open at first. True in `is_shut` shuts it.
    pub fn new(memory: bdev::Memory, is_shut: Arc<AtomicBool>) -> Self {
        Self { memory, is_shut }
    }
}

impl Device for Gate {
    fn name(&self) -> &str {
        self.memory.name()
    }

    fn product(&self) -> &'static str {
        "Gate"
    }

    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let inner = self.memory.open_channel()?;
        Ok(Box::new(Passage { inner, waiting: VecDeque::new(), is_shut: Arc::clone(&self.is_shut) }))
    }
}

struct Passage {
    inner: Box<dyn Channel>,
    waiting: VecDeque<Operation>,
    is_shut: Arc<AtomicBool>,
}

impl Channel for Passage {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.waiting.append(operations);
    }

    fn poll(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        if self.is_shut.load(Ordering::Relaxed) {
            return Progress::Idle;
        }
        self.inner.submit(now_ns, &mut self.waiting);
        self.inner.poll(now_ns, completions)
    }

    fn outstanding_count(&self) -> usize {
        self.waiting.len() + self.inner.outstanding_count()
    }
}
