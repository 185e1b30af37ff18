//! Changes that are the NVMe layer's alone, as plain data: whoever carries requests here need not know them.

use std::fmt;

use super::Target;
use super::change::{ChangeError, ChangeId};

/// What can be amended.
#[derive(Clone, Debug)]
pub enum Amendment {
    /// [`Target::pause_subsystem`].
    PauseSubsystem {
        /// Which.
        nqn: String,
    },
    /// [`Target::resume_subsystem`].
    ResumeSubsystem {
        /// Which.
        nqn: String,
    },
}

impl fmt::Display for Amendment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PauseSubsystem { nqn } => write!(f, "subsystem {nqn} is being paused"),
            Self::ResumeSubsystem { nqn } => write!(f, "subsystem {nqn} is resumed"),
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
            Amendment::PauseSubsystem { nqn } => self.pause_subsystem(nqn),
            Amendment::ResumeSubsystem { nqn } => self.resume_subsystem(nqn),
        }
    }
}
