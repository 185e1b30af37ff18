//! One CPU's side: its queues of one device, and the queue pairs attached to it.
//!
//! Owned by one polling CPU, which alone calls it. Requests are kept in lists and handed over by [`Port::ring`], one call for each queue that has any; nothing
//! allocates after the port was made, but for the table of queue pairs and what an idle CPU's last look finds.
//!
//! A request that the device refuses after it was taken cannot be given back: its queue pair is broken then, which its provider reports, and what was not
//! handed over never completes. Whoever drains it cuts it off when its deadline comes, as with a device that went silent.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. A slot holds the queue pair's object, and this CPU detaches it before anyone destroys it: its pointer is alive while the slot is.
//! 2. The queues live as long as the port, or until it has said that it left (`is_gone`): then there is no queue pair, and nothing of them is used but the
//!    number of their descriptor, which whoever sleeps on it has added to a set that it has left by then.
//! 3. Requests, segments and inline bytes lie on this port's shelves until they were handed over, and are numbers and pointers into those shelves.
//! 4. Memory of segments is the caller's, and stays until the request has completed.

use std::os::fd::RawFd;
use std::sync::Arc;

use reactor::Rest;

use super::batch::{List, Shelf};
use super::device::SEGMENT_COUNT_MAX;
use super::news::News;
use super::queue_pair::{Object, QueuePair, Stage};
use super::queues::Queues;
use super::status;
use super::sys::{self, ibv_wr_opcode as opcode};
use crate::verbs::{Completion, Flags, LocalSegment, Port, PostError, QueuePairName, SendOperation, SendRequest};

/// Requests of each kind that wait for the doorbell.
const REQUEST_COUNT: usize = 256;
/// Their segments.
const SEGMENT_COUNT: usize = 1024;
/// Their inline bytes.
const INLINE_LEN: usize = 16 << 10;
/// Completions that one call takes.
const POLL_COUNT: usize = 32;

const _: () = assert!(SEGMENT_COUNT >= SEGMENT_COUNT_MAX as usize);

/// See above.
pub struct IbvPort {
    queues: Arc<Queues>,
    news: News,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Slots with requests that were not handed over. Each at most once.
    dirty: Vec<u32>,
    shared_receives: List<sys::ibv_recv_wr>,
    sends: Shelf<sys::ibv_send_wr>,
    receives: Shelf<sys::ibv_recv_wr>,
    segments: Shelf<sys::ibv_sge>,
    inline: Shelf<u8>,
    entries: Box<[sys::ibv_wc; POLL_COUNT]>,
    /// What the last look before a sleep found.
    found: Vec<Completion>,
    transfer_len_max: u64,
    forgets_late_receives: bool,
    /// The device was removed, and nothing of the queues is touched any more.
    is_gone: bool,
}

/// An attached queue pair.
struct Slot {
    queue_pair: QueuePair,
    sends: List<sys::ibv_send_wr>,
    receives: List<sys::ibv_recv_wr>,
    is_dirty: bool,
}

impl Slot {
    fn object(&self) -> &Object {
        &self.queue_pair.object
    }
}

impl IbvPort {
    pub(super) fn new(queues: Arc<Queues>, news: News) -> Self {
        let device = Arc::clone(queues.device());
        let entries = Box::new(std::array::from_fn(|_| {
            // SAFETY: numbers.
            unsafe { std::mem::zeroed::<sys::ibv_wc>() }
        }));
        Self {
            queues,
            news,
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            shared_receives: List::default(),
            sends: Shelf::new(REQUEST_COUNT, no_send),
            receives: Shelf::new(REQUEST_COUNT, no_receive),
            segments: Shelf::new(SEGMENT_COUNT, || sys::ibv_sge { addr: 0, length: 0, lkey: 0 }),
            inline: Shelf::new(INLINE_LEN, || 0),
            entries,
            found: Vec::with_capacity(POLL_COUNT),
            transfer_len_max: device.attributes().transfer_len_max.into(),
            forgets_late_receives: device.forgets_late_receives(),
            is_gone: false,
        }
    }

    fn slot(&mut self, name: QueuePairName) -> Result<&mut Slot, PostError> {
        match self.slots.get_mut(name.index as usize) {
            Some(Some(slot)) if slot.object().number() == name.number => Ok(slot),
            Some(_) | None => Err(PostError::WrongState),
        }
    }

    /// Copies the list of segments, without those of nothing.
    #[inline]
    fn put_segments(&mut self, segments: &[LocalSegment]) -> (*mut sys::ibv_sge, i32) {
        let first = self.segments.next(0);
        let mut count = 0;
        for segment in segments.iter().filter(|segment| !segment.memory.is_empty()) {
            self.segments.put(sys::ibv_sge {
                addr: segment.memory.address(),
                // Checked before.
                length: u32::try_from(segment.memory.len()).unwrap_or(u32::MAX),
                lkey: segment.local_key,
            });
            count += 1;
        }
        (first, count)
    }

    /// Copies the data: it may change once the request was taken.
    #[inline]
    fn put_inline(&mut self, segments: &[LocalSegment], len: usize) -> (*mut sys::ibv_sge, i32) {
        let place = self.inline.next(len);
        let mut offset = 0;
        for segment in segments {
            let memory = segment.memory;
            // SAFETY: invariant 3: the lengths add up to `len`.
            let to = unsafe { place.add(offset) };
            // SAFETY: as above; the memory may change meanwhile, which `read` allows for.
            memory.read(0, unsafe { std::slice::from_raw_parts_mut(to, memory.len()) });
            offset += memory.len();
        }
        let entry = sys::ibv_sge { addr: place.addr() as u64, length: u32::try_from(len).unwrap_or(u32::MAX), lkey: 0 };
        // The device's driver reads it by its address.
        place.expose_provenance();
        (self.segments.put(entry), i32::from(len > 0))
    }

    /// Lists are handed over early where a shelf has no room.
    #[inline]
    fn make_room(&mut self, inline_len: usize) {
        let has_room = self.sends.has_room(1)
            && self.receives.has_room(1)
            && self.segments.has_room(SEGMENT_COUNT_MAX as usize)
            && self.inline.has_room(inline_len);
        if !has_room {
            self.hand_over();
        }
    }

    #[inline]
    fn mark_dirty(&mut self, index: u32) {
        if let Some(Some(slot)) = self.slots.get_mut(index as usize)
            && !slot.is_dirty
        {
            slot.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// The device was removed: without a queue pair nothing is left to do with it.
    #[cold]
    fn leave(&mut self) {
        if self.is_gone || self.slots.iter().any(Option::is_some) {
            return;
        }
        self.is_gone = true;
        self.shared_receives = List::default();
        self.found.clear();
        self.queues.leave();
        self.news.ring();
    }

    /// Everything that waits: receives first, since what is sent may be answered at once.
    fn hand_over(&mut self) {
        if !self.shared_receives.is_empty() {
            let mut refused = std::ptr::null_mut();
            let head = self.shared_receives.take();
            // SAFETY: invariants 2 and 3.
            let result = unsafe { sys::ibv_post_srq_recv(self.queues.shared_receives(), head, &raw mut refused) };
            if result != 0 {
                tracing::error!(errno = result, "receives could not be posted to a shared receive queue");
                self.queues.break_off();
                self.news.ring();
            }
        }
        for step in [Self::hand_over_receives, Self::hand_over_sends] {
            for at in 0..self.dirty.len() {
                let index = self.dirty[at];
                if let Some(Some(slot)) = self.slots.get_mut(index as usize) {
                    step(slot, &self.news, self.forgets_late_receives);
                }
            }
        }
        for index in self.dirty.drain(..) {
            if let Some(Some(slot)) = self.slots.get_mut(index as usize) {
                slot.is_dirty = false;
            }
        }
        self.sends.clear();
        self.receives.clear();
        self.segments.clear();
        self.inline.clear();
    }

    fn hand_over_receives(slot: &mut Slot, news: &News, forgets_late_receives: bool) {
        if slot.receives.is_empty() {
            return;
        }
        let mut refused = std::ptr::null_mut();
        let head = slot.receives.take();
        // SAFETY: invariants 1 and 3.
        let result = unsafe { sys::ibv_post_recv(slot.object().raw(), head, &raw mut refused) };
        if result != 0 {
            break_off(slot.object(), news, "receive", result);
        } else if forgets_late_receives && slot.object().note_receive() {
            news.ring();
        }
    }

    fn hand_over_sends(slot: &mut Slot, news: &News, _forgets_late_receives: bool) {
        if slot.sends.is_empty() {
            return;
        }
        let mut refused = std::ptr::null_mut();
        let head = slot.sends.take();
        // SAFETY: invariants 1 and 3.
        let result = unsafe { sys::ibv_post_send(slot.object().raw(), head, &raw mut refused) };
        if result != 0 {
            break_off(slot.object(), news, "send", result);
        }
    }

    /// Appends what the device has, at most so much. Returns how many.
    fn take_entries(&mut self, limit: usize, completions: &mut Vec<Completion>) -> usize {
        let mut taken = 0;
        while taken < limit {
            let wanted = (limit - taken).min(POLL_COUNT);
            let asked = i32::try_from(wanted).unwrap_or(0);
            // SAFETY: invariant 2; there is room for so many.
            let count = unsafe { sys::ibv_poll_cq(self.queues.completions(), asked, self.entries.as_mut_ptr()) };
            let Ok(count) = usize::try_from(count) else {
                self.queues.break_off();
                self.news.ring();
                break;
            };
            completions.extend(self.entries[..count.min(wanted)].iter().map(status::completion));
            taken += count;
            if count < wanted {
                break;
            }
        }
        taken
    }
}

impl Drop for IbvPort {
    /// Of a port that never came to its CPU, or whose device has gone and come back.
    fn drop(&mut self) {
        if !self.is_gone && self.slots.iter().all(Option::is_none) {
            self.queues.leave();
            self.news.ring();
        }
    }
}

fn no_send() -> sys::ibv_send_wr {
    // SAFETY: numbers and pointers, invariant 3.
    unsafe { std::mem::zeroed() }
}

fn no_receive() -> sys::ibv_recv_wr {
    sys::ibv_recv_wr { wr_id: 0, next: std::ptr::null_mut(), sg_list: std::ptr::null_mut(), num_sge: 0 }
}

#[cold]
fn break_off(object: &Object, news: &News, what: &str, errno: i32) {
    let error = std::io::Error::from_raw_os_error(errno.abs());
    tracing::error!(queue_pair = object.number(), %error, "a {what} could not be posted: its queue pair ends");
    object.break_off();
    news.ring();
}

/// `None`: it is not offered.
fn operation_of(operation: SendOperation) -> Option<(opcode::Type, u32, sys::RemoteAddress)> {
    let nowhere = sys::RemoteAddress { remote_addr: 0, rkey: 0 };
    match operation {
        SendOperation::Send => Some((opcode::IBV_WR_SEND, 0, nowhere)),
        // In network byte order.
        SendOperation::SendWithImmediate(data) => Some((opcode::IBV_WR_SEND_WITH_IMM, data.to_be(), nowhere)),
        SendOperation::SendWithInvalidate(key) => Some((opcode::IBV_WR_SEND_WITH_INV, key, nowhere)),
        SendOperation::Write { address, key } => {
            Some((opcode::IBV_WR_RDMA_WRITE, 0, sys::RemoteAddress { remote_addr: address, rkey: key }))
        }
        SendOperation::Read { address, key } => {
            Some((opcode::IBV_WR_RDMA_READ, 0, sys::RemoteAddress { remote_addr: address, rkey: key }))
        }
        SendOperation::BindWindow { .. } | SendOperation::LocalInvalidate(_) => None,
    }
}

fn send_flags(flags: Flags) -> u32 {
    let pairs = [
        (Flags::SIGNALED, sys::SEND_SIGNALED),
        (Flags::FENCE, sys::SEND_FENCE),
        (Flags::INLINE, sys::SEND_INLINE),
        (Flags::SOLICITED, sys::SEND_SOLICITED),
    ];
    pairs.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, bit)| bit).sum()
}

impl Port for IbvPort {
    type QueuePair = QueuePair;

    fn attach(&mut self, queue_pair: QueuePair) -> QueuePairName {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // More than 2^32 queue pairs no device has.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let number = queue_pair.object.number();
        let slot = Slot { queue_pair, sends: List::default(), receives: List::default(), is_dirty: false };
        self.slots[index as usize] = Some(slot);
        // Room for all, so that listing one allocates nothing later.
        self.dirty.reserve(self.slots.len().saturating_sub(self.dirty.len()));
        QueuePairName { index, number }
    }

    fn detach(&mut self, name: QueuePairName) -> Option<QueuePair> {
        self.slot(name).ok()?;
        // What was taken is the device's before the queue pair goes.
        self.hand_over();
        let slot = self.slots[name.index as usize].take()?;
        self.free.push(name.index);
        if self.queues.is_leaving() {
            self.leave();
        }
        Some(slot.queue_pair)
    }

    #[inline]
    fn post_receive(&mut self, name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        let slot = self.slot(name)?;
        let stage = slot.object().stage();
        if stage == Stage::Broken || slot.object().shared_receive() {
            return Err(PostError::WrongState);
        }
        if segments.len() > slot.object().segment_count() as usize {
            return Err(PostError::Malformed);
        }
        self.make_room(0);
        let (sg_list, num_sge) = self.put_segments(segments);
        let place = self.receives.put(sys::ibv_recv_wr { wr_id: id, next: std::ptr::null_mut(), sg_list, num_sge });
        self.slot(name)?.receives.push(place);
        self.mark_dirty(name.index);
        if stage != Stage::Ready {
            // Whoever is told that the receives are there may have the peer send at once.
            self.hand_over();
        }
        Ok(())
    }

    #[inline]
    fn post_shared_receive(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        if self.is_gone || self.queues.shared_receives().is_null() {
            return Err(PostError::WrongState);
        }
        if segments.len() > self.queues.device().shared_receive_segment_count_max() as usize {
            return Err(PostError::Malformed);
        }
        self.make_room(0);
        let (sg_list, num_sge) = self.put_segments(segments);
        let place = self.receives.put(sys::ibv_recv_wr { wr_id: id, next: std::ptr::null_mut(), sg_list, num_sge });
        self.shared_receives.push(place);
        Ok(())
    }

    #[inline]
    fn post_send(&mut self, name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        let transfer_len_max = self.transfer_len_max;
        let object = self.slot(name)?.object();
        if matches!(object.stage(), Stage::Initial | Stage::Broken) {
            return Err(PostError::WrongState);
        }
        let (opcode, bits, remote) = operation_of(request.operation).ok_or(PostError::Malformed)?;
        let len: u64 = request.segments.iter().map(|segment| segment.memory.len() as u64).sum();
        if request.segments.len() > object.segment_count() as usize || len > transfer_len_max {
            return Err(PostError::Malformed);
        }
        let is_inline = request.flags.contains(Flags::INLINE);
        if is_inline && (len > u64::from(object.inline_len()) || opcode == opcode::IBV_WR_RDMA_READ) {
            return Err(PostError::Malformed);
        }
        // At most the device's longest, which fits.
        let inline_len = if is_inline { usize::try_from(len).unwrap_or(0) } else { 0 };
        self.make_room(inline_len);
        let (sg_list, num_sge) =
            if is_inline { self.put_inline(request.segments, inline_len) } else { self.put_segments(request.segments) };
        let mut entry = no_send();
        (entry.wr_id, entry.sg_list, entry.num_sge, entry.opcode) = (request.id, sg_list, num_sge, opcode);
        entry.send_flags = send_flags(request.flags);
        entry.imm_data_invalidated_rkey_union.invalidated_rkey = bits;
        entry.wr = sys::RemoteUnion { rdma: remote };
        let place = self.sends.put(entry);
        self.slot(name)?.sends.push(place);
        self.mark_dirty(name.index);
        Ok(())
    }

    #[inline]
    fn ring(&mut self) {
        if !self.dirty.is_empty() || !self.shared_receives.is_empty() {
            self.hand_over();
        }
    }

    #[inline]
    fn poll(&mut self, _now_ns: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        if self.queues.is_leaving() {
            self.leave();
            if self.is_gone {
                return 0;
            }
        }
        let mut count = 0;
        if !self.found.is_empty() {
            count = limit.min(self.found.len());
            completions.extend(self.found.drain(..count));
        }
        count + self.take_entries(limit - count, completions)
    }

    /// Between the last poll and the request for a notification a completion may come without one, so the queue is polled once more after it.
    fn arm(&mut self, _now_ns: u64) -> Rest {
        if self.is_gone {
            return Rest::Sleep;
        }
        self.ring();
        // Of an earlier arming, which was not needed: it would end this sleep at once.
        self.queues.take_notifications();
        if self.queues.notify().is_err() {
            self.queues.break_off();
            self.news.ring();
            return Rest::Poll;
        }
        let mut found = std::mem::take(&mut self.found);
        self.take_entries(POLL_COUNT, &mut found);
        self.found = found;
        if self.found.is_empty() { Rest::Sleep } else { Rest::Poll }
    }

    fn disarm(&mut self) {
        if !self.is_gone {
            self.queues.take_notifications();
        }
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        (!self.is_gone).then(|| self.queues.descriptor())
    }
}
