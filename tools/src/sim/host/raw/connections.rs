//! From an address to a queue pair that is up, and back to nothing.

use transport_rdma::soft::in_process::InProcessPort;
use transport_rdma::verbs::{
    ConnectParameters, Connection, ConnectionId, Event, LocalSegment, Port, Provider, QueuePairOptions, RejectReason,
    Ticket, VerbsError,
};

use super::memory::PLACE_COUNT;
use super::observed::Reject;
use super::orders::Opening;
use super::outcome::Outcome;
use super::queue::{Kind, Queue, Sent, Slot, Stage, WorkId};
use super::{Machine, RawHost, nvme};

/// What a ticket stands for, above the place and its generation.
#[derive(Clone, Copy)]
enum Call {
    Resolve = 1,
    CreateQueuePair = 2,
    DestroyQueuePair = 3,
    DestroyConnection = 4,
}

type QueuePair = <InProcessPort as Port>::QueuePair;

/// Receives beyond a queue's depth.
const SPARE_RECEIVES: usize = 2;

impl RawHost {
    /// Whether there is a place for the queue.
    pub(super) fn open(&mut self, opening: Opening) -> bool {
        let Some(place) = self.queues.iter().position(Option::is_none) else { return false };
        let Some(machine) = &mut self.machine else { return false };
        self.generation += 1;
        let slots = (0..super::memory::COMMAND_COUNT_MAX).map(|slot| Slot::new(self.memory.buffer(place, slot)));
        self.history.note(&self.name, || format!("queue {}: resolves", opening.qid));
        let address = opening.address;
        let queue = Queue::new(opening, self.generation, self.now_ns, slots.collect());
        machine.provider.begin_resolve(ticket(Call::Resolve, place, &queue), address);
        self.queues[place] = Some(queue);
        true
    }

    pub(super) fn take_event(&mut self, event: Event<InProcessPort>) {
        match event {
            Event::Registered { result, .. } => match (result, &mut self.machine) {
                (Ok(keys), Some(machine)) => machine.keys = Some(keys),
                (Ok(_), None) => {}
                (Err(_), _) => self.machine_failed("registering memory"),
            },
            Event::Resolved { ticket, result } => self.resolved(ticket, result),
            Event::QueuePairCreated { ticket, result } => self.created(ticket, result),
            Event::Established { connection, .. } => {
                let Some(place) = self.place_of(connection) else { return };
                if self.stage_of(place) == Some(Stage::Connecting) {
                    self.enter(place, Stage::Established);
                    self.observe().established_count += 1;
                }
            }
            Event::Rejected { connection, reason } => self.rejected(connection, &reason),
            Event::Disconnected { connection } => {
                let Some(place) = self.place_of(connection) else { return };
                self.disconnected(place);
            }
            Event::QueuePairFatal { connection } => {
                let Some(place) = self.place_of(connection) else { return };
                self.end_with(place);
            }
            Event::QueuePairDestroyed { ticket, result } => {
                // A device that is gone says EIO, and nothing is written any more all the same.
                if result.is_err() {
                    self.observe().machine_faults.push("destroying a queue pair");
                }
                let Some(place) = self.place_of_ticket(ticket) else { return };
                self.destroyed(place);
            }
            Event::ConnectionDestroyed { ticket } => {
                let Some(place) = self.place_of_ticket(ticket) else { return };
                self.history.note(&self.name, || format!("place {place}: is gone"));
                self.queues[place] = None;
            }
            Event::DeviceRemoved(_) => self.give_device_up("device removed"),
            Event::CompletionQueueError { .. } => self.give_device_up("completion queue broken"),
            // A host does not listen.
            Event::ConnectRequest(request) => {
                if let Some(machine) = &mut self.machine {
                    machine.provider.reject(request, &[]);
                }
            }
            Event::DeviceReleased(_)
            | Event::DeviceReopened { .. }
            | Event::Deregistered { .. }
            | Event::Unlistened { .. }
            | Event::TimewaitExit { .. }
            | Event::AddressChanged { .. }
            | Event::LastWqeReached { .. } => {}
        }
    }

    /// Nothing comes back of it any more: what is there is destroyed without waiting, and nothing new is begun.
    fn give_device_up(&mut self, why: &'static str) {
        self.observe().machine_faults.push(why);
        self.is_removed = true;
        self.sessions.clear();
        self.disconnect_all();
    }

    fn resolved(&mut self, ticket: Ticket, result: Result<Connection, VerbsError>) {
        let place = self.place_of_ticket(ticket);
        let Some(machine) = &mut self.machine else { return };
        let Some((place, queue)) = place.and_then(|place| Some((place, self.queues[place].as_mut()?))) else { return };
        match result {
            Err(_) => {
                self.queues[place] = None;
                self.machine_failed("resolving an address");
            }
            Ok(connection) if queue.is_unwanted => {
                queue.stage = Stage::DestroyingConnection;
                let ticket = self::ticket(Call::DestroyConnection, place, queue);
                machine.provider.begin_destroy_connection(ticket, connection);
            }
            Ok(connection) => {
                let depth = u32::from(queue.opening.depth);
                let options = QueuePairOptions {
                    send_count: depth + 4,
                    receive_count: depth + 2,
                    segment_count: 2,
                    inline_len: 0,
                    shared_receive: false,
                };
                let id = connection.id();
                queue.connection = Some(connection);
                (queue.stage, queue.since_ns) = (Stage::Creating, self.now_ns);
                let ticket = self::ticket(Call::CreateQueuePair, place, queue);
                machine.provider.begin_create_queue_pair(ticket, id, machine.port_id, options);
            }
        }
    }

    fn created(&mut self, ticket: Ticket, result: Result<QueuePair, VerbsError>) {
        let Some(place) = self.place_of_ticket(ticket) else { return };
        let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { return };
        let Ok(queue_pair) = result else {
            self.destroy_connection(place);
            self.machine_failed("making a queue pair");
            return;
        };
        queue.name = Some(machine.port.attach(queue_pair));
        if queue.stage != Stage::Creating {
            // It was disconnected meanwhile: nothing was posted, and it is destroyed.
            return;
        }
        let receive_count = usize::from(queue.opening.depth) + SPARE_RECEIVES;
        for number in 0..receive_count {
            self.post_receive(place, number);
        }
        if self.stage_of(place) == Some(Stage::Creating) {
            self.enter(place, Stage::Attached);
        }
    }

    /// Asks the target.
    pub(super) fn request(&mut self, place: usize) {
        let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { return };
        let opening = &queue.opening;
        let usual = || (nvme::connection_request(opening.qid, opening.depth), 4);
        let (private_data, responder_resources) = opening.request.clone().unwrap_or_else(usual);
        let parameters = ConnectParameters {
            private_data: &private_data,
            responder_resources,
            initiator_depth: 0,
            retry_count: 7,
            rnr_retry_count: 7,
        };
        if let Some(connection) = &queue.connection {
            machine.provider.connect(connection, parameters);
        }
        self.enter(place, Stage::Connecting);
    }

    fn rejected(&mut self, connection: ConnectionId, reason: &RejectReason) {
        let Some(place) = self.place_of(connection) else { return };
        let status = match reason {
            RejectReason::Consumer(data) => nvme::reject_status(data),
            RejectReason::Unreachable(_) | RejectReason::Stale | RejectReason::TimedOut => 0,
        };
        let (at_ns, qid) = (self.now_ns, self.qid_of(place));
        self.history.note(&self.name, || format!("queue {qid}: rejected, {reason:?}"));
        self.observe().rejects.push(Reject { at_ns, qid, status });
        self.disturbed(qid, "rejected");
        self.end_with(place);
    }

    fn disconnected(&mut self, place: usize) {
        let (at_ns, qid) = (self.now_ns, self.qid_of(place));
        self.history.note(&self.name, || format!("queue {qid}: DISCONNECTED"));
        if self.stage_of(place).is_some_and(|stage| !stage.is_ending()) {
            self.observe().disconnects.push((at_ns, qid));
            self.disturbed(qid, "disconnected");
        }
        self.end_with(place);
    }

    /// This queue ends, and with it whatever ends together with it. Not if it was we who ended it.
    pub(super) fn end_with(&mut self, place: usize) {
        if self.stage_of(place).is_none_or(Stage::is_ending) {
            return;
        }
        self.disconnect(place);
        if self.ends_together {
            self.disconnect_all();
        }
    }

    pub(super) fn disconnect_all(&mut self) {
        (0..PLACE_COUNT).for_each(|place| self.disconnect(place));
    }

    /// Moves the queue pair to the error state: everything posted comes back. What was not answered is lost.
    pub(super) fn disconnect(&mut self, place: usize) {
        let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { return };
        match queue.stage {
            Stage::Resolving => queue.is_unwanted = true,
            Stage::Creating
            | Stage::Attached
            | Stage::Connecting
            | Stage::Established
            | Stage::Joining
            | Stage::Joined
            | Stage::Ready => {
                if let Some(connection) = &queue.connection {
                    machine.provider.disconnect(connection.id());
                }
                self.enter(place, Stage::Draining);
                self.lose_commands(place);
            }
            Stage::Draining | Stage::Destroying | Stage::DestroyingConnection => {}
        }
    }

    /// Nobody answers these any more, as far as we care.
    pub(super) fn lose_commands(&mut self, place: usize) {
        let Some(queue) = &mut self.queues[place] else { return };
        for slot in &mut queue.slots {
            let Some(sent) = slot.sent.take() else { continue };
            let mut observed = self.steering.observed.borrow_mut();
            if let Some(tag) = slot.memo.tag {
                observed.outcomes.insert(tag, Outcome::LOST);
            }
            match sent {
                Sent::Write(write) | Sent::Zeroes(write) => self.model.lose(write),
                Sent::Swap(swap) => self.model.lose(swap.write),
                Sent::Read(_) | Sent::Flush(_) | Sent::Compare(..) => {}
                Sent::Connect
                | Sent::Enable
                | Sent::Status
                | Sent::QueueCount
                | Sent::Identify
                | Sent::EventRequest
                | Sent::KeepAlive
                | Sent::ShutDown
                | Sent::Abort(_)
                | Sent::Look
                | Sent::Claim(..)
                | Sent::WrongKey
                | Sent::WrongSgl
                | Sent::Anything => continue,
            }
            observed.io_lost_count += 1;
        }
    }

    /// Whatever gave everything back is destroyed; so is what will not.
    pub(super) fn destroy_drained(&mut self) {
        for place in 0..PLACE_COUNT {
            let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { continue };
            let waited_ns = self.now_ns.saturating_sub(queue.since_ns);
            let is_cut = self.is_removed || self.cuts_after_ns.is_some_and(|limit_ns| waited_ns > limit_ns);
            if queue.stage != Stage::Draining || (queue.posted_count > 0 && !is_cut) {
                continue;
            }
            let Some(queue_pair) = queue.name.take().and_then(|name| machine.port.detach(name)) else { continue };
            let ticket = ticket(Call::DestroyQueuePair, place, queue);
            machine.provider.begin_destroy_queue_pair(ticket, queue_pair);
            self.enter(place, Stage::Destroying);
        }
    }

    /// Nothing is written under it any more: what its buffers hold is looked at a last time.
    fn destroyed(&mut self, place: usize) {
        if let Some(queue) = &self.queues[place] {
            for (number, slot) in queue.slots.iter().enumerate() {
                if let Err(what) = slot.buffer.check() {
                    let (name, qid) = (&self.name, queue.qid);
                    self.findings.report("host", format!("{name}: queue {qid}, command {number}: {what}"));
                }
            }
        }
        self.destroy_connection(place);
    }

    fn destroy_connection(&mut self, place: usize) {
        self.enter(place, Stage::DestroyingConnection);
        let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { return };
        match queue.connection.take() {
            Some(connection) => {
                let ticket = ticket(Call::DestroyConnection, place, queue);
                machine.provider.begin_destroy_connection(ticket, connection);
            }
            None => self.queues[place] = None,
        }
    }

    pub(super) fn post_receive(&mut self, place: usize, number: usize) {
        let (Some(machine), Some(queue)) = (&mut self.machine, &mut self.queues[place]) else { return };
        let (Some(name), Some(keys)) = (queue.name, machine.keys) else { return };
        let memory = self.memory.receive(place, number);
        let segment = LocalSegment { memory, local_key: keys.local_key };
        let id = WorkId { generation: queue.generation, place, kind: Kind::Receive, number };
        if machine.port.post_receive(name, id.to_bits(), &[segment]).is_ok() {
            queue.posted_count += 1;
        } else {
            self.machine_failed("posting a receive");
            self.end_with(place);
        }
    }

    /// A call on our own side failed: that is an end of connections, and no finding.
    pub(super) fn machine_failed(&mut self, what: &'static str) {
        self.history.note(&self.name, || format!("its machine fails: {what}"));
        self.observe().machine_faults.push(what);
        if self.ends_together {
            self.disconnect_all();
        }
    }

    pub(super) fn enter(&mut self, place: usize, stage: Stage) {
        let Some(queue) = &mut self.queues[place] else { return };
        self.history.note(&self.name, || format!("queue {} in place {place}: {stage:?}", queue.qid));
        (queue.stage, queue.since_ns) = (stage, self.now_ns);
    }

    /// `None`: it is being destroyed.
    fn place_of(&self, id: ConnectionId) -> Option<usize> {
        let is_it = |queue: &Queue| queue.connection.as_ref().is_some_and(|connection| connection.id() == id);
        self.queues.iter().position(|queue| queue.as_ref().is_some_and(is_it))
    }

    /// `None`: its queue is gone.
    fn place_of_ticket(&self, ticket: Ticket) -> Option<usize> {
        let id = WorkId::from_bits(ticket.0 & !(0xFF << 24) | 1 << 24)?;
        let queue = self.queues.get(id.place)?.as_ref()?;
        (queue.generation == id.generation).then_some(id.place)
    }
}

impl Machine {
    /// Events are fetched; those that are held are not acknowledged, and so not known.
    pub(super) fn next_event(&mut self, now_ns: u64) -> Option<Event<InProcessPort>> {
        if self.holds_events {
            while let Some(event) = self.provider.next_event(now_ns) {
                self.held_events.push_back(event);
            }
            return None;
        }
        let event = self.held_events.pop_front().or_else(|| self.provider.next_event(now_ns))?;
        Some(self.provider.acknowledge(event))
    }
}

fn ticket(call: Call, place: usize, queue: &Queue) -> Ticket {
    Ticket(u64::from(queue.generation) << 32 | (call as u64) << 24 | (place as u64) << 16)
}
