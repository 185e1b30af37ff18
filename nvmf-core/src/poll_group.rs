//! One CPU's qpairs and controllers, and the walk of their commands.

use std::sync::Arc;

use reactor::{Cpu, Full, Handle, Progress, Segment, Turn};

use crate::Qpair;
use crate::message::Message;
use crate::target::Directory;
use crate::transport::{DisconnectReason, QpairSpec, Transport};

/// Timer tokens of this layer have this bit; those without it are the transport's.
pub const TIMER_BIT: u64 = 1 << 63;

/// What a poll group is made with.
pub struct PollGroupOptions {
    /// This CPU.
    pub cpu: Cpu,
    /// The control plane's place in the mesh.
    pub control: Cpu,
    /// Most qpairs on this CPU.
    pub qpair_count_max: usize,
    /// Memory for data buffers, registered with the transport.
    pub data_memory: Segment,
    /// What is shared.
    pub directory: Arc<Directory>,
}

/// One CPU's part of the target.
pub struct PollGroup {
    _todo: (),
}

impl PollGroup {
    /// Opens the devices' channels, so it may make system calls: not on a polling CPU that is already serving.
    ///
    /// # Errors
    /// If a device refuses a channel.
    pub fn new(options: PollGroupOptions) -> Result<Self, bdev::BdevError> {
        let _ = options;
        todo!()
    }

    /// Steps 1 to 9, once.
    pub fn walk<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T) -> Progress {
        let _ = (turn, transport);
        todo!()
    }

    /// A message of the control plane or of another poll group.
    pub fn receive<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        from: Option<Cpu>,
        message: Message,
    ) {
        let _ = (turn, transport, from, message);
        todo!()
    }

    /// A timer with [`TIMER_BIT`].
    pub fn fire<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T, token: u64) {
        let _ = (turn, transport, token);
        todo!()
    }

    /// A connection is being made: its qpair exists from now on, and waits for a Connect capsule.
    ///
    /// # Errors
    /// [`Full`] hands the facts back where the CPU has as many qpairs as it may.
    pub fn open<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        spec: QpairSpec,
    ) -> Result<Handle<Qpair>, Full<QpairSpec>> {
        let _ = turn;
        Err(Full(spec))
    }

    /// Teardown, first step: no command is taken any more, what waits for a buffer or a message is dropped, no transfer or response is
    /// started. If this was an admin qpair, its controller's other qpairs are told to end. Once only per qpair.
    pub fn begin_drain<M: From<Message>, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        qpair: Handle<Qpair>,
        reason: DisconnectReason,
    ) {
        let _ = (turn, transport, qpair, reason);
        todo!()
    }

    /// Block operations of a draining qpair that have not completed, and messages of it that have not been answered. They are waited for, never cut.
    #[must_use]
    pub fn outstanding_count(&self, qpair: Handle<Qpair>) -> usize {
        let _ = qpair;
        todo!()
    }

    /// Teardown, second step: no work request of the qpair can touch memory any more, and [`Self::outstanding_count`] is zero. Buffers,
    /// receive permits and device leases that its requests still hold are released.
    pub fn release_requests<T: Transport>(&mut self, transport: &mut T, qpair: Handle<Qpair>) {
        let _ = (transport, qpair);
        todo!()
    }

    /// Teardown, last step: the qpair is reaped. Its handle is stale from now on, and its lease on the controller goes home.
    pub fn close<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, qpair: Handle<Qpair>) {
        let _ = (turn, qpair);
        todo!()
    }

    /// Qpairs, controllers and buffers in use on this CPU, and values in limbo: the CPU may leave when it is zero.
    #[must_use]
    pub fn live_count(&self) -> usize {
        todo!()
    }
}
