//! What a state machine of an admin queue asks of its caller, and what it is told.

use crate::auth::SupplicantError;
use crate::host::Attached;
use crate::host::response::HostCompletion;
use crate::wire::NqnError;

/// Data that goes with an admin command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminData {
    /// None.
    None,
    /// To the controller.
    Out(Vec<u8>),
    /// From the controller, this many bytes: at most 4096.
    In(u32),
}

/// What to do next on the admin queue.
#[derive(Debug)]
pub enum Step<T = Attached> {
    /// Send this command (its command id and SGL are filled in by the transport, see [`crate::host::fill`]) and come back with the outcome.
    Submit {
        /// 64 bytes.
        command: [u8; 64],
        /// Its data.
        data: AdminData,
    },
    /// Come back after this many ns (CSTS.RDY is polled).
    Wait {
        /// ns.
        delay_ns: u64,
    },
    /// All of it is done: the controller is ready, or the log is read.
    Done(Box<T>),
    /// It is not to be had.
    Failed(HostError),
}

/// A command's end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// 16 bytes of completion entry.
    pub completion: [u8; 16],
    /// The data that came with [`AdminData::In`].
    pub data: &'a [u8],
}

/// Why the host side gave up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A command ended with an error status.
    #[error("{command} failed: {status}")]
    Status {
        /// Which command, in words.
        command: &'static str,
        /// The status in words, with its numbers.
        status: String,
    },
    /// The controller did not do what the specification says.
    #[error("{what}")]
    Peer {
        /// What.
        what: String,
    },
    /// Host and controller did not come to know each other.
    #[error("authentication failed: {0}")]
    Authentication(SupplicantError),
    /// A name that we were to connect with is none.
    #[error("{field} is {value:?}: {error}")]
    Name {
        /// Which name.
        field: &'static str,
        /// What it was.
        value: String,
        /// Which rule it breaks.
        error: NqnError,
    },
}

impl Step<std::convert::Infallible> {
    /// A step that cannot be the end fits any machine.
    pub(super) fn retarget<T>(self) -> Step<T> {
        self.map(|never| match *never {})
    }
}

impl<T> Step<T> {
    /// What a machine does next that was in `state`: it goes on in the state that comes with the step, and where it failed it stays as it is.
    pub(super) fn taken<S>(next: Result<(Self, S), HostError>, state: &mut S) -> Self {
        match next {
            Ok((step, then)) => {
                *state = then;
                step
            }
            Err(error) => Self::Failed(error),
        }
    }

    /// The same, with another end.
    pub(super) fn map<U>(self, done: impl FnOnce(Box<T>) -> Box<U>) -> Step<U> {
        match self {
            Self::Submit { command, data } => Step::Submit { command, data },
            Self::Wait { delay_ns } => Step::Wait { delay_ns },
            Self::Failed(error) => Step::Failed(error),
            Self::Done(end) => Step::Done(done(end)),
        }
    }
}

impl HostError {
    pub(super) fn peer(what: impl Into<String>) -> Self {
        Self::Peer { what: what.into() }
    }
}

impl Outcome<'_> {
    /// The completion, if the command did what it should.
    pub(super) fn success(&self, command: &'static str) -> Result<HostCompletion, HostError> {
        HostCompletion::parse(&self.completion).success(command)
    }

    /// The data as a structure, if all of it came.
    pub(super) fn page<T>(&self, command: &'static str) -> Result<&T, HostError>
    where
        T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
    {
        match T::ref_from_prefix(self.data) {
            Ok((page, _)) => Ok(page),
            Err(_) => Err(HostError::peer(format!(
                "{command} brought {} bytes of {}",
                self.data.len(),
                std::mem::size_of::<T>()
            ))),
        }
    }
}
