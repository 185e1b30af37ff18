//! What all CPUs have traced, gathered for who asks: each CPU by message, since its rings are its own, into memory that the question brings, so that nothing is allocated there.

use nvmf_core::ChangeId;
use reactor::{Cpu, Gathering, TraceRecord, Turn};

use super::changes::ControlError;
use super::{Control, Message};
use crate::target::message::ToCpu;
use crate::verbs::Provider;

/// What each CPU has traced: first the steps of lives, then the rest, each oldest first.
pub type Traced = Vec<(Cpu, Vec<TraceRecord>)>;

/// Questions that are under way, and those that are answered.
#[derive(Default)]
pub(super) struct Traces {
    asked: Vec<(ChangeId, Gathering<Vec<TraceRecord>>)>,
    answered: Vec<(ChangeId, Traced)>,
}

impl<P: Provider> Control<P> {
    /// Asks every CPU, this one included. [`Self::take_trace`] has the answer once the change is done. A CPU that does not turn does not answer.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn begin_trace(&mut self, turn: &mut Turn<'_, Message<P>>) -> Result<ChangeId, ControlError> {
        let change = self.begin_work(turn)?;
        let polling = (0..).map(Cpu).take(self.wakes.len());
        let room = || Vec::with_capacity(Turn::<Message<P>>::TRACED_MAX);
        let answers = Gathering::ask_some(turn, polling, |_| ToCpu::Trace { change, records: room() }.into());
        self.traces.asked.push((change, answers));
        Ok(change)
    }

    /// What was asked for by this change; once.
    pub fn take_trace(&mut self, change: ChangeId) -> Option<Traced> {
        let at = self.traces.answered.iter().position(|(of, _)| *of == change)?;
        Some(self.traces.answered.swap_remove(at).1)
    }

    /// A CPU's answer.
    pub(super) fn traced(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        cpu: Cpu,
        change: ChangeId,
        records: Vec<TraceRecord>,
    ) {
        let Some(at) = self.traces.asked.iter().position(|(of, _)| *of == change) else { return };
        if !self.traces.asked[at].1.answer(cpu, records) {
            return;
        }
        let (_, answers) = self.traces.asked.swap_remove(at);
        let mut traced: Traced = answers.into_answers().collect();
        traced.push((turn.cpu(), turn.traced().collect()));
        self.traces.answered.push((change, traced));
        self.work_done(turn, change, Ok(()));
    }
}
