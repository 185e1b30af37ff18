//! The host's messages: AUTH_Negotiate, DH-HMAC-CHAP_Reply, DH-HMAC-CHAP_Success2, AUTH_Failure2 [NVMe Base 2.0, 8.13.4, 8.13.5.4, 8.13.5.6].

use super::{Failure, GroupId, HashId, Head, PREFIX_LEN, failure_bytes, failure_of, family, message};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMessage {
    /// The first.
    Negotiate(Negotiate),
    /// The answer to a challenge.
    Reply(Reply),
    /// The controller is who it says.
    Success2,
    /// It is not, or what it sent makes no sense.
    Failure2(Failure),
}

/// What the host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiate {
    /// SC_C: not zero if the host wants a secure channel afterwards.
    pub concatenation: u8,
    /// Of the descriptor of DH-HMAC-CHAP; `None` if there is none.
    pub offer: Option<Offer>,
}

/// Hash functions and groups that the host offers, in its order. What this layer does not know is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Hash functions.
    pub hashes: Vec<HashId>,
    /// Groups.
    pub groups: Vec<GroupId>,
}

/// The answer to a challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// R1.
    pub response: Vec<u8>,
    /// C2 and S2, where the controller has to prove itself too.
    pub challenge: Option<(Vec<u8>, u32)>,
    /// The host's number of the key exchange; empty without one.
    pub public: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hash_len, public_len) = (self.response.len(), self.public.len());
        write!(f, "Reply {{ hash_len: {hash_len}, two_way: {}, public_len: {public_len} }}", self.challenge.is_some())
    }
}

/// AUTH_Negotiate before its descriptors.
const NEGOTIATE_LEN: usize = 8;
/// One descriptor.
const DESCRIPTOR_LEN: usize = 64;
/// AuthID of DH-HMAC-CHAP.
const PROTOCOL_DHCHAP: u8 = 0x01;
/// Places for hash functions, then places for groups, in a descriptor: each as many.
const LIST_LEN: usize = 30;
/// Where those lists begin.
const LIST_START: usize = 4;

impl HostMessage {
    /// The transaction that it names, and itself.
    ///
    /// # Errors
    /// What to fail with, and the transaction as far as it could be read.
    pub fn parse(bytes: &[u8]) -> Result<(u16, Self), (u16, Failure)> {
        let head = Head::parse(bytes).map_err(|failure| (0, failure))?;
        let parsed = match (head.family, head.message) {
            (family::COMMON, message::NEGOTIATE) => negotiate(bytes).map(Self::Negotiate),
            (family::COMMON, message::FAILURE2) => failure_of(bytes).map(Self::Failure2),
            (family::DHCHAP, message::REPLY) => reply(bytes).map(Self::Reply),
            (family::DHCHAP, message::SUCCESS2) if bytes.len() >= PREFIX_LEN => Ok(Self::Success2),
            (family::DHCHAP, message::SUCCESS2) => Err(Failure::PayloadIncorrect),
            _ => Err(Failure::MessageIncorrect),
        };
        match parsed {
            Ok(message) => Ok((head.transaction, message)),
            Err(failure) => Err((head.transaction, failure)),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self, transaction: u16) -> Vec<u8> {
        let (family, message) = match self {
            Self::Negotiate(_) => (family::COMMON, message::NEGOTIATE),
            Self::Reply(_) => (family::DHCHAP, message::REPLY),
            Self::Success2 => (family::DHCHAP, message::SUCCESS2),
            Self::Failure2(failure) => return failure_bytes(message::FAILURE2, transaction, *failure),
        };
        let mut bytes = Vec::new();
        Head { family, message, transaction }.put(&mut bytes);
        match self {
            Self::Negotiate(negotiate) => put_negotiate(negotiate, &mut bytes),
            Self::Reply(reply) => put_reply(reply, &mut bytes),
            Self::Success2 | Self::Failure2(_) => bytes.resize(PREFIX_LEN, 0),
        }
        bytes
    }
}

fn negotiate(bytes: &[u8]) -> Result<Negotiate, Failure> {
    let [concatenation, descriptor_count] = bytes.get(Head::LEN..NEGOTIATE_LEN).and_then(first_two).ok_or(SHORT)?;
    let descriptors = bytes.get(NEGOTIATE_LEN..).ok_or(SHORT)?;
    let descriptors = descriptors.get(..usize::from(descriptor_count) * DESCRIPTOR_LEN).ok_or(SHORT)?;
    let dhchap = descriptors.chunks_exact(DESCRIPTOR_LEN).find(|descriptor| descriptor[0] == PROTOCOL_DHCHAP);
    Ok(Negotiate { concatenation, offer: dhchap.map(offer).transpose()? })
}

fn offer(descriptor: &[u8]) -> Result<Offer, Failure> {
    let (hash_count, group_count) = (usize::from(descriptor[2]), usize::from(descriptor[3]));
    if hash_count > LIST_LEN || group_count > LIST_LEN {
        return Err(Failure::PayloadIncorrect);
    }
    let (hashes, groups) = descriptor[LIST_START..].split_at(LIST_LEN);
    Ok(Offer {
        hashes: hashes[..hash_count].iter().filter_map(|id| HashId::from_byte(*id)).collect(),
        groups: groups[..group_count].iter().filter_map(|id| GroupId::from_byte(*id)).collect(),
    })
}

fn put_negotiate(negotiate: &Negotiate, bytes: &mut Vec<u8>) {
    bytes.push(negotiate.concatenation);
    bytes.push(u8::from(negotiate.offer.is_some()));
    let Some(offer) = &negotiate.offer else { return };
    let mut descriptor = [0; DESCRIPTOR_LEN];
    let count = |len: usize| u8::try_from(len.min(LIST_LEN)).unwrap_or(0);
    descriptor[0] = PROTOCOL_DHCHAP;
    descriptor[2] = count(offer.hashes.len());
    descriptor[3] = count(offer.groups.len());
    let (hashes, groups) = descriptor[LIST_START..].split_at_mut(LIST_LEN);
    for (place, hash) in hashes.iter_mut().zip(&offer.hashes) {
        *place = hash.to_byte();
    }
    for (place, group) in groups.iter_mut().zip(&offer.groups) {
        *place = group.to_byte();
    }
    bytes.extend_from_slice(&descriptor);
}

/// T_ID, then: HL, reserved, CVALID, reserved, DHVLEN, S2; then R1, C2 (its place is there whether or not it counts), the DH value.
fn reply(bytes: &[u8]) -> Result<Reply, Failure> {
    let Some([hash_len, _, is_two_way, _, low, high, s2 @ ..]) = bytes.get(Head::LEN..PREFIX_LEN) else {
        return Err(SHORT);
    };
    let sequence = u32::from_le_bytes(s2.try_into().map_err(|_| SHORT)?);
    let (hash_len, public_len) = (usize::from(*hash_len), usize::from(u16::from_le_bytes([*low, *high])));
    let rest = bytes.get(PREFIX_LEN..PREFIX_LEN + 2 * hash_len + public_len).ok_or(SHORT)?;
    let (response, rest) = rest.split_at(hash_len);
    let (challenge, public) = rest.split_at(hash_len);
    let challenge = match is_two_way {
        0 => None,
        // S2 of 0 says that C2 is for a secure channel alone, and there is none here.
        1 if sequence != 0 => Some((challenge.to_vec(), sequence)),
        _ => return Err(Failure::PayloadIncorrect),
    };
    Ok(Reply { response: response.to_vec(), challenge, public: public.to_vec() })
}

fn put_reply(reply: &Reply, bytes: &mut Vec<u8>) {
    let hash_len = reply.response.len();
    bytes.extend_from_slice(&[u8::try_from(hash_len).unwrap_or(0), 0, u8::from(reply.challenge.is_some()), 0]);
    bytes.extend_from_slice(&u16::try_from(reply.public.len()).unwrap_or(0).to_le_bytes());
    let sequence = reply.challenge.as_ref().map_or(0, |(_, sequence)| *sequence);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&reply.response);
    match &reply.challenge {
        Some((challenge, _)) => bytes.extend_from_slice(challenge),
        None => bytes.resize(bytes.len() + hash_len, 0),
    }
    bytes.extend_from_slice(&reply.public);
}

const SHORT: Failure = Failure::PayloadIncorrect;

fn first_two(bytes: &[u8]) -> Option<[u8; 2]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a Linux host sends: three hash functions, six groups.
    fn linux_negotiate() -> Vec<u8> {
        let mut bytes = vec![0x00, 0x00, 0, 0, 0x07, 0x00, 0x00, 0x01];
        let mut descriptor = [0; 64];
        descriptor[..7].copy_from_slice(&[1, 0, 3, 6, 1, 2, 3]);
        descriptor[34..40].copy_from_slice(&[0, 1, 2, 3, 4, 5]);
        bytes.extend_from_slice(&descriptor);
        bytes
    }

    #[test]
    fn negotiate_as_a_linux_host_sends_it() {
        let bytes = linux_negotiate();
        let (transaction, message) = HostMessage::parse(&bytes).unwrap();
        assert_eq!(transaction, 7);
        let HostMessage::Negotiate(negotiate) = &message else { panic!("{message:?}") };
        assert_eq!(negotiate.concatenation, 0);
        let offer = negotiate.offer.as_ref().unwrap();
        assert_eq!(offer.hashes, [HashId::Sha256, HashId::Sha384, HashId::Sha512]);
        assert_eq!(offer.groups.len(), 6);
        assert_eq!(message.to_bytes(7), bytes);
    }

    #[test]
    fn wrong_negotiates() {
        let parse = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = linux_negotiate();
            change(&mut bytes);
            HostMessage::parse(&bytes)
        };
        let payload = Err((7, Failure::PayloadIncorrect));
        assert_eq!(parse(&|bytes| bytes.truncate(71)), payload);
        assert_eq!(parse(&|bytes| bytes[7] = 2), payload);
        assert_eq!(parse(&|bytes| bytes[10] = 31), payload);
        assert_eq!(parse(&|bytes| bytes[11] = 31), payload);
        assert_eq!(parse(&|bytes| bytes.truncate(5)), Err((0, Failure::PayloadIncorrect)));
        assert_eq!(parse(&|bytes| bytes[1] = 0x77), Err((7, Failure::MessageIncorrect)));
        let none = |bytes: &mut Vec<u8>| bytes[8] = 9;
        let Ok((7, HostMessage::Negotiate(negotiate))) = parse(&none) else { panic!() };
        assert_eq!(negotiate.offer, None);
    }

    #[test]
    fn a_reply_as_a_linux_host_sends_it() {
        let mut bytes = vec![0x01, 0x02, 0, 0, 0x07, 0x00, 32, 0, 1, 0, 0x00, 0x01, 0x44, 0x33, 0x22, 0x11];
        bytes.extend((0..32).chain(100..132));
        bytes.extend([0xAB; 256]);
        let (_, message) = HostMessage::parse(&bytes).unwrap();
        let HostMessage::Reply(reply) = &message else { panic!("{message:?}") };
        assert_eq!(reply.response, (0..32).collect::<Vec<u8>>());
        assert_eq!(reply.challenge, Some(((100..132).collect(), 0x1122_3344)));
        assert_eq!(reply.public, [0xAB; 256]);
        assert_eq!(message.to_bytes(7), bytes);
        // Two-way without a sequence number is for secure channels; CVALID is 0 or 1.
        bytes[12..16].fill(0);
        assert_eq!(HostMessage::parse(&bytes), Err((7, Failure::PayloadIncorrect)));
        bytes[8] = 2;
        assert_eq!(HostMessage::parse(&bytes), Err((7, Failure::PayloadIncorrect)));
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
            if let Ok((transaction, parsed)) = HostMessage::parse(&bytes) {
                // What is made of a message is that message again.
                prop_assert_eq!(HostMessage::parse(&parsed.to_bytes(transaction)), Ok((transaction, parsed)));
            }
        }
    }
}
