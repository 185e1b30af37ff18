//! When what became of unanswered writes is settled.
//!
//! A write whose connection died may take effect until its queue pair is reaped. Which queue pair of the target was its is not known here; so it waits
//! for every queue pair that the target had when it was lost. A target that is killed, or has nothing left, settles all.

use std::collections::{BTreeSet, VecDeque};

use reactor::Cpu;
use transport_rdma::trace::Step;

use super::target::Noted;
use crate::sim::host::model::Model;

/// A queue pair of the target: its CPU, and its handle there.
type Life = (Cpu, u64);

/// Writes that were lost in one step.
struct Loss {
    /// Their numbers are below this.
    below: u64,
    /// Who may have them.
    suspects: BTreeSet<Life>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Losses {
    live: BTreeSet<Life>,
    waiting: VecDeque<Loss>,
    /// Losses that were seen.
    seen: u64,
}

impl Losses {
    pub(super) fn noted(&mut self, noted: &Noted) {
        let life = (noted.cpu, noted.record.subject);
        match Step::of(&noted.record) {
            Some(Step::Adopted) => {
                self.live.insert(life);
            }
            Some(Step::Reaped | Step::Quarantined) => {
                self.live.remove(&life);
                for loss in &mut self.waiting {
                    loss.suspects.remove(&life);
                }
            }
            Some(_) | None => {}
        }
    }

    /// After every step.
    pub(super) fn stepped(&mut self, model: &Model) {
        let below = model.next_loss();
        if below > self.seen {
            self.seen = below;
            self.waiting.push_back(Loss { below, suspects: self.live.clone() });
        }
        // Later losses have fewer of the old suspects: the first that waits is waited for by all.
        while self.waiting.front().is_some_and(|loss| loss.suspects.is_empty()) {
            if let Some(loss) = self.waiting.pop_front() {
                model.settle_lost(loss.below);
            }
        }
    }

    pub(super) fn target_killed(&mut self, model: &Model) {
        self.live.clear();
        self.at_rest(model);
    }

    /// Nothing of any connection is left.
    pub(super) fn at_rest(&mut self, model: &Model) {
        self.waiting.clear();
        self.seen = model.next_loss();
        model.settle_lost(self.seen);
    }
}
