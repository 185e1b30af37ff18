//! Inputs made of others.

use crate::random::Random;

/// Longest input that is made.
pub(crate) const LEN_MAX: usize = 4096;

const REMARKABLE: [u8; 10] = [0, 1, 2, 0x10, 0x40, 0x7F, 0x80, 0xC0, 0xFE, 0xFF];

/// One that is like `input`, with something of `other`.
pub(crate) fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(48)).min(bytes.len());
    match random.below(10) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = REMARKABLE[random.below(REMARKABLE.len())],
        3 | 4 if at < bytes.len() => bytes[at] = random.byte(),
        5 if at < end => drop(bytes.drain(at..end)),
        6 if at < end => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        7 if !other.is_empty() => {
            let from = random.below(other.len());
            let to = (from + 1 + random.below(64)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        8 if !other.is_empty() => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        _ => {
            let more: Vec<u8> = (0..=random.below(24)).map(|_| random.byte()).collect();
            bytes.splice(at..at, more);
        }
    }
}
