//! The steps of a connection's life, as they stand in a CPU's trace ([`reactor::TraceRecord`]): for people, and for checkers that read every CPU's.
//!
//! A [`Step`] has a number in the ring (from 0x200 on) and a name for people; what a record's subject and detail mean is said at each step. Target and
//! host have the same steps: where one is told of a *queue pair* its subject is the handle under which its CPU keeps it (the target's qpair, the
//! host's queue), and a *record* is what the control plane keeps of a connection (the host's link). Nothing here is on the way of I/O.
//!
//! A life, in order: `ConnectionRequested`, `StageEntered` …, `Adopted`, `DrainBegun`, `MarkerPosted`?, `Quiet`, `RequestsReleased`,
//! `DestroySent`, `DestroyReturned`, `Retired`, `Reaped`, `RecordForgotten`. After `Quiet` with [`CUT`] `RequestsReleased` comes behind
//! `DestroyReturned`; after `Quarantined` nothing comes.

use nvmf_core::traced_words;
use reactor::{Handle, TraceKind, TraceRecord, Turn};

use crate::verbs::EventKind;

pub use nvmf_core::trace::{reason_from_number, reason_number};

traced_words! {
    /// What happened to a connection or a queue pair.
    Step:
    /// A CPU attached a queue pair, and posts its receives. Subject: the queue pair. Detail: the record.
    Adopted = 0x200, "adopted";
    /// A CPU had no room for a queue pair, and gives it back. Subject: the record. Detail: 0.
    Refused = 0x201, "refused";
    /// A message or timer found its queue pair, and was applied to it. Subject: the queue pair. Detail: a [`News`].
    Applied = 0x202, "applied";
    /// A message or timer found nothing, or nothing that it changes. Subject: the queue pair that it named. Detail: a [`News`].
    Missed = 0x203, "missed";
    /// The drain began. Subject: the queue pair. Detail: why ([`reason_number`]).
    DrainBegun = 0x204, "drain begun";
    /// The marker was posted behind all sends. Subject: the queue pair. Detail: 1, or 0 if the device refused it.
    MarkerPosted = 0x205, "marker posted";
    /// Nothing is waited for any more. Subject: the queue pair. Detail: [`RETURNED`] or [`CUT`].
    Quiet = 0x206, "quiet";
    /// The memory of requests may be used again (target; a host's is used once). Subject: the queue pair. Detail: [`RETURNED`] (before the destroy) or [`CUT`] (after it).
    RequestsReleased = 0x207, "requests released";
    /// It was detached and sent to be destroyed. Subject: the queue pair. Detail: the record.
    DestroySent = 0x208, "sent to be destroyed";
    /// The destroy call came back, and the completion queue was polled empty since. Subject: the queue pair. Detail: 0, or 1 if the call failed.
    DestroyReturned = 0x209, "destroy came back";
    /// It left its table, and waits in limbo. Subject: the queue pair. Detail: the record.
    Retired = 0x20A, "retired";
    /// Nothing late can reach it: everything that it held is used again. Subject: the queue pair. Detail: the record.
    Reaped = 0x20B, "reaped";
    /// It could be neither drained nor destroyed: its memory is given up. Subject: the queue pair. Detail: the record.
    Quarantined = 0x20C, "quarantined";
    /// The record has its connection: a peer asked for it (target; the record's first step), or its address is resolved (host). On the
    /// control plane. Subject: the record. Detail: the connection's id.
    ConnectionRequested = 0x220, "connection requested";
    /// The record's next stage. On the control plane. Subject: the record. Detail: a [`ConnectionStage`].
    StageEntered = 0x221, "stage entered";
    /// The record is gone, and the room that it had is free. On the control plane. Subject: the record. Detail: the connection's id (target).
    RecordForgotten = 0x222, "record forgotten";
    /// What came found no record, or one that it does not change. On the control plane. Subject: the record, or the connection's id where there is
    /// none. Detail: the stage that it was met in ([`ConnectionStage`]), or 0.
    RecordMissed = 0x223, "record missed";
    /// An event of the provider was fetched. On the control plane. Subject: its connection's or listener's id, its ticket, or 0. Detail: an
    /// [`EventKind`].
    EventFetched = 0x230, "event fetched";
    /// It was acknowledged. On the control plane. Subject and detail as of `EventFetched`.
    EventAcknowledged = 0x231, "event acknowledged";
    /// The device was removed. On the control plane. Subject: 0. Detail: how many records there were.
    DeviceRemoved = 0x240, "device removed";
    /// A port's completion queue broke. On the control plane. Subject: the port. Detail: how many records it had.
    PortFailed = 0x241, "completion queue broke";
    /// The device that was removed is back, and every CPU is sent a new port. On the control plane. Subject: 0. Detail: how often it has come back.
    DeviceReturned = 0x242, "device is back";
    /// A CPU has its new port. Subject and detail: 0.
    Refitted = 0x243, "refitted";
}

/// Detail of [`Step::Quiet`]: every work request came back.
pub const RETURNED: u64 = 0;

/// Detail of [`Step::Quiet`]: the queue pair was cut off with work outstanding.
pub const CUT: u64 = 1;

traced_words! {
    /// What a message or timer told a queue pair.
    News:
    /// End it.
    Disconnect = 1, "disconnect";
    /// It was moved to the error state.
    InErrorState = 2, "in error state";
    /// LAST_WQE_REACHED.
    LastWqeReached = 3, "last wqe reached";
    /// Its destroy call came back.
    QueuePairDestroyed = 4, "queue pair destroyed";
    /// The drain's deadline passed.
    Deadline = 5, "deadline";
    /// Nothing comes back any more: the device is gone or its completion queue broke.
    Cut = 6, "cut";
    /// The CPU's own: a failed completion, a broken protocol, what the NVMe layer asked for.
    Ending = 7, "ending";
    /// The connection is up (host).
    Connected = 8, "connected";
}

traced_words! {
    /// What the control plane's record of a connection waits for.
    ConnectionStage:
    /// The queue pair (both sides).
    Creating = 1, "creating";
    /// The queue pair, only to destroy it (both sides).
    Abandoned = 2, "abandoned";
    /// Its CPU's answer (both sides).
    Adopting = 3, "adopting";
    /// Its CPU's answer, only to end it (both sides).
    Unwanted = 4, "unwanted";
    /// Events: it was accepted, or is established (both sides).
    Live = 5, "live";
    /// Its CPU's drain (both sides).
    Ending = 6, "ending";
    /// The queue pair's destruction, then the request is rejected (target).
    Rejecting = 7, "rejecting";
    /// The queue pair's destruction (both sides).
    Destroying = 8, "destroying";
    /// Its CPU's grace period (target).
    Reaping = 9, "reaping";
    /// The connection's destruction (both sides).
    Leaving = 10, "leaving";
    /// Nothing: it could not be destroyed (both sides).
    Quarantined = 11, "quarantined";
    /// Its address (host).
    Resolving = 12, "resolving";
    /// The target's answer (host).
    Connecting = 13, "connecting";
}

impl Step {
    /// Its kind in the ring.
    #[must_use]
    pub fn kind(self) -> TraceKind {
        TraceKind(self.number())
    }

    /// Which step a record tells of; `None` if it is of another crate.
    #[must_use]
    pub fn of(record: &TraceRecord) -> Option<Self> {
        Self::from_number(record.kind.0.into())
    }

    /// What a detail of this step is called, where it is one of several.
    #[must_use]
    pub fn detail_name(self, detail: u64) -> Option<&'static str> {
        match self {
            Self::Applied | Self::Missed => News::from_number(detail).map(News::name),
            Self::StageEntered | Self::RecordMissed => ConnectionStage::from_number(detail).map(ConnectionStage::name),
            Self::EventFetched | Self::EventAcknowledged => EventKind::from_number(detail).map(EventKind::name),
            Self::Quiet | Self::RequestsReleased => Some(if detail == RETURNED { "returned" } else { "cut" }),
            Self::DestroyReturned => Some(if detail == 0 { "done" } else { "failed" }),
            Self::Adopted
            | Self::Refused
            | Self::DrainBegun
            | Self::MarkerPosted
            | Self::DestroySent
            | Self::Retired
            | Self::Reaped
            | Self::Quarantined
            | Self::ConnectionRequested
            | Self::RecordForgotten
            | Self::DeviceRemoved
            | Self::PortFailed
            | Self::DeviceReturned
            | Self::Refitted => None,
        }
    }

    /// Puts it into this CPU's trace.
    pub(crate) fn trace<M>(self, turn: &mut Turn<'_, M>, subject: u64, detail: u64) {
        turn.trace(self.kind(), subject, detail);
    }
}

/// A message or timer was applied to the queue pair that it names.
pub(crate) fn applied<M, K>(turn: &mut Turn<'_, M>, queue_pair: Handle<K>, news: News) {
    Step::Applied.trace(turn, queue_pair.to_bits(), news.number().into());
}

/// A message or timer found nothing.
pub(crate) fn missed<M, K>(turn: &mut Turn<'_, M>, queue_pair: Handle<K>, news: News) {
    Step::Missed.trace(turn, queue_pair.to_bits(), news.number().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_this_crates_own_and_lead_back() {
        for step in Step::ALL {
            assert!((0x200..0x300).contains(&step.number()), "{step:?}");
            let record = TraceRecord { kind: step.kind(), ..TraceRecord::default() };
            assert_eq!(Step::of(&record), Some(*step));
            assert_eq!(nvmf_core::trace::Step::of(&record), None);
            assert_eq!(Step::ALL.iter().filter(|other| other.name() == step.name()).count(), 1, "{step:?}");
        }
    }

    #[test]
    fn no_word_has_the_number_nothing() {
        assert!(News::from_number(0).is_none());
        assert!(ConnectionStage::from_number(0).is_none());
        assert!(EventKind::from_number(0).is_none());
        assert_eq!(Step::Applied.detail_name(News::Cut.number().into()), Some("cut"));
        assert_eq!(Step::Adopted.detail_name(1), None);
    }
}
