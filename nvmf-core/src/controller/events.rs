//! What a controller has to tell its host: asynchronous events, the requests that are held for them, and the logs that they name.
//!
//! Each event is told once and then masked until the log page that it names is read with RAE 0 [NVMe Base 2.0, 5.2]. The mask is the event's own: the
//! text speaks of the event's *type*, and all notices are one type; but a host that never reads one of its logs would then hear of nothing else, and
//! hosts expect what Linux's and SPDK's targets do. What happens while no request is held, or while it is masked, is kept: as one bit, since the log
//! says the rest.

use std::collections::{BTreeSet, VecDeque};

use super::Controller;
use crate::defect::{self, Defect};
use crate::limits::{EVENT_REQUEST_COUNT_MAX, RESERVATION_NOTICE_COUNT_MAX};
use crate::notice::{Notice, ReservationNotice};
use crate::subsystem::Subject;
use crate::transport::Slot;
use crate::wire::log::{ChangedNamespaceList, ReservationLog};
use crate::wire::{AsyncEvent, AsyncEventConfiguration};

/// An event of this layer.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    NamespaceChanged,
    AnaChanged,
    DiscoveryChanged,
    ReservationLog,
}

impl EventKind {
    const ALL: [Self; 4] = [Self::NamespaceChanged, Self::AnaChanged, Self::DiscoveryChanged, Self::ReservationLog];

    /// What the host is told.
    fn event(self) -> AsyncEvent {
        match self {
            Self::NamespaceChanged => AsyncEvent::NAMESPACE_CHANGED,
            Self::AnaChanged => AsyncEvent::ANA_CHANGED,
            Self::DiscoveryChanged => AsyncEvent::DISCOVERY_CHANGED,
            Self::ReservationLog => AsyncEvent::RESERVATION_LOG,
        }
    }

    /// Its bit in the configuration. A reservation's is masked by a feature of its own.
    fn configured_by(self) -> Option<u32> {
        match self {
            Self::NamespaceChanged => Some(AsyncEventConfiguration::NAMESPACE_CHANGED),
            Self::AnaChanged => Some(AsyncEventConfiguration::ANA_CHANGED),
            Self::DiscoveryChanged => Some(AsyncEventConfiguration::DISCOVERY_CHANGED),
            Self::ReservationLog => None,
        }
    }
}

/// Where an event is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing has happened.
    #[default]
    Quiet,
    /// It is told with the next request.
    Due,
    /// It was told, and its log page has not been read.
    Told,
}

/// What can happen to it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something of its kind.
    Occur,
    /// A request ends with it.
    Tell,
    /// Its log page was read, and not to be retained.
    Read,
    /// The host does not want it any more.
    Disable,
}

impl Phase {
    /// The next phase; `None` where this cannot be.
    const fn next(self, step: Step) -> Option<Self> {
        match (self, step) {
            (Self::Quiet | Self::Due, Step::Occur) => Some(Self::Due),
            // Masked: the log is read after this, and tells of it.
            (Self::Told, Step::Occur) => Some(Self::Told),
            (Self::Due, Step::Tell) => Some(Self::Told),
            (Self::Quiet | Self::Told, Step::Tell) => None,
            (_, Step::Read) => Some(Self::Quiet),
            (Self::Quiet | Self::Due, Step::Disable) => Some(Self::Quiet),
            (Self::Told, Step::Disable) => Some(Self::Told),
        }
    }
}

/// One notification of the reservation log.
#[derive(Clone, Copy, Debug)]
struct ReservationEntry {
    count: u64,
    kind: ReservationNotice,
    nsid: u32,
}

/// Everything that one controller has to tell.
#[derive(Debug)]
pub(super) struct Events {
    /// Requests, oldest first.
    held: Vec<Slot>,
    phases: [Phase; EventKind::ALL.len()],
    configuration: AsyncEventConfiguration,
    /// Since the list was read. One more than fit says only that.
    changed: BTreeSet<u32>,
    reservations: VecDeque<ReservationEntry>,
    /// Of the last notification; never 0 [NVMe Base 2.0, 5.16.1.24].
    reservation_count: u64,
}

impl Events {
    pub(super) fn new(subject: Subject, reports_ana: bool) -> Self {
        Self {
            held: Vec::with_capacity(EVENT_REQUEST_COUNT_MAX),
            phases: [Phase::Quiet; EventKind::ALL.len()],
            configuration: AsyncEventConfiguration(optional(subject, reports_ana)),
            changed: BTreeSet::new(),
            reservations: VecDeque::new(),
            reservation_count: 0,
        }
    }

    /// What the host wants to be told.
    pub(super) fn configuration(&self) -> AsyncEventConfiguration {
        self.configuration
    }

    /// The host wants to be told this from now on; the caller has checked that it can be.
    pub(super) fn configure(&mut self, configuration: AsyncEventConfiguration) {
        self.configuration = configuration;
        for kind in EventKind::ALL {
            if !self.is_wanted(kind) {
                self.step(kind, Step::Disable);
            }
        }
    }

    /// Holds a request. False if as many are held as may be.
    pub(super) fn hold(&mut self, slot: Slot) -> bool {
        let has_room = self.held.len() < EVENT_REQUEST_COUNT_MAX;
        if has_room {
            self.held.push(slot);
        }
        has_room
    }

    fn raise(&mut self, kind: EventKind) {
        if self.is_wanted(kind) {
            self.step(kind, Step::Occur);
        }
    }

    /// Its log page was read with RAE 0.
    fn read(&mut self, kind: EventKind) {
        self.step(kind, Step::Read);
    }

    /// A request that ends, and with what.
    fn tell(&mut self) -> Option<(Slot, AsyncEvent)> {
        let kind = EventKind::ALL.into_iter().find(|kind| self.phases[*kind as usize] == Phase::Due)?;
        if self.held.is_empty() {
            return None;
        }
        let slot = self.held.remove(0);
        self.step(kind, Step::Tell);
        Some((slot, kind.event()))
    }

    fn is_wanted(&self, kind: EventKind) -> bool {
        kind.configured_by().is_none_or(|bit| self.configuration.contains(bit))
    }

    fn step(&mut self, kind: EventKind, step: Step) {
        let phase = &mut self.phases[kind as usize];
        let next = phase.next(step);
        debug_assert!(next.is_some(), "{kind:?}: {step:?} in {phase:?}");
        *phase = next.unwrap_or(*phase);
    }
}

/// The events that a controller of this kind can be asked for: OAES, and what its configuration starts with, as Linux's and SPDK's targets start.
pub(super) fn optional(subject: Subject, reports_ana: bool) -> u32 {
    match subject {
        Subject::Discovery => AsyncEventConfiguration::DISCOVERY_CHANGED,
        Subject::Nvm(_) if reports_ana => {
            AsyncEventConfiguration::NAMESPACE_CHANGED | AsyncEventConfiguration::ANA_CHANGED
        }
        Subject::Nvm(_) => AsyncEventConfiguration::NAMESPACE_CHANGED,
    }
}

impl Controller {
    /// Something has happened that the host may want to know. The caller has checked that this controller is meant.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        // A host that enables its controller looks at everything afterwards.
        if !self.is_ready() {
            return;
        }
        let events = &mut self.events;
        match notice {
            Notice::NamespaceChanged { nsid, .. } => {
                if events.changed.len() <= ChangedNamespaceList::COUNT_MAX {
                    events.changed.insert(*nsid);
                }
                if !defect::is(Defect::NobodyHearsOfNamespaces) {
                    events.raise(EventKind::NamespaceChanged);
                }
            }
            Notice::AnaChanged { .. } => events.raise(EventKind::AnaChanged),
            Notice::DiscoveryChanged { .. } => events.raise(EventKind::DiscoveryChanged),
            Notice::Reservation { nsid, kind, .. } => {
                // The count wraps past 0, which says that there is none.
                events.reservation_count = events.reservation_count.checked_add(1).unwrap_or(1);
                let entry = ReservationEntry { count: events.reservation_count, kind: *kind, nsid: *nsid };
                if events.reservations.len() == RESERVATION_NOTICE_COUNT_MAX {
                    // The gap in the count tells the host that it missed some.
                    events.reservations.pop_front();
                }
                events.reservations.push_back(entry);
                events.raise(EventKind::ReservationLog);
            }
        }
    }

    /// A held event request that ends now, and with what. Asked for until there is none.
    pub(crate) fn next_event(&mut self) -> Option<(Slot, AsyncEvent)> {
        self.events.tell()
    }

    /// The held event requests, which are held no more.
    pub(crate) fn release_events(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.events.held)
    }

    /// One held event request is held no more.
    pub(crate) fn release_event(&mut self, slot: Slot) {
        self.events.held.retain(|held| *held != slot);
    }

    /// A reset: the host has been told nothing, and looks at everything once it has enabled the controller again. Requests are released before.
    pub(super) fn reset_events(&mut self) {
        debug_assert!(self.events.held.is_empty(), "held requests end with the reset");
        self.events = Events::new(self.subject, self.reports_ana);
    }

    /// The Changed Namespace List; read once where the event is not to be retained.
    pub(super) fn changed_namespaces(&mut self, is_retained: bool) -> ChangedNamespaceList {
        let nsids: Vec<u32> = self.events.changed.iter().copied().collect();
        if !is_retained {
            self.events.changed.clear();
            self.events.read(EventKind::NamespaceChanged);
        }
        ChangedNamespaceList::new(&nsids)
    }

    /// The oldest notification of the reservation log; gone once it was read where the event is not to be retained.
    pub(super) fn reservation_log(&mut self, is_retained: bool) -> ReservationLog {
        let events = &mut self.events;
        let Some(entry) = events.reservations.front().copied() else { return ReservationLog::empty() };
        let behind = events.reservations.len() - 1;
        if !is_retained {
            events.reservations.pop_front();
            events.read(EventKind::ReservationLog);
            if behind > 0 {
                events.raise(EventKind::ReservationLog);
            }
        }
        ReservationLog::new(entry.count, entry.kind as u8, u8::try_from(behind).unwrap_or(u8::MAX), entry.nsid)
    }

    /// The ANA log page was read and its event is not to be retained.
    pub(super) fn ana_log_was_read(&mut self) {
        self.events.read(EventKind::AnaChanged);
    }

    /// The discovery log page was read and its event is not to be retained.
    pub(super) fn discovery_log_was_read(&mut self) {
        self.events.read(EventKind::DiscoveryChanged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subsystem::SubsystemId;

    /// Every edge. A new one shows here, and has to be argued.
    const TABLE: &str = "\
Quiet Occur Due
Quiet Read Quiet
Quiet Disable Quiet
Due Occur Due
Due Tell Told
Due Read Quiet
Due Disable Quiet
Told Occur Told
Told Read Quiet
Told Disable Told
";

    #[test]
    fn the_whole_table() {
        let mut text = String::new();
        for phase in [Phase::Quiet, Phase::Due, Phase::Told] {
            for step in [Step::Occur, Step::Tell, Step::Read, Step::Disable] {
                if let Some(next) = phase.next(step) {
                    text.push_str(&format!("{phase:?} {step:?} {next:?}\n"));
                }
            }
        }
        assert_eq!(text, TABLE);
    }

    #[test]
    fn an_event_waits_for_a_request_and_is_told_once() {
        let mut events = Events::new(Subject::Nvm(SubsystemId(1)), false);
        events.raise(EventKind::NamespaceChanged);
        assert_eq!(events.tell(), None);
        assert!(events.hold(7) && events.hold(8));
        assert_eq!(events.tell(), Some((7, AsyncEvent::NAMESPACE_CHANGED)), "the oldest request");
        events.raise(EventKind::NamespaceChanged);
        assert_eq!(events.tell(), None, "masked");
        events.read(EventKind::NamespaceChanged);
        assert_eq!(events.tell(), None, "the log has told it");
        events.raise(EventKind::NamespaceChanged);
        assert_eq!(events.tell(), Some((8, AsyncEvent::NAMESPACE_CHANGED)));
    }

    #[test]
    fn one_event_does_not_mask_another() {
        let mut events = Events::new(Subject::Nvm(SubsystemId(1)), false);
        assert!(events.hold(1) && events.hold(2));
        events.raise(EventKind::NamespaceChanged);
        events.raise(EventKind::ReservationLog);
        assert_eq!(events.tell().map(|told| told.1), Some(AsyncEvent::NAMESPACE_CHANGED));
        assert_eq!(events.tell().map(|told| told.1), Some(AsyncEvent::RESERVATION_LOG));
    }

    #[test]
    fn what_is_not_wanted_is_not_told() {
        let mut events = Events::new(Subject::Nvm(SubsystemId(1)), false);
        assert!(events.hold(1));
        events.raise(EventKind::DiscoveryChanged);
        assert_eq!(events.tell(), None, "not of this kind of controller");
        events.raise(EventKind::NamespaceChanged);
        events.configure(AsyncEventConfiguration(0));
        assert_eq!(events.tell(), None);
        events.configure(AsyncEventConfiguration(AsyncEventConfiguration::NAMESPACE_CHANGED));
        assert_eq!(events.tell(), None, "what came while it was off is not told later");
    }
}
