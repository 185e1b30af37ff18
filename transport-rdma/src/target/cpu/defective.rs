//! What a polling CPU does only where a defect is injected ([`nvmf_core::defect`]), and types would not let it do: not in any other build.

use nvmf_core::Qpair;
use reactor::{Handle, Turn};

use super::TargetCpu;
use crate::target::message::Message;
use crate::verbs::{Port, Provider};

impl<P: Provider, const SEVERAL: bool> TargetCpu<P, SEVERAL> {
    /// `FailedSetUpSkipsTheDrain`. "It was not initialised" is taken to mean "nothing of it is posted".
    pub(super) fn refuse_without_drain(&mut self, turn: &mut Turn<'_, Message<P>>, qpair: Handle<Qpair>) {
        let Some(mut body) = self.paths.of(qpair).bodies.remove(qpair) else { return };
        let Some(queue_pair) = self.paths.of(qpair).port.detach(body.work.name) else { return };
        self.counters.queue_pairs_live.sub(1);
        self.give_receive_buffers(std::mem::take(&mut body.work.receives.buffers));
        self.paths.of(qpair).forget_number(body.work.name.number, qpair);
        self.group.close(turn, qpair);
        self.refuse(turn, body.record, Box::new(queue_pair));
        // Its permits are out with what is posted.
        std::mem::forget(body);
    }
}
