//! Timers on the turn's time.

/// Names an armed timer of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    deadline_ns: u64,
    sequence: u64,
}
