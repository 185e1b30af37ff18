//! Asymmetric namespace access: the state of each ANA group at each address, changed while hosts are connected [NVMe Base 2.0, 8.1].

use std::net::SocketAddr;

use super::Target;
use super::change::{ChangeError, ChangeId, Task};
use crate::notice::{Notice, Recipients};
use crate::spec::AnaState;

impl Target {
    /// The groups' state at one of the subsystem's addresses: of one group, or of all. Hosts that came by it are told. Done when every CPU answers
    /// commands accordingly from then on; commands that were admitted before are carried out.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn set_ana_state(
        &mut self,
        nqn: &str,
        listener: SocketAddr,
        group: Option<u32>,
        state: AnaState,
    ) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        entry.set_ana_state(listener, group, state)?;
        let subsystem = entry.id;
        self.notify(Notice::AnaChanged { subsystem, to: Recipients::Listener(listener) });
        Ok(self.begin(Task::Publish))
    }

    /// A namespace goes to another ANA group. Hosts are told.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn set_ana_group(&mut self, nqn: &str, nsid: u32, group: u32) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        entry.set_ana_group(nsid, group)?;
        let subsystem = entry.id;
        self.tell_of_namespace(subsystem, nsid);
        self.notify(Notice::AnaChanged { subsystem, to: Recipients::Everybody });
        Ok(self.begin(Task::Publish))
    }
}
