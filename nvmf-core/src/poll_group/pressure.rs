//! Back-pressure in the trace: when commands began to wait for something, and when none had waited for a while. Each episode is two records, however often the queue ran empty in it.

use reactor::Turn;

use super::PollGroup;
use crate::trace::{Pressure, Step};

/// Nothing waits for so long: the episode is over.
const CALM_NS: u64 = 1_000_000_000;

/// When something was last waited for, while an episode lasts; each at its place of [`Pressure::ALL`].
#[derive(Debug, Default)]
pub(super) struct Episodes([Option<u64>; Pressure::ALL.len()]);

impl PollGroup {
    /// At the end of a turn.
    pub(super) fn trace_pressure<M>(&mut self, turn: &mut Turn<'_, M>) {
        let now_ns = turn.now_ns();
        let waiting = |pressure| match pressure {
            Pressure::Buffers => self.buffers.waiting_count() > 0,
            Pressure::HostLimit => self.hosts.waiting_count() > 0,
            Pressure::Gate => self.parking.len() + self.gate.held_count() > 0,
        };
        for (pressure, since) in Pressure::ALL.iter().zip(&mut self.episodes.0) {
            match (waiting(*pressure), *since) {
                (true, None) => {
                    *since = Some(now_ns);
                    Step::PressureBegan.note(turn, 0, pressure.number().into());
                }
                (true, Some(_)) => *since = Some(now_ns),
                (false, Some(last_ns)) if now_ns - last_ns >= CALM_NS => {
                    *since = None;
                    Step::PressureEnded.note(turn, 0, pressure.number().into());
                }
                (false, _) => {}
            }
        }
    }
}
