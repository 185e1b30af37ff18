//! Whether a connection may be made, and on which terms: every limit has its reject status.
//!
//! What a connection needs until its very end (places in tables and limbo, completion queue entries, receives) is reserved here, so that
//! nothing in teardown can fail for want of room. A connection's record holds what was reserved for it, by value, until it is forgotten.

use nvmf_core::spec::ControllerSpec;

use super::device::PortState;
use crate::binding::{RejectStatus, RequestData};
#[cfg(debug_assertions)]
use crate::permit::ProgramDropped;
use crate::permit::{CompletionRoom, Forfeit, Ledger, Permits, QueuePairRoom, ReceiveRoom};
use crate::target::body::slot_count;
use crate::target::fitting::Fitting;
use crate::target::message::Terms;
use crate::target::region::RegionKeys;
#[cfg(debug_assertions)]
use crate::verbs::Provider;
use crate::verbs::{ConnectionRequest, DeviceAttributes, PortOptions, QueuePairOptions, VerbsError};

/// What limits the connections of this target.
#[derive(Clone, Copy, Debug)]
pub(in crate::target) struct Limits {
    pub(in crate::target) controller: ControllerSpec,
    pub(in crate::target) device: DeviceAttributes,
    /// Queue pairs of one CPU.
    pub(in crate::target) queue_pair_count_max: usize,
    /// Depth of a CPU's shared receive queue, 0 without.
    pub(in crate::target) shared_receive_count: u32,
    /// Entries of a CPU's completion queue.
    pub(in crate::target) completion_count: u32,
}

impl Limits {
    /// On such a device. The completion queue has room for every work request of every queue pair, as far as the device has it: connections beyond that are refused.
    pub(in crate::target) fn new(
        controller: ControllerSpec,
        device: DeviceAttributes,
        queue_pair_count_max: usize,
        shared_receive_count: u32,
    ) -> Self {
        let mut limits = Self { controller, device, queue_pair_count_max, shared_receive_count, completion_count: 0 };
        let depth = depth_max(&controller);
        let sends = u64::from(send_count(&limits, depth, device.read_initiator_count_max));
        let receives = if shared_receive_count == 0 { u64::from(depth) + 1 } else { 0 };
        let all = (sends + receives) * queue_pair_count_max as u64 + u64::from(shared_receive_count);
        limits.completion_count = u32::try_from(all).unwrap_or(u32::MAX).min(device.completion_count_max);
        limits
    }

    /// How a CPU's port is made.
    pub(in crate::target) fn port_options(&self) -> PortOptions {
        PortOptions { completion_count: self.completion_count, shared_receive_count: self.shared_receive_count }
    }

    /// What a CPU gets.
    pub(in crate::target) fn fitting<Q>(&self, port: Q, keys: RegionKeys) -> Fitting<Q> {
        Fitting {
            port,
            keys,
            completion_count: self.completion_count as usize,
            transfer_len_max: self.device.transfer_len_max.max(1),
            inline_responses: inline_len(&self.device) > 0,
            raises_last_wqe: self.device.raises_last_wqe,
        }
    }
}

/// Most entries of a queue that a host can ask for.
pub(in crate::target) fn depth_max(controller: &ControllerSpec) -> u16 {
    controller.queue_depth_max.max(controller.admin_queue_depth_max)
}

/// A CPU's room.
#[derive(Debug)]
pub(in crate::target) struct CpuLoad {
    /// For queue pairs, from the request until they are reaped.
    queue_pairs: Ledger<QueuePairRoom>,
    completions: Ledger<CompletionRoom>,
    /// None where a message that finds no receive is tried again.
    receives: Ledger<ReceiveRoom>,
    /// Of the queue pairs, those for I/O queues.
    io_count: u32,
    /// Whether it gets more.
    pub(in crate::target) port: PortState,
}

impl CpuLoad {
    /// All of it is free. The shared receives take entries of the completion queue for themselves, and each queue pair needs one for its Connect.
    pub(super) fn new(limits: &Limits) -> Self {
        let (queue_pair_count, completion_count) = match limits.shared_receive_count {
            0 => (limits.queue_pair_count_max, limits.completion_count),
            shared => {
                (limits.queue_pair_count_max.min(shared as usize), limits.completion_count.saturating_sub(shared))
            }
        };
        Self {
            queue_pairs: Ledger::issue(u32::try_from(queue_pair_count).unwrap_or(u32::MAX)),
            completions: Ledger::issue(completion_count),
            receives: Ledger::issue(if limits.device.retries_receiver_not_ready {
                0
            } else {
                limits.shared_receive_count
            }),
            io_count: 0,
            port: PortState::Works,
        }
    }

    /// Queue pairs that it has, or is about to have.
    pub(super) fn queue_pair_count(&self) -> u32 {
        self.queue_pairs.out_count()
    }

    /// Of these, the ones for I/O queues.
    pub(super) fn io_count(&self) -> u32 {
        self.io_count
    }

    /// Whether one more may come.
    pub(super) fn has_room(&self, needs: Needs) -> bool {
        self.port == PortState::Works
            && self.queue_pairs.at_hand_count() > 0
            && self.completions.at_hand_count() >= needs.completion_count
            && self.receives.at_hand_count() >= needs.receive_count
    }

    /// One more comes. `None`: there is no room for it.
    pub(super) fn reserve(&mut self, needs: Needs, is_io: bool) -> Option<Reservation> {
        if !self.has_room(needs) {
            return None;
        }
        let queue_pair = self.queue_pairs.take()?.into();
        let completions = self.completions.take_many(needs.completion_count).expect("has_room has looked");
        let receives = self.receives.take_many(needs.receive_count).expect("has_room has looked");
        self.io_count += u32::from(is_io);
        Some(Reservation { queue_pair, completions, receives, is_io })
    }

    /// Whether nobody has any of it.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.queue_pairs.out_count() + self.completions.out_count() + self.receives.out_count() == 0
    }

    /// A connection is gone.
    pub(super) fn give_back(&mut self, reservation: Reservation) {
        self.io_count -= u32::from(reservation.is_io);
        self.queue_pairs.give_many(reservation.queue_pair);
        self.completions.give_many(reservation.completions);
        self.receives.give_many(reservation.receives);
    }

    /// A queue pair could not be destroyed: its room is never given again.
    pub(super) fn write_off(&mut self, reservation: Reservation, proof: &Undestroyed) {
        self.io_count -= u32::from(reservation.is_io);
        self.queue_pairs.write_off(reservation.queue_pair, proof);
        self.completions.write_off(reservation.completions, proof);
        self.receives.write_off(reservation.receives, proof);
    }
}

/// What one connection takes of its CPU's room.
#[derive(Debug)]
#[must_use]
pub(super) struct Reservation {
    queue_pair: Permits<QueuePairRoom>,
    /// An entry for each of its work requests: each may fail, and completes then.
    completions: Permits<CompletionRoom>,
    /// A shared receive for each command, where there must be one.
    receives: Permits<ReceiveRoom>,
    is_io: bool,
}

impl Reservation {
    /// All of it: nothing stays here.
    pub(super) fn take(&mut self) -> Self {
        Self {
            queue_pair: self.queue_pair.take_all(),
            completions: self.completions.take_all(),
            receives: self.receives.take_all(),
            is_io: std::mem::take(&mut self.is_io),
        }
    }
}

/// Proof that a queue pair's room in the completion queue is lost: its destroy call failed.
pub(super) struct Undestroyed(());

impl Forfeit for Undestroyed {}

impl Undestroyed {
    /// What the call said.
    pub(super) fn because(_error: &VerbsError) -> Self {
        Self(())
    }
}

/// Terms of the connection that is asked for.
///
/// # Errors
/// What the REJECT says.
pub(super) fn terms(limits: &Limits, request: &ConnectionRequest) -> Result<(RequestData, Terms), RejectStatus> {
    let data = RequestData::parse(&request.private_data).map_err(crate::binding::PrivateDataError::status)?;
    if data.queue_id > limits.controller.io_queue_count_max {
        return Err(RejectStatus::InvalidQueueId);
    }
    let depth_max = match data.queue_id {
        0 => limits.controller.admin_queue_depth_max,
        _ => limits.controller.queue_depth_max,
    };
    if u32::from(data.send_queue_size_zero_based) + 1 > u32::from(depth_max) {
        return Err(RejectStatus::InvalidSendQueueSize);
    }
    // Without READs no data of a write could be pulled.
    let read_depth = limits.device.read_initiator_count_max.min(request.responder_resources);
    if read_depth == 0 {
        return Err(RejectStatus::InvalidInboundReadDepth);
    }
    // At most `depth_max`, which is 16 bits wide.
    let depth = u16::try_from(data.depth()).map_err(|_| RejectStatus::InvalidSendQueueSize)?;
    let send_count = send_count(limits, depth, read_depth);
    if send_count < SEND_COUNT_MIN || u32::from(depth) + 1 > limits.device.work_request_count_max {
        return Err(RejectStatus::NoResources);
    }
    Ok((data, Terms { depth, read_depth, send_count }))
}

/// A push, a response, and the marker's place.
const SEND_COUNT_MIN: u32 = 3;

/// Room of a send queue: for each slot its response and all parts of its push, READs as deep as they may be, and the marker. A device that
/// has less makes them wait, no more.
pub(in crate::target) fn send_count(limits: &Limits, depth: u16, read_depth: u8) -> u32 {
    let parts = limits.controller.transfer_len_max.div_ceil(limits.device.transfer_len_max.max(1)).min(4);
    let wanted = u32::from(slot_count(depth)) * (1 + parts) + u32::from(read_depth) + 1;
    wanted.min(limits.device.work_request_count_max)
}

/// What a connection takes of its CPU's room, besides its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    completion_count: u32,
    receive_count: u32,
}

impl Needs {
    pub(super) fn of(limits: &Limits, terms: Terms) -> Self {
        Self { completion_count: completion_count(limits, terms), receive_count: receive_count(limits, terms) }
    }
}

/// Completion queue entries that a connection can fill at worst: each of its work requests may fail.
fn completion_count(limits: &Limits, terms: Terms) -> u32 {
    match limits.shared_receive_count {
        0 => terms.send_count + u32::from(terms.depth) + 1,
        _ => terms.send_count,
    }
}

/// Shared receives that are kept for a connection's commands, so that none of them finds none.
fn receive_count(limits: &Limits, terms: Terms) -> u32 {
    match limits.shared_receive_count {
        0 => 0,
        _ if limits.device.retries_receiver_not_ready => 0,
        _ => terms.depth.into(),
    }
}

/// How its queue pair is made.
pub(super) fn queue_pair_options(limits: &Limits, terms: Terms) -> QueuePairOptions {
    QueuePairOptions {
        send_count: terms.send_count,
        receive_count: if limits.shared_receive_count == 0 { u32::from(terms.depth) + 1 } else { 0 },
        segment_count: 1,
        inline_len: inline_len(&limits.device),
        shared_receive: limits.shared_receive_count > 0,
    }
}

/// Responses go inline where the device takes them so.
pub(in crate::target) fn inline_len(device: &DeviceAttributes) -> u32 {
    const RESPONSE_LEN: u32 = 16;
    const _: () = assert!(RESPONSE_LEN as usize == crate::binding::RESPONSE_LEN);
    if device.inline_len_max >= RESPONSE_LEN { RESPONSE_LEN } else { 0 }
}

/// With the whole control plane: a record that goes away by itself has to give its reservation back.
#[cfg(debug_assertions)]
impl<P: Provider> Drop for super::Control<P> {
    fn drop(&mut self) {
        for (_, record) in self.records.iter_mut() {
            let Reservation { queue_pair, completions, receives, .. } = record.reservation.take();
            queue_pair.surrender(&ProgramDropped);
            completions.surrender(&ProgramDropped);
            receives.surrender(&ProgramDropped);
        }
        for load in self.loads.drain(..) {
            load.queue_pairs.surrender(&ProgramDropped);
            load.completions.surrender(&ProgramDropped);
            load.receives.surrender(&ProgramDropped);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::target::body::{Bodies, Body};
    use crate::verbs::QueuePairName;

    pub(crate) const TERMS: Terms = Terms { depth: 4, read_depth: 2, send_count: 20 };

    pub(crate) fn limits(queue_pair_count_max: usize, shared_receive_count: u32, completion_count: u32) -> Limits {
        let device = DeviceAttributes {
            queue_pair_count_max: 64,
            work_request_count_max: 1024,
            completion_count_max: 4096,
            shared_receive_count_max: 64,
            segment_count_max: 1,
            inline_len_max: 16,
            read_responder_count_max: 4,
            read_initiator_count_max: 4,
            send_len_max: 1 << 16,
            transfer_len_max: 1 << 16,
            raises_last_wqe: true,
            retries_receiver_not_ready: true,
        };
        let controller = ControllerSpec::default();
        Limits { controller, device, queue_pair_count_max, shared_receive_count, completion_count }
    }

    /// All entries that a connection's work requests can fill.
    #[test]
    fn a_connection_reserves_an_entry_for_each_permit_of_its_queue_pair() {
        for shared in [0, 8] {
            let limits = limits(1, shared, 1000);
            let arena = reactor::Arena::new(4096, false).unwrap();
            let home = reactor::Home { cpu: reactor::Cpu(0), pool: 0 };
            let mut pool = reactor::Pool::new(home, arena.segment(), 64);
            let receive_count = usize::try_from(queue_pair_options(&limits, TERMS).receive_count).unwrap();
            let buffers = std::iter::from_fn(|| pool.take()).take(receive_count).collect();
            let name = QueuePairName { index: 0, number: 1 };
            let (qpair, record) = (reactor::Handle::from_bits(0), reactor::Handle::from_bits(0));
            let mut bodies = Bodies::new(1);
            bodies.insert(Box::new(Body::new(qpair, record, name, TERMS, buffers)));
            let allowance = bodies.at_mut(0).unwrap().live_mut().unwrap().0.allowance();
            let postable = allowance.sends.issued_count() + allowance.receives.issued_count();
            assert_eq!(postable, completion_count(&limits, TERMS), "shared receives: {shared}");
        }
    }

    /// F10: what is reserved comes back, and no more is reserved than there is.
    #[test]
    fn room_is_reserved_once_and_comes_back() {
        let limits = limits(8, 0, 60);
        let (mut load, needs) = (CpuLoad::new(&limits), Needs::of(&limits, TERMS));
        for _ in 0..3 {
            let reserved: Vec<_> = std::iter::from_fn(|| load.reserve(needs, true)).collect();
            assert_eq!(reserved.len(), 2, "25 entries each, of 60");
            for reservation in reserved {
                load.give_back(reservation);
            }
            assert!(load.is_free());
        }
    }

    #[test]
    fn shared_receives_have_their_entries_and_each_queue_pair_one_for_its_connect() {
        let limits = limits(8, 2, 100);
        let (mut load, needs) = (CpuLoad::new(&limits), Needs::of(&limits, TERMS));
        assert_eq!(load.completions.at_hand_count(), 98);
        let reserved: Vec<_> = std::iter::from_fn(|| load.reserve(needs, true)).collect();
        assert_eq!(reserved.len(), 2);
        for reservation in reserved {
            load.give_back(reservation);
        }
    }

    /// A command that finds no receive ends its connection on iWARP, so there is one for each that may come.
    #[test]
    fn each_command_has_its_shared_receive_where_nothing_is_tried_again() {
        for (retries, expected) in [(true, 8), (false, 5)] {
            let mut limits = limits(8, 22, 4000);
            limits.device.retries_receiver_not_ready = retries;
            let (mut load, needs) = (CpuLoad::new(&limits), Needs::of(&limits, TERMS));
            let reserved: Vec<_> = std::iter::from_fn(|| load.reserve(needs, true)).collect();
            assert_eq!(reserved.len(), expected, "of 22 receives, by 4");
            for reservation in reserved {
                load.give_back(reservation);
            }
            assert!(load.is_free());
        }
    }

    #[test]
    fn the_room_of_what_could_not_be_destroyed_is_never_given_again() {
        let limits = limits(2, 0, 1000);
        let (mut load, needs) = (CpuLoad::new(&limits), Needs::of(&limits, TERMS));
        let mut reservation = load.reserve(needs, true).unwrap();
        let error = VerbsError::Limit { what: "anything", value: 1, limit: 0 };
        load.write_off(reservation.take(), &Undestroyed::because(&error));
        load.give_back(reservation);
        assert_eq!((load.queue_pairs.issued_count(), load.completions.issued_count()), (1, 975));
        let last = load.reserve(needs, true).unwrap();
        assert!(load.reserve(needs, true).is_none());
        load.give_back(last);
    }
}
