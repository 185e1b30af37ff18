//! A subsystem is paused and resumed: its hosts' I/O commands wait on their CPUs, and nothing touches its devices meanwhile.

use super::Target;
use super::change::{ChangeError, ChangeId, Task};

impl Target {
    /// I/O commands of the subsystem that come from now on are held back; those that were begun end. Done when none is with a device or on its way to or
    /// from a host any more. Hosts stay connected, and everything but I/O is served.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn pause_subsystem(&mut self, nqn: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        if entry.is_paused {
            return Err(ChangeError::PausedAlready { nqn: nqn.into(), state: "paused already" });
        }
        entry.is_paused = true;
        let task = Task::Pause { subsystem: entry.id, devices: entry.devices.clone() };
        Ok(self.begin(task))
    }

    /// The subsystem's I/O commands go on, those first that were held back. A pause that was not done yet is done with it.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn resume_subsystem(&mut self, nqn: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        if !entry.is_paused {
            return Err(ChangeError::PausedAlready { nqn: nqn.into(), state: "not paused" });
        }
        entry.is_paused = false;
        let task = Task::Resume { subsystem: entry.id };
        Ok(self.begin(task))
    }

    /// Whether the subsystem is paused. `None`: there is no such subsystem.
    #[must_use]
    pub fn is_paused(&self, nqn: &str) -> Option<bool> {
        self.subsystems.find(nqn).ok().map(|entry| entry.is_paused)
    }
}
