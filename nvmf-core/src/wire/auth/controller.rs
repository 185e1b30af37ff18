//! The controller's messages: DH-HMAC-CHAP_Challenge, DH-HMAC-CHAP_Success1, AUTH_Failure1 [NVMe Base 2.0, 8.13.5.3, 8.13.5.5, 8.13.4].

use super::{Failure, GroupId, HashId, Head, PREFIX_LEN, failure_bytes, failure_of, family, message};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControllerMessage {
    /// Prove who you are.
    Challenge(Challenge),
    /// You are who you say.
    Success1(Success1),
    /// You are not, or what you sent makes no sense.
    Failure1(Failure),
}

/// What the host is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The hash function that was chosen.
    pub hash: HashId,
    /// The group that was chosen.
    pub group: GroupId,
    /// S1.
    pub sequence: u32,
    /// C1.
    pub challenge: Vec<u8>,
    /// The controller's number of the key exchange; empty without one.
    pub public: Vec<u8>,
}

/// The host is who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success1 {
    /// Bytes of the hash: there whether or not a response is.
    pub hash_len: u8,
    /// R2, where the host has asked for it.
    pub response: Option<Vec<u8>>,
}

impl ControllerMessage {
    /// The transaction that it names, and itself.
    ///
    /// # Errors
    /// What to fail with.
    pub fn parse(bytes: &[u8]) -> Result<(u16, Self), Failure> {
        let head = Head::parse(bytes)?;
        let message = match (head.family, head.message) {
            (family::COMMON, message::FAILURE1) => Self::Failure1(failure_of(bytes)?),
            (family::DHCHAP, message::CHALLENGE) => Self::Challenge(challenge(bytes)?),
            (family::DHCHAP, message::SUCCESS1) => Self::Success1(success1(bytes)?),
            _ => return Err(Failure::MessageIncorrect),
        };
        Ok((head.transaction, message))
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self, transaction: u16) -> Vec<u8> {
        let message = match self {
            Self::Challenge(_) => message::CHALLENGE,
            Self::Success1(_) => message::SUCCESS1,
            Self::Failure1(failure) => return failure_bytes(message::FAILURE1, transaction, *failure),
        };
        let mut bytes = Vec::new();
        Head { family: family::DHCHAP, message, transaction }.put(&mut bytes);
        match self {
            Self::Challenge(challenge) => put_challenge(challenge, &mut bytes),
            Self::Success1(success) => {
                bytes.extend_from_slice(&[success.hash_len, 0, u8::from(success.response.is_some())]);
                bytes.resize(PREFIX_LEN, 0);
                bytes.extend_from_slice(success.response.as_deref().unwrap_or_default());
            }
            Self::Failure1(_) => {}
        }
        bytes
    }
}

/// T_ID, then: HL, reserved, HashID, DHgID, DHVLEN, S1; then C1 and the DH value.
fn challenge(bytes: &[u8]) -> Result<Challenge, Failure> {
    let Some([hash_len, _, hash, group, low, high, s1 @ ..]) = bytes.get(Head::LEN..PREFIX_LEN) else {
        return Err(Failure::PayloadIncorrect);
    };
    let hash = HashId::from_byte(*hash).ok_or(Failure::HashUnusable)?;
    let group = GroupId::from_byte(*group).ok_or(Failure::GroupUnusable)?;
    let (hash_len, public_len) = (usize::from(*hash_len), usize::from(u16::from_le_bytes([*low, *high])));
    if hash_len != hash.code_len() || public_len > group.number_len() || (public_len == 0) != (group == GroupId::Null) {
        return Err(Failure::PayloadIncorrect);
    }
    let sequence = u32::from_le_bytes(s1.try_into().map_err(|_| Failure::PayloadIncorrect)?);
    let rest = bytes.get(PREFIX_LEN..PREFIX_LEN + hash_len + public_len).ok_or(Failure::PayloadIncorrect)?;
    let (challenge, public) = rest.split_at(hash_len);
    Ok(Challenge { hash, group, sequence, challenge: challenge.to_vec(), public: public.to_vec() })
}

fn put_challenge(challenge: &Challenge, bytes: &mut Vec<u8>) {
    let hash_len = u8::try_from(challenge.challenge.len()).unwrap_or(0);
    bytes.extend_from_slice(&[hash_len, 0, challenge.hash.to_byte(), challenge.group.to_byte()]);
    bytes.extend_from_slice(&u16::try_from(challenge.public.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&challenge.sequence.to_le_bytes());
    bytes.extend_from_slice(&challenge.challenge);
    bytes.extend_from_slice(&challenge.public);
}

/// T_ID, then: HL, reserved, RVALID, 7 reserved; then R2.
fn success1(bytes: &[u8]) -> Result<Success1, Failure> {
    let Some([hash_len, _, is_valid, ..]) = bytes.get(Head::LEN..PREFIX_LEN) else {
        return Err(Failure::PayloadIncorrect);
    };
    let response = match is_valid {
        0 => None,
        1 => {
            let end = PREFIX_LEN + usize::from(*hash_len);
            Some(bytes.get(PREFIX_LEN..end).ok_or(Failure::PayloadIncorrect)?.to_vec())
        }
        _ => return Err(Failure::PayloadIncorrect),
    };
    Ok(Success1 { hash_len: *hash_len, response })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_challenge_as_a_linux_target_sends_it() {
        let mut bytes = vec![0x01, 0x01, 0, 0, 0x07, 0x00, 48, 0, 0x02, 0x00, 0, 0, 0x44, 0x33, 0x22, 0x11];
        bytes.extend(0..48);
        let (transaction, message) = ControllerMessage::parse(&bytes).unwrap();
        let ControllerMessage::Challenge(challenge) = &message else { panic!("{message:?}") };
        assert_eq!((transaction, challenge.hash, challenge.group), (7, HashId::Sha384, GroupId::Null));
        assert_eq!(challenge.sequence, 0x1122_3344);
        assert_eq!(message.to_bytes(7), bytes);
        for (at, value, failure) in [
            (6, 32, Failure::PayloadIncorrect),
            (8, 9, Failure::HashUnusable),
            (9, 9, Failure::GroupUnusable),
            (9, 1, Failure::PayloadIncorrect),
            (10, 1, Failure::PayloadIncorrect),
        ] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert_eq!(ControllerMessage::parse(&wrong), Err(failure), "byte {at}");
        }
        assert_eq!(ControllerMessage::parse(&bytes[..63]), Err(Failure::PayloadIncorrect));
    }

    #[test]
    fn a_success_as_a_linux_target_sends_it() {
        let mut bytes = vec![0x01, 0x03, 0, 0, 0x07, 0x00, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(0..32);
        let (_, message) = ControllerMessage::parse(&bytes).unwrap();
        let ControllerMessage::Success1(success) = &message else { panic!("{message:?}") };
        assert_eq!(success.response, Some((0..32).collect()));
        assert_eq!(message.to_bytes(7), bytes);
        assert_eq!(ControllerMessage::parse(&bytes[..47]), Err(Failure::PayloadIncorrect));
        // One-way: HL is there, the response is not.
        let one_way = ControllerMessage::Success1(Success1 { hash_len: 32, response: None }).to_bytes(7);
        assert_eq!(one_way, [0x01, 0x03, 0, 0, 7, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn any_bytes_are_a_message_or_a_failure(
            family in 0u8..3,
            message in prop_oneof![0u8..6, Just(0xF0u8), Just(0xF1u8)],
            rest in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut bytes = vec![family, message];
            bytes.extend(rest);
            if let Ok((transaction, parsed)) = ControllerMessage::parse(&bytes) {
                prop_assert_eq!(ControllerMessage::parse(&parsed.to_bytes(transaction)), Ok((transaction, parsed)));
            }
        }
    }
}
