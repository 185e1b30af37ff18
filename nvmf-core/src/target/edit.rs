//! The changes that the control plane is asked for. Each is taken or refused at once; [`Target::next_done`] says when it is done.

use std::net::SocketAddr;

use super::change::{ChangeError, ChangeId, Task};
use super::{Target, check};
use crate::limits::CHANGE_COUNT_MAX;
use crate::spec::{HostLimits, SubsystemSpec};
use crate::wire::Nqn;
use crate::withdrawal::{Audience, Withdrawal};

impl Target {
    /// A new subsystem. Its namespaces are of devices that the target was started with, and that no other namespace uses. Done when hosts can connect to
    /// it.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn create_subsystem(&mut self, spec: SubsystemSpec) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        match self.subsystems.find(&spec.nqn) {
            Ok(_) => return Err(ChangeError::SubsystemThere { nqn: spec.nqn }),
            Err(ChangeError::NoSubsystem { .. }) => {}
            Err(error) => return Err(error),
        }
        check::check_addition(self.subsystems.iter().map(|entry| &entry.spec), &spec, &self.controller)?;
        self.subsystems.insert(spec, &mut self.devices)?;
        Ok(self.begin(Task::Publish))
    }

    /// Nobody connects to the subsystem from now on, and its controllers end. Done when the last of them is gone and nothing knows the subsystem any more.
    /// Its devices' channels stay open, and its devices are free for other namespaces then.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn delete_subsystem(&mut self, nqn: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        entry.is_leaving = true;
        let withdrawal = Withdrawal { subsystem: entry.id, from: Audience::Everybody };
        Ok(self.begin(Task::Withdraw(Box::new(withdrawal))))
    }

    /// Whether [`Self::add_listener`] would be taken: the address has to be listened on first.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn may_add_listener(&self, nqn: &str, address: SocketAddr) -> Result<(), ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find(nqn)?;
        entry.may_add_listener(address)?;
        let removal = Withdrawal { subsystem: entry.id, from: Audience::Listener(address) };
        if self.changes.takes_away(&removal) {
            return Err(ChangeError::BeingRemoved { what: format!("listen_address {address} of {nqn}") });
        }
        Ok(())
    }

    /// The subsystem is offered at this address, which is listened on. Done when hosts can connect to it there.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_listener(&mut self, nqn: &str, address: SocketAddr) -> Result<ChangeId, ChangeError> {
        self.may_add_listener(nqn, address)?;
        self.subsystems.find_mut(nqn)?.add_listener(address);
        Ok(self.begin(Task::Publish))
    }

    /// The subsystem is not offered at this address any more, and its qpairs that came by it end. Done when the end of each has begun.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn remove_listener(&mut self, nqn: &str, address: SocketAddr) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        entry.remove_listener(address)?;
        let withdrawal = Withdrawal { subsystem: entry.id, from: Audience::Listener(address) };
        Ok(self.begin(Task::Withdraw(Box::new(withdrawal))))
    }

    /// The host may use the subsystem. Done when it can.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_host(&mut self, nqn: &str, host: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let name = check::nqn(nqn, "host", host)?;
        let removal = Withdrawal { subsystem: self.subsystems.find(nqn)?.id, from: Audience::Host(name) };
        if self.changes.takes_away(&removal) {
            return Err(ChangeError::BeingRemoved { what: format!("host {host} of {nqn}") });
        }
        self.subsystems.find_mut(nqn)?.add_host(host)?;
        Ok(self.begin(Task::Publish))
    }

    /// The host is not in the subsystem's list any more, and its controllers end. Done when the end of each has begun.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn remove_host(&mut self, nqn: &str, host: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        entry.remove_host(host)?;
        // Whoever every host may use it with may go on.
        let may_go_on = entry.spec.allow_any_host;
        let from = Audience::Host(Nqn::new(host).map_err(|_| ChangeError::NoHost {
            nqn: nqn.into(),
            host: host.into(),
            known: String::new(),
        })?);
        let withdrawal = Withdrawal { subsystem: entry.id, from };
        Ok(self.begin(if may_go_on { Task::Publish } else { Task::Withdraw(Box::new(withdrawal)) }))
    }

    /// Whether every host may use the subsystem, or those of its list. Who is connected stays. Done when it holds.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn allow_any_host(&mut self, nqn: &str, is_allowed: bool) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        self.subsystems.find_mut(nqn)?.spec.allow_any_host = is_allowed;
        Ok(self.begin(Task::Publish))
    }

    /// What one host may have in flight, for commands that are begun from the next snapshot on. Done when it holds.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn limit_hosts(&mut self, limits: HostLimits) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        check::host_limits(&limits)?;
        self.controller.host = limits;
        Ok(self.begin(Task::Publish))
    }

    /// What it is.
    #[must_use]
    pub fn host_limits(&self) -> HostLimits {
        self.controller.host
    }

    pub(super) fn begin(&mut self, task: Task) -> ChangeId {
        self.is_stale = true;
        self.changes.begin(task)
    }

    pub(super) fn may_change(&self) -> Result<(), ChangeError> {
        if self.is_closing {
            return Err(ChangeError::ShuttingDown);
        }
        if self.changes.under_way.len() >= CHANGE_COUNT_MAX {
            return Err(ChangeError::TooMany { limit: CHANGE_COUNT_MAX });
        }
        Ok(())
    }
}
