//! What the simulation asks of a reactor besides its turns: how far its rings are, and what it waits for.

use crate::cpu::Cpu;
use crate::program::Program;
use crate::ring::Consumer;
use crate::trace::TraceRecord;

use super::Reactor;

/// What a reactor waits for.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) turn_count: u64,
    pub(crate) activity: &'static str,
    /// `None` while offline.
    pub(crate) seen_epoch: Option<u64>,
    /// By receiver: messages that wait for room.
    pub(crate) backlog_lens: Vec<usize>,
    pub(crate) local_len: usize,
    pub(crate) postbox_len: usize,
    pub(crate) limbo_len: u64,
    pub(crate) timer_ns: Option<u64>,
    pub(crate) is_wanted: bool,
    pub(crate) is_leaving: bool,
}

impl<P: Program> Reactor<P> {
    /// What its program noted, from record number `first` on, and the number of the next.
    pub(crate) fn traced(&self, first: u64) -> (Vec<TraceRecord>, u64) {
        (self.state.trace.since(first).collect(), self.state.trace.count())
    }

    pub(crate) fn probe(&self) -> Probe {
        let state = &self.state;
        let seen_epoch = state.participant.is_online().then(|| state.participant.seen());
        Probe {
            turn_count: state.counters.turn_count.value(),
            activity: state.counters.activity(),
            seen_epoch,
            backlog_lens: (0..state.cpu_count).map(|to| state.outbox.backlog_len_to(Cpu(to))).collect(),
            local_len: state.outbox.local_len(),
            postbox_len: self.inbox.postbox.len(),
            limbo_len: state.limbos.len(),
            timer_ns: state.timers.next_deadline_ns(),
            is_wanted: self.bell().is_wanted(),
            is_leaving: state.leaving,
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.state.participant.is_online()
    }

    /// What a turn does first, for one that is held up after it.
    pub(crate) fn come_online(&mut self) {
        self.get_up();
    }

    /// Whether the next turn has something to see before it looks into its rings.
    pub(crate) fn has_early_news(&self) -> bool {
        self.bell().is_wanted() || self.state.outbox.local_len() > 0
    }

    /// Messages pushed to `to` so far.
    pub(crate) fn position_to(&self, to: Cpu) -> u64 {
        self.state.outbox.position_to(to)
    }

    /// Messages of `from` taken so far.
    pub(crate) fn position_from(&self, from: Cpu) -> u64 {
        self.inbox.rings[usize::from(from.0)].as_ref().map_or(0, Consumer::position)
    }

    /// From `from` only what was pushed before `position` is to be seen.
    pub(crate) fn hide_from(&mut self, from: Cpu, position: u64) {
        if let Some(ring) = &mut *self.inbox.rings[usize::from(from.0)] {
            ring.set_limit(position);
        }
    }

    pub(crate) fn show_all(&mut self) {
        self.inbox.rings.iter_mut().filter_map(|ring| ring.as_mut()).for_each(|ring| ring.set_limit(u64::MAX));
    }
}
