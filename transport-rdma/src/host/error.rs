//! Why a host's connection came to nothing or broke, in words for the person who asked for it.

use std::net::SocketAddr;

use nvmf_core::host::HostError;

/// The end of a connection that nobody wanted. The first failure of any queue ends all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFailure {
    /// Nobody answers at this address.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why, and what to do.
        why: String,
    },
    /// The target refused a queue.
    #[error("{address} refused queue {qid}: {why}")]
    Rejected {
        /// Where.
        address: SocketAddr,
        /// Which queue; 0 is the admin queue.
        qid: u16,
        /// Why, in words.
        why: String,
    },
    /// The machine or the fabric could not do something.
    #[error("{what}: {why}")]
    Fabric {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// Something did not end in time.
    #[error("{what} took longer than {limit_ms} ms: is the target alive? (queue {qid})")]
    TimedOut {
        /// What.
        what: &'static str,
        /// Which queue; 0 is the admin queue.
        qid: u16,
        /// The limit.
        limit_ms: u64,
    },
    /// The target broke the protocol.
    #[error("the target broke the protocol on queue {qid}: {what}")]
    Protocol {
        /// Which queue.
        qid: u16,
        /// How.
        what: String,
    },
    /// The connection is gone.
    #[error("the connection of queue {qid} is gone: {why}")]
    Disconnected {
        /// Which queue.
        qid: u16,
        /// Why, as far as it is known.
        why: String,
    },
    /// The controller refused or failed a command that it needs to become ready.
    #[error("queue {qid}: {source}")]
    Controller {
        /// Which queue.
        qid: u16,
        /// What the controller said.
        source: HostError,
    },
    /// The controller grants less than was asked for.
    #[error("{what}: asked for {wanted}, the controller allows {allowed}: {instead}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Asked for.
        wanted: u64,
        /// Granted.
        allowed: u64,
        /// The way out.
        instead: &'static str,
    },
    /// The host itself was asked to stop.
    #[error("stopped before it was done")]
    Stopped,
}
