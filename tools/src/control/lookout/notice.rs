//! What there is to say, and its line in the log.

use super::Room;

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// One thing held its CPU too long.
    Slow { cpu: String, what: &'static str, held_us: u64, limit_us: u64 },
    /// The same did since that was said.
    SlowAgain { cpu: String, what: &'static str, count: u64, longest_us: u64, limit_us: u64 },
    /// So many things did that there was no room to report them.
    SlowUnreported { cpu: String, count: u64, limit_us: u64 },
    /// A CPU does not turn.
    Stalled { cpu: String, what: &'static str, for_ms: u64, limit_ms: u64, reclamation: Reclamation },
    /// It does again.
    TurnsAgain { cpu: String, after_ms: u64 },
    /// Messages had to wait.
    RingFull { from: String, to: String, count: u64 },
    /// Connections found no room.
    Refused { count: u64, room: Room, why: RefusedWhy },
}

/// Whether reclamation waits for a CPU that does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclamation {
    DoesNotWait,
    Waits { for_ms: u64 },
}

/// Why connections find no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RefusedWhy {
    /// What is torn down cannot be used again while a CPU does not turn.
    ReclamationWaits { stalled: String },
    /// There are as many as there may be.
    QueuePairs,
    /// Something else that a connection needs: completion queue entries, shared receives, the provider's own limits.
    OtherResources,
}

impl Reclamation {
    fn in_words(self) -> String {
        match self {
            Self::DoesNotWait => "does not wait for it".to_owned(),
            Self::Waits { for_ms: 0 } => "waits for it since now".to_owned(),
            Self::Waits { for_ms } => format!("waits for it since {for_ms} ms"),
        }
    }
}

impl RefusedWhy {
    fn in_words(&self) -> String {
        match self {
            Self::ReclamationWaits { stalled } => {
                format!("queue pairs that ended cannot be used again while CPU {stalled} does not turn")
            }
            Self::QueuePairs => {
                "every CPU has as many queue pairs as it may, draining ones included: raise target.queue_pairs"
                    .to_owned()
            }
            Self::OtherResources => "completion queue entries, shared receives (transport.shared_receives) or the \
                                     provider's own limits are used up"
                .to_owned(),
        }
    }
}

impl Notice {
    pub(super) fn log(self) {
        match self {
            Self::Slow { cpu, what, held_us, limit_us } => {
                tracing::warn!(cpu, what, held_us, limit_us, "a CPU was held too long");
            }
            Self::SlowAgain { cpu, what, count, longest_us, limit_us } => {
                tracing::warn!(
                    cpu,
                    what,
                    count,
                    longest_us,
                    limit_us,
                    "a CPU was held too long, again since that was last said"
                );
            }
            Self::SlowUnreported { cpu, count, limit_us } => {
                tracing::warn!(cpu, count, limit_us, "a CPU was held too long more often than could be reported");
            }
            Self::Stalled { cpu, what, for_ms, limit_ms, reclamation } => {
                let reclamation = reclamation.in_words();
                tracing::warn!(cpu, what, for_ms, limit_ms, reclamation, "a CPU does not turn");
            }
            Self::TurnsAgain { cpu, after_ms } => tracing::info!(cpu, after_ms, "a CPU turns again"),
            Self::RingFull { from, to, count } => {
                tracing::warn!(
                    from,
                    to,
                    count,
                    "messages wait in their sender's backlog: the ring between two CPUs is full"
                );
            }
            Self::Refused { count, room, why } => {
                tracing::warn!(
                    count,
                    connections = room.connection_count,
                    connections_max = room.connection_count_max,
                    in_limbo = room.in_limbo_count,
                    why = why.in_words(),
                    "connections were refused for want of room"
                );
            }
        }
    }
}
