//! Authentication: the two commands, and what every message starts with [NVMe Base 2.0, 6.1, 6.2, 8.13.5].
//!
//! | part | what it is |
//! |---|---|
//! | here | the 64 bytes; names of messages, hashes, groups and failures |
//! | `host` | what the host sends: parsed by the target, made by the host side |
//! | `controller` | what the host fetches: made by the target, parsed by the host side |
//!
//! A parsed message is legal in itself: its lengths are those of what it says that it carries. Whether it comes in time and with the right transaction is
//! [`crate::auth`]'s.

mod controller;
mod host;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use controller::{Challenge, ControllerMessage, Success1};
pub use host::{HostMessage, Negotiate, Offer, Reply};

use super::fabrics::entry;
use super::opcode::{FabricsType, OPCODE_FABRICS, byte_enum};
use super::sgl::SglDescriptor;
use super::submission::SubmissionEntry;

/// Authentication Send and Receive [NVMe Base 2.0, 6.1, 6.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AuthenticationEntry {
    /// 7Fh.
    pub opcode: u8,
    /// PSDT in bits 7:6.
    pub flags: u8,
    /// CID.
    pub command_id: U16,
    /// FCTYPE: 05h for Send, 06h for Receive.
    pub fabrics_type: u8,
    reserved_5: [u8; 19],
    /// SGL1: the message, or room for one.
    pub sgl1: SglDescriptor,
    reserved_40: u8,
    /// SPSP0.
    pub specific_0: u8,
    /// SPSP1.
    pub specific_1: u8,
    /// SECP.
    pub security_protocol: u8,
    /// TL of Send, AL of Receive.
    pub len: U32,
    reserved_48: [u8; 16],
}

entry!(AuthenticationEntry);

impl AuthenticationEntry {
    /// SECP: the protocol of NVM Express.
    pub const SECURITY_PROTOCOL: u8 = 0xE9;
    /// SPSP0 and SPSP1: its messages.
    pub const SPECIFIC: u8 = 0x01;
}

/// Bytes of the longest secret's hash, and so of a challenge and a response.
pub const HASH_LEN_MAX: usize = 64;
/// Bytes of the largest group's numbers.
pub const GROUP_LEN_MAX: usize = 1024;
/// Bytes of the longest message that the host fetches: a challenge.
pub const CONTROLLER_MESSAGE_LEN_MAX: usize = PREFIX_LEN + HASH_LEN_MAX + GROUP_LEN_MAX;
/// Bytes before what has a length of its own, in all messages but the first and the failures.
const PREFIX_LEN: usize = 16;

byte_enum! {
    /// A hash function [NVMe Base 2.0, 8.13.5.2].
    HashId {
        /// SHA-256.
        Sha256 = 0x01,
        /// SHA-384.
        Sha384 = 0x02,
        /// SHA-512.
        Sha512 = 0x03,
    }
}

byte_enum! {
    /// A Diffie-Hellman group of RFC 7919 [NVMe Base 2.0, 8.13.5.2].
    GroupId {
        /// No key exchange.
        Null = 0x00,
        /// 2048 bits.
        Ffdhe2048 = 0x01,
        /// 3072 bits.
        Ffdhe3072 = 0x02,
        /// 4096 bits.
        Ffdhe4096 = 0x03,
        /// 6144 bits.
        Ffdhe6144 = 0x04,
        /// 8192 bits.
        Ffdhe8192 = 0x05,
    }
}

byte_enum! {
    /// Why it failed: the explanation of *Authentication failure*, the only reason there is [NVMe Base 2.0, 8.13.4].
    Failure {
        /// The response is wrong, there is no secret, or anything that has no word of its own.
        Failed = 0x01,
        /// No protocol in common.
        ProtocolUnusable = 0x02,
        /// Secure channel concatenation is wanted by one side only.
        ConcatenationMismatch = 0x03,
        /// No hash function in common.
        HashUnusable = 0x04,
        /// No group in common.
        GroupUnusable = 0x05,
        /// A message whose fields make no sense.
        PayloadIncorrect = 0x06,
        /// Not the message whose turn it is.
        MessageIncorrect = 0x07,
    }
}

impl HashId {
    /// Bytes of the hash.
    #[must_use]
    pub const fn code_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl GroupId {
    /// Bytes of its numbers; 0 where there is no exchange.
    #[must_use]
    pub const fn number_len(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Ffdhe2048 => 256,
            Self::Ffdhe3072 => 384,
            Self::Ffdhe4096 => 512,
            Self::Ffdhe6144 => 768,
            Self::Ffdhe8192 => GROUP_LEN_MAX,
        }
    }
}

impl Failure {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "authentication failed",
            Self::ProtocolUnusable => "no authentication protocol in common",
            Self::ConcatenationMismatch => "secure channel concatenation is not what the other side wants",
            Self::HashUnusable => "no hash function in common",
            Self::GroupUnusable => "no Diffie-Hellman group in common",
            Self::PayloadIncorrect => "incorrect payload",
            Self::MessageIncorrect => "incorrect protocol message",
        }
    }
}

/// AUTH_TYPE: which family a message is of.
mod family {
    pub(super) const COMMON: u8 = 0x00;
    pub(super) const DHCHAP: u8 = 0x01;
}

/// AUTH_ID: which message of its family.
mod message {
    pub(super) const NEGOTIATE: u8 = 0x00;
    pub(super) const CHALLENGE: u8 = 0x01;
    pub(super) const REPLY: u8 = 0x02;
    pub(super) const SUCCESS1: u8 = 0x03;
    pub(super) const SUCCESS2: u8 = 0x04;
    pub(super) const FAILURE2: u8 = 0xF0;
    pub(super) const FAILURE1: u8 = 0xF1;
}

/// AUTH_Failure's reason code: there is one.
const REASON_FAILED: u8 = 0x01;
const FAILURE_LEN: usize = 8;

/// What all messages start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    family: u8,
    message: u8,
    transaction: u16,
}

impl Head {
    const LEN: usize = 6;

    fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        match bytes {
            // AUTH_TYPE, AUTH_ID, two reserved bytes, T_ID.
            [family, message, _, _, low, high, ..] => {
                Ok(Self { family: *family, message: *message, transaction: u16::from_le_bytes([*low, *high]) })
            }
            _ => Err(Failure::PayloadIncorrect),
        }
    }

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[self.family, self.message, 0, 0]);
        bytes.extend_from_slice(&self.transaction.to_le_bytes());
    }
}

fn failure_bytes(message: u8, transaction: u16, failure: Failure) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FAILURE_LEN);
    Head { family: family::COMMON, message, transaction }.put(&mut bytes);
    bytes.extend_from_slice(&[REASON_FAILED, failure.to_byte()]);
    bytes
}

/// The explanation. A value that this layer does not know is a failure all the same.
fn failure_of(bytes: &[u8]) -> Result<Failure, Failure> {
    let explanation = bytes.get(Head::LEN + 1).ok_or(Failure::PayloadIncorrect)?;
    Ok(Failure::from_byte(*explanation).unwrap_or(Failure::Failed))
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<AuthenticationEntry>(), 64);
        assert_eq!(offset_of!(AuthenticationEntry, sgl1), 24);
        assert_eq!(offset_of!(AuthenticationEntry, specific_0), 41);
        assert_eq!(offset_of!(AuthenticationEntry, specific_1), 42);
        assert_eq!(offset_of!(AuthenticationEntry, security_protocol), 43);
        assert_eq!(offset_of!(AuthenticationEntry, len), 44);
    }

    #[test]
    fn a_failure_as_a_linux_target_sends_it() {
        let bytes = failure_bytes(message::FAILURE1, 0x1234, Failure::HashUnusable);
        assert_eq!(bytes, [0x00, 0xF1, 0, 0, 0x34, 0x12, 0x01, 0x04]);
        assert_eq!(failure_of(&bytes), Ok(Failure::HashUnusable));
        assert_eq!(failure_of(&[0, 0xF1, 0, 0, 0, 0, 1, 0x99]), Ok(Failure::Failed));
        assert_eq!(failure_of(&bytes[..7]), Err(Failure::PayloadIncorrect));
    }
}
