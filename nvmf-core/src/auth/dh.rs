//! The Diffie-Hellman key exchange: long arithmetic, milliseconds of it. Not for a polling CPU.
//!
//! Exponentiation takes the same time whatever the exponent is.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use zeroize::{Zeroize, Zeroizing};

use super::Random;
use crate::wire::auth::GroupId;

/// The generator of every group.
const GENERATOR: u8 = 2;

/// An exponent.
pub(crate) struct PrivateKey {
    group: GroupId,
    exponent: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// A new one. `None` for the group that has none.
    pub(crate) fn draw(group: GroupId, random: &mut Random<'_>) -> Option<Self> {
        if group == GroupId::Null {
            return None;
        }
        let mut exponent = Zeroizing::new(vec![0; group.exponent_len()]);
        random(&mut exponent);
        // Never 0, and always of the same length.
        exponent[0] |= 0x80;
        Some(Self { group, exponent })
    }

    /// What the other side is told: of the prime's length.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.raise(&[GENERATOR]).to_vec()
    }

    /// What both sides know then, of the prime's length. `None` if `public` is no number of the group: 0, 1, p - 1, or more [RFC 7919, 5.1].
    pub(crate) fn shared(&self, public: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let prime = self.group.prime();
        if public.len() > prime.len() {
            return None;
        }
        let mut padded = vec![0; prime.len()];
        padded[prime.len() - public.len()..].copy_from_slice(public);
        let (last, head) = padded.split_last()?;
        let is_tiny = head.iter().all(|byte| *byte == 0) && *last < 2;
        let mut greatest = prime.to_vec();
        // p is odd: p - 1 ends one lower.
        *greatest.last_mut()? -= 1;
        // Big endian of one length: the order of the bytes is that of the numbers.
        if is_tiny || padded >= greatest { None } else { Some(self.raise(&padded)) }
    }

    fn raise(&self, base: &[u8]) -> Zeroizing<Vec<u8>> {
        let prime = self.group.prime();
        let bits = u32::try_from(prime.len() * 8).expect("a prime of RFC 7919");
        let exponent_bits = u32::try_from(self.exponent.len() * 8).expect("shorter than its prime");
        let number = |bytes, bits| BoxedUint::from_be_slice(bytes, bits).expect("as long as it says");
        let modulus = Odd::new(number(prime, bits)).expect("a prime of RFC 7919 is odd");
        let parameters = BoxedMontyParams::new(modulus);
        let mut exponent = number(&self.exponent, exponent_bits);
        let base = BoxedMontyForm::new(number(base, bits), &parameters);
        let mut power = base.pow_bounded_exp(&exponent, exponent_bits);
        let mut retrieved = power.retrieve();
        let bytes = Zeroizing::new(retrieved.to_be_bytes().to_vec());
        exponent.zeroize();
        power.zeroize();
        retrieved.zeroize();
        bytes
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({})", self.group.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::GroupSet;

    fn pair(group: GroupId) -> (PrivateKey, PrivateKey) {
        let mut next = 1u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_mul(77).wrapping_add(13);
                *byte = next;
            }
        };
        (PrivateKey::draw(group, &mut random).unwrap(), PrivateKey::draw(group, &mut random).unwrap())
    }

    #[test]
    fn both_sides_come_to_the_same() {
        for group in GroupSet::BY_STRENGTH.into_iter().filter(|group| *group != GroupId::Null) {
            let (ours, theirs) = pair(group);
            assert_eq!(ours.public().len(), group.number_len());
            assert_ne!(ours.public(), theirs.public());
            assert_eq!(*ours.shared(&theirs.public()).unwrap(), *theirs.shared(&ours.public()).unwrap(), "{group:?}");
        }
        assert!(PrivateKey::draw(GroupId::Null, &mut |_| {}).is_none());
    }

    #[test]
    fn numbers_that_give_the_exponent_away_are_refused() {
        let (ours, _) = pair(GroupId::Ffdhe2048);
        let prime = GroupId::Ffdhe2048.prime();
        let mut p_minus_1 = prime.to_vec();
        p_minus_1[255] -= 1;
        let mut p_minus_2 = prime.to_vec();
        p_minus_2[255] -= 2;
        for refused in [&[][..], &[0], &[1], &[0; 256], prime, &p_minus_1, &[0xFF; 256], &[2; 257]] {
            assert!(ours.shared(refused).is_none(), "{} bytes", refused.len());
        }
        assert!(ours.shared(&p_minus_2).is_some());
        // 2 to the power of the exponent is the public number, whatever the padding.
        assert_eq!(*ours.shared(&[2]).unwrap(), ours.public());
        assert_eq!(*ours.shared(&[0, 0, 2]).unwrap(), ours.public());
    }
}
