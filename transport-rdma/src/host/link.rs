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
use crate::trace::ConnectionStage;
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
    /// The queue pair could not be destroyed.
    Quarantined(#[expect(dead_code, reason = "kept, since it cannot be destroyed")] Connection),
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) qid: u16,
    pub(super) cpu: reactor::Cpu,
    /// The stage that the trace was told of last.
    pub(super) entered: ConnectionStage,
    /// `None` only while a step is being taken.
    pub(super) stage: Option<Stage>,
}

impl Stage {
    /// Its word, for traces.
    pub(super) fn word(&self) -> ConnectionStage {
        match self {
            Self::Resolving(_) => ConnectionStage::Resolving,
            Self::Creating(_, Wanted::Yes) => ConnectionStage::Creating,
            Self::Creating(_, Wanted::No) => ConnectionStage::Abandoned,
            Self::Attaching(_, Wanted::Yes) => ConnectionStage::Adopting,
            Self::Attaching(_, Wanted::No) => ConnectionStage::Unwanted,
            Self::Connecting(..) => ConnectionStage::Connecting,
            Self::Established(..) => ConnectionStage::Live,
            Self::Closing(..) => ConnectionStage::Ending,
            Self::DestroyingQueuePair(..) => ConnectionStage::Destroying,
            Self::DestroyingConnection => ConnectionStage::Leaving,
            Self::Quarantined(_) => ConnectionStage::Quarantined,
        }
    }
}
