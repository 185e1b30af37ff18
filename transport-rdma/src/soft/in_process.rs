//! The software fabric within one process, under a scheduler that chooses: for tests and the simulator.
//!
//! A [`Fabric`] joins machines ([`InProcessProvider`]); each has its own keys, connections and ports. Every delivery (message, consumed count, state,
//! letter between connection managers, event, end of a ticket) takes a number of its receiver's looks that is chosen ([`Choices`]: drawn from a seed, or listed), in order per link
//! and per object and in no order between them. Copies may take two steps with everything else between; gate and keys are checked at each.
//! One fabric is used from one thread: with the same calls in the same order the same happens.
//!
//! Misuse that a real device would punish later, or never, is an immediate panic that names it: use after destroy, destroying a connection before its
//! queue pair, deregistering twice, and with [`FabricOptions::is_strict`] a local key after its deregistration and a completion queue's overrun.
//!
//! | part | what it is |
//! |---|---|
//! | [`calls`] | the provider's calls |
//! | [`provider`] | one machine's control plane: what it keeps, what it hears |
//! | [`ending`] | destroys on their way, and what they wait for |
//! | [`cm`] | letters between connection managers |
//! | [`link`] | the wire |
//! | [`world`] | what the machines share |
//! | [`bell`] | what wakes a port that sleeps |
//! | [`keys`] | one machine's memory keys |

mod calls;
mod provider;

mod cm;
mod ending;

mod link;
mod world;

mod bell;

mod keys;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use bitflags::bitflags;
use reactor::Choices;

pub use link::{InProcessWire, Link};
pub use provider::{InProcessPort, InProcessProvider};

use self::link::lock;
use self::world::World;
use crate::verbs::DeviceAttributes;

bitflags! {
    /// Kinds of calls that can be made never to end.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct TicketKinds: u8 {
        /// [`crate::verbs::Provider::begin_deregister`].
        const DEREGISTER = 1;
        /// [`crate::verbs::Provider::begin_destroy_queue_pair`].
        const DESTROY_QUEUE_PAIR = 2;
        /// [`crate::verbs::Provider::begin_destroy_connection`].
        const DESTROY_CONNECTION = 4;
        /// [`crate::verbs::Provider::begin_unlisten`].
        const UNLISTEN = 8;
    }
}

/// How the fabric behaves. May be changed while it runs ([`Fabric::change`]), except for what a port or machine takes when it is made.
#[derive(Clone, Debug)]
pub struct FabricOptions {
    /// Most looks that a delivery takes beyond the first.
    pub delay_max: u32,
    /// Messages that may be sent and not consumed, per direction of a link.
    pub ring_message_count: u32,
    /// Whether copies may take two steps.
    pub splits_copies: bool,
    /// Whether LAST_WQE_REACHED is raised. Taken when a port is made.
    pub raises_last_wqe: bool,
    /// Whether destroying a queue pair removes its completions from the completion queue, as mlx5 does.
    pub sweeps_on_destroy: bool,
    /// Whether the peer never hears of a disconnect.
    pub loses_disconnected: bool,
    /// Whether the accepting side is never told that the connection is up.
    pub loses_established: bool,
    /// Calls that never end.
    pub never_ending: TicketKinds,
    /// Whether destroying a queue pair with work outstanding, which verbs allow, is a panic.
    pub forbids_destroy_with_work: bool,
    /// Whether a peer's use of a remote key that has ended is a panic, not only an error completion.
    pub forbids_ended_remote_keys: bool,
    /// Whether misuse that a device answers with an error is a panic.
    pub is_strict: bool,
    /// How long after a disconnect the timewait ends. Taken when a machine is made.
    pub timewait_ns: u64,
    /// [`super::nic::NicOptions::rnr_timer_ns`]. Taken when a port is made.
    pub rnr_timer_ns: u64,
    /// [`super::nic::NicOptions::transport_timeout_ns`]. Taken when a port is made.
    pub transport_timeout_ns: u64,
    /// What every machine's device can do.
    pub attributes: DeviceAttributes,
}

impl Default for FabricOptions {
    fn default() -> Self {
        Self {
            delay_max: 3,
            ring_message_count: 64,
            splits_copies: true,
            raises_last_wqe: true,
            sweeps_on_destroy: false,
            loses_disconnected: false,
            loses_established: false,
            never_ending: TicketKinds::empty(),
            forbids_destroy_with_work: false,
            forbids_ended_remote_keys: false,
            is_strict: true,
            timewait_ns: 1_000_000,
            rnr_timer_ns: 640_000,
            transport_timeout_ns: 4_000_000_000,
            attributes: DeviceAttributes {
                queue_pair_count_max: 4096,
                work_request_count_max: 4096,
                completion_count_max: 1 << 20,
                shared_receive_count_max: 1 << 16,
                segment_count_max: 16,
                inline_len_max: 256,
                read_responder_count_max: 16,
                read_initiator_count_max: 16,
                send_len_max: 1 << 20,
                transfer_len_max: 1 << 30,
                raises_last_wqe: true,
            },
        }
    }
}

/// A network of machines within this process.
#[derive(Clone)]
pub struct Fabric {
    world: Arc<Mutex<World>>,
}

impl Fabric {
    /// A fabric whose choices are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_options(seed, FabricOptions::default())
    }

    /// The same with options.
    #[must_use]
    pub fn with_options(seed: u64, options: FabricOptions) -> Self {
        Self::with_choices(Choices::seeded(seed), options)
    }

    /// The same with choices that come from elsewhere: shared with a [`reactor::Simulation`], or listed.
    #[must_use]
    pub fn with_choices(choices: Choices, options: FabricOptions) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(choices, options))) }
    }

    /// Adds a machine.
    #[must_use]
    pub fn machine(&self) -> InProcessProvider {
        InProcessProvider::new(Arc::clone(&self.world))
    }

    /// Changes how it behaves from now on.
    pub fn change(&self, change: impl FnOnce(&mut FabricOptions)) {
        change(&mut lock(&self.world).options);
    }
}
