//! One queue's connection, as the control plane sees it, from address to nothing.
//!
//! ```text
//! Resolving → Creating → Attaching → Connecting → Established
//!     ↓ abandoned  ↓          ↓            ↓            ↓      (close)
//!     ↓            ↓          └── Closing ─┴────────────┘
//!     ↓            └→ DestroyingQueuePair ←┘ (drained, by value)
//!     └──────────────→ DestroyingConnection → gone
//! ```
//!
//! Owned by the control plane. Each stage holds the connection by value, so that it is destroyed once; closing before an outstanding call has
//! ended waits for its end, since what it makes would be leaked otherwise.

use reactor::Handle;

use crate::host::queue::Queue;
use crate::verbs::Connection;

/// Whether what is being made is still wanted when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) enum Stage {
    Resolving(Wanted),
    Creating(Connection, Wanted),
    /// The queue pair is on its way to its CPU.
    Attaching(Connection, Wanted),
    /// The connect call is out.
    Connecting(Connection, Handle<Queue>),
    Established(Connection, Handle<Queue>),
    /// The queue pair is in the error state, its CPU drains it.
    Closing(Connection, Handle<Queue>),
    DestroyingQueuePair(Connection, Option<Handle<Queue>>),
    DestroyingConnection,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) qid: u16,
    pub(super) cpu: reactor::Cpu,
    pub(super) stage: Stage,
}
