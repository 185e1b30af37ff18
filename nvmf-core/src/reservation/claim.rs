//! What a host claims, with its keys, and what comes of it besides a new state.

use super::HostId;
use crate::command::ReservationCommand;
use crate::notice::ReservationNotice;
use crate::wire::reservation::{AcquireAction, RegisterAction, ReleaseAction, ReservationKeys, ReservationType};

/// A reservation command with its data. A Report changes nothing and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Reservation Register, and what CPTPL makes of persistence. `None` for a current key: it is not looked at.
    Register { action: Registration, persistence: Option<bool> },
    /// Reservation Acquire.
    Acquire { key: u64, kind: ReservationType },
    /// Reservation Acquire with Preempt or Preempt and Abort.
    Preempt { key: u64, victim_key: u64, kind: ReservationType, aborts: bool },
    /// Reservation Release. A kind of `None` is no reservation's.
    Release { key: u64, kind: Option<ReservationType> },
    /// Reservation Release with Clear.
    Clear { key: u64 },
    /// The Reservation Persistence feature.
    Persist { is_persistent: bool },
}

/// What Reservation Register does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// The host has none.
    Add { key: u64 },
    /// It shall have none.
    Remove { current: Option<u64> },
    /// It shall have another one.
    Replace { current: Option<u64>, key: u64 },
}

impl Claim {
    /// Whether it makes the state outlive the target.
    pub(crate) fn wants_persistence(&self) -> bool {
        matches!(self, Self::Register { persistence: Some(true), .. } | Self::Persist { is_persistent: true })
    }

    /// `None`: a Report.
    pub(crate) fn new(command: &ReservationCommand, keys: &ReservationKeys) -> Option<Self> {
        let (key, other) = (keys.current.get(), keys.other.get());
        match *command {
            ReservationCommand::Register { action, ignore_existing_key, persistence, .. } => {
                let current = (!ignore_existing_key).then_some(key);
                let action = match action {
                    RegisterAction::Register => Registration::Add { key: other },
                    RegisterAction::Unregister => Registration::Remove { current },
                    RegisterAction::Replace => Registration::Replace { current, key: other },
                };
                Some(Self::Register { action, persistence })
            }
            ReservationCommand::Acquire { action: AcquireAction::Acquire, kind, .. } => {
                Some(Self::Acquire { key, kind })
            }
            ReservationCommand::Acquire {
                action: action @ (AcquireAction::Preempt | AcquireAction::PreemptAndAbort),
                kind,
                ..
            } => {
                let aborts = action == AcquireAction::PreemptAndAbort;
                Some(Self::Preempt { key, victim_key: other, kind, aborts })
            }
            ReservationCommand::Release { action: ReleaseAction::Release, kind, .. } => {
                Some(Self::Release { key, kind })
            }
            ReservationCommand::Release { action: ReleaseAction::Clear, .. } => Some(Self::Clear { key }),
            ReservationCommand::Report { .. } => None,
        }
    }
}

/// What is to be done besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Whom to tell what.
    pub(crate) notifications: Vec<(ReservationNotice, Vec<HostId>)>,
    /// Whose commands on the namespace are to end before the command is answered.
    pub(crate) aborted: Vec<HostId>,
}

impl Effects {
    /// Nobody is told nothing.
    pub(super) fn notify(&mut self, kind: ReservationNotice, hosts: Vec<HostId>) {
        if !hosts.is_empty() {
            self.notifications.push((kind, hosts));
        }
    }
}
