//! Whether a connection may be made, on which CPU and on which terms: every limit has its reject status.
//!
//! What a connection needs until its very end (places in tables and limbo, completion queue entries, receives) is reserved here, so that
//! nothing in teardown can fail for want of room.

use nvmf_core::spec::ControllerSpec;

use super::device::PortState;
use crate::binding::{RejectStatus, RequestData};
use crate::target::body::slot_count;
use crate::target::message::Terms;
use crate::verbs::{ConnectionRequest, DeviceAttributes, QueuePairOptions};

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

/// What a CPU has given away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::target) struct CpuLoad {
    /// Queue pairs, from the request until they are reaped.
    pub(in crate::target) queue_pair_count: usize,
    /// Entries of the completion queue.
    pub(in crate::target) completion_count: u32,
    /// Whether it gets more.
    pub(in crate::target) port: PortState,
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

/// Completion queue entries that a connection can fill at worst: each of its work requests may fail.
pub(super) fn completion_count(limits: &Limits, terms: Terms) -> u32 {
    match limits.shared_receive_count {
        0 => terms.send_count + u32::from(terms.depth) + 1,
        _ => terms.send_count,
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

/// The least loaded CPU that has room, the first of equals. Its load is raised.
pub(super) fn choose_cpu(limits: &Limits, loads: &mut [CpuLoad], terms: Terms) -> Option<usize> {
    let completion_count = completion_count(limits, terms);
    // The shared receives are taken by the receive queue's own entries in the completion queue, and each queue pair needs one for its Connect.
    let (queue_pair_count_max, completions) = match limits.shared_receive_count {
        0 => (limits.queue_pair_count_max, limits.completion_count),
        shared => (limits.queue_pair_count_max.min(shared as usize), limits.completion_count.saturating_sub(shared)),
    };
    let has_room = |load: &CpuLoad| {
        load.port == PortState::Works
            && load.queue_pair_count < queue_pair_count_max
            && load.completion_count + completion_count <= completions
    };
    let (cpu, load) = loads
        .iter_mut()
        .enumerate()
        .filter(|(_, load)| has_room(load))
        .min_by_key(|(_, load)| load.queue_pair_count)?;
    load.queue_pair_count += 1;
    load.completion_count += completion_count;
    Some(cpu)
}

/// A connection is gone.
pub(super) fn give_back(limits: &Limits, load: &mut CpuLoad, terms: Terms) {
    load.queue_pair_count -= 1;
    load.completion_count -= completion_count(limits, terms);
}
