//! The controller's side of one queue's authentication: which message may come, which may be fetched, and what it comes to [NVMe Base 2.0, 8.13.5].
//!
//! Where it is, is a flat table, kept whole in the test below; beside it stands what the messages have said. It neither computes nor waits: work is handed
//! out ([`Work`]) and its outcome handed in. Owned by the qpair's poll group.
//!
//! A host begins again with AUTH_Negotiate once an exchange has succeeded, as often as it likes: the queue serves meanwhile. In the middle of one it may not.

use super::job::{Issued, Outcome, Work};
use super::{GroupSet, HashSet};
use crate::wire::auth::{
    Challenge, ControllerMessage, Failure, GroupId, HashId, HostMessage, Negotiate, Reply, Success1,
};

/// Where an exchange is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// AUTH_Negotiate may come: none has yet, or the last exchange succeeded.
    Idle,
    /// A challenge may be fetched.
    Negotiated,
    /// It is being made.
    Challenging,
    /// It is made, and is about to be delivered.
    Challenge,
    /// The reply may come.
    Challenged,
    /// It is being looked at.
    Verifying,
    /// It was right: Success1 may be fetched, and that is all.
    Success,
    /// The same, with the controller's own response.
    Proof,
    /// Whether the host believes it may come.
    Proven,
    /// Failure1 may be fetched.
    Failing,
    /// The connection ends.
    Failed,
}

/// What can happen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// AUTH_Negotiate came, and there is something in common.
    Negotiate,
    /// The host fetches a message.
    Fetch,
    /// The challenge is made.
    Made,
    /// What was fetched is on its way.
    Deliver,
    /// The reply came.
    Reply,
    /// It is right.
    Accept,
    /// It is right, and wants a response.
    AcceptBoth,
    /// There was no room for the work.
    Busy,
    /// Success2 came.
    Confirm,
    /// AUTH_Failure2 came.
    Refuse,
    /// What came is wrong, or not what may come.
    Fail,
}

impl Step {
    /// The step after `event`. `None`: this cannot happen here; for a message it is out of turn.
    pub(crate) const fn next(self, event: Event) -> Option<Self> {
        use Event as E;
        use Step as S;
        match (self, event) {
            (S::Idle, E::Negotiate) => Some(S::Negotiated),
            (S::Negotiated, E::Fetch) => Some(S::Challenging),
            (S::Challenging, E::Made) => Some(S::Challenge),
            (S::Challenging, E::Busy) => Some(S::Negotiated),
            (S::Challenge, E::Deliver) => Some(S::Challenged),
            (S::Challenged, E::Reply) => Some(S::Verifying),
            (S::Verifying, E::Accept) => Some(S::Success),
            (S::Verifying, E::AcceptBoth) => Some(S::Proof),
            (S::Verifying, E::Busy) => Some(S::Challenged),
            (S::Success, E::Deliver) => Some(S::Idle),
            (S::Proof, E::Deliver) => Some(S::Proven),
            (S::Proven, E::Confirm) => Some(S::Idle),
            // The host may give up wherever it has had something to look at.
            (S::Challenged | S::Proven, E::Refuse) => Some(S::Failed),
            (S::Failing, E::Deliver) => Some(S::Failed),
            (S::Failed, _) => None,
            (_, E::Fail) => Some(S::Failing),
            _ => None,
        }
    }

    /// Whether somebody else is at work for it.
    const fn is_working(self) -> bool {
        matches!(self, Self::Challenging | Self::Verifying)
    }
}

/// What becomes of a message that the host sent.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is taken.
    Done,
    /// And with it the host is authenticated.
    Authenticated,
    /// It is taken when this is done.
    Ask(Work),
    /// The host gives up: the connection ends.
    Ends,
    /// Another is still being worked at.
    OutOfTurn,
}

/// What becomes of a fetch.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// This is for the host. [`Exchange::delivered`] when it is on its way.
    Message(Vec<u8>),
    /// There is something when this is done.
    Ask(Work),
    /// Another is still being worked at.
    OutOfTurn,
}

/// What a delivery comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// It goes on.
    On,
    /// The host is authenticated.
    Authenticated,
    /// The connection ends.
    Ends,
}

/// One queue's exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    step: Step,
    transaction: u16,
    choice: Option<(HashId, GroupId)>,
    issued: Option<Box<Issued>>,
    response: Option<Vec<u8>>,
    failure: Failure,
}

impl Exchange {
    /// Nothing has come.
    pub(crate) fn new() -> Self {
        let failure = Failure::Failed;
        Self { step: Step::Idle, transaction: 0, choice: None, issued: None, response: None, failure }
    }

    /// Whether an exchange has begun and is not over.
    pub(crate) fn is_under_way(&self) -> bool {
        self.step != Step::Idle
    }

    /// Why it fails, if it does.
    pub(crate) fn failure(&self) -> Option<Failure> {
        matches!(self.step, Step::Failing | Step::Failed).then_some(self.failure)
    }

    /// Authentication Send brought these bytes.
    pub(crate) fn take(&mut self, bytes: &[u8], hashes: HashSet, groups: GroupSet) -> Taken {
        if self.step.is_working() {
            return Taken::OutOfTurn;
        }
        let (transaction, message) = match HostMessage::parse(bytes) {
            Ok(parsed) => parsed,
            Err((transaction, failure)) => return self.fail_in(transaction, failure),
        };
        // Only the first message names a transaction; the others are of that one.
        let is_first = matches!(message, HostMessage::Negotiate(_));
        if !is_first && transaction != self.transaction {
            return self.fail(Failure::PayloadIncorrect);
        }
        match message {
            HostMessage::Negotiate(negotiate) => self.negotiate(transaction, &negotiate, hashes, groups),
            HostMessage::Reply(reply) => self.reply(reply),
            HostMessage::Success2 => match self.advance(Event::Confirm) {
                true => Taken::Authenticated,
                false => self.fail(Failure::MessageIncorrect),
            },
            HostMessage::Failure2(failure) => match self.advance(Event::Refuse) {
                true => {
                    self.failure = failure;
                    Taken::Ends
                }
                false => self.fail(Failure::MessageIncorrect),
            },
        }
    }

    /// Authentication Receive wants something.
    pub(crate) fn fetch(&mut self) -> Delivery {
        if self.step.is_working() {
            return Delivery::OutOfTurn;
        }
        if let (Some((hash, group)), true) = (self.choice, self.advance(Event::Fetch)) {
            return Delivery::Ask(Work::Challenge { hash, group });
        }
        let message = match (self.step, &self.issued, self.choice) {
            (Step::Challenge, Some(issued), _) => ControllerMessage::Challenge(Challenge {
                hash: issued.hash,
                group: issued.group,
                sequence: issued.sequence,
                challenge: issued.challenge.clone(),
                public: issued.public.clone(),
            }),
            (Step::Success | Step::Proof, _, Some((hash, _))) => ControllerMessage::Success1(Success1 {
                // A Linux host wants HL whether or not there is a response.
                hash_len: u8::try_from(hash.code_len()).unwrap_or(0),
                response: self.response.clone(),
            }),
            (Step::Failing, _, _) => ControllerMessage::Failure1(self.failure),
            // There is nothing to fetch.
            _ => {
                self.fail(Failure::MessageIncorrect);
                ControllerMessage::Failure1(self.failure)
            }
        };
        Delivery::Message(message.to_bytes(self.transaction))
    }

    /// What was fetched is on its way.
    pub(crate) fn delivered(&mut self) -> Delivered {
        let was = self.step;
        self.advance(Event::Deliver);
        match (was, self.step) {
            (Step::Success, Step::Idle) => Delivered::Authenticated,
            (_, Step::Failed) => Delivered::Ends,
            _ => Delivered::On,
        }
    }

    /// Work that was handed out has come to this. True: the command that waits for it is to be tried again by its host.
    pub(crate) fn answered(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Challenge(issued) => {
                self.issued = Some(issued);
                self.advance(Event::Made);
            }
            Outcome::Verified { response } => {
                let event = if response.is_some() { Event::AcceptBoth } else { Event::Accept };
                self.response = response;
                self.advance(event);
            }
            Outcome::Failed(failure) => drop(self.fail(failure)),
            Outcome::Busy(work) => {
                if let Work::Verify { issued, .. } = work {
                    self.issued = Some(issued);
                }
                self.advance(Event::Busy);
                return true;
            }
        }
        false
    }

    fn negotiate(&mut self, transaction: u16, negotiate: &Negotiate, hashes: HashSet, groups: GroupSet) -> Taken {
        if self.step.next(Event::Negotiate).is_none() {
            return self.fail(Failure::MessageIncorrect);
        }
        self.transaction = transaction;
        // A secure channel is TLS's, and there is none over RDMA [NVMe Base 2.0, 8.13.4].
        if negotiate.concatenation != 0 {
            return self.fail(Failure::ConcatenationMismatch);
        }
        let Some(offer) = &negotiate.offer else { return self.fail(Failure::ProtocolUnusable) };
        let is_common = |hash: &HashId| hashes.contains(*hash) && offer.hashes.contains(hash);
        let Some(hash) = HashSet::BY_STRENGTH.into_iter().find(is_common) else {
            return self.fail(Failure::HashUnusable);
        };
        let is_common = |group: &GroupId| groups.contains(*group) && offer.groups.contains(group);
        let Some(group) = GroupSet::BY_STRENGTH.into_iter().find(is_common) else {
            return self.fail(Failure::GroupUnusable);
        };
        self.choice = Some((hash, group));
        (self.issued, self.response) = (None, None);
        self.advance(Event::Negotiate);
        Taken::Done
    }

    fn reply(&mut self, reply: Reply) -> Taken {
        let issued = match (self.step, self.issued.take()) {
            (Step::Challenged, Some(issued)) => issued,
            _ => return self.fail(Failure::MessageIncorrect),
        };
        let public_len = issued.group.number_len();
        // A number of the group may come without its leading zeroes.
        let is_public = reply.public.len() <= public_len && reply.public.is_empty() == (public_len == 0);
        if reply.response.len() != issued.hash.code_len() || !is_public {
            return self.fail(Failure::PayloadIncorrect);
        }
        self.advance(Event::Reply);
        Taken::Ask(Work::Verify { issued, reply: Box::new(reply), transaction: self.transaction })
    }

    /// Failure1 names the transaction of what could not be read, where none has begun.
    fn fail_in(&mut self, transaction: u16, failure: Failure) -> Taken {
        if self.step == Step::Idle {
            self.transaction = transaction;
        }
        self.fail(failure)
    }

    /// The first failure is the one that is told of.
    fn fail(&mut self, failure: Failure) -> Taken {
        if !matches!(self.step, Step::Failing | Step::Failed) {
            self.failure = failure;
        }
        self.advance(Event::Fail);
        (self.issued, self.response) = (None, None);
        // The command itself has done what it should: the host is told by the message that it fetches next.
        Taken::Done
    }

    fn advance(&mut self, event: Event) -> bool {
        let next = self.step.next(event);
        self.step = next.unwrap_or(self.step);
        next.is_some()
    }
}

#[cfg(test)]
mod tests;
