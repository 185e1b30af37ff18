//! What the control plane and the polling CPUs send each other. Handles and queue pairs by value, never a pointer.
//!
//! Every message has a place in the life of one connection and is sent at most once in it, so that backlogs are bounded by the number
//! of connections; or in the life of a device, or of a block device.

use nvmf_core::{ChangeId, DisconnectReason, Qpair, QpairSpec};
use reactor::{Cpu, Handle, Name, RegionId, TraceRecord};

use super::fitting::Fitting;
use crate::teardown::DestroyResult;
use crate::verbs::{DeviceId, Port, Provider};

/// The kind that the control plane's records of connections are named for.
#[derive(Debug)]
pub(crate) enum ConnectionRecord {}

/// What was agreed for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Commands that the host may have outstanding.
    pub(crate) depth: u16,
    /// RDMA READs that we may have outstanding.
    pub(crate) read_depth: u8,
    /// Room of the send queue, the marker's place included.
    pub(crate) send_count: u32,
}

/// A queue pair of a provider.
pub(crate) type QueuePairOf<P> = <<P as Provider>::Port as Port>::QueuePair;

/// What the target's reactors send each other.
pub struct Message<P: Provider>(pub(crate) Kind<P>);

pub(crate) enum Kind<P: Provider> {
    /// The NVMe layer's.
    Core(nvmf_core::Message),
    /// Control plane to CPU.
    ToCpu(ToCpu<P>),
    /// CPU to control plane.
    ToControl(ToControl<P>),
}

/// From the control plane to a polling CPU.
pub(crate) enum ToCpu<P: Provider> {
    /// Take this queue pair in.
    Adopt {
        /// To answer with.
        record: Handle<ConnectionRecord>,
        /// That it is on.
        device: DeviceId,
        /// By value.
        queue_pair: Box<QueuePairOf<P>>,
        /// For the NVMe layer.
        spec: Box<QpairSpec>,
        /// For the transport.
        terms: Terms,
    },
    /// Begin its teardown, unless it has begun.
    Disconnect { qpair: Handle<Qpair>, reason: DisconnectReason },
    /// The queue pair was moved to the error state: answer to [`ToControl::Disconnect`].
    InErrorState { qpair: Handle<Qpair> },
    /// LAST_WQE_REACHED.
    LastWqeReached { qpair: Handle<Qpair> },
    /// The destroy call came back: answer to [`ToControl::Destroy`].
    QueuePairDestroyed { qpair: Handle<Qpair>, result: DestroyResult },
    /// The device was removed, or this CPU's completion queue broke: what is posted does not come back any more.
    NothingReturns { device: DeviceId },
    /// The device is back: a new port in the place of the one that is gone.
    Refit { device: DeviceId, fitting: Box<Fitting<P::Port>> },
    /// Memory of a block device: its key on an RDMA device, or none any more.
    Memory { device: DeviceId, region: RegionId, key: Option<u32> },
    /// Tell what this CPU has traced: into a list that has room for all of it.
    Trace { change: ChangeId, records: Vec<TraceRecord> },
    /// Everything is gone, or will never be: leave.
    Stop { leftovers: Leftovers },
}

/// What is left when the target ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    Nothing,
    /// Queue pairs that could not be destroyed, and whatever waits for them on any CPU: a controller whose member never comes home.
    Quarantined,
}

/// From a polling CPU to the control plane.
pub(crate) enum ToControl<P: Provider> {
    /// The queue pair is attached and has its receives: the connection can be accepted.
    Adopted { record: Handle<ConnectionRecord>, qpair: Handle<Qpair> },
    /// No room on this CPU: the queue pair comes back.
    Refused { record: Handle<ConnectionRecord>, queue_pair: Box<QueuePairOf<P>> },
    /// The teardown has begun: move the queue pair to the error state and tell the peer.
    Disconnect { record: Handle<ConnectionRecord>, qpair: Handle<Qpair> },
    /// Quiet: destroy it.
    Destroy { record: Handle<ConnectionRecord>, queue_pair: Box<QueuePairOf<P>> },
    /// Nothing of the qpair is left on its CPU: the connection can be destroyed.
    Reaped { record: Handle<ConnectionRecord> },
    /// The CPU has a new port: the old one, to be dropped.
    Bereft { port: Box<P::Port> },
    /// What it has traced: answer to [`ToCpu::Trace`].
    Traced { cpu: Cpu, change: ChangeId, records: Vec<TraceRecord> },
    /// The CPU's last message.
    Stopped,
}

impl<P: Provider> Message<P> {
    /// What it is, for reports.
    #[must_use]
    pub fn name(&self) -> Name {
        match &self.0 {
            Kind::Core(message) => message.name(),
            Kind::ToCpu(message) => match message {
                ToCpu::Adopt { .. } => &"adopt",
                ToCpu::Disconnect { .. } => &"disconnect",
                ToCpu::InErrorState { .. } => &"in-error-state",
                ToCpu::LastWqeReached { .. } => &"last-wqe-reached",
                ToCpu::QueuePairDestroyed { .. } => &"queue-pair-destroyed",
                ToCpu::NothingReturns { .. } => &"nothing-returns",
                ToCpu::Refit { .. } => &"refit",
                ToCpu::Memory { .. } => &"memory",
                ToCpu::Trace { .. } => &"trace",
                ToCpu::Stop { .. } => &"stop",
            },
            Kind::ToControl(message) => match message {
                ToControl::Adopted { .. } => &"adopted",
                ToControl::Refused { .. } => &"refused",
                ToControl::Disconnect { .. } => &"disconnect-asked",
                ToControl::Destroy { .. } => &"destroy",
                ToControl::Reaped { .. } => &"reaped",
                ToControl::Bereft { .. } => &"bereft",
                ToControl::Traced { .. } => &"traced",
                ToControl::Stopped => &"stopped",
            },
        }
    }
}

impl<P: Provider> From<nvmf_core::Message> for Message<P> {
    fn from(message: nvmf_core::Message) -> Self {
        Self(Kind::Core(message))
    }
}

impl<P: Provider> From<ToCpu<P>> for Message<P> {
    fn from(message: ToCpu<P>) -> Self {
        Self(Kind::ToCpu(message))
    }
}

impl<P: Provider> From<ToControl<P>> for Message<P> {
    fn from(message: ToControl<P>) -> Self {
        Self(Kind::ToControl(message))
    }
}
