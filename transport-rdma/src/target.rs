//! The target side of NVMe over RDMA: what runs on its polling CPUs, and the part of the control plane that makes and ends connections.

use std::os::fd::RawFd;

use nvmf_core::spec::TargetSpec;
use reactor::{Cpu, Domain, Program, Progress, Turn};

use crate::verbs::{Provider, VerbsError};

/// How a target is laid out.
#[derive(Clone, Copy, Debug)]
pub struct TargetOptions {
    /// Polling CPUs: reactors 0 … n-1. The control plane is reactor n.
    pub cpu_count: u16,
    /// Most queue pairs of one CPU.
    pub queue_pair_count_max: usize,
    /// Bytes of data buffers of one CPU.
    pub data_memory_len: usize,
    /// Whether to try hugepages.
    pub huge_pages: bool,
    /// Depth of each CPU's shared receive queue. 0: every queue pair has its own receives.
    pub shared_receive_count: u32,
}

/// Why a target could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The specification is wrong.
    #[error(transparent)]
    Spec(#[from] nvmf_core::target::SpecError),
    /// RDMA refused.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
    /// A device refused.
    #[error(transparent)]
    Device(#[from] bdev::BdevError),
    /// There is not enough memory.
    #[error(transparent)]
    Memory(#[from] reactor::MemoryError),
}

/// What the target's reactors send each other.
pub enum Message<P: Provider> {
    /// The NVMe layer's.
    Core(nvmf_core::Message),
    #[doc(hidden)]
    Todo(std::marker::PhantomData<fn() -> P>),
}

impl<P: Provider> From<nvmf_core::Message> for Message<P> {
    fn from(message: nvmf_core::Message) -> Self {
        Self::Core(message)
    }
}

/// The target's part of the control plane. A program on the control plane's reactor owns it and passes everything on.
pub struct Control<P: Provider> {
    _todo: std::marker::PhantomData<P>,
}

/// One polling CPU of the target.
pub struct TargetCpu<P: Provider> {
    _todo: std::marker::PhantomData<P>,
}

/// Makes a whole target: registers memory, makes ports, listens. Takes its time; nothing runs yet.
///
/// # Errors
/// [`BuildError`].
pub fn build<P: Provider>(
    provider: P,
    domain: &Domain,
    spec: TargetSpec,
    options: TargetOptions,
) -> Result<(Control<P>, Vec<TargetCpu<P>>), BuildError> {
    let _ = (provider, domain, spec, options);
    todo!()
}

impl<P: Provider> Control<P> {
    /// A message to the control plane.
    pub fn receive(&mut self, turn: &mut Turn<'_, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        let _ = (turn, from, message);
        todo!()
    }

    /// A timer that this part armed.
    pub fn fire(&mut self, turn: &mut Turn<'_, Message<P>>, token: u64) {
        let _ = (turn, token);
        todo!()
    }

    /// Events of the provider.
    pub fn poll(&mut self, turn: &mut Turn<'_, Message<P>>) -> Progress {
        let _ = turn;
        todo!()
    }

    /// Stops listening, ends every connection, then has every polling CPU leave.
    pub fn begin_shutdown(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let _ = turn;
        todo!()
    }

    /// Everything is gone: the control plane's program may leave.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        todo!()
    }

    /// Readable when [`Self::poll`] may find something.
    #[must_use]
    pub fn wake_descriptor(&self) -> Option<RawFd> {
        todo!()
    }

    /// The NVMe layer's control-plane state, to list it.
    #[must_use]
    pub fn core(&self) -> &nvmf_core::Target {
        todo!()
    }

    /// Counters and gauges of the transport and the provider: name, labels, value.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, Vec<(&'static str, String)>, u64)> {
        todo!()
    }
}

impl<P: Provider> Program for TargetCpu<P> {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        let _ = (turn, from, message);
        todo!()
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, token: u64) {
        let _ = (turn, token);
        todo!()
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Progress {
        let _ = turn;
        todo!()
    }
}
