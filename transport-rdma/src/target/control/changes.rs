//! Changes while the target runs: subsystems, and the addresses that are listened on.
//!
//! An address is listened on while a subsystem is offered there. When the last one has left it, every connection that came by it ends by the ordinary
//! teardown: those of the subsystem, of the discovery service, and those that never got so far as to say what they are. What such an end needs it has:
//! the address is a copy, in the connection's record and in the qpair, so that no teardown asks a listener that is gone, and no listener waits for one.
//!
//! A change is done when the NVMe layer says so *and* the listeners that it ended are gone. Only a deletion waits for I/O.

use std::fmt;
use std::net::SocketAddr;

use nvmf_core::spec::SubsystemSpec;
use nvmf_core::target::{Amendment, Base, MadeDevice, SpecError};
use nvmf_core::{ChangeError, ChangeId, DisconnectReason};
use reactor::Turn;

use super::{Control, TicketKind};
use crate::target::message::Message;
use crate::verbs::{DeviceId, ListenerId, Provider, Ticket, VerbsError};

/// What can be changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new subsystem, which is offered nowhere yet.
    CreateSubsystem(Box<SubsystemSpec>),
    /// Nobody connects to the subsystem any more; its controllers end, and then it is gone.
    DeleteSubsystem {
        /// Which.
        nqn: String,
    },
    /// The subsystem is offered at this address, which is listened on from now on.
    AddListener {
        /// Which.
        nqn: String,
        /// Where.
        address: SocketAddr,
    },
    /// The subsystem is not offered at this address any more. What came to it there ends, and where no other subsystem is offered, the address is listened
    /// on no more.
    RemoveListener {
        /// Which.
        nqn: String,
        /// Where.
        address: SocketAddr,
    },
    /// The host may use the subsystem.
    AddHost {
        /// Which.
        nqn: String,
        /// Who.
        host: String,
    },
    /// The host may not use the subsystem any more: its controllers end.
    RemoveHost {
        /// Which.
        nqn: String,
        /// Who.
        host: String,
    },
    /// Whether every host may use the subsystem. Who is connected stays.
    AllowAnyHost {
        /// Which.
        nqn: String,
        /// Every host, or those of the list.
        is_allowed: bool,
    },
    /// What concerns the NVMe layer alone.
    Amend(Amendment),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateSubsystem(spec) => write!(f, "subsystem {} is created", spec.nqn),
            Self::DeleteSubsystem { nqn } => write!(f, "subsystem {nqn} is being deleted"),
            Self::AddListener { nqn, address } => write!(f, "subsystem {nqn} is offered at {address}"),
            Self::RemoveListener { nqn, address } => write!(f, "subsystem {nqn} is no longer offered at {address}"),
            Self::AddHost { nqn, host } => write!(f, "host {host} may use subsystem {nqn}"),
            Self::RemoveHost { nqn, host } => write!(f, "host {host} may no longer use subsystem {nqn}"),
            Self::AllowAnyHost { nqn, is_allowed: true } => write!(f, "every host may use subsystem {nqn}"),
            Self::AllowAnyHost { nqn, is_allowed: false } => write!(f, "only listed hosts may use subsystem {nqn}"),
            Self::Amend(amendment) => amendment.fmt(f),
        }
    }
}

/// Why a change was refused. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// By the NVMe layer.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The address cannot be listened on.
    #[error("listen_address is {address}, and cannot be listened on: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: VerbsError,
    },
    /// The device was removed.
    #[error(
        "listen_address is {address}, and the RDMA device was removed: it is looked for, so try again when it is back (nvmf_rdma_device_removed is 0 then)"
    )]
    NoDevice {
        /// Which address.
        address: SocketAddr,
    },
    /// The address is being let go.
    #[error("listen_address is {address}, which is being let go: wait until its removal has been answered")]
    AddressEnds {
        /// Which.
        address: SocketAddr,
    },
}

/// An address that is listened on.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    address: SocketAddr,
    pub(super) device: DeviceId,
    /// The provider was asked to end it: it says when it has.
    ends: bool,
}

/// A change that was begun, and what its answer waits for.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    change: ChangeId,
    /// Listeners that it ended and that are not gone.
    listeners: Vec<ListenerId>,
    /// The NVMe layer is done with it.
    is_done: bool,
}

impl Listener {
    pub(super) fn new(id: ListenerId, address: SocketAddr, device: DeviceId) -> Self {
        Self { id, address, device, ends: false }
    }
}

impl<P: Provider> Control<P> {
    /// Takes a change, or refuses it. [`Self::next_done`] says when it is done.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn change(&mut self, turn: &mut Turn<'_, Message<P>>, change: Change) -> Result<ChangeId, ControlError> {
        let (id, listeners) = match &change {
            Change::CreateSubsystem(spec) => (self.create_subsystem(spec)?, Vec::new()),
            Change::DeleteSubsystem { nqn } => self.delete_subsystem(turn, nqn)?,
            Change::AddListener { nqn, address } => (self.add_listener(nqn, *address)?, Vec::new()),
            Change::RemoveListener { nqn, address } => {
                let id = self.core.remove_listener(nqn, *address)?;
                (id, self.release(turn, *address, DisconnectReason::ListenerRemoved).into_iter().collect())
            }
            Change::AddHost { nqn, host } => (self.core.add_host(nqn, host)?, Vec::new()),
            Change::RemoveHost { nqn, host } => (self.core.remove_host(nqn, host)?, Vec::new()),
            Change::AllowAnyHost { nqn, is_allowed } => (self.core.allow_any_host(nqn, *is_allowed)?, Vec::new()),
            Change::Amend(amendment) => (self.core.amend(amendment)?, Vec::new()),
        };
        tracing::info!("{change}");
        self.answers.push(PendingAnswer { change: id, listeners, is_done: false });
        // After the releases above: each CPU hears of its connections' end before it is asked to answer.
        self.core.poll(turn);
        Ok(id)
    }

    /// Keeps a name for a device that somebody opens: [`Self::device_made`].
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn begin_device(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        name: &str,
        base: Option<Base<'_>>,
    ) -> Result<ChangeId, ControlError> {
        let change = self.core.begin_device(name, base)?;
        self.answers.push(PendingAnswer { change, listeners: Vec::new(), is_done: false });
        self.core.poll(turn);
        Ok(change)
    }

    /// The device of [`Self::begin_device`] is open, or could not be opened.
    pub fn device_made(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        change: ChangeId,
        result: Result<MadeDevice, String>,
    ) {
        match result {
            Ok(made) => self.take_device_in(turn, change, made),
            Err(why) => {
                self.core.device_failed(change, why);
                self.core.poll(turn);
            }
        }
    }

    /// Somebody does something about devices that takes time: [`Self::work_done`].
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn begin_work(&mut self, turn: &mut Turn<'_, Message<P>>) -> Result<ChangeId, ControlError> {
        let change = self.core.begin_work()?;
        self.answers.push(PendingAnswer { change, listeners: Vec::new(), is_done: false });
        self.core.poll(turn);
        Ok(change)
    }

    /// It has ended, or failed.
    pub fn work_done(&mut self, turn: &mut Turn<'_, Message<P>>, change: ChangeId, result: Result<(), String>) {
        self.core.work_done(change, result);
        self.core.poll(turn);
    }

    /// Why a change that is done came to nothing, if it did. Once.
    pub fn take_failure(&mut self, change: ChangeId) -> Option<String> {
        self.core.take_failure(change)
    }

    /// A change that is done, each once. To be asked after each turn in which this part had something to do.
    pub fn next_done(&mut self) -> Option<ChangeId> {
        while let Some(done) = self.core.next_done() {
            if let Some(answer) = self.answers.iter_mut().find(|answer| answer.change == done) {
                answer.is_done = true;
            }
        }
        let place = self.answers.iter().position(|answer| answer.is_done && answer.listeners.is_empty())?;
        Some(self.answers.remove(place).change)
    }

    /// Where it listens.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter(|listener| !listener.ends).map(|listener| listener.address)
    }

    /// Whether requests that this listener took are still wanted.
    pub(super) fn is_listening(&self, id: ListenerId) -> bool {
        self.listeners.iter().any(|listener| listener.id == id && !listener.ends)
    }

    /// Whether there is a listener of this address, though its end was begun.
    pub(super) fn is_known(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| listener.address == address)
    }

    /// Listens on an address that has no listener.
    pub(super) fn listen(&mut self, address: SocketAddr) -> Result<(), VerbsError> {
        let id = self.provider.listen(address)?;
        self.listeners.push(Listener::new(id, address, self.provider.device_of_listener(id)));
        tracing::info!(%address, provider = self.provider.name(), "listening");
        Ok(())
    }

    /// Begins the end of one listener, if it has not begun: its address.
    pub(super) fn end_listener(&mut self, id: ListenerId) -> Option<(SocketAddr, DeviceId)> {
        let listener = self.listeners.iter_mut().find(|listener| listener.id == id && !listener.ends)?;
        listener.ends = true;
        let place = (listener.address, listener.device);
        self.provider.begin_unlisten(TicketKind::Unlisten.numbered(id.0), id);
        Some(place)
    }

    /// Ends every listener, for good.
    pub(super) fn end_listeners(&mut self) {
        self.renewals.clear();
        for listener in self.listeners.iter_mut().filter(|listener| !listener.ends) {
            listener.ends = true;
            self.provider.begin_unlisten(TicketKind::Unlisten.numbered(listener.id.0), listener.id);
        }
    }

    /// A listener is gone.
    pub(super) fn listener_gone(&mut self, ticket: Ticket) {
        let is_it = |id: ListenerId| TicketKind::Unlisten.numbered(id.0) == ticket;
        match self.listeners.iter().position(|listener| is_it(listener.id)) {
            Some(place) => {
                let listener = self.listeners.remove(place);
                tracing::info!(address = %listener.address, "no longer listening");
            }
            None => self.counts.stale_events += 1,
        }
        for answer in &mut self.answers {
            answer.listeners.retain(|id| !is_it(*id));
        }
    }

    fn create_subsystem(&mut self, spec: &SubsystemSpec) -> Result<ChangeId, ChangeError> {
        if let Some(listener) = spec.listeners.first() {
            return Err(ChangeError::Spec(SpecError::Field {
                subject: format!("subsystem {}", spec.nqn),
                field: "listeners",
                value: listener.to_string(),
                allowed: "none at first: each is added by a change of its own, which may be refused".into(),
            }));
        }
        self.core.create_subsystem(spec.clone())
    }

    fn delete_subsystem(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        nqn: &str,
    ) -> Result<(ChangeId, Vec<ListenerId>), ChangeError> {
        let addresses = self.core.subsystems().find(|spec| spec.nqn == nqn).map(|spec| spec.listeners.clone());
        let id = self.core.delete_subsystem(nqn)?;
        let reason = DisconnectReason::SubsystemDeleted;
        let ended = addresses.into_iter().flatten().filter_map(|address| self.release(turn, address, reason)).collect();
        Ok((id, ended))
    }

    /// Listens first: once the subsystem is offered there, hosts may come.
    fn add_listener(&mut self, nqn: &str, address: SocketAddr) -> Result<ChangeId, ControlError> {
        self.core.may_add_listener(nqn, address)?;
        match self.listeners.iter().find(|listener| listener.address == address) {
            Some(listener) if listener.ends => return Err(ControlError::AddressEnds { address }),
            Some(_) => {}
            None if self.devices.iter().all(|device| !device.is_present()) => {
                return Err(ControlError::NoDevice { address });
            }
            None => self.listen(address).map_err(|source| ControlError::Listen { address, source })?,
        }
        Ok(self.core.add_listener(nqn, address)?)
    }

    /// Lets an address go that no subsystem is offered at any more. The listener, if its end was begun.
    fn release(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        address: SocketAddr,
        reason: DisconnectReason,
    ) -> Option<ListenerId> {
        if self.core.uses_address(address) {
            return None;
        }
        let renewal_count = self.renewals.len();
        // Not anew either.
        self.renewals.retain(|renewal| renewal.address != address);
        let was_renewed = self.renewals.len() < renewal_count;
        let listener = self.listeners.iter().find(|listener| listener.address == address);
        let listener = listener.filter(|listener| was_renewed || !listener.ends).map(|listener| listener.id);
        if let Some(id) = listener {
            self.end_listener(id);
        }
        if listener.is_some() || was_renewed {
            self.end_through(turn, address, reason);
        }
        listener
    }
}
