//! A subsystem, one of its addresses or a host's right to it is withdrawn: the qpairs that it names end here, by the ordinary teardown.
//!
//! A qpair is named by what it *is* at this moment: what its controller, its lease or its checked Connect says. A qpair whose Connect has not been
//! checked belongs to nobody yet and is left alone: its Connect will be checked against the snapshot, which says already what was withdrawn.

use reactor::{Handle, Turn};

use super::PollGroup;
use crate::Qpair;
use crate::message::{Letter, Message};
use crate::qpair::{Membership, QpairBody, Stage};
use crate::subsystem::Subject;
use crate::target::ChangeId;
use crate::transport::Transport;
use crate::withdrawal::{Audience, Withdrawal};

/// A withdrawal whose qpairs have not all begun to drain.
pub(super) struct Pending {
    change: ChangeId,
    qpairs: Vec<Handle<Qpair>>,
}

impl PollGroup {
    /// Begins the end of every qpair of this CPU that is meant. It is answered when the last of them drains, which no slow device holds up.
    pub(super) fn withdraw<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        change: ChangeId,
        withdrawal: &Withdrawal,
    ) {
        let meant = self.qpairs.iter().filter(|(_, body)| self.is_meant(body, withdrawal));
        let qpairs: Vec<Handle<Qpair>> = meant.map(|(qpair, _)| qpair).collect();
        for qpair in &qpairs {
            transport.disconnect(*qpair, withdrawal.reason());
        }
        self.withdrawals.push(Pending { change, qpairs });
        self.answer_withdrawals(turn);
    }

    /// The qpair drains now, or is gone.
    pub(super) fn note_drain<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, qpair: Handle<Qpair>) {
        if self.withdrawals.is_empty() {
            return;
        }
        for pending in &mut self.withdrawals {
            pending.qpairs.retain(|meant| *meant != qpair);
        }
        self.answer_withdrawals(turn);
    }

    fn answer_withdrawals<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        let control = self.control;
        self.withdrawals.retain(|pending| {
            if pending.qpairs.is_empty() {
                turn.send(control, Message(Letter::Withdrawn { change: pending.change }).into());
            }
            !pending.qpairs.is_empty()
        });
    }

    fn is_meant(&self, body: &QpairBody, withdrawal: &Withdrawal) -> bool {
        let (subject, owned) = match &body.stage {
            Stage::Connecting { subject, membership: Membership::Owner(controller), .. } => {
                (*subject, self.controllers.look(*controller))
            }
            // Who a Join is from stands in the Join, and its controller answers for that.
            Stage::Connecting { subject, .. } => (*subject, None),
            Stage::Admin { controller } => {
                let controller = self.controllers.look(*controller);
                (controller.map(|controller| controller.subject), controller)
            }
            Stage::Io { lease } => (Some(lease.subject()), None),
            Stage::AwaitingConnect { .. } | Stage::Draining { .. } => return false,
        };
        subject == Some(Subject::Nvm(withdrawal.subsystem))
            && match &withdrawal.from {
                Audience::Everybody => true,
                Audience::Listener(address) => body.spec.listener == *address,
                // I/O qpairs end with their controller.
                Audience::Host(nqn) => owned.is_some_and(|controller| controller.host.nqn == *nqn),
            }
    }
}
