//! A machine's events, from what raises them to who fetches them.
//!
//! Events of one object keep their order; what is withheld lets the others pass.

use super::options::EventKinds;
use super::port::InProcessPort;
use super::provider::{InProcessProvider, Member};
use crate::verbs::{Charge, ConnectionId, Event, Unacknowledged};

pub(super) struct Pending {
    remaining: u32,
    charge: Charge,
    event: Event<InProcessPort>,
}

impl InProcessProvider {
    pub(super) fn push_event(&mut self, event: Event<InProcessPort>) {
        let kind = EventKinds::of(&event);
        let (comes_twice, faults) = {
            let mut world = self.world();
            let faults = world.machine(self.machine).options.manager;
            (faults.twice.contains(kind) && world.choices.one_in("event comes twice", 2), faults)
        };
        let second = if comes_twice { copy(&event) } else { None };
        for event in [Some(event), second].into_iter().flatten() {
            let mut remaining = self.delay(event.name());
            if faults.late.contains(kind) {
                remaining += self.world().choices.between("event is late", 0, faults.late_looks_max);
            }
            self.events.push(Pending { remaining, charge: event.charge(), event });
        }
    }

    /// Whether an event of this kind has been raised and not fetched.
    pub(super) fn is_pending(&self, kind: EventKinds) -> bool {
        self.events.iter().any(|pending| EventKinds::of(&pending.event) == kind)
    }

    /// Unfetched events of an object that goes are discarded. Gives them back.
    pub(super) fn discard_events(&mut self, charge: Charge) -> Vec<Event<InProcessPort>> {
        let (of_it, others) =
            std::mem::take(&mut self.events).into_iter().partition(|pending| pending.charge == charge);
        self.events = others;
        let of_it: Vec<Pending> = of_it;
        of_it.into_iter().map(|pending| pending.event).collect()
    }

    /// One look at all of them: the first that is due.
    pub(super) fn fetch(&mut self) -> Option<Unacknowledged<InProcessPort>> {
        let machine = self.machine;
        let faults = self.world().machine(machine).options.manager;
        let mut due = None;
        let mut earlier = Vec::new();
        for (at, pending) in self.events.iter_mut().enumerate() {
            if faults.withholds.contains(EventKinds::of(&pending.event)) {
                continue;
            }
            // Events of one object keep their order.
            let is_first = pending.charge == Charge::Nothing || !earlier.contains(&pending.charge);
            earlier.push(pending.charge);
            if pending.remaining > 0 {
                pending.remaining -= 1;
            } else if is_first && due.is_none() {
                due = Some(at);
            }
        }
        let Pending { charge, event, .. } = self.events.remove(due?);
        if charge != Charge::Nothing {
            *self.unacknowledged.entry(charge).or_insert(0) += 1;
        }
        if let Event::LastWqeReached { connection } = &event
            && let Some(member) = self.member(*connection)
        {
            self.world().machine(machine).end_last_wqe(member.serial);
            self.ports[member.port.0 as usize].wake();
        }
        if let Event::Rejected { connection, .. } = &event
            && let (true, Some(member)) = (faults.rejected_moves_to_error, self.member(*connection))
        {
            self.ports[member.port.0 as usize].fail(&member.control);
        }
        Some(Unacknowledged::new(event))
    }

    fn member(&self, connection: ConnectionId) -> Option<Member> {
        self.connections.get(&connection)?.queue_pair.clone()
    }
}

/// The same event again, if it is one that can come again.
fn copy(event: &Event<InProcessPort>) -> Option<Event<InProcessPort>> {
    match *event {
        Event::Disconnected { connection } => Some(Event::Disconnected { connection }),
        Event::TimewaitExit { connection } => Some(Event::TimewaitExit { connection }),
        Event::LastWqeReached { connection } => Some(Event::LastWqeReached { connection }),
        Event::QueuePairFatal { connection } => Some(Event::QueuePairFatal { connection }),
        Event::DeviceRemoved(device) => Some(Event::DeviceRemoved(device)),
        Event::CompletionQueueError { port } => Some(Event::CompletionQueueError { port }),
        Event::AddressChanged { of } => Some(Event::AddressChanged { of }),
        Event::Rejected { connection, ref reason } => Some(Event::Rejected { connection, reason: reason.clone() }),
        Event::Registered { .. }
        | Event::Deregistered { .. }
        | Event::QueuePairCreated { .. }
        | Event::QueuePairDestroyed { .. }
        | Event::ConnectionDestroyed { .. }
        | Event::Unlistened { .. }
        | Event::Resolved { .. }
        | Event::ConnectRequest(_)
        | Event::Established { .. }
        | Event::DeviceReleased(_)
        | Event::DeviceReopened { .. } => None,
    }
}
