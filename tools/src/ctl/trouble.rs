//! Why a command came to nothing, and the exit status that says so to scripts.

use std::process::ExitCode;

/// See the module. Each text says what to do about it, where something can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The target refused, in its own words; or a check has found a problem.
    #[error("{0}")]
    Refused(String),
    /// What was asked for makes no sense: nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// There is no target at the socket, or it does not answer.
    #[error("{0}")]
    NoTarget(String),
}

impl Trouble {
    /// 1: refused. 2: usage, as with errors that clap finds. 3: no target.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::NoTarget(_) => 3,
        })
    }
}
