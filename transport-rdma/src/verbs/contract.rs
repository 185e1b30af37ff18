//! What every provider must do, as cases that run over any of them.
//!
//! A provider's tests make a [`Rig`] and call [`run`] with it; every case connects two machines, does its part, takes everything down again and checks that
//! nothing is alive. Built for tests, and with the feature `contract`.
//!
//! | part | what it is |
//! |---|---|
//! | [`messages`] | SEND: order, receives, limits, errors |
//! | [`transfers`] | READ, WRITE, windows: rights, bounds, keys that end |
//! | [`endings`] | flush, disconnect, destroy, events that are owed |
//! | [`connecting`] | private data, rejection, order of events |
//! | [`sleeping`] | what wakes a port's CPU, and that nothing is lost on the way to sleep |
//! | [`pair`] | two machines and what is common to the cases |

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod connecting;
mod endings;
mod messages;
mod sleeping;
mod transfers;

pub(crate) mod pair;

use std::net::SocketAddr;
use std::sync::Arc;

use reactor::SharedArena;

use super::port::{CompletionStatus, Port};
use super::provider::Provider;

/// What the cases need of a provider's test set-up.
pub trait Rig {
    /// The provider.
    type Provider: Provider;

    /// Turns after which everything that a disconnect returns is in the completion queue: where a NIC returns it when its CPU takes the command, three are
    /// more than that.
    const FLUSH_TURNS: usize = 3;

    /// Whether a device does the work, and not the port's own polls: then queues may be deeper than was asked for, a CPU that does not turn stops nothing,
    /// timers are the device's, and a notification that was asked for cannot be called off.
    const IS_DEVICE: bool = false;

    /// Whether one status may stand for another: devices differ in what they call some errors.
    #[must_use]
    fn may_be(seen: CompletionStatus, meant: CompletionStatus) -> bool {
        seen == meant
    }

    /// Two machines that reach each other. Asked once per rig.
    fn machines(&mut self) -> [Self::Provider; 2];

    /// Memory for each of the two, at least [`MEMORY_LEN`] long and used by no other case meanwhile.
    fn memory(&mut self, side: usize) -> Arc<SharedArena>;

    /// An address on the second machine where nobody listens.
    fn address(&mut self) -> SocketAddr;

    /// The time, called before each step; real rigs give way to other threads here.
    fn step(&mut self) -> u64;

    /// Whether something has woken a port that is armed. Does not wait.
    fn is_woken(&mut self, port: &mut <Self::Provider as Provider>::Port) -> bool {
        let fd = port.wake_descriptor().expect("a port of a real provider has a descriptor");
        let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is ours.
        unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
    }

    /// Something that whoever runs the cases should see.
    fn note(&mut self, text: &str) {
        println!("{text}");
    }

    /// Takes a machine away in the midst of everything.
    fn kill(&mut self, provider: Self::Provider) {
        drop(provider);
    }
}

/// Bytes of memory per side.
pub const MEMORY_LEN: usize = 64 << 10;

/// A case.
pub type Case<R> = fn(R);

/// All cases, by name.
#[must_use]
pub fn cases<R: Rig>() -> Vec<(&'static str, Case<R>)> {
    let mut cases: Vec<(&'static str, Case<R>)> = Vec::new();
    cases.extend(messages::cases());
    cases.extend(transfers::cases());
    cases.extend(endings::cases());
    cases.extend(connecting::cases());
    cases.extend(sleeping::cases());
    cases
}

/// Runs every case on a rig of its own.
pub fn run<R: Rig>(mut rig: impl FnMut(&'static str) -> R) {
    for (name, case) in cases::<R>() {
        case(rig(name));
    }
}
