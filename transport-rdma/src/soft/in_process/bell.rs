//! What wakes a port of the fabric that sleeps.
//!
//! There is no descriptor: a test or simulation says what waking one means ([`super::InProcessProvider::wake_with`]). Where nobody said so ports never sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::verbs::PortId;

/// Wakes a port's CPU.
pub(super) type Waking = Arc<dyn Fn(PortId) + Send + Sync>;

/// One port's. Shared by its wire, its provider and the ends of its links.
pub(super) struct PortBell {
    port: PortId,
    waking: Option<Waking>,
    is_asleep: AtomicBool,
    has_rung: AtomicBool,
}

impl PortBell {
    pub(super) fn new(port: PortId, waking: Option<Waking>) -> Self {
        Self { port, waking, is_asleep: AtomicBool::new(false), has_rung: AtomicBool::new(false) }
    }

    /// Whether anybody would wake its CPU.
    pub(super) fn can_wake(&self) -> bool {
        self.waking.is_some()
    }

    pub(super) fn announce(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
    }

    pub(super) fn withdraw(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
        self.has_rung.store(false, Ordering::Relaxed);
    }

    /// A peer has something for it.
    pub(super) fn ring_if_asleep(&self) {
        if self.is_asleep.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    pub(super) fn ring(&self) {
        self.has_rung.store(true, Ordering::Relaxed);
        if let Some(waking) = &self.waking {
            waking(self.port);
        }
    }

    pub(super) fn has_rung(&self) -> bool {
        self.has_rung.load(Ordering::Relaxed)
    }
}
