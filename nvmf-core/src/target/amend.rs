//! Changes that are the NVMe layer's alone, as plain data: whoever carries requests here need not know them.

use std::fmt;
use std::net::SocketAddr;

use super::Target;
use super::change::{ChangeError, ChangeId};
use super::namespaces::NamespaceRequest;
use crate::auth::{GroupSet, HashSet};
use crate::spec::{AnaState, HostKeys, HostLimits, ReferralSpec};

/// What can be amended.
#[derive(Clone, Debug)]
pub enum Amendment {
    /// [`Target::pause_subsystem`].
    PauseSubsystem {
        /// Which.
        nqn: String,
    },
    /// [`Target::add_host_with_keys`].
    AddHost {
        /// To which subsystem.
        nqn: String,
        /// The host, and its keys.
        keys: Box<HostKeys>,
    },
    /// [`Target::set_keys`].
    SetKeys {
        /// Of which subsystem.
        nqn: String,
        /// Whose.
        host: String,
        /// `None`: it need not authenticate.
        keys: Option<Box<HostKeys>>,
    },
    /// [`Target::set_authentication`].
    SetAuthentication {
        /// Hash functions that may be used.
        hashes: HashSet,
        /// Groups that may be used.
        groups: GroupSet,
    },
    /// [`Target::limit_hosts`].
    LimitHosts(HostLimits),
    /// [`Target::add_referral`].
    AddReferral(ReferralSpec),
    /// [`Target::remove_referral`].
    RemoveReferral(ReferralSpec),
    /// [`Target::resume_subsystem`].
    ResumeSubsystem {
        /// Which.
        nqn: String,
    },
    /// [`Target::add_namespace`].
    AddNamespace {
        /// To which subsystem.
        nqn: String,
        /// What.
        namespace: NamespaceRequest,
    },
    /// [`Target::remove_namespace`].
    RemoveNamespace {
        /// Of which subsystem.
        nqn: String,
        /// Which.
        nsid: u32,
    },
    /// [`Target::add_namespace_host`].
    AddNamespaceHost {
        /// Of which subsystem.
        nqn: String,
        /// Which.
        nsid: u32,
        /// Who.
        host: String,
    },
    /// [`Target::remove_namespace_host`].
    RemoveNamespaceHost {
        /// Of which subsystem.
        nqn: String,
        /// Which.
        nsid: u32,
        /// Who.
        host: String,
    },
    /// [`Target::set_ana_state`].
    SetAnaState {
        /// Of which subsystem.
        nqn: String,
        /// Where.
        listener: SocketAddr,
        /// Of which group. `None`: of all.
        group: Option<u32>,
        /// What.
        state: AnaState,
    },
    /// [`Target::set_ana_group`].
    SetAnaGroup {
        /// Of which subsystem.
        nqn: String,
        /// Which namespace.
        nsid: u32,
        /// To which.
        group: u32,
    },
    /// [`Target::delete_device`].
    DeleteDevice {
        /// Which.
        name: String,
    },
    /// [`Target::resize_device`].
    ResizeDevice {
        /// Which.
        name: String,
        /// To so many.
        block_count: u64,
    },
    /// [`Target::rescan_device`].
    RescanDevice {
        /// Which.
        name: String,
    },
    /// [`Target::reset_device`].
    ResetDevice {
        /// Which.
        name: String,
    },
}

impl fmt::Display for Amendment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LimitHosts(limits) => write!(f, "what a host may have in flight: {limits}"),
            Self::AddReferral(referral) => write!(f, "hosts are told of {referral}"),
            Self::RemoveReferral(referral) => write!(f, "hosts are told no more of {referral}"),
            Self::PauseSubsystem { nqn } => write!(f, "subsystem {nqn} is being paused"),
            Self::AddHost { nqn, keys } => {
                write!(f, "host {} may use subsystem {nqn}, and has to authenticate", keys.host)
            }
            Self::SetKeys { nqn, host, keys: Some(_) } => write!(f, "host {host} has new keys for subsystem {nqn}"),
            Self::SetKeys { nqn, host, keys: None } => {
                write!(f, "host {host} need not authenticate for subsystem {nqn}")
            }
            Self::SetAuthentication { .. } => f.write_str("authentications use other hash functions and groups"),
            Self::ResumeSubsystem { nqn } => write!(f, "subsystem {nqn} is resumed"),
            Self::AddNamespace { nqn, namespace } => {
                write!(f, "namespace {} of subsystem {nqn} is made of device {}", namespace.nsid, namespace.device)?;
                match &namespace.persistence_file {
                    Some(file) => write!(f, ", with what {file} keeps of its reservations"),
                    None => Ok(()),
                }
            }
            Self::RemoveNamespace { nqn, nsid } => write!(f, "namespace {nsid} of subsystem {nqn} is being removed"),
            Self::AddNamespaceHost { nqn, nsid, host } => {
                write!(f, "host {host} sees namespace {nsid} of subsystem {nqn}")
            }
            Self::RemoveNamespaceHost { nqn, nsid, host } => {
                write!(f, "host {host} no longer sees namespace {nsid} of subsystem {nqn}")
            }
            Self::SetAnaState { nqn, listener, group: Some(group), state } => {
                write!(f, "ANA group {group} of subsystem {nqn} is {state:?} at {listener}")
            }
            Self::SetAnaState { nqn, listener, group: None, state } => {
                write!(f, "every ANA group of subsystem {nqn} is {state:?} at {listener}")
            }
            Self::SetAnaGroup { nqn, nsid, group } => {
                write!(f, "namespace {nsid} of subsystem {nqn} is in ANA group {group}")
            }
            Self::DeleteDevice { name } => write!(f, "device {name} is being deleted"),
            Self::ResizeDevice { name, block_count } => write!(f, "device {name} has {block_count} blocks"),
            Self::RescanDevice { name } => write!(f, "device {name} has looked how large it is"),
            Self::ResetDevice { name } => write!(f, "device {name} is being reset"),
        }
    }
}

impl Target {
    /// Takes an amendment, or refuses it. [`Self::next_done`] says when it is done.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn amend(&mut self, amendment: &Amendment) -> Result<ChangeId, ChangeError> {
        match amendment {
            Amendment::LimitHosts(limits) => self.limit_hosts(*limits),
            Amendment::AddReferral(referral) => self.add_referral(referral.clone()),
            Amendment::RemoveReferral(referral) => self.remove_referral(referral),
            Amendment::PauseSubsystem { nqn } => self.pause_subsystem(nqn),
            Amendment::AddHost { nqn, keys } => self.add_host_with_keys(nqn, (**keys).clone()),
            Amendment::SetKeys { nqn, host, keys } => self.set_keys(nqn, host, keys.as_deref().cloned()),
            Amendment::SetAuthentication { hashes, groups } => self.set_authentication(*hashes, *groups),
            Amendment::ResumeSubsystem { nqn } => self.resume_subsystem(nqn),
            Amendment::AddNamespace { nqn, namespace } => self.add_namespace(nqn, namespace),
            Amendment::RemoveNamespace { nqn, nsid } => self.remove_namespace(nqn, *nsid),
            Amendment::AddNamespaceHost { nqn, nsid, host } => self.add_namespace_host(nqn, *nsid, host),
            Amendment::RemoveNamespaceHost { nqn, nsid, host } => self.remove_namespace_host(nqn, *nsid, host),
            Amendment::SetAnaState { nqn, listener, group, state } => {
                self.set_ana_state(nqn, *listener, *group, *state)
            }
            Amendment::SetAnaGroup { nqn, nsid, group } => self.set_ana_group(nqn, *nsid, *group),
            Amendment::DeleteDevice { name } => self.delete_device(name),
            Amendment::ResizeDevice { name, block_count } => self.resize_device(name, *block_count),
            Amendment::RescanDevice { name } => self.rescan_device(name),
            Amendment::ResetDevice { name } => self.reset_device(name),
        }
    }
}
