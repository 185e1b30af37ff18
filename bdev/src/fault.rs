//! The fault device: another device, with what goes wrong injected by rule. For tests, and for hosts that want to see how they bear it.
//!
//! | part | what it is |
//! |---|---|
//! | [`rule`] | what goes wrong, with which operations, how often |
//! | [`uncorrectable`] | blocks that fail to be read until they are written |
//! | [`channel`] | one CPU's way through it |
//!
//! Rules and uncorrectable blocks are behind a lock that all channels take: this device is not for measuring. Nothing here has a clock or a thread. An
//! operation is delayed by a number of polls; one that is stalled goes on when [`Fault::release_stalled`] is called, or when its time, told by the turns, is over. A CPU that has either does
//! not sleep. What is injected is gone with the process, uncorrectable blocks too.

mod channel;
mod rule;
mod uncorrectable;

pub use rule::{Affected, Effect, Rule};

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::channel::Channel;
use crate::device::{BdevError, Device, Geometry, Layer};
use rule::Rules;
use uncorrectable::Uncorrectable;

/// See the module.
pub struct Fault {
    name: String,
    base: Arc<dyn Device>,
    shared: Arc<Mutex<Shared>>,
}

/// What the channels look at.
struct Shared {
    rules: Rules,
    uncorrectable: Uncorrectable,
    /// Counts releases: what was stalled before the last one goes on.
    release_count: u64,
}

impl Fault {
    /// `base`, faultless so far. The seed decides which of so many operations a rule hits.
    #[must_use]
    pub fn new(name: &str, base: Arc<dyn Device>, seed: u64) -> Self {
        let shared = Shared { rules: Rules::new(seed), uncorrectable: Uncorrectable::default(), release_count: 0 };
        Self { name: name.to_owned(), base, shared: Arc::new(Mutex::new(shared)) }
    }

    /// From here on this goes wrong as well. Of several rules that fit an operation the oldest is taken.
    pub fn inject(&self, rule: Rule) {
        lock(&self.shared).rules.add(rule);
    }

    /// From here on this goes wrong, in the place of what was to go wrong with the same kind of operation. A count of 0: nothing does.
    pub fn set(&self, rule: Rule) {
        lock(&self.shared).rules.replace(rule);
    }

    /// Nothing goes wrong any more, but for blocks that are uncorrectable.
    pub fn clear(&self) {
        lock(&self.shared).rules.clear();
    }

    /// What is stalled now goes on.
    pub fn release_stalled(&self) {
        lock(&self.shared).release_count += 1;
    }

    /// The device below.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.base.name()
    }

    /// Operations that a rule has hit.
    #[must_use]
    pub fn hit_count(&self) -> u64 {
        lock(&self.shared).rules.hit_count()
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("name", &self.name).field("base", &self.base).finish_non_exhaustive()
    }
}

impl Device for Fault {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "Error Injection Disk"
    }

    fn geometry(&self) -> Geometry {
        geometry_over(&*self.base)
    }

    fn layer(&self) -> Option<Layer<'_>> {
        Some(Layer::Fault(self))
    }

    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        self.base.resize(block_count)
    }

    fn rescan(&self) -> Result<(), BdevError> {
        self.base.rescan()
    }

    fn let_go(&self) {
        self.clear();
        self.release_stalled();
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let base = self.base.open_channel()?;
        Ok(Box::new(channel::FaultChannel::new(Arc::clone(&self.base), base, Arc::clone(&self.shared))))
    }
}

/// What a fault device is like over this one.
fn geometry_over(base: &dyn Device) -> Geometry {
    Geometry { writes_uncorrectable: true, ..base.geometry() }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
