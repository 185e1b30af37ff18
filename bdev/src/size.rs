//! How many blocks a device has, where that can grow while channels are open.
//!
//! One number that the control plane raises and every channel reads before it checks a batch: relaxed throughout, since hosts learn of blocks that are
//! new by a message that comes later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::BdevError;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Size(Arc<AtomicU64>);

impl Size {
    pub(crate) fn new(block_count: u64) -> Self {
        Self(Arc::new(AtomicU64::new(block_count)))
    }

    /// Blocks.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// There are so many from now on. Never fewer: commands for the last blocks may be under way.
    pub(crate) fn grow(&self, device: &str, block_count: u64) -> Result<(), BdevError> {
        if block_count < self.now() {
            return Err(BdevError::Field {
                device: device.to_owned(),
                field: "size",
                value: format!("{block_count} blocks"),
                allowed: "at least what it was: a device can grow and not shrink",
            });
        }
        self.0.store(block_count, Ordering::Relaxed);
        Ok(())
    }
}
