//! One namespace's place: its state, the petitions that wait for it, and how far each has come.

use std::collections::VecDeque;
use std::sync::Arc;

use reactor::{Cpu, Gathering};
use uuid::Uuid;

use super::super::change::ChangeId;
use super::super::hosts::Hosts;
use super::WriteId;
use crate::petition::Petition;
use crate::reservation::{Effects, Registry, Standing};
use crate::spec::Persistence;

/// RESCAP bits 6:1: all six types; bit 7: IEKEY as defined since NVMe 1.3 [NVMe Base 2.0, figure 'Identify Namespace'].
const CAPABILITIES: u8 = 0xFE;
/// RESCAP bit 0.
const PERSISTENCE: u8 = 1;

/// See the module.
pub(super) struct Place {
    /// Of the namespace: another one is another place.
    pub(super) uuid: Uuid,
    /// What holds, and where it is persistent is on stable storage.
    pub(super) registry: Registry,
    /// What the next snapshot says of it.
    pub(super) standing: Option<Arc<Standing>>,
    /// The Reservation Notification Mask, of the namespace as in SPDK and nvmet.
    pub(super) mask: u32,
    /// Where it is kept. `None`: nowhere, and it cannot be persistent.
    pub(super) file: Option<Arc<str>>,
    /// In the order in which they came.
    pub(super) waiting: VecDeque<Petition>,
    pub(super) current: Option<Current>,
    pub(super) evicting: Vec<Evicting>,
}

/// The claim that is being carried out.
pub(super) struct Current {
    pub(super) petition: Petition,
    pub(super) effects: Effects,
    pub(super) step: Step,
}

/// How far it has come.
pub(super) enum Step {
    /// `is_done`: whether it could be written, once that is known.
    Writing { id: WriteId, next: Registry, is_done: Option<bool> },
    /// It holds; the snapshot has to say so.
    Publishing,
    /// Every CPU is to look.
    Telling { change: ChangeId, answers: Gathering<()> },
}

/// A claim that holds everywhere, and waits for commands of others to end.
pub(super) struct Evicting {
    pub(super) petition: Petition,
    pub(super) change: ChangeId,
    pub(super) answers: Gathering<()>,
}

impl Place {
    /// With what has outlived the last target; the record has been checked.
    pub(super) fn new(uuid: Uuid, persistence: Option<&Persistence>, hosts: &mut Hosts) -> Self {
        let registry = persistence.and_then(|kept| Registry::from_record(&kept.record).ok()).unwrap_or_default();
        Self {
            uuid,
            standing: registry.standing(|id| hosts.number(id)).map(Arc::new),
            registry,
            mask: 0,
            file: persistence.map(|kept| Arc::clone(&kept.file)),
            waiting: VecDeque::new(),
            current: None,
            evicting: Vec::new(),
        }
    }

    /// RESCAP.
    pub(super) fn capabilities(&self) -> u8 {
        CAPABILITIES | if self.file.is_some() { PERSISTENCE } else { 0 }
    }

    /// Those that are not ruled on.
    pub(super) fn petition_count(&self) -> usize {
        self.waiting.len() + usize::from(self.current.is_some()) + self.evicting.len()
    }

    /// They find no namespace any more.
    pub(super) fn into_petitions(self) -> impl Iterator<Item = Petition> {
        let current = self.current.into_iter().map(|current| current.petition);
        let evicting = self.evicting.into_iter().map(|evicting| evicting.petition);
        current.chain(evicting).chain(self.waiting)
    }

    /// A CPU has obeyed. False if that is not of this place.
    pub(super) fn answered(&mut self, id: ChangeId, from: Cpu) -> bool {
        let telling = match &mut self.current {
            Some(Current { step: Step::Telling { change, answers }, .. }) if *change == id => Some(answers),
            Some(_) | None => None,
        };
        let evicting = self.evicting.iter_mut().find(|evicting| evicting.change == id);
        match telling.or(evicting.map(|evicting| &mut evicting.answers)) {
            Some(answers) => {
                answers.answer(from, ());
                true
            }
            None => false,
        }
    }
}
