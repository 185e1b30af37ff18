//! Steps 5 to 7: an I/O command becomes a block operation, with memory for its data; operations are submitted and polled.

use bdev::{Completion, Operation, OperationKind};
use reactor::{Handle, Progress, Segment, Turn};

use super::PollGroup;
use super::admission::{Sender, admit_io};
use super::buffers::{RequestName, Size};
use super::fetch::data_pointer;
use crate::Qpair;
use crate::command::{Command, DataPointer, IoCommand, IoKind};
use crate::message::Message;
use crate::namespace::DeviceIndex;
use crate::plan::{Once, Plan};
use crate::qpair::request::{RequestEvent, RequestState};
use crate::status::Status;
use crate::transport::{Slot, Transport};

impl PollGroup {
    /// Starts the I/O commands of this turn.
    pub(super) fn begin_io_batch<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T) {
        let mut batch = std::mem::take(&mut self.io_batch);
        for name in batch.drain(..) {
            self.begin(turn, transport, name);
        }
        // What was unparked meanwhile is begun in the next turn.
        if self.io_batch.is_empty() {
            self.io_batch = batch;
        }
    }

    /// Gives buffers that came back to the requests that wait for one, each pool first come, first served.
    pub(super) fn grant_buffers<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T) {
        for size in [Size::Small, Size::Large] {
            while let Some((name, buffer)) = self.buffers.grant(size) {
                let request = self.qpairs.look_mut(name.0).map(|qpair| qpair.request(name.1));
                match request {
                    Some(request) if request.state == RequestState::WaitingBuffer => {
                        request.buffer = Some(buffer);
                        self.begin(turn, transport, name);
                    }
                    // It was aborted or its qpair drains.
                    Some(_) | None => self.buffers.give(buffer),
                }
            }
        }
    }

    /// Begins the commands whose hosts have room again.
    pub(super) fn grant_shares<M>(&mut self, turn: &Turn<'_, M>) {
        if self.hosts.waiting_count() == 0 {
            return;
        }
        let limits = self.directory.snapshot(turn.guard()).controller.host;
        while let Some((name, share)) = self.hosts.grant(&limits) {
            let Some(qpair) = self.qpairs.look_mut(name.0) else {
                self.hosts.give(share);
                continue;
            };
            qpair.must_advance(name.1, RequestEvent::Unpark);
            qpair.request(name.1).share = Some(share);
            self.io_batch.push(name);
        }
    }

    /// Plans an I/O command and starts it, or puts it in the queue for a buffer.
    pub(super) fn begin_io<M, T: Transport>(
        &mut self,
        turn: &Turn<'_, M>,
        transport: &mut T,
        name: RequestName,
        sender: Sender,
        command: &IoCommand,
    ) {
        let snapshot = self.directory.snapshot(turn.guard());
        let Some(subsystem) = self.open_subsystem(snapshot, name, sender.subject) else { return };
        let namespace = match admit_io(subsystem, sender, command) {
            Ok(namespace) => namespace,
            Err(status) => return self.complete(name, status, 0),
        };
        let plan = match namespace.plan(&command.kind, snapshot.controller.transfer_len_max) {
            Ok(plan) => plan,
            Err(status) => return self.complete(name, status, 0),
        };
        let device = namespace.device;
        if !self.begin_pair(name, (subsystem, namespace), command, snapshot.controller.transfer_len_max)
            || !self.enter(name, device, plan.span())
        {
            return;
        }
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        let host = qpair.host;
        let request = qpair.request(name.1);
        if request.share.is_none() {
            let data_len = match plan {
                Plan::Nothing => 0,
                Plan::Once(once) => once.data_len,
                // Its pieces go through one buffer.
                Plan::Course(_) => snapshot.controller.transfer_len_max,
            };
            request.share = self.hosts.take(host, data_len, &snapshot.controller.host);
            if request.share.is_none() {
                qpair.must_advance(name.1, RequestEvent::Park);
                self.hosts.wait(host, name, data_len);
                return self.counters.host_limit_count.add(1);
            }
        }
        request.work = Some((device, plan));
        // While it waited for a buffer its namespace may have been taken away and made anew, of another device.
        let lease = match request.lease.take() {
            Some(lease) if lease.is_on(device) => Some(lease),
            other => {
                other.into_iter().for_each(|lease| self.devices.give(lease));
                self.devices.lease(device)
            }
        };
        if lease.is_none() {
            return self.complete(name, Status::NAMESPACE_NOT_READY, 0);
        }
        request.lease = lease;
        let data = data_pointer(&Command::Io(*command));
        let once = match plan {
            Plan::Nothing => return self.complete(name, Status::SUCCESS, 0),
            Plan::Course(_) => return self.begin_course(transport, name, data, snapshot.controller.transfer_len_max),
            Plan::Once(once) => once,
        };
        match (once.kind, data) {
            (OperationKind::Read, Some(to @ (DataPointer::Keyed { .. } | DataPointer::Listed(_)))) => {
                self.begin_read(transport, name, device, &once, to);
            }
            (OperationKind::Write { .. }, Some(from @ (DataPointer::Keyed { .. } | DataPointer::Listed(_)))) => {
                if self.ensure_buffer(name, once.data_len) {
                    self.pull(transport, name, from, once.data_len);
                }
            }
            (OperationKind::Write { .. }, Some(DataPointer::InCapsule { offset, len })) => {
                let alignment = namespace.geometry.data_alignment;
                self.begin_capsule_write(transport, name, alignment, offset, len);
            }
            // A read has no data in its capsule, and both have data.
            (OperationKind::Read | OperationKind::Write { .. }, _) => self.complete(name, Status::SGL_TYPE_INVALID, 0),
            (
                OperationKind::Flush
                | OperationKind::WriteZeroes { .. }
                | OperationKind::Deallocate
                | OperationKind::WriteUncorrectable,
                _,
            ) => self.operate(name, None),
        }
    }

    fn begin_read<T: Transport>(
        &mut self,
        transport: &T,
        name: RequestName,
        device: DeviceIndex,
        once: &Once,
        to: DataPointer,
    ) {
        // Straight out of the device's own memory: the lease keeps it until the push has been returned.
        let in_place = self.devices.in_place(device, once.start_block, once.block_count);
        if let Some(segment) = in_place.filter(|segment| transport.is_registered(segment.region())) {
            let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
            qpair.request(name.1).push = Some((segment, to));
            self.devices.served_in_place(device, once.data_len);
            self.counters.in_place_count.add(1);
            self.counters.read_bytes.add(u64::from(once.data_len));
            return self.complete(name, Status::SUCCESS, 0);
        }
        if self.ensure_buffer(name, once.data_len) {
            self.operate_on_buffer(name);
        }
    }

    /// Brings `len` bytes from the host into the request's buffer, which is there.
    pub(super) fn pull<T: Transport>(
        &mut self,
        transport: &mut T,
        (handle, slot): RequestName,
        from: DataPointer,
        len: u32,
    ) {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let Some(into) = qpair.request(slot).data_segment(len) else { return };
        qpair.must_advance(slot, RequestEvent::Pull);
        for (part, buffer) in qpair.request(slot).transfers(from, 0, into) {
            transport.pull(handle, slot, buffer, part);
        }
    }

    fn begin_capsule_write<T: Transport>(
        &mut self,
        transport: &mut T,
        name: RequestName,
        alignment: usize,
        offset: u64,
        len: u32,
    ) {
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        let data = match qpair.request(name.1).in_capsule(offset, len) {
            Ok(data) => data,
            Err(status) => return self.complete(name, status, 0),
        };
        // The receive buffer itself, held until the device is done with it.
        if data.address() % alignment as u64 == 0 {
            return self.operate(name, Some(data));
        }
        if !self.ensure_buffer(name, len) {
            return;
        }
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        let request = qpair.request(name.1);
        let Some(copy) = request.data_segment(len) else { return };
        data.copy_to(copy);
        request.capsule_data = None;
        if let Some(receive) = request.receive.take() {
            transport.consumed(receive);
        }
        self.operate(name, Some(copy));
    }

    /// The data of a request is in its buffer, or shall come there.
    pub(super) fn operate_on_buffer(&mut self, name: RequestName) {
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        let request = qpair.request(name.1);
        let Some((_, Plan::Once(once))) = request.work else { return };
        let data = request.data_segment(once.data_len);
        self.operate(name, data);
    }

    fn operate(&mut self, name: RequestName, data: Option<Segment>) {
        let (handle, slot) = name;
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let Some((device, Plan::Once(once))) = qpair.request(slot).work else { return };
        qpair.must_advance(slot, RequestEvent::Operate);
        let Once { kind, start_block, block_count, .. } = once;
        let operation =
            Operation { token: token(handle, slot), host: qpair.host_key, kind, start_block, block_count, data };
        self.devices.queue(device, operation);
    }

    /// Whether the request has a buffer of at least `len` bytes now. If not it waits for one, and is begun again.
    pub(super) fn ensure_buffer(&mut self, name: RequestName, len: u32) -> bool {
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return false };
        if qpair.request(name.1).buffer.is_some() {
            return true;
        }
        let len = len as usize;
        if let Some(buffer) = self.buffers.take(len) {
            qpair.request(name.1).buffer = Some(buffer);
            return true;
        }
        qpair.must_advance(name.1, RequestEvent::AwaitBuffer);
        let host = qpair.host;
        self.buffers.wait(host, len, name);
        self.counters.buffer_wait_count.add(1);
        false
    }

    /// Submits what was queued on every channel, and takes what has completed.
    pub(super) fn run_devices<T: Transport>(&mut self, transport: &mut T) -> Progress {
        let mut completions = std::mem::take(&mut self.completions);
        let progress = self.devices.run(&mut completions);
        for completion in completions.drain(..) {
            self.operation_ended(transport, completion);
        }
        self.completions = completions;
        progress
    }

    fn operation_ended<T: Transport>(&mut self, transport: &mut T, completion: Completion) {
        let (index, slot) = untoken(completion.token);
        let handle = self.handles.get(index).copied().flatten();
        let Some(handle) = handle.filter(|handle| token(*handle, slot) == completion.token) else {
            return self.counters.stale_handle_count.add(1);
        };
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let request = qpair.request(slot);
        let Some((_, plan)) = &request.work else {
            return self.counters.stale_handle_count.add(1);
        };
        let status = match completion.result {
            Ok(()) => Status::SUCCESS,
            Err(error) => error.into(),
        };
        if let Some(aborter) = request.aborter.take() {
            self.abort_answers.push((aborter, status == Status::ABORT_REQUESTED));
        }
        let once = match plan {
            Plan::Once(once) => *once,
            // One whose qpair drains ends here.
            Plan::Course(_) if status.is_success() && request.state == RequestState::Operating => {
                return self.proceed(transport, (handle, slot));
            }
            Plan::Course(course) => {
                let result = course.failed_result();
                return self.complete((handle, slot), status, result);
            }
            Plan::Nothing => return self.counters.stale_handle_count.add(1),
        };
        if status.is_success() {
            match (once.kind, request.command) {
                (OperationKind::Read, Ok(Command::Io(IoCommand { kind: IoKind::Read { data, .. }, .. }))) => {
                    request.push = request.data_segment(once.data_len).map(|segment| (segment, data));
                    self.counters.read_bytes.add(u64::from(once.data_len));
                }
                (OperationKind::Write { .. }, _) => self.counters.written_bytes.add(u64::from(once.data_len)),
                (
                    OperationKind::Read
                    | OperationKind::Flush
                    | OperationKind::WriteZeroes { .. }
                    | OperationKind::Deallocate
                    | OperationKind::WriteUncorrectable,
                    _,
                ) => {}
            }
        }
        self.complete((handle, slot), status, 0);
    }
}

const SLOT_SHIFT: u32 = 24;
const GENERATION_SHIFT: u32 = 40;
const INDEX_MASK: u64 = 0xFF_FFFF;

/// 24 bits of slot number, 16 of request slot, 24 of generation: enough, since a qpair is closed only when no operation of it is outstanding.
pub(super) fn token(handle: Handle<Qpair>, slot: Slot) -> u64 {
    handle.index() as u64 | u64::from(slot) << SLOT_SHIFT | u64::from(handle.generation()) << GENERATION_SHIFT
}

fn untoken(token: u64) -> (usize, Slot) {
    let [_, _, _, low, high, ..] = token.to_le_bytes();
    // 24 bits always fit.
    (usize::try_from(token & INDEX_MASK).unwrap_or(usize::MAX), Slot::from_le_bytes([low, high]))
}

#[cfg(test)]
mod token_tests {
    use super::*;

    #[test]
    fn tokens_name_slot_and_request() {
        let handle: Handle<Qpair> = Handle::from_bits(0xAB_CDEF_0123_4567);
        let made = token(handle, 0xBEEF);
        assert_eq!(untoken(made), (handle.index(), 0xBEEF));
        let later: Handle<Qpair> = Handle::from_bits(handle.to_bits() + (1 << 24));
        assert_ne!(token(later, 0xBEEF), made, "another generation is another token");
    }
}
