//! Where a queue is in its life: set-up, then the steps of [`crate::teardown`], each made by consuming the one before.

use nvmf_core::DisconnectReason;

use crate::host::queue::{Phase, Queue};
#[cfg(debug_assertions)]
use crate::permit::ProgramDropped;
use crate::permit::{Allowance, Forfeit, GiveBack};
use crate::teardown::{
    AfterDestroy, DestroyResult, Destroying, Draining, Evidence, Live, Quiet, ReceiveSide, Retired, Swept,
};
use crate::trace::{CUT, RETURNED};
use crate::verbs::QueuePairName;

/// Where a queue is in its life. The teardown's part of it is [`crate::teardown`]'s, by value.
#[derive(Debug)]
pub(in crate::host) enum Stage {
    /// Attached, receives posted; the connection is being made.
    Connecting(Live),
    /// The connection is up; the queue's Connect command is out, and nothing else.
    Joining(Live),
    /// Carries commands.
    Live(Live),
    /// Cannot go on: posts nothing more, and waits for the control plane to close it.
    Broken(Live),
    /// Its queue pair is in the error state: what was posted comes back.
    Draining(Draining),
    /// The queue pair is on its way to be destroyed.
    Destroying(Destroying),
    /// The destroy call has come back.
    Over,
}

impl Stage {
    /// What may be posted, unless the queue cannot go on.
    pub(super) fn allowance(&mut self) -> Option<&mut Allowance> {
        match self {
            Self::Connecting(live) | Self::Joining(live) | Self::Live(live) => Some(live.allowance()),
            Self::Broken(_) | Self::Draining(_) | Self::Destroying(_) | Self::Over => None,
        }
    }

    /// Where permits come back to, as long as the device may return what was posted.
    pub(super) fn give_back(&mut self) -> Option<GiveBack<'_>> {
        match self {
            Self::Connecting(live) | Self::Joining(live) | Self::Live(live) | Self::Broken(live) => {
                Some(live.allowance().give_back())
            }
            Self::Draining(draining) => Some(draining.give_back()),
            Self::Destroying(_) | Self::Over => None,
        }
    }
}

impl Queue {
    /// Whether commands are out, or may be.
    pub(in crate::host) fn carries_commands(&self) -> bool {
        match self.stage {
            Stage::Joining(_) | Stage::Live(_) => true,
            // A response before ESTABLISHED cannot be: nothing was sent. But flushes can be, when the connection is refused.
            Stage::Connecting(_) | Stage::Broken(_) | Stage::Draining(_) | Stage::Destroying(_) | Stage::Over => false,
        }
    }

    /// The connection is up. The admin queue's Connect is the first of its steps; an I/O queue's is all that it carries before it is live.
    /// False if it was closed meanwhile.
    pub(in crate::host) fn established(&mut self) -> bool {
        self.step(|qid, stage| match stage {
            Stage::Connecting(live) if qid == 0 => Ok(Stage::Live(live)),
            Stage::Connecting(live) => Ok(Stage::Joining(live)),
            other @ (Stage::Joining(_)
            | Stage::Live(_)
            | Stage::Broken(_)
            | Stage::Draining(_)
            | Stage::Destroying(_)
            | Stage::Over) => Err(other),
        })
    }

    /// The queue's Connect has succeeded.
    pub(in crate::host) fn joined(&mut self) -> bool {
        self.step(|_, stage| if let Stage::Joining(live) = stage { Ok(Stage::Live(live)) } else { Err(stage) })
    }

    /// Posts nothing more, since something failed. What comes back from now on only counts.
    pub(in crate::host) fn break_off(&mut self) {
        self.step(|_, stage| match stage {
            Stage::Connecting(live) | Stage::Joining(live) | Stage::Live(live) => Ok(Stage::Broken(live)),
            other @ (Stage::Broken(_) | Stage::Draining(_) | Stage::Destroying(_) | Stage::Over) => Err(other),
        });
    }

    /// The control plane has moved the queue pair to the error state.
    pub(in crate::host) fn begin_drain(&mut self, reason: DisconnectReason) -> bool {
        self.step(|_, stage| match stage {
            Stage::Connecting(live) | Stage::Joining(live) | Stage::Live(live) | Stage::Broken(live) => {
                let mut draining = live.begin_drain(reason);
                draining.entered_error_state();
                Ok(Stage::Draining(draining))
            }
            other @ (Stage::Draining(_) | Stage::Destroying(_) | Stage::Over) => Err(other),
        })
    }

    /// The device gives nothing back any more.
    pub(in crate::host) fn nothing_returns(&mut self) {
        if let Stage::Draining(draining) = &mut self.stage {
            draining.nothing_returns();
        }
    }

    /// The deadline's timer has fired. False if it drains no more.
    pub(in crate::host) fn deadline_passed(&mut self) -> bool {
        let Stage::Draining(draining) = &mut self.stage else { return false };
        draining.deadline_passed();
        true
    }

    /// Draining → Destroying, once nothing is out any more or the deadline has passed: what to detach, and which of the two, as the trace says it.
    pub(in crate::host) fn check_drain(&mut self) -> Option<(QueuePairName, u64)> {
        let Stage::Draining(draining) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("only draining queues are checked")
        };
        let evidence = Evidence {
            receives: ReceiveSide::Own,
            // Matters only with a shared receive queue.
            completion_queue_empty: false,
            operation_count: 0,
        };
        let posted_count = draining.posted_count();
        match draining.check(&evidence) {
            Err(draining) => {
                self.stage = Stage::Draining(draining);
                None
            }
            Ok(quiet) => {
                let how = match &quiet {
                    Quiet::Returned(_) => RETURNED,
                    Quiet::Cut(_) => CUT,
                };
                if let Quiet::Cut(cut) = &quiet {
                    self.surrender_posted(cut);
                    tracing::warn!(self.qid, posted_count, "queue pair is cut off: its work did not return in time");
                }
                let (name, destroying) = quiet.detach();
                self.stage = Stage::Destroying(destroying);
                Some((name, how))
            }
        }
    }

    /// What is out never comes back, or comes too late to count.
    fn surrender_posted(&mut self, cut: &impl Forfeit) {
        for slot in &mut self.slots {
            if let Phase::Posted(send) | Phase::Responded(send) = std::mem::take(&mut slot.phase) {
                send.surrender(cut);
            }
        }
        for receive in self.receives.iter_mut().filter_map(Option::take) {
            receive.surrender(cut);
        }
    }

    /// The end of everything: see [`ProgramDropped`].
    #[cfg(debug_assertions)]
    pub(in crate::host) fn abandon(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connecting(live) | Stage::Joining(live) | Stage::Live(live) | Stage::Broken(live) => {
                live.surrender(&ProgramDropped);
            }
            Stage::Draining(draining) => draining.surrender(&ProgramDropped),
            Stage::Destroying(_) | Stage::Over => {}
        }
        self.surrender_posted(&ProgramDropped);
    }

    /// Destroying → retired (to wait for what is late), or its memory is given up.
    pub(in crate::host) fn end(mut self, result: DestroyResult, swept: Swept) -> Option<Retired<Self>> {
        let Stage::Destroying(destroying) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("a queue pair is destroyed once, after its drain")
        };
        match destroying.end(result, swept) {
            // A host uses a queue's memory once: there is nothing to release before.
            AfterDestroy::Destroyed(destroyed) => Some(destroyed.retire(self)),
            AfterDestroy::Quarantined(_) => None,
        }
    }

    /// Takes a step of the queue's life, or stays where it is.
    fn step(&mut self, next: impl FnOnce(u16, Stage) -> Result<Stage, Stage>) -> bool {
        let result = next(self.qid, std::mem::replace(&mut self.stage, Stage::Over));
        let has_stepped = result.is_ok();
        self.stage = result.unwrap_or_else(|stage| stage);
        has_stepped
    }
}
