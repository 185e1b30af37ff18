//! Reservation commands on this CPU: their data is fetched, the control plane is asked, and its ruling is passed on.

use reactor::Turn;
use zerocopy::{FromZeros, IntoBytes};

use super::PollGroup;
use super::admission::{Sender, admit_io};
use super::buffers::RequestName;
use crate::command::{Command, DataPointer, IoCommand, IoKind, ReservationCommand};
use crate::membership::Remote;
use crate::message::{Letter, Message};
use crate::petition::{Petition, Plea, Ruling};
use crate::qpair::Stage;
use crate::qpair::request::{RequestEvent, RequestState};
use crate::reservation::{Claim, HostNumber};
use crate::status::Status;
use crate::subsystem::{Subject, SubsystemId};
use crate::transport::Transport;
use crate::wire::reservation::ReservationKeys;

impl PollGroup {
    /// Starts a reservation command, or takes it up again once it has a buffer.
    pub(super) fn begin_reservation<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        name: RequestName,
        sender: Sender,
        io: &IoCommand,
        command: &ReservationCommand,
    ) {
        let snapshot = self.directory.snapshot(turn.guard());
        let Some(subsystem) = self.open_subsystem(snapshot, name, sender.subject) else { return };
        match admit_io(subsystem, sender, io) {
            // A subsystem that other targets offer too has none: they would not know of them.
            Ok(namespace) if namespace.reservation_capabilities == 0 => {
                return self.complete(name, Status::INVALID_OPCODE, 0);
            }
            Ok(_) => {}
            Err(status) => return self.complete(name, status, 0),
        }
        match *command {
            ReservationCommand::Report { len, .. } => match u32::try_from(len) {
                Ok(len) if len <= snapshot.controller.transfer_len_max => {
                    // The buffer first: what the control plane says holds when it says it.
                    if self.ensure_buffer(name, len) {
                        self.petition(turn, name, (subsystem.id, sender.host), io.nsid, Plea::Report);
                    }
                }
                Ok(_) | Err(_) => self.complete(name, Status::INVALID_FIELD, 0),
            },
            ReservationCommand::Register { data, .. }
            | ReservationCommand::Acquire { data, .. }
            | ReservationCommand::Release { data, .. } => match data {
                DataPointer::InCapsule { .. } => self.keys_are_here(turn, name, command),
                from @ (DataPointer::Keyed { .. } | DataPointer::Listed(_)) => {
                    if self.ensure_buffer(name, command.data_in_len()) {
                        self.pull(transport, name, from, command.data_in_len());
                    }
                }
                DataPointer::None => self.complete(name, Status::SGL_LENGTH_INVALID, 0),
            },
        }
    }

    /// The keys are there: copied out once, then the control plane is asked.
    pub(super) fn keys_are_here<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        name: RequestName,
        command: &ReservationCommand,
    ) {
        let Some(qpair) = self.qpairs.look_mut(name.0) else { return };
        let Stage::Io { lease } = &qpair.stage else { return };
        let (subject, host) = (lease.subject(), lease.host());
        let request = qpair.request(name.1);
        let nsid = if let Ok(Command::Io(IoCommand { nsid, .. })) = request.command { nsid } else { 0 };
        let len = command.data_in_len();
        let data = match command.data() {
            DataPointer::InCapsule { offset, .. } => request.in_capsule(offset, len),
            DataPointer::Keyed { .. } | DataPointer::Listed(_) | DataPointer::None => {
                request.data_segment(len).ok_or(Status::INTERNAL_ERROR)
            }
        };
        let mut keys = ReservationKeys::new_zeroed();
        match data {
            Ok(data) => data.read(0, &mut keys.as_mut_bytes()[..data.len()]),
            Err(status) => return self.complete(name, status, 0),
        }
        match (subject, Claim::new(command, &keys)) {
            (Subject::Nvm(subsystem), Some(claim)) => {
                self.petition(turn, name, (subsystem, host), nsid, Plea::Claim(claim));
            }
            // A report has no keys, and the discovery service no namespace.
            (Subject::Nvm(_) | Subject::Discovery, _) => self.complete(name, Status::INVALID_FIELD, 0),
        }
    }

    /// Asks.
    pub(super) fn petition<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (handle, slot): RequestName,
        (subsystem, host): (SubsystemId, HostNumber),
        nsid: u32,
        plea: Plea,
    ) {
        let Some(body) = self.qpairs.look_mut(handle) else { return };
        body.must_advance(slot, RequestEvent::Petition);
        let qpair = Remote { cpu: self.cpu, handle };
        let petition = Petition { qpair, slot, host, subsystem, nsid, plea };
        turn.send(self.control, Message(Letter::Petition(Box::new(petition))).into());
    }

    /// The control plane has ruled. A request that is gone, or whose qpair drains, needs it no more.
    pub(super) fn ruled(&mut self, ruling: &Ruling) {
        let name = (ruling.qpair, ruling.slot);
        let Some(qpair) = self.qpairs.look_mut(ruling.qpair) else {
            return self.counters.stale_handle_count.add(1);
        };
        let request = qpair.request(ruling.slot);
        if request.state != RequestState::Petitioning {
            return;
        }
        if let Ok(Command::Io(IoCommand { kind: IoKind::Reservation(command), .. })) = request.command
            && let ReservationCommand::Report { len, data: to } = command
            && ruling.status.is_success()
            && let Some(segment) = u32::try_from(len).ok().and_then(|len| request.data_segment(len))
        {
            // The host gets what it asked for, and zeroes behind what there is.
            let len = ruling.report.len().min(segment.len());
            segment.write(0, &ruling.report[..len]);
            segment.part(len, segment.len() - len).zero();
            request.push = Some((segment, to));
        }
        self.complete(name, ruling.status, ruling.result.into());
    }
}
