//! What the control plane does only where a defect is injected ([`nvmf_core::defect`]), and types would not let it do: not in any other build.

use nvmf_core::DisconnectReason;
use reactor::{Handle, Turn};

use super::{Control, TicketKind};
use crate::binding::RejectStatus;
use crate::target::message::{ConnectionRecord, Message};
use crate::verbs::{Connection, ConnectionId, ConnectionRequest, Provider, Unacknowledged};

impl<P: Provider> Control<P> {
    /// `AcknowledgedAfterTheDestroy`. The acknowledgement would come when the connection is destroyed, and that waits for it: so it never comes.
    pub(super) fn take_unacknowledged(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        connection: ConnectionId,
        event: Unacknowledged<P::Port>,
    ) {
        std::mem::forget(event);
        if let Some(record) = self.find(turn, connection) {
            self.end(turn, record, DisconnectReason::Host);
        }
    }

    /// `FailedCreateEndsTwice`. By who made the queue pair, and by who asked for it.
    pub(super) fn end_twice(&mut self, record: Handle<ConnectionRecord>, request: ConnectionRequest) {
        let forged = Connection::new(request.connection.id());
        self.reject(request, RejectStatus::NoResources);
        self.provider.begin_destroy_connection(TicketKind::DestroyConnection.ticket(record), forged);
    }
}
