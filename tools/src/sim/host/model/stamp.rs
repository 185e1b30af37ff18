//! The bytes of one block: what a write puts there, and what bytes that were read turn out to be.
//!
//! A stamped block carries its address, the number of its write (twice, at both ends) and a checksum; what is between follows from the two. So a
//! block says by itself whether it is whole, where it belongs, and which write it is of.

use std::fmt;

/// The number of a write. 0 is what was there before the first.
pub(super) type Generation = u64;

/// What a host fills a buffer with that is to be read into.
pub const POISON: u8 = 0xA5;

const WORD: usize = 8;
const HEADER_WORDS: usize = 2;

/// What a block's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Zeroes,
    /// All of one write.
    Stamped {
        block: u64,
        generation: Generation,
    },
    /// The first `len` bytes are `head`'s, and the rest is not; `tail` is what its end says.
    Torn {
        head: Generation,
        len: usize,
        tail: Generation,
    },
    /// Nobody wrote into the buffer.
    Poison,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeroes => write!(f, "zeroes"),
            Self::Stamped { block, generation } => write!(f, "block {block} as of write {generation}"),
            Self::Torn { head, len, tail } => {
                write!(f, "{len} bytes of write {head}, then something else that ends as of write {tail:#x}")
            }
            Self::Poison => write!(f, "what the host had put there before"),
        }
    }
}

/// Makes `bytes` what write `generation` puts into `block`.
pub(super) fn stamp(block: u64, generation: Generation, bytes: &mut [u8]) {
    let count = bytes.len() / WORD;
    let mut sum = 0_u64;
    for (index, word) in bytes.chunks_exact_mut(WORD).enumerate() {
        let value = if index + 1 == count { sum } else { word_of(block, generation, index, count) };
        sum = mixed(sum ^ value);
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// What a block's bytes are.
pub(super) fn content(bytes: &[u8]) -> Content {
    let count = bytes.len() / WORD;
    let word = |index: usize| {
        bytes.get(index * WORD..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Content::Zeroes;
    }
    if bytes.iter().all(|byte| *byte == POISON) {
        return Content::Poison;
    }
    let (block, generation) = (word(0), word(1));
    let mut whole = vec![0; bytes.len()];
    if block != 0 || generation != 0 {
        stamp(block, generation, &mut whole);
    }
    match whole.iter().zip(bytes).position(|(expected, byte)| expected != byte) {
        None => Content::Stamped { block, generation },
        Some(at) => Content::Torn { head: generation, len: at, tail: word(count.saturating_sub(2)) },
    }
}

fn word_of(block: u64, generation: Generation, index: usize, count: usize) -> u64 {
    match index {
        0 => block,
        1 => generation,
        index if index + HEADER_WORDS == count => generation,
        index => mixed(block ^ generation.rotate_left(24) ^ (index as u64) << 56),
    }
}

/// splitmix64's finisher: neighbours have nothing in common.
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}
