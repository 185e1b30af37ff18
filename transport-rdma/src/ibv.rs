//! Real devices, through libibverbs and librdmacm: RNICs of InfiniBand and RoCE, soft-RoCE, iWARP.
//!
//! Built with the feature `ibv`. Without it nothing of those libraries is needed, to build or to run, and asking for a device says so.
//!
//! | part | what it is |
//! |---|---|
//! | [`IbvProvider`] | the control plane's side: one device, its connections, its events |
//! | [`IbvPort`] | one polling CPU's side: post, poll, ring, sleep |
//! | `place` | which device an address belongs to |
//! | `batch` | requests that wait for the doorbell |
//! | `news` | what makes the control plane look |
//! | `worker`, `memory` | the thread of the calls that wait; registered memory |
//! | `queue_pair`, `queues`, `id`, `channel`, `device` | the libraries' objects, each with who may use it until when |
//! | `status`, `address` | what the libraries say, in the interface's words |
//! | `raw`, `sys` | pointers that may change threads; the only file that names the bindings |
//!
//! All unsafe code of the provider is in these files. What devices differ in, and how it is met, is in `docs/RDMA.md`.

#[cfg(feature = "ibv")]
mod provider;

#[cfg(feature = "ibv")]
mod port;

#[cfg(feature = "ibv")]
mod batch;
#[cfg(feature = "ibv")]
mod place;
#[cfg(feature = "ibv")]
mod worker;

#[cfg(feature = "ibv")]
mod memory;
#[cfg(feature = "ibv")]
mod news;
#[cfg(feature = "ibv")]
mod queue_pair;

#[cfg(feature = "ibv")]
mod id;
#[cfg(feature = "ibv")]
mod queues;

#[cfg(feature = "ibv")]
mod channel;
#[cfg(feature = "ibv")]
mod device;

#[cfg(feature = "ibv")]
mod address;
#[cfg(feature = "ibv")]
mod raw;
#[cfg(feature = "ibv")]
mod status;
#[cfg(feature = "ibv")]
mod sys;

#[cfg(test)]
#[cfg(feature = "ibv")]
mod tests;

#[cfg(feature = "ibv")]
pub use device::device_names;
#[cfg(feature = "ibv")]
pub use place::{chosen_device, device_of};
#[cfg(feature = "ibv")]
pub use port::IbvPort;
#[cfg(feature = "ibv")]
pub use provider::IbvProvider;
#[cfg(feature = "ibv")]
pub use queue_pair::QueuePair;

use std::net::{IpAddr, SocketAddr};

/// Whether this build has it.
pub const IS_BUILT: bool = cfg!(feature = "ibv");

/// Which device, and how.
#[derive(Clone, Debug, Default)]
pub struct IbvOptions {
    /// Its name, as `rdma link` has it. `None`: found by the addresses; the only one, if they say nothing.
    pub device: Option<String>,
    /// What will be listened on.
    pub listened: Vec<SocketAddr>,
    /// The address that connections are made from. `None`: the routes decide.
    pub source: Option<IpAddr>,
    /// Whom connections are made to.
    pub peer: Option<SocketAddr>,
    /// How long a peer may take to acknowledge a packet: 4.096 µs times two to this power, 0 to 31. `None`: the connection manager's choice.
    pub ack_timeout_exponent: Option<u8>,
}

/// Where the provider is not built.
#[cfg(not(feature = "ibv"))]
#[must_use]
pub fn not_built() -> crate::verbs::VerbsError {
    crate::verbs::VerbsError::NotBuilt {
        what: "the provider for RDMA devices (ibv)",
        instead: "build with the feature \"ibv\", or use the software fabric: provider = \"soft\"",
    }
}
