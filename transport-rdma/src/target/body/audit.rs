//! Looks whether a queue pair's permits and slots are where they should be, each in exactly one place. Debug builds do it each turn that a queue pair drains;
//! tests of the data path after every step.

use super::{Body, Life, Place, WaitingSend};
use crate::permit::Allowance;

impl Body {
    /// Panics with what is wrong.
    pub(in crate::target) fn audit(&self) {
        if let Some(allowance) = self.allowance() {
            self.audit_posted(allowance);
        }
        self.audit_slots();
    }

    fn allowance(&self) -> Option<&Allowance> {
        match &self.life {
            Some(Life::Live(live) | Life::Broken(live)) => Some(live.books()),
            Some(Life::Draining(draining, _)) => Some(draining.books()),
            Some(Life::Destroying(_) | Life::Quarantined) | None => None,
        }
    }

    /// Posted = completed + in flight, for each kind.
    fn audit_posted(&self, allowance: &Allowance) {
        let name = self.work.handle;
        let sends = self.work.posted.count();
        assert_eq!(sends, allowance.posted_send_count(), "{name:?}: sends posted, and permits for them");
        let reads: u32 = self.work.slots.iter().map(|work| work.reads.count()).sum();
        assert_eq!(reads, allowance.reads.out_count(), "{name:?}: READs posted, and permits for them");
        assert!(reads <= sends, "{name:?}: {reads} READs among {sends} sends");
        let receives = self.work.receives.posted.iter().flatten().count();
        assert_eq!(
            receives,
            allowance.receives.out_count() as usize,
            "{name:?}: receives posted, and permits for them"
        );
        if matches!(self.life, Some(Life::Live(_))) && allowance.sends.at_hand_count() == 0 {
            assert!(
                self.work.posted.signalled.back().is_some_and(|permits| permits.count() > 0),
                "{name:?}: no room comes back"
            );
            assert_eq!(
                self.work.posted.unsignalled.count(),
                0,
                "{name:?}: the last room went to an unsignalled request"
            );
        }
    }

    fn audit_slots(&self) {
        let name = self.work.handle;
        let mut is_free = vec![false; self.work.slots.len()];
        for slot in &self.work.free_slots {
            let was_free = std::mem::replace(&mut is_free[usize::from(*slot)], true);
            assert!(!was_free, "{name:?}: slot {slot} is free twice");
        }
        let mut command_count = self.work.waiting_capsules.len();
        for (slot, (work, is_free)) in self.work.slots.iter().zip(is_free).enumerate() {
            match work.place {
                Place::Free => assert!(is_free, "{name:?}: slot {slot} is nowhere"),
                Place::Command(_) => {
                    assert!(!is_free, "{name:?}: slot {slot} has a command and is free");
                    command_count += 1;
                    continue;
                }
                Place::ResponsePosted => {
                    assert!(!is_free, "{name:?}: slot {slot} is free before its response's send ended")
                }
            }
            let out = (work.reads.count(), work.part_count);
            assert_eq!(out, (0, 0), "{name:?}: slot {slot} has no command, but READs and parts");
        }
        if !matches!(self.life, Some(Life::Quarantined)) {
            assert_eq!(
                command_count,
                self.work.commands.out_count() as usize,
                "{name:?}: commands, and permits for them"
            );
        }
        let pulls = self.work.waiting_pulls.iter().map(|pull| pull.slot);
        let sends = self.work.waiting_sends.iter().map(|send| match send {
            WaitingSend::Push { slot, .. } | WaitingSend::Response { slot, .. } => *slot,
        });
        for slot in pulls.chain(sends) {
            let place = &self.work.slots[usize::from(slot)].place;
            assert!(matches!(place, Place::Command(_)), "{name:?}: slot {slot} waits for room and is {place:?}");
        }
    }
}
