//! A host that stays: from the end of an association to the beginning of the next.
//!
//! Nothing of the one reaches the other: links are gone before, polling CPUs answer only when their queues are reaped, messages of one sender keep
//! their order, and the association's timers are taken back. What cannot be taken back (memory that was given up) ends the host instead.

use reactor::{Cpu, Gathering, Turn};

use crate::host::control::{AfterEnd, HostControl, Phase};
use crate::host::message::{Kind, Message};
use crate::verbs::Provider;

impl<P: Provider> HostControl<P> {
    /// Begins an association, if there is none.
    pub(super) fn connect(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if matches!(self.phase, Phase::Apart) {
            self.begin(turn);
        }
    }

    /// Its connections and memory are gone.
    pub(super) fn end_association(&mut self, turn: &mut Turn<'_, Message<P>>) {
        for timer in self.timers.drain(..) {
            turn.cancel(timer);
        }
        match self.after_end {
            AfterEnd::Leave => self.begin_leaving(turn),
            AfterEnd::Stay => {
                self.phase = Phase::Parting(Gathering::ask(turn, |_cpu| Message(Kind::Part)));
            }
        }
    }

    pub(super) fn parted(&mut self, turn: &mut Turn<'_, Message<P>>, from: Option<Cpu>) {
        let (Phase::Parting(gathering), Some(from)) = (&mut self.phase, from) else {
            unreachable!("parted without having been told")
        };
        if !gathering.answer(from, ()) {
            return;
        }
        self.phase = Phase::Apart;
        turn.broadcast(|_cpu| Message(Kind::Apart));
        if self.after_end == AfterEnd::Leave {
            self.begin_leaving(turn);
        }
    }

    /// Memory that something may still write is not used again: there is no other association.
    pub(super) fn give_memory_up(&mut self) {
        self.after_end = AfterEnd::Leave;
    }
}
