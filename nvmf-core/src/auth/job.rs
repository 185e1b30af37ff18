//! What takes long, by value: a [`Question`] of a poll group becomes a [`Job`] of the control plane, which whoever does it turns into [`Done`], which the
//! control plane sends back as an [`Answer`].
//!
//! A job has all that it needs, and lends nobody's memory: whoever asked may go away meanwhile, and the answer is a miss then.

use std::fmt;
use std::net::IpAddr;

use super::dh::PrivateKey;
use super::response::{self, Terms};
use super::{Random, Secret};
use crate::Qpair;
use crate::membership::Remote;
use crate::subsystem::SubsystemId;
use crate::wire::Nqn;
use crate::wire::auth::{Failure, GroupId, HashId, Reply};

/// What a poll group cannot do itself.
#[derive(Debug)]
pub(crate) struct Question {
    /// Who asks.
    pub(crate) qpair: Remote<Qpair>,
    /// Which question of that qpair this is.
    pub(crate) number: u32,
    /// Where its host is: work is shared out by that.
    pub(crate) peer: IpAddr,
    /// To what.
    pub(crate) subsystem: SubsystemId,
    /// Who the host says that it is.
    pub(crate) host: Nqn,
    /// Nobody waits any more then, in ns.
    pub(crate) deadline_ns: u64,
    /// What is to be done.
    pub(crate) work: Work,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Work {
    /// Make a challenge.
    Challenge {
        /// With this hash function.
        hash: HashId,
        /// And this group.
        group: GroupId,
    },
    /// Look at a reply.
    Verify {
        /// What it is a reply to.
        issued: Box<Issued>,
        /// The reply.
        reply: Box<Reply>,
        /// T_ID.
        transaction: u16,
    },
}

/// A challenge, and what only its maker knows of it.
pub(crate) struct Issued {
    /// The hash function.
    pub(crate) hash: HashId,
    /// The group.
    pub(crate) group: GroupId,
    /// S1.
    pub(crate) sequence: u32,
    /// C1.
    pub(crate) challenge: Vec<u8>,
    /// The controller's number of the key exchange.
    pub(crate) public: Vec<u8>,
    key: Option<PrivateKey>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({}, {})", self.hash.name(), self.group.name())
    }
}

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The challenge.
    Challenge(Box<Issued>),
    /// The host is who it says; and R2, where it asked for that.
    Verified {
        /// R2.
        response: Option<Vec<u8>>,
    },
    /// It is not, or nothing can be done for it.
    Failed(Failure),
    /// There is too much to do. Here it is again.
    Busy(Work),
}

/// An outcome on its way.
#[derive(Debug)]
pub(crate) struct Answer {
    /// To whom.
    pub(crate) qpair: Remote<Qpair>,
    /// Of which question.
    pub(crate) number: u32,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

impl Question {
    /// Without doing it.
    pub(crate) fn answer(self, outcome: impl FnOnce(Work) -> Outcome) -> Answer {
        Answer { qpair: self.qpair, number: self.number, outcome: outcome(self.work) }
    }
}

/// Long arithmetic for one host: not for a polling CPU. Has the keys, and wipes them when it is done.
pub struct Job {
    pub(crate) question: Box<Question>,
    pub(crate) host_secret: Secret,
    pub(crate) controller_secret: Option<Secret>,
    pub(crate) subsystem_nqn: Nqn,
    /// S1, should one be needed.
    pub(crate) sequence: u32,
}

/// A job that is done. It goes back to the control plane.
#[derive(Debug)]
pub struct Done {
    pub(crate) answer: Box<Answer>,
    pub(crate) peer: IpAddr,
    host: Nqn,
}

impl Done {
    /// The host that was refused, and where it is, if that is what it came to.
    #[must_use]
    pub fn refused(&self) -> Option<(&str, IpAddr)> {
        matches!(self.answer.outcome, Outcome::Failed(_)).then(|| (self.host.as_str(), self.peer))
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({:?})", self.question.work)
    }
}

impl Job {
    /// Does it, in microseconds without a key exchange and in milliseconds with one.
    #[must_use]
    pub fn perform(self, random: &mut Random<'_>) -> Done {
        let Self { question, host_secret, controller_secret, subsystem_nqn, sequence } = self;
        let peer = question.peer;
        let host = question.host.clone();
        let answer = question.answer(|work| match work {
            Work::Challenge { hash, group } => {
                let key = PrivateKey::draw(group, random);
                let public = key.as_ref().map(PrivateKey::public).unwrap_or_default();
                let mut challenge = vec![0; hash.code_len()];
                random(&mut challenge);
                Outcome::Challenge(Box::new(Issued { hash, group, sequence, challenge, public, key }))
            }
            Work::Verify { issued, reply, transaction } => {
                let names = [host.as_str(), subsystem_nqn.as_str()];
                verify(&issued, &reply, transaction, names, &host_secret, controller_secret.as_ref())
            }
        });
        Done { answer: Box::new(answer), peer, host }
    }
}

fn verify(
    issued: &Issued,
    reply: &Reply,
    transaction: u16,
    [host_nqn, subsystem_nqn]: [&str; 2],
    host_secret: &Secret,
    controller_secret: Option<&Secret>,
) -> Outcome {
    let shared = match &issued.key {
        None => None,
        Some(key) => match key.shared(&reply.public) {
            Some(shared) => Some(shared),
            None => return Outcome::Failed(Failure::PayloadIncorrect),
        },
    };
    let shared = shared.as_ref().map(|shared| shared.as_slice());
    let terms = Terms { hash: issued.hash, transaction, host_nqn, subsystem_nqn, shared };
    let expected = response::of_host(host_secret, &terms, &issued.challenge, issued.sequence);
    if !response::is(&expected, &reply.response) {
        return Outcome::Failed(Failure::Failed);
    }
    match (&reply.challenge, controller_secret) {
        (None, _) => Outcome::Verified { response: None },
        (Some((challenge, sequence)), Some(secret)) => {
            let ours = response::of_controller(secret, &terms, challenge, *sequence);
            Outcome::Verified { response: Some(ours.as_bytes().to_vec()) }
        }
        // The host wants to be sure of a controller that has nothing to prove itself with.
        (Some(_), None) => Outcome::Failed(Failure::Failed),
    }
}
