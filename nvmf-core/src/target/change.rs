//! Changes of subsystems while the target runs: what may go wrong, and how far each has come.
//!
//! A change is taken at once or refused at once. Then it goes its way, a step whenever what it waits for has come, and waits for nothing that a slow
//! device could hold up, but for one: a deletion ends with the last controller of its subsystem.
//!
//! | wait | for |
//! |---|---|
//! | Making | whoever opens the device, or reads what is kept of the namespace |
//! | Publishing | a place in limbo for the snapshot that it replaces |
//! | Telling | every polling CPU: it has begun to end what was withdrawn, or has done what it was ordered to |
//! | Collecting | every polling CPU: it has sent its channel home, or lets commands of a device that was reset go on |
//! | Emptying | the leases of the subsystem's controllers |
//! | Forgetting | a place in limbo for the last snapshot that had the subsystem |

use std::net::SocketAddr;

use reactor::{Cpu, Gathering};

use super::check::SpecError;
use super::namespaces::NamespaceRequest;
use crate::namespace::DeviceIndex;
use crate::subsystem::SubsystemId;
use crate::withdrawal::Withdrawal;

/// Names a change that was begun. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(u64);

/// Why a change was refused. Nothing has changed then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such subsystem.
    #[error("nqn is {nqn:?}, and should be that of a subsystem: {known}")]
    NoSubsystem {
        /// What was asked for.
        nqn: String,
        /// Those that there are.
        known: String,
    },
    /// The name is taken.
    #[error("nqn is {nqn:?}, and should be a name that no subsystem has: choose another, or delete that one first")]
    SubsystemThere {
        /// The name.
        nqn: String,
    },
    /// The subsystem is on its way out.
    #[error("nqn is {nqn:?}, which is being deleted: wait until nvmf_delete_subsystem has been answered")]
    BeingDeleted {
        /// The name.
        nqn: String,
    },
    /// The subsystem is at this address already.
    #[error("listen_address is {address}, where {nqn} is offered already: leave it, or choose another address")]
    ListenerThere {
        /// The subsystem.
        nqn: String,
        /// The address.
        address: SocketAddr,
    },
    /// The subsystem is not at this address.
    #[error("listen_address is {address}, where {nqn} is not offered; it is offered at {offered}")]
    NoListener {
        /// The subsystem.
        nqn: String,
        /// The address.
        address: SocketAddr,
        /// Where it is.
        offered: String,
    },
    /// The host may use the subsystem already.
    #[error("host is {host:?}, which is in the list of {nqn} already")]
    HostThere {
        /// The subsystem.
        nqn: String,
        /// The host.
        host: String,
    },
    /// The host is not in the list.
    #[error("host is {host:?}, and should be one of the list of {nqn}: {known}")]
    NoHost {
        /// The subsystem.
        nqn: String,
        /// The host.
        host: String,
        /// The list.
        known: String,
    },
    /// Hosts are told of it already.
    #[error("address is {address}, where hosts are sent for {nqn} already: remove that referral first, to change it")]
    ReferralThere {
        /// What for.
        nqn: String,
        /// The address.
        address: SocketAddr,
    },
    /// Hosts are not told of it.
    #[error("address is {address}, and should be that of a referral for {nqn}; there is: {known}")]
    NoReferral {
        /// What for.
        nqn: String,
        /// The address.
        address: SocketAddr,
        /// Those that there are.
        known: String,
    },
    /// The same thing is being taken away.
    #[error("{what} is being removed: wait until that has been answered")]
    BeingRemoved {
        /// Which.
        what: String,
    },
    /// What it would become is not allowed.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The subsystem is paused already, or is not paused.
    #[error("nqn is {nqn:?}, which is {state}")]
    PausedAlready {
        /// The subsystem.
        nqn: String,
        /// What it is.
        state: &'static str,
    },
    /// There is no such namespace.
    #[error("nsid is {nsid}, and should be that of a namespace of {nqn}: {known}")]
    NoNamespace {
        /// The subsystem.
        nqn: String,
        /// What was asked for.
        nsid: u32,
        /// Those that there are.
        known: String,
    },
    /// All ids are taken.
    #[error("{nqn} has {limit} namespaces, as many as it may have: remove one first")]
    TooManyNamespaces {
        /// The subsystem.
        nqn: String,
        /// The limit.
        limit: u32,
    },
    /// There is no list of hosts.
    #[error(
        "namespace {nsid} of {nqn} is seen by every host: only one that was added with no_auto_visible has a list of hosts"
    )]
    VisibleToAll {
        /// The subsystem.
        nqn: String,
        /// Which.
        nsid: u32,
    },
    /// The subsystem says nothing of ANA.
    #[error(
        "{nqn} does not report asymmetric namespace access: only one that was created with ana_reporting has states"
    )]
    NoAna {
        /// The subsystem.
        nqn: String,
    },
    /// There is no such device.
    #[error("bdev is {name:?}, and should be the name of a device: {known}")]
    NoDevice {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The name is taken.
    #[error("name is {name:?}, and should be one that no device has: choose another, or delete that one first")]
    DeviceThere {
        /// The name.
        name: String,
    },
    /// It is being made or deleted.
    #[error("device {name:?} is being made or deleted: wait until that has been answered")]
    DeviceChanges {
        /// Which.
        name: String,
    },
    /// A namespace or another device uses it.
    #[error("device {name:?} is in use by {by}: each is used once (remove that first, or make partitions of it)")]
    DeviceUsed {
        /// Which.
        name: String,
        /// Who.
        by: String,
    },
    /// There are as many as there may be.
    #[error("there are {limit} devices, as many as there may be: delete one first")]
    TooManyDevices {
        /// The limit.
        limit: usize,
    },
    /// The device says no.
    #[error("{0}")]
    Device(String),
    /// Too many changes wait.
    #[error("{limit} changes are under way, as many as there may be: wait until one of them has been answered")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Too late.
    #[error("the target shuts down: nothing is changed any more")]
    ShuttingDown,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Wait {
    Making,
    Publishing,
    Telling(Gathering<()>),
    Collecting(Gathering<()>),
    Emptying,
    Forgetting,
}

/// What a change comes to once the snapshot says it.
#[derive(Debug)]
pub(super) enum Task {
    /// Nothing more.
    Publish,
    /// This is taken away from hosts.
    Withdraw(Box<Withdrawal>),
    /// I/O of the subsystem stops.
    Pause {
        /// Which.
        subsystem: SubsystemId,
        /// Of its namespaces.
        devices: Vec<DeviceIndex>,
    },
    /// It goes on.
    Resume {
        /// Which.
        subsystem: SubsystemId,
    },
    /// A namespace comes when somebody has read what is kept of its reservations.
    AddNamespace(Box<Addition>),
    /// A namespace went: its device is free when nothing of it is under way any more.
    RemoveNamespace(DeviceIndex),
    /// A device is opened, and every polling CPU gets a channel.
    MakeDevice(DeviceIndex),
    /// These devices end what they have, on every CPU, and go on then.
    ResetDevices(Vec<DeviceIndex>),
    /// A device goes, when nothing of it is under way and every channel is home.
    CloseDevice(DeviceIndex),
}

/// A namespace that is not there yet.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    /// Of which subsystem.
    pub(super) nqn: String,
    /// What.
    pub(super) request: NamespaceRequest,
}

/// One change.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) id: ChangeId,
    pub(super) task: Task,
    /// `None` only while a step is being taken, and at the end.
    pub(super) wait: Option<Wait>,
    /// Why it came to nothing.
    pub(super) failure: Option<String>,
}

/// Those that are under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) under_way: Vec<Change>,
    last_id: u64,
}

impl Changes {
    /// A name for something that every CPU answers.
    pub(super) fn next_id(&mut self) -> ChangeId {
        self.last_id += 1;
        ChangeId(self.last_id)
    }

    /// A new one.
    pub(super) fn begin(&mut self, task: Task) -> ChangeId {
        self.begin_with(task, Wait::Publishing)
    }

    /// A new one that waits for something else first.
    pub(super) fn begin_with(&mut self, task: Task, wait: Wait) -> ChangeId {
        let id = self.next_id();
        self.under_way.push(Change { id, task, wait: Some(wait), failure: None });
        id
    }

    /// The place of the device that somebody opens for this change.
    pub(super) fn making(&self, id: ChangeId) -> Option<DeviceIndex> {
        let change = self.under_way.iter().find(|change| change.id == id)?;
        let Task::MakeDevice(device) = &change.task else { return None };
        matches!(change.wait, Some(Wait::Making)).then_some(*device)
    }

    /// Namespaces that wait for what is kept of them.
    pub(super) fn additions(&self) -> impl Iterator<Item = &Addition> {
        self.under_way.iter().filter_map(|change| match (&change.task, &change.wait) {
            (Task::AddNamespace(addition), Some(Wait::Making)) if change.failure.is_none() => Some(&**addition),
            _ => None,
        })
    }

    /// The namespace that waits for somebody who reads for this change.
    pub(super) fn addition(&self, id: ChangeId) -> Option<&Addition> {
        let change = self.under_way.iter().find(|change| change.id == id)?;
        let Task::AddNamespace(addition) = &change.task else { return None };
        matches!(change.wait, Some(Wait::Making)).then_some(&**addition)
    }

    /// What it waited for has come: it goes on as this, with the next snapshot.
    pub(super) fn go_on(&mut self, id: ChangeId, task: Task) {
        if let Some(change) = self.under_way.iter_mut().find(|change| change.id == id) {
            change.task = task;
            change.wait = Some(Wait::Publishing);
        }
    }

    /// The device that a change closes.
    pub(super) fn device(&self, id: ChangeId) -> Option<DeviceIndex> {
        let change = self.under_way.iter().find(|change| change.id == id)?;
        if let Task::CloseDevice(device) = change.task { Some(device) } else { None }
    }

    /// It comes to nothing.
    pub(super) fn fail(&mut self, id: ChangeId, why: String) {
        if let Some(change) = self.under_way.iter_mut().find(|change| change.id == id) {
            change.failure = Some(why);
        }
    }

    /// A CPU has begun to end what was withdrawn, or has obeyed. False if nobody waits for that.
    pub(super) fn answered(&mut self, id: ChangeId, from: Cpu) -> bool {
        let change = self.under_way.iter_mut().find(|change| change.id == id);
        match change.and_then(|change| change.wait.as_mut()) {
            Some(Wait::Telling(gathering) | Wait::Collecting(gathering)) => {
                gathering.answer(from, ());
                true
            }
            Some(Wait::Making | Wait::Publishing | Wait::Emptying | Wait::Forgetting) | None => false,
        }
    }

    /// Whether this is being taken away already.
    pub(super) fn takes_away(&self, withdrawal: &Withdrawal) -> bool {
        self.under_way.iter().any(|change| matches!(&change.task, Task::Withdraw(other) if **other == *withdrawal))
    }
}
