//! Steps 5 to 7 for commands that are worked off piece by piece: each step of a [`Course`] is done here, the next begins when it has ended.

use bdev::Operation;
use reactor::Segment;

use super::PollGroup;
use super::buffers::RequestName;
use super::io::token;
use crate::command::DataPointer;
use crate::course::{Course, HostData, Step};
use crate::namespace::DeviceIndex;
use crate::plan::Plan;
use crate::qpair::request::{Request, RequestEvent};
use crate::status::Status;
use crate::transport::Transport;

/// Bytes that are compared at a time.
const COMPARE_LEN: usize = 2048;

impl PollGroup {
    /// Begins a course as soon as it has a buffer. A list that came in the capsule is copied, so that a long course keeps no receive.
    pub(super) fn begin_course<T: Transport>(
        &mut self,
        transport: &mut T,
        name: RequestName,
        data: Option<DataPointer>,
        transfer_len_max: u32,
    ) {
        let Some((_, course)) = self.course(name) else { return };
        let (buffer_len, list_len) = (course.buffer_len(transfer_len_max), course.list_len());
        if !self.ensure_buffer(name, buffer_len) {
            return;
        }
        if let (Some(list_len), Some(DataPointer::InCapsule { offset, .. })) = (list_len, data) {
            let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
            let request = qpair.request(name.1);
            let list = match request.in_capsule(offset, list_len) {
                Ok(list) => list,
                Err(status) => return self.complete(name, status, 0),
            };
            if let Some(buffer) = request.data_segment(list_len) {
                list.copy_to(buffer);
            }
            request.capsule_data = None;
            if let Some(receive) = request.receive.take() {
                transport.consumed(receive);
            }
            if let Some((_, Plan::Course(course))) = &mut request.work {
                course.has_list();
            }
        }
        self.proceed(transport, name);
    }

    /// The step before has ended well: does the next.
    pub(super) fn proceed<T: Transport>(&mut self, transport: &mut T, name: RequestName) {
        let (handle, slot) = name;
        loop {
            let Some(qpair) = self.qpairs.look_mut(handle) else { return };
            let request = qpair.request(slot);
            if !request.status.is_success() {
                // Its host was preempted meanwhile.
                let status = request.status;
                return self.complete(name, status, 0);
            }
            let (Some((device, Plan::Course(course))), Some(buffer)) = (&mut request.work, &request.buffer) else {
                return self.complete(name, Status::INTERNAL_ERROR, 0);
            };
            let (device, buffer) = (*device, buffer.segment());
            let part = |part: crate::course::Part| buffer.part(part.offset as usize, part.len as usize);
            match course.next(buffer) {
                Step::Pull { skip, into } => {
                    let Some(from) = data_pointer(request) else {
                        return self.complete(name, Status::INTERNAL_ERROR, 0);
                    };
                    let into = part(into);
                    qpair.must_advance(slot, RequestEvent::Pull);
                    for (part, buffer) in qpair.request(slot).transfers(from, skip, into) {
                        transport.pull(handle, slot, buffer, part);
                    }
                    return;
                }
                Step::Operate { kind, start_block, block_count, data } => {
                    let token = token(handle, slot);
                    let operation =
                        Operation { token, host: qpair.host_key, kind, start_block, block_count, data: data.map(part) };
                    qpair.must_advance(slot, RequestEvent::Operate);
                    return self.devices.queue(device, operation);
                }
                Step::Compare { data, blocks } => {
                    let blocks = part(blocks);
                    let data = match data {
                        HostData::Buffer(data) => Ok(part(data)),
                        HostData::Capsule { skip } => capsule_part(request, skip, blocks.len()),
                    };
                    match data {
                        Ok(data) if is_same(data, blocks) => {}
                        Ok(_) => return self.complete(name, Status::COMPARE_FAILURE, 0),
                        Err(status) => return self.complete(name, status, 0),
                    }
                }
                Step::End(status) => {
                    let result = if status.is_success() { 0 } else { course.failed_result() };
                    return self.complete(name, status, result);
                }
            }
        }
    }

    /// The course of a request, if it is one.
    pub(super) fn course(&mut self, (handle, slot): RequestName) -> Option<(DeviceIndex, &mut Course)> {
        match &mut self.qpairs.look_mut(handle)?.request(slot).work {
            Some((device, Plan::Course(course))) => Some((*device, course)),
            Some((_, Plan::Once(_) | Plan::Nothing)) | None => None,
        }
    }
}

fn data_pointer(request: &Request) -> Option<DataPointer> {
    super::fetch::data_pointer(&request.command.ok()?)
}

/// In-capsule data from `skip` on.
fn capsule_part(request: &Request, skip: u32, len: usize) -> Result<Segment, Status> {
    match (data_pointer(request), u32::try_from(len)) {
        (Some(DataPointer::InCapsule { offset, .. }), Ok(len)) => {
            request.in_capsule(offset.saturating_add(skip.into()), len)
        }
        _ => Err(Status::INTERNAL_ERROR),
    }
}

/// Whether two pieces of memory of one length hold the same. By copies, since others may write to them meanwhile.
fn is_same(a: Segment, b: Segment) -> bool {
    let (mut left, mut right) = ([0; COMPARE_LEN], [0; COMPARE_LEN]);
    (0..a.len()).step_by(COMPARE_LEN).all(|offset| {
        let len = (a.len() - offset).min(COMPARE_LEN);
        a.read(offset, &mut left[..len]);
        b.read(offset, &mut right[..len]);
        left[..len] == right[..len]
    })
}
