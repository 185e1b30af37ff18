//! What the reactors of a host send each other. Queue pairs travel by value, everything else is named by handle.

use std::sync::Arc;

use nvmf_core::host::Attached;
use reactor::{Handle, Name};

use crate::host::error::HostFailure;
use crate::host::link::Link;
use crate::host::queue::Queue;
use crate::teardown::DestroyResult;
use crate::verbs::{Port, Provider, RegisteredMemory};

/// A message between a host's reactors.
pub struct Message<P: Provider>(pub(super) Kind<P>);

impl<P: Provider> Message<P> {
    /// For a [`reactor::Postbox`] into the control plane: ends everything, whatever is under way. Workloads that are not done
    /// are told [`HostFailure::Stopped`].
    #[must_use]
    pub fn shutdown() -> Self {
        Self(Kind::Shutdown)
    }

    /// The same for the control plane of a host that stays ([`crate::host::HostOptions::stays`]): begins an association. Without effect while there is one.
    #[must_use]
    pub fn connect() -> Self {
        Self(Kind::Connect)
    }

    /// Ends the association, whatever is under way, and nothing else. Workloads that are not done are told [`HostFailure::Stopped`].
    #[must_use]
    pub fn disconnect() -> Self {
        Self(Kind::Disconnect)
    }

    /// What it is, for reports.
    #[must_use]
    pub fn name(&self) -> Name {
        match self.0 {
            Kind::Memory(_) => &"memory",
            Kind::Attach { .. } => &"attach",
            Kind::Connected { .. } => &"connected",
            Kind::Close { .. } => &"close",
            Kind::NothingReturns => &"nothing-returns",
            Kind::Destroyed { .. } => &"destroyed",
            Kind::Start(_) => &"start",
            Kind::Failed(_) => &"failed",
            Kind::Part => &"part",
            Kind::Apart => &"apart",
            Kind::Leave => &"leave",
            Kind::Attached { .. } => &"attached",
            Kind::ControllerReady(_) => &"controller-ready",
            Kind::Discovered => &"discovered",
            Kind::ShutDown => &"shut-down",
            Kind::ShutDownEnded => &"shut-down-ended",
            Kind::QueueReady => &"queue-ready",
            Kind::Fault(_) => &"fault",
            Kind::Drained { .. } => &"drained",
            Kind::Done => &"done",
            Kind::Parted => &"parted",
            Kind::Left => &"left",
            Kind::Connect => &"connect",
            Kind::Disconnect => &"disconnect",
            Kind::Shutdown => &"shutdown",
        }
    }
}

pub(super) enum Kind<P: Provider> {
    // To a polling CPU.
    /// The memory's keys: comes before anything else.
    Memory(MemoryKeys),
    /// A queue pair to attach.
    Attach {
        link: Handle<Link>,
        qid: u16,
        controller_id: u16,
        queue_pair: <P::Port as Port>::QueuePair,
    },
    /// The connection is up.
    Connected {
        queue: Handle<Queue>,
    },
    /// The queue pair is going to the error state: drain it.
    Close {
        queue: Handle<Queue>,
    },
    /// The device was removed, or this CPU's completion queue broke: what is posted does not come back any more.
    NothingReturns,
    /// The destroy call has come back: the completion queue is to be polled empty once.
    Destroyed {
        queue: Handle<Queue>,
        result: DestroyResult,
    },
    /// The controller and all its queues are ready.
    Start(Arc<Attached>),
    /// It came to nothing, or broke.
    Failed(Arc<HostFailure>),
    /// The I/O queues have ended: the controller is to shut down.
    ShutDown,
    /// The association's connections are gone: make ready for another.
    Part,
    /// Nothing of the association is left anywhere.
    Apart,
    /// Everything is gone.
    Leave,

    // To the control plane.
    /// The queue pair is attached and has its receives.
    Attached {
        link: Handle<Link>,
        queue: Handle<Queue>,
    },
    /// The admin queue's work is done.
    ControllerReady(Box<Attached>),
    /// The discovery log was read: there is nothing more to do.
    Discovered,
    /// The controller has shut down, or will not.
    ShutDownEnded,
    /// An I/O queue is connected.
    QueueReady,
    /// A queue cannot go on.
    Fault(Box<HostFailure>),
    /// Nothing posted is out any more, or the deadline has passed.
    Drained {
        link: Handle<Link>,
        queue_pair: <P::Port as Port>::QueuePair,
    },
    /// The CPU's workload wants nothing more.
    Done,
    /// The CPU has nothing of the association any more.
    Parted,
    /// The CPU has left: its last message.
    Left,

    // From outside.
    Connect,
    Disconnect,
    Shutdown,
}

/// The keys of a host's two registered regions.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryKeys {
    /// Commands and responses: local access.
    pub(super) capsules: RegisteredMemory,
    /// Data: the target reads and writes it.
    pub(super) data: RegisteredMemory,
}
