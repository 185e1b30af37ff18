//! The host's side of one queue's authentication [NVMe Base 2.0, 8.13.5]: what to send, what to fetch, and what to believe.
//!
//! Its steps are a flat table, kept whole in the test below. The key exchange is done here, in the call that has the challenge: a host waits for it anyway.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::dh::PrivateKey;
use super::response::{self, Terms};
use super::{GroupSet, HashSet, Secret};
use crate::wire::auth::{
    CONTROLLER_MESSAGE_LEN_MAX, Challenge, ControllerMessage, Failure, HASH_LEN_MAX, HashId, HostMessage, Negotiate,
    Offer, Reply, Success1,
};

/// What a host proves itself with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The host's own secret.
    pub secret: Secret,
    /// The controller's, where that has to prove itself too.
    pub controller_secret: Option<Secret>,
    /// Hash functions to offer.
    pub hashes: HashSet,
    /// Groups to offer.
    pub groups: GroupSet,
}

impl Credentials {
    /// With everything on offer.
    #[must_use]
    pub const fn new(secret: Secret, controller_secret: Option<Secret>) -> Self {
        Self { secret, controller_secret, hashes: HashSet::ALL, groups: GroupSet::ALL }
    }
}

/// What one exchange has of random bytes. Never used twice.
#[derive(Clone)]
pub struct Entropy(Zeroizing<[u8; Self::LEN]>);

impl Entropy {
    /// Bytes of it: a challenge, an exponent, a sequence number.
    pub const LEN: usize = HASH_LEN_MAX + 64;

    /// From a source of random bytes.
    #[must_use]
    pub fn draw(random: &mut super::Random<'_>) -> Self {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        random(bytes.as_mut_slice());
        Self(bytes)
    }

    fn challenge(&self, hash: HashId) -> Vec<u8> {
        self.0[..hash.code_len()].to_vec()
    }

    fn exponent(&self, into: &mut [u8]) {
        let len = into.len();
        into.copy_from_slice(&self.0[HASH_LEN_MAX..HASH_LEN_MAX + len]);
    }

    /// S2: 0 would say that the controller need not answer.
    fn sequence(&self) -> u32 {
        self.0.last_chunk().map_or(1, |bytes| u32::from_le_bytes(*bytes)).max(1)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(…)")
    }
}

/// Where a host's random bytes come from: the system's generator, or a test's sequence.
#[derive(Clone)]
pub struct RandomSource(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

impl RandomSource {
    /// Fills what it is given.
    #[must_use]
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    /// For one exchange.
    #[must_use]
    pub fn entropy(&self) -> Entropy {
        Entropy::draw(&mut |bytes| (self.0)(bytes))
    }
}

impl fmt::Debug for RandomSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomSource(…)")
    }
}

/// Why it came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupplicantError {
    /// The controller says so.
    #[error("the controller refused to authenticate this host: {}; is the secret right?", .0.name())]
    Refused(Failure),
    /// The controller has not proven itself.
    #[error(
        "the controller did not prove that it knows its secret: it is not the one that it says, or its secret is another"
    )]
    Controller,
    /// What the controller sent makes no sense.
    #[error("the controller's authentication message was not understood: {}", .0.name())]
    Peer(Failure),
}

/// What the queue does next.
#[derive(Debug)]
pub enum Turn {
    /// Authentication Send of these bytes.
    Send(Vec<u8>),
    /// Authentication Receive of at most so many.
    Receive(u32),
    /// Both know what they wanted to know.
    Done,
    /// They do not. The connection is to be ended.
    Failed(SupplicantError),
}

/// Where it is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing was sent.
    Start,
    /// AUTH_Negotiate was sent.
    Negotiating,
    /// The challenge was asked for.
    AwaitingChallenge,
    /// The reply was sent.
    Replying,
    /// Success1 was asked for.
    AwaitingSuccess,
    /// Success2 was sent.
    Confirming,
    /// AUTH_Failure2 was sent.
    Refusing,
    /// It has ended.
    Over,
}

/// What can happen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The last command has ended; for the first step: begin.
    Sent,
    /// The challenge came.
    Challenge,
    /// Success1 came, and that is all.
    Success,
    /// Success1 came, and the controller's response in it is right.
    Proof,
    /// What came is wrong.
    Wrong,
    /// Failure1 came.
    Refused,
}

impl Step {
    const fn next(self, event: Event) -> Option<Self> {
        use Event as E;
        use Step as S;
        match (self, event) {
            (S::Start, E::Sent) => Some(S::Negotiating),
            (S::Negotiating, E::Sent) => Some(S::AwaitingChallenge),
            (S::AwaitingChallenge, E::Challenge) => Some(S::Replying),
            (S::Replying, E::Sent) => Some(S::AwaitingSuccess),
            (S::AwaitingSuccess, E::Success) => Some(S::Over),
            (S::AwaitingSuccess, E::Proof) => Some(S::Confirming),
            (S::Confirming | S::Refusing, E::Sent) => Some(S::Over),
            (S::AwaitingChallenge | S::AwaitingSuccess, E::Wrong) => Some(S::Refusing),
            (S::AwaitingChallenge | S::AwaitingSuccess, E::Refused) => Some(S::Over),
            _ => None,
        }
    }
}

/// One queue's authentication, as its host does it.
pub struct Supplicant {
    credentials: Credentials,
    host_nqn: String,
    subsystem_nqn: String,
    transaction: u16,
    entropy: Entropy,
    step: Step,
    /// What the controller has to answer, where it has to.
    expected: Option<Zeroizing<Vec<u8>>>,
    hash: Option<HashId>,
    error: Option<SupplicantError>,
}

impl fmt::Debug for Supplicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supplicant({:?})", self.step)
    }
}

impl Supplicant {
    /// For one queue. `transaction` is the host's to choose.
    #[must_use]
    pub fn new(
        credentials: Credentials,
        host_nqn: &str,
        subsystem_nqn: &str,
        transaction: u16,
        entropy: Entropy,
    ) -> Self {
        Self {
            credentials,
            host_nqn: host_nqn.to_owned(),
            subsystem_nqn: subsystem_nqn.to_owned(),
            transaction,
            entropy,
            step: Step::Start,
            expected: None,
            hash: None,
            error: None,
        }
    }

    /// What to do next. First call, and when a Send has ended: `None`; when a Receive has: its bytes.
    ///
    /// # Panics
    /// If called with bytes where none were asked for, or the other way round, or after its end: the caller's bug.
    pub fn next(&mut self, received: Option<&[u8]>) -> Turn {
        match (self.step, received) {
            (Step::Start, None) => {
                self.advance(Event::Sent);
                let offer = Offer {
                    hashes: HashSet::BY_STRENGTH.into_iter().filter(|h| self.credentials.hashes.contains(*h)).collect(),
                    groups: GroupSet::BY_STRENGTH
                        .into_iter()
                        .filter(|g| self.credentials.groups.contains(*g))
                        .collect(),
                };
                self.send(&HostMessage::Negotiate(Negotiate { concatenation: 0, offer: Some(offer) }))
            }
            (Step::Negotiating | Step::Replying, None) => {
                self.advance(Event::Sent);
                Turn::Receive(u32::try_from(CONTROLLER_MESSAGE_LEN_MAX).unwrap_or(u32::MAX))
            }
            (Step::AwaitingChallenge | Step::AwaitingSuccess, Some(bytes)) => self.receive(bytes),
            (Step::Confirming, None) => {
                self.advance(Event::Sent);
                Turn::Done
            }
            (Step::Refusing, None) => {
                self.advance(Event::Sent);
                Turn::Failed(self.error.unwrap_or(SupplicantError::Peer(Failure::Failed)))
            }
            (step, received) => panic!("an authentication in {step:?} was given {:?} bytes", received.map(<[u8]>::len)),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Turn {
        let message = match ControllerMessage::parse(bytes) {
            Ok((transaction, message)) if transaction == self.transaction => message,
            Ok(_) => return self.refuse(SupplicantError::Peer(Failure::PayloadIncorrect)),
            Err(failure) => return self.refuse(SupplicantError::Peer(failure)),
        };
        match (self.step, message) {
            (_, ControllerMessage::Failure1(failure)) => {
                self.advance(Event::Refused);
                Turn::Failed(SupplicantError::Refused(failure))
            }
            (Step::AwaitingChallenge, ControllerMessage::Challenge(challenge)) => self.reply(&challenge),
            (Step::AwaitingSuccess, ControllerMessage::Success1(success)) => self.judge(&success),
            _ => self.refuse(SupplicantError::Peer(Failure::MessageIncorrect)),
        }
    }

    fn reply(&mut self, challenge: &Challenge) -> Turn {
        let Challenge { hash, group, .. } = *challenge;
        // Nothing weaker than what was offered.
        if !self.credentials.hashes.contains(hash) {
            return self.refuse(SupplicantError::Peer(Failure::HashUnusable));
        }
        if !self.credentials.groups.contains(group) {
            return self.refuse(SupplicantError::Peer(Failure::GroupUnusable));
        }
        let key = PrivateKey::draw(group, &mut |bytes| self.entropy.exponent(bytes));
        let shared = match &key {
            None => None,
            Some(key) => match key.shared(&challenge.public) {
                Some(shared) => Some(shared),
                None => return self.refuse(SupplicantError::Peer(Failure::PayloadIncorrect)),
            },
        };
        let terms = Terms {
            hash,
            transaction: self.transaction,
            host_nqn: &self.host_nqn,
            subsystem_nqn: &self.subsystem_nqn,
            shared: shared.as_ref().map(|shared| shared.as_slice()),
        };
        let response = response::of_host(&self.credentials.secret, &terms, &challenge.challenge, challenge.sequence);
        let asked = self.credentials.controller_secret.as_ref().map(|secret| {
            let (ours, sequence) = (self.entropy.challenge(hash), self.entropy.sequence());
            let expected = response::of_controller(secret, &terms, &ours, sequence);
            (ours, sequence, Zeroizing::new(expected.as_bytes().to_vec()))
        });
        let reply = Reply {
            response: response.as_bytes().to_vec(),
            challenge: asked.as_ref().map(|(ours, sequence, _)| (ours.clone(), *sequence)),
            public: key.as_ref().map(PrivateKey::public).unwrap_or_default(),
        };
        self.expected = asked.map(|(_, _, expected)| expected);
        self.hash = Some(hash);
        self.advance(Event::Challenge);
        self.send(&HostMessage::Reply(reply))
    }

    fn judge(&mut self, success: &Success1) -> Turn {
        if self.hash.is_none_or(|hash| usize::from(success.hash_len) != hash.code_len()) {
            return self.refuse(SupplicantError::Peer(Failure::PayloadIncorrect));
        }
        match (&self.expected, &success.response) {
            (None, None) => {
                self.advance(Event::Success);
                Turn::Done
            }
            (Some(expected), Some(response)) if response::are_equal(expected, response) => {
                self.advance(Event::Proof);
                self.send(&HostMessage::Success2)
            }
            // A controller that leaves its response out has proven nothing.
            (Some(_), _) => self.refuse(SupplicantError::Controller),
            (None, Some(_)) => self.refuse(SupplicantError::Peer(Failure::PayloadIncorrect)),
        }
    }

    /// The controller is told before the connection ends.
    fn refuse(&mut self, error: SupplicantError) -> Turn {
        self.error = Some(error);
        self.advance(Event::Wrong);
        let failure = match error {
            SupplicantError::Peer(failure) => failure,
            SupplicantError::Controller | SupplicantError::Refused(_) => Failure::Failed,
        };
        self.send(&HostMessage::Failure2(failure))
    }

    fn send(&self, message: &HostMessage) -> Turn {
        Turn::Send(message.to_bytes(self.transaction))
    }

    fn advance(&mut self, event: Event) {
        let next = self.step.next(event);
        assert!(next.is_some(), "an authentication: {event:?} in {:?}", self.step);
        self.step = next.unwrap_or(self.step);
    }
}

#[cfg(test)]
mod tests {
    use super::{Event as E, Step as S};

    const STEPS: [S; 8] = [
        S::Start,
        S::Negotiating,
        S::AwaitingChallenge,
        S::Replying,
        S::AwaitingSuccess,
        S::Confirming,
        S::Refusing,
        S::Over,
    ];
    const EVENTS: [E; 6] = [E::Sent, E::Challenge, E::Success, E::Proof, E::Wrong, E::Refused];

    const TABLE: &str = "\
Start Sent Negotiating
Negotiating Sent AwaitingChallenge
AwaitingChallenge Challenge Replying
AwaitingChallenge Wrong Refusing
AwaitingChallenge Refused Over
Replying Sent AwaitingSuccess
AwaitingSuccess Success Over
AwaitingSuccess Proof Confirming
AwaitingSuccess Wrong Refusing
AwaitingSuccess Refused Over
Confirming Sent Over
Refusing Sent Over
";

    #[test]
    fn the_whole_table() {
        let mut text = String::new();
        for step in STEPS {
            for event in EVENTS {
                if let Some(next) = step.next(event) {
                    text.push_str(&format!("{step:?} {event:?} {next:?}\n"));
                }
            }
        }
        assert_eq!(text, TABLE);
    }
}
