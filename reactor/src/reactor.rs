//! The loop's body: one turn.

use crate::counter::Counter;
use crate::program::{Program, Progress};

/// One CPU's loop around a program: the real runtime and the simulation run this same code.
pub struct Reactor<P: Program> {
    program: P,
}

/// What a reactor counts. One writer: its own CPU.
#[derive(Debug, Default)]
pub struct ReactorCounters {
    /// Turns.
    pub turn_count: Counter,
    /// Turns that found something to do.
    pub busy_turn_count: Counter,
    /// Longest turn.
    pub longest_turn_ns: Counter,
    /// Messages received.
    pub message_count: Counter,
    /// Messages that found the ring full, to any CPU.
    pub ring_full_count: Counter,
    /// Timers fired.
    pub timer_count: Counter,
    /// Values in this CPU's limbos.
    pub limbo_len: Counter,
}

impl<P: Program> Reactor<P> {
    /// One turn at time `now_ns`: mailbox, timers, poll, quiet point.
    pub fn turn(&mut self, now_ns: u64) -> Progress {
        let _ = (now_ns, &mut self.program);
        todo!()
    }
}
