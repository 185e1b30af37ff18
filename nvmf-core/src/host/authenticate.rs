//! Authentication of one queue, after its Connect [NVMe Base 2.0, 8.13.5]: the host's messages as commands.
//!
//! A controller that has too much to do says *Command Interrupted*: the same command goes out again, a few times and ever later.

use zerocopy::little_endian::U32;

use crate::auth::{Credentials, Entropy, Supplicant, Turn};
use crate::host::identity::HostIdentity;
use crate::host::response::HostCompletion;
use crate::host::step::{AdminData, HostError, Outcome, Step};
use crate::status::Status;
use crate::wire::FabricsType;
use crate::wire::auth::AuthenticationEntry;

/// How long a command waits that found no room: doubled each time.
const RETRY_DELAY_MIN_NS: u64 = 10_000_000;
const RETRY_DELAY_MAX_NS: u64 = 1_000_000_000;
/// How often the same command is sent.
const ATTEMPT_COUNT_MAX: u32 = 20;

/// What a command does for the exchange.
#[derive(Clone, Debug)]
enum Errand {
    Send(Vec<u8>),
    Receive(u32),
}

/// From a queue whose Connect asked for authentication to one that carries commands. Its steps are those of an admin queue's machines, on any queue.
#[derive(Debug)]
pub struct Authenticate {
    supplicant: Supplicant,
    errand: Option<Errand>,
    attempt_count: u32,
    delay_ns: u64,
}

impl Authenticate {
    /// `transaction` is the host's to choose; Linux counts.
    #[must_use]
    pub fn new(
        credentials: &Credentials,
        identity: &HostIdentity,
        subsystem_nqn: &str,
        transaction: u16,
        entropy: Entropy,
    ) -> Self {
        let supplicant = Supplicant::new(credentials.clone(), &identity.nqn, subsystem_nqn, transaction, entropy);
        Self { supplicant, errand: None, attempt_count: 0, delay_ns: RETRY_DELAY_MIN_NS }
    }

    /// What to do next. First call and after a wait: `None`.
    ///
    /// # Panics
    /// If called after its end, or with an outcome where no command was submitted: the caller's bug.
    pub fn next(&mut self, outcome: Option<Outcome<'_>>) -> Step<()> {
        let turn = match (self.errand.take(), outcome) {
            (None, None) => self.supplicant.next(None),
            (Some(errand), None) => return self.submit(errand),
            (Some(errand), Some(outcome)) => {
                let completion = HostCompletion::parse(&outcome.completion);
                if completion.status.is(Status::COMMAND_INTERRUPTED) && self.attempt_count < ATTEMPT_COUNT_MAX {
                    let delay_ns = self.delay_ns;
                    self.delay_ns = (delay_ns * 2).min(RETRY_DELAY_MAX_NS);
                    self.errand = Some(errand);
                    return Step::Wait { delay_ns };
                }
                let name = match errand {
                    Errand::Send(_) => "Authentication Send",
                    Errand::Receive(_) => "Authentication Receive",
                };
                if let Err(error) = completion.success(name) {
                    return Step::Failed(error);
                }
                self.supplicant.next(matches!(errand, Errand::Receive(_)).then_some(outcome.data))
            }
            (None, Some(outcome)) => panic!("an authentication that has sent nothing was given {outcome:?}"),
        };
        (self.attempt_count, self.delay_ns) = (0, RETRY_DELAY_MIN_NS);
        match turn {
            Turn::Send(bytes) => self.submit(Errand::Send(bytes)),
            Turn::Receive(len) => self.submit(Errand::Receive(len)),
            Turn::Done => Step::Done(Box::new(())),
            Turn::Failed(error) => Step::Failed(HostError::Authentication(error)),
        }
    }

    fn submit(&mut self, errand: Errand) -> Step<()> {
        let (fabrics_type, len, data) = match &errand {
            Errand::Send(bytes) => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                (FabricsType::AuthenticationSend, len, AdminData::Out(bytes.clone()))
            }
            Errand::Receive(len) => (FabricsType::AuthenticationReceive, *len, AdminData::In(*len)),
        };
        let mut entry = AuthenticationEntry::new(fabrics_type);
        entry.specific_0 = AuthenticationEntry::SPECIFIC;
        entry.specific_1 = AuthenticationEntry::SPECIFIC;
        entry.security_protocol = AuthenticationEntry::SECURITY_PROTOCOL;
        entry.len = U32::new(len);
        self.errand = Some(errand);
        self.attempt_count += 1;
        Step::Submit { command: entry.to_bytes(), data }
    }
}
