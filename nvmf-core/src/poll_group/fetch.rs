//! Steps 1 to 3: arrivals are taken in order; a capsule becomes a request.

use reactor::{Handle, Segment, Turn};

use super::PollGroup;
use crate::Qpair;
use crate::command::{
    Command, CommandError, DataPointer, FabricsCommand, Fuse, IoCommand, IoKind, QueueKind, command_id,
};
use crate::message::Message;
use crate::plan::Plan;
use crate::qpair::header::QpairHeader;
use crate::qpair::request::{RequestEvent, RequestState, Told};
use crate::status::Status;
use crate::transport::{Arrival, DisconnectReason, Receive, Slot, Transport};
use crate::wire::log::ErrorEntry;
use crate::wire::{OPCODE_FABRICS, SubmissionEntry};

impl PollGroup {
    /// Takes all arrivals of this turn.
    pub(super) fn fetch<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrival in arrivals.drain(..) {
            match arrival {
                Arrival::Command { qpair, slot, command, data, receive } => {
                    self.fetch_command(turn, transport, (qpair, slot), &command, data, receive);
                }
                Arrival::Pulled { qpair, slot } => self.pulled(turn, transport, qpair, slot),
                Arrival::Finished { qpair, slot } => self.finished(transport, qpair, slot),
            }
        }
        self.arrivals = arrivals;
    }

    fn fetch_command<M, T: Transport>(
        &mut self,
        turn: &Turn<'_, M>,
        transport: &mut T,
        (handle, slot): (Handle<Qpair>, Slot),
        bytes: &[u8; 64],
        data: Option<Segment>,
        receive: Receive,
    ) {
        let header = self.header(turn, handle);
        let Some(qpair) = self.qpairs.look_mut(handle) else {
            self.counters.stale_handle_count.add(1);
            return transport.consumed(receive);
        };
        if qpair.is_draining() {
            return transport.consumed(receive);
        }
        // Two commands with one id are not told apart, and neither end with Command ID Conflict: looking for one costs more than it would protect, since a host
        // that does this harms itself alone. SPDK and Linux do not look either.
        let is_io_queue = qpair.kind() == QueueKind::Io;
        let parsed = Command::parse_capsule(qpair.kind(), bytes, data);
        let told = told(qpair.kind(), bytes, parsed.err());
        let command = parsed.map_err(|error| error.status());
        qpair.must_advance(slot, RequestEvent::Arrive);
        qpair.count_fetched();
        let request = qpair.request(slot);
        request.begin(command_id(bytes), command, receive, data);
        request.told = told;
        request.invalidate = command.ok().and_then(|command| data_pointer(&command)?.invalidate_key());
        // A capsule with neither data nor a list of its own is read: the host's next command may use its place.
        let is_in_capsule = |pointer| matches!(pointer, DataPointer::InCapsule { .. } | DataPointer::Listed(_));
        if !command.is_ok_and(|command| data_pointer(&command).is_some_and(is_in_capsule)) {
            request.capsule_data = None;
            if let Some(receive) = request.receive.take() {
                transport.consumed(receive);
            }
        }
        if let Some(header) = header {
            header.command_count.add(1);
            header.last_command_ns.set(turn.now_ns());
            tally(header, &command);
        }
        self.requests_live += 1;
        self.count(&command);
        let fuse = if is_io_queue { Fuse::of(bytes) } else { Fuse::Alone };
        if !self.pair((handle, slot), fuse) {
            return;
        }
        if matches!(command, Ok(Command::Io(_))) {
            self.io_batch.push((handle, slot));
        } else {
            self.control_batch.push((handle, slot));
        }
    }

    fn pulled<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        handle: Handle<Qpair>,
        slot: Slot,
    ) {
        let Some(qpair) = self.qpairs.look_mut(handle) else {
            return self.counters.stale_handle_count.add(1);
        };
        // A draining qpair's pull is of no use any more.
        let request = qpair.request(slot);
        if request.state != RequestState::Pulling {
            return;
        }
        if self.abort_pulled((handle, slot)) {
            return;
        }
        let Some(qpair) = self.qpairs.look_mut(handle) else { return };
        let request = qpair.request(slot);
        match request.command {
            // Its host was preempted meanwhile.
            Ok(Command::Io(_)) if !request.status.is_success() => {
                let status = request.status;
                self.complete((handle, slot), status, 0);
            }
            Ok(Command::Io(_)) if matches!(request.work, Some((_, Plan::Course(_)))) => {
                self.proceed(transport, (handle, slot));
            }
            Ok(Command::Io(IoCommand { kind: IoKind::Reservation(command), .. })) => {
                self.keys_are_here(turn, (handle, slot), &command);
            }
            Ok(Command::Io(_)) => self.operate_on_buffer((handle, slot)),
            Ok(Command::Fabrics(FabricsCommand::Connect(connect))) => {
                self.connect_data_is_here(turn, (handle, slot), &connect);
            }
            Ok(Command::Fabrics(FabricsCommand::AuthenticationSend(send))) => {
                self.authentication_message_is_here(turn, (handle, slot), &send);
            }
            Ok(Command::Admin(command)) => self.admin_data_is_here(turn, (handle, slot), &command),
            Ok(Command::Fabrics(_)) | Err(_) => {
                tracing::error!(?handle, slot, "data was pulled for a command that takes none");
                transport.disconnect(handle, DisconnectReason::Protocol);
            }
        }
    }

    fn finished<T: Transport>(&mut self, transport: &mut T, handle: Handle<Qpair>, slot: Slot) {
        let Some(qpair) = self.qpairs.look_mut(handle) else {
            return self.counters.stale_handle_count.add(1);
        };
        let ends = qpair.last_slot.filter(|(last, _)| *last == slot);
        // What was dropped is given back when its qpair releases its requests.
        if qpair.advance(slot, RequestEvent::Finish).is_none() {
            return;
        }
        self.give_back(transport, (handle, slot));
        if let Some((_, reason)) = ends {
            transport.disconnect(handle, reason);
        }
    }

    fn count(&self, command: &Result<Command, crate::status::Status>) {
        let counters = &self.counters;
        match command {
            Ok(Command::Io(io)) => match io.kind {
                IoKind::Read { .. } => counters.read_count.add(1),
                IoKind::Write { .. } => counters.write_count.add(1),
                IoKind::Flush => counters.flush_count.add(1),
                IoKind::WriteZeroes { .. }
                | IoKind::WriteUncorrectable { .. }
                | IoKind::Compare { .. }
                | IoKind::Verify { .. }
                | IoKind::DatasetManagement { .. }
                | IoKind::Copy { .. }
                | IoKind::Reservation(_) => counters.other_count.add(1),
            },
            Ok(Command::Admin(_) | Command::Fabrics(_)) => counters.admin_count.add(1),
            Err(_) => counters.other_count.add(1),
        }
    }
}

/// What the error log tells of these bytes, should they fail.
fn told(queue: QueueKind, bytes: &[u8; 64], error: Option<CommandError>) -> Told {
    let entry = SubmissionEntry::from_bytes(*bytes);
    let lba = match queue {
        QueueKind::Io => u64::from(entry.cdw11.get()) << 32 | u64::from(entry.cdw10.get()),
        QueueKind::Admin => 0,
    };
    let location = error.map_or(ErrorEntry::NO_LOCATION, |error| u16::from(error.byte()));
    // A Fabrics command has no NSID.
    let nsid = if entry.opcode == OPCODE_FABRICS { 0 } else { entry.nsid.get() };
    Told { nsid, lba, location }
}

/// Reads and writes as the SMART log counts them.
fn tally(header: &QpairHeader, command: &Result<Command, Status>) {
    let Ok(command @ Command::Io(io)) = command else { return };
    let len = data_pointer(command).map_or(0, |data| u64::from(data.len()));
    match io.kind {
        IoKind::Read { .. } | IoKind::Compare { .. } => {
            header.read_count.add(1);
            header.read_bytes.add(len);
        }
        IoKind::Write { .. } => {
            header.write_count.add(1);
            header.written_bytes.add(len);
        }
        // None of these brings blocks to the host or takes any from it.
        IoKind::Flush
        | IoKind::WriteZeroes { .. }
        | IoKind::WriteUncorrectable { .. }
        | IoKind::Verify { .. }
        | IoKind::DatasetManagement { .. }
        | IoKind::Copy { .. }
        | IoKind::Reservation(_) => {}
    }
}

/// Where a command's data is, if it has any.
pub(super) fn data_pointer(command: &Command) -> Option<DataPointer> {
    use crate::command::AdminCommand as A;
    match command {
        Command::Io(io) => match io.kind {
            IoKind::Read { data, .. }
            | IoKind::Write { data, .. }
            | IoKind::Compare { data, .. }
            | IoKind::DatasetManagement { data, .. }
            | IoKind::Copy { data, .. } => Some(data),
            IoKind::Reservation(command) => Some(command.data()),
            IoKind::Flush | IoKind::WriteZeroes { .. } | IoKind::WriteUncorrectable { .. } | IoKind::Verify { .. } => {
                None
            }
        },
        Command::Admin(admin) => match admin {
            A::Identify(identify) => Some(identify.data),
            A::GetLogPage(page) => Some(page.data),
            A::GetFeatures(get) => get.data.ok(),
            A::SetFeatures(set) => set.data.ok(),
            A::KeepAlive | A::AsyncEventRequest | A::Abort { .. } => None,
        },
        Command::Fabrics(FabricsCommand::Connect(connect)) => Some(connect.data),
        Command::Fabrics(
            FabricsCommand::AuthenticationSend(message) | FabricsCommand::AuthenticationReceive(message),
        ) => Some(message.data),
        Command::Fabrics(
            FabricsCommand::PropertySet(_) | FabricsCommand::PropertyGet(_) | FabricsCommand::Disconnect,
        ) => None,
    }
}
