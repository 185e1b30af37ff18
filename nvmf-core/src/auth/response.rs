//! What is proven: responses to challenges [NVMe Base 2.0, 8.13.5.4, 8.13.5.5].
//!
//! `R1 = HMAC(Kh, C1a, S1, T_ID, SC_C, "HostHost", NQNh, 00h, NQNc)` and `R2 = HMAC(Kc, C2a, S2, T_ID, SC_C, "Controller", NQNc, 00h, NQNh)`, where Kh and Kc
//! are the keys of host and controller, and `Ca = HMAC(H(shared), C)` with a key exchange, C without one.

use subtle::ConstantTimeEq;

use super::Secret;
use super::hash::{Code, hash, hmac};
use crate::wire::auth::HashId;

/// What both sides of one exchange agree on.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) hash: HashId,
    pub(super) transaction: u16,
    pub(super) host_nqn: &'a str,
    pub(super) subsystem_nqn: &'a str,
    /// Of the key exchange, of the prime's length; `None` without one.
    pub(super) shared: Option<&'a [u8]>,
}

/// SC_C: no secure channel.
const CONCATENATION_NONE: u8 = 0;

/// R1: what the host answers to C1 and S1.
pub(super) fn of_host(secret: &Secret, terms: &Terms<'_>, challenge: &[u8], sequence: u32) -> Code {
    let names = [terms.host_nqn, terms.subsystem_nqn];
    response(secret, terms, "HostHost", names, challenge, sequence)
}

/// R2: what the controller answers to C2 and S2.
pub(super) fn of_controller(secret: &Secret, terms: &Terms<'_>, challenge: &[u8], sequence: u32) -> Code {
    let names = [terms.subsystem_nqn, terms.host_nqn];
    response(secret, terms, "Controller", names, challenge, sequence)
}

/// Whether it is this response. Takes the same time wherever they differ.
pub(super) fn is(code: &Code, response: &[u8]) -> bool {
    are_equal(code.as_bytes(), response)
}

/// The same, for bytes.
pub(super) fn are_equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

fn response(
    secret: &Secret,
    terms: &Terms<'_>,
    label: &str,
    [owner, other]: [&str; 2],
    challenge: &[u8],
    sequence: u32,
) -> Code {
    let augmented = terms.shared.map(|shared| {
        let session_key = hash(terms.hash, shared);
        hmac(terms.hash, session_key.as_bytes(), &[challenge])
    });
    let challenge = augmented.as_ref().map_or(challenge, Code::as_bytes);
    hmac(
        terms.hash,
        &secret.key_of(owner),
        &[
            challenge,
            &sequence.to_le_bytes(),
            &terms.transaction.to_le_bytes(),
            &[CONCATENATION_NONE],
            label.as_bytes(),
            owner.as_bytes(),
            &[0],
            other.as_bytes(),
        ],
    )
}

#[cfg(test)]
mod tests;
