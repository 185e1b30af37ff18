//! What verification writes into a block, and what it concludes from a block that it reads.
//!
//! ```text
//! 0      8     16           24           32                      n-16         n-8
//! magic  LBA   generation   seed, nsid   words of all of these   generation   checksum of all before
//! ```
//!
//! So a block says where it belongs and which write made it. The generation stands at both ends: where they differ, the block is torn.

use std::fmt;

use crate::random::mix;

const MAGIC: u64 = u64::from_le_bytes(*b"quiesce\0");
const HEADER_WORDS: usize = 4;
const TRAILER_WORDS: usize = 2;
/// The smallest block that holds a header, a trailer and something between.
const BLOCK_LEN_MIN: usize = 64;

/// Whether blocks of so many bytes can hold it.
pub(crate) fn fits(block_len: usize) -> Result<(), String> {
    if block_len < BLOCK_LEN_MIN || !block_len.is_multiple_of(8) {
        return Err(format!("blocks of {block_len} bytes hold no pattern"));
    }
    Ok(())
}

/// Which write a block is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The run.
    pub(crate) seed: u32,
    /// The namespace.
    pub(crate) nsid: u32,
    /// The block.
    pub(crate) lba: u64,
    /// Counts the writes of this block, from 1.
    pub(crate) generation: u64,
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// A whole block of this pattern, of another place.
    Misplaced { lba: u64, nsid: u32 },
    /// A whole block of this place, of another write.
    Stale { generation: u64 },
    /// A whole block of another run.
    Foreign { seed: u32 },
    /// The block's two ends are of different writes.
    Torn { first: u64, last: u64 },
    /// Its checksum is wrong; the first byte that is not as written.
    Corrupted { offset: usize, expected: u8, got: u8 },
    /// Nothing of the pattern is there: never written, or zeroed.
    Absent { first_word: u64 },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misplaced { lba, nsid } => write!(f, "misplaced: a block of LBA {lba} of namespace {nsid}"),
            Self::Stale { generation } => write!(f, "stale: of write {generation}"),
            Self::Foreign { seed } => write!(f, "of another run, with seed {seed:#010x}"),
            Self::Torn { first, last } => write!(f, "torn: begins with write {first}, ends with write {last}"),
            Self::Corrupted { offset, expected, got } => {
                write!(f, "corrupted: at byte {offset} expected {expected:#04x}, got {got:#04x}")
            }
            Self::Absent { first_word } => write!(f, "no pattern: begins with {first_word:#018x}"),
        }
    }
}

/// Fills one block.
pub(crate) fn fill(block: &mut [u8], stamp: Stamp) {
    let count = block.len() / 8;
    let mut sum = 0;
    for (index, bytes) in block.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = if index + 1 == count { sum } else { word_at(stamp, index, count) };
        sum = add_to_sum(sum, word);
        *bytes = word.to_le_bytes();
    }
}

/// The generation that a block of the pattern names. Says nothing of a block that [`check`] has not found to be one.
pub(crate) fn generation(block: &[u8]) -> u64 {
    block.as_chunks::<8>().0.get(2).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Whether a block is the one that was written.
pub(crate) fn check(block: &[u8], expected: Stamp) -> Result<(), Mismatch> {
    let words = block.as_chunks::<8>().0;
    let count = words.len();
    let word = |index: usize| u64::from_le_bytes(words[index]);
    let sum = (0..count - 1).fold(0, |sum, index| add_to_sum(sum, word(index)));
    let sum_is_right = sum == word(count - 1);
    let is_expected = (0..HEADER_WORDS).all(|index| word(index) == word_at(expected, index, count));
    if sum_is_right && is_expected {
        return Ok(());
    }
    Err(diagnose(block, sum_is_right, expected))
}

/// Slow path: says what it is instead.
fn diagnose(block: &[u8], sum_is_right: bool, expected: Stamp) -> Mismatch {
    let words = block.as_chunks::<8>().0;
    let word = |index: usize| u64::from_le_bytes(words[index]);
    let found = found_stamp(word(1), word(2), word(3));
    if word(0) != MAGIC {
        // A single wrong byte in the magic is damage; a block without it was never written.
        if found.lba != expected.lba || found.nsid != expected.nsid {
            return Mismatch::Absent { first_word: word(0) };
        }
    } else if sum_is_right {
        if found.seed != expected.seed {
            return Mismatch::Foreign { seed: found.seed };
        }
        if found.lba != expected.lba || found.nsid != expected.nsid {
            return Mismatch::Misplaced { lba: found.lba, nsid: found.nsid };
        }
        return Mismatch::Stale { generation: found.generation };
    }
    let last = word(words.len() - TRAILER_WORDS);
    let is_plausible = |generation: u64| generation != 0 && generation.abs_diff(expected.generation) < 1 << 32;
    if last != found.generation && is_plausible(last) && is_plausible(found.generation) {
        return Mismatch::Torn { first: found.generation, last };
    }
    let mut intended = vec![0; block.len()];
    fill(&mut intended, expected);
    let offset = block.iter().zip(&intended).position(|(got, expected)| got != expected).unwrap_or(0);
    Mismatch::Corrupted { offset, expected: intended[offset], got: block[offset] }
}

fn found_stamp(lba: u64, generation: u64, identity: u64) -> Stamp {
    let [s0, s1, s2, s3, n0, n1, n2, n3] = identity.to_be_bytes();
    Stamp { seed: u32::from_be_bytes([s0, s1, s2, s3]), nsid: u32::from_be_bytes([n0, n1, n2, n3]), lba, generation }
}

#[inline]
fn word_at(stamp: Stamp, index: usize, count: usize) -> u64 {
    let identity = u64::from(stamp.seed) << 32 | u64::from(stamp.nsid);
    match index {
        0 => MAGIC,
        1 => stamp.lba,
        2 => stamp.generation,
        3 => identity,
        _ if index + TRAILER_WORDS == count => stamp.generation,
        _ => {
            let place = stamp.lba.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stamp.generation.rotate_left(40) ^ identity;
            mix(place.wrapping_add(index as u64))
        }
    }
}

#[inline]
fn add_to_sum(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { seed: 0xABCD_1234, nsid: 3, lba: 77, generation: 5 };

    fn block(stamp: Stamp, len: usize) -> Vec<u8> {
        let mut block = vec![0; len];
        fill(&mut block, stamp);
        block
    }

    #[test]
    fn a_block_is_recognised() {
        for len in [BLOCK_LEN_MIN, 512, 4096] {
            assert_eq!(check(&block(STAMP, len), STAMP), Ok(()));
        }
    }

    #[test]
    fn a_block_of_another_place_write_or_run() {
        let of = |stamp| check(&block(stamp, 512), STAMP).unwrap_err();
        assert_eq!(of(Stamp { lba: 78, ..STAMP }), Mismatch::Misplaced { lba: 78, nsid: 3 });
        assert_eq!(of(Stamp { nsid: 1, ..STAMP }), Mismatch::Misplaced { lba: 77, nsid: 1 });
        assert_eq!(of(Stamp { generation: 4, ..STAMP }), Mismatch::Stale { generation: 4 });
        assert_eq!(of(Stamp { seed: 1, ..STAMP }), Mismatch::Foreign { seed: 1 });
        assert_eq!(check(&[0; 512], STAMP), Err(Mismatch::Absent { first_word: 0 }));
    }

    #[test]
    fn every_cut_between_two_writes_is_torn() {
        let (new, old) = (block(STAMP, 512), block(Stamp { generation: 4, ..STAMP }, 512));
        for cut in 1..64 {
            let mut torn = new.clone();
            torn[cut * 8..].copy_from_slice(&old[cut * 8..]);
            let mismatch = check(&torn, STAMP).unwrap_err();
            if cut <= 2 {
                // Only the magic and the LBA are new, and they are equal: it is the old block.
                assert_eq!(mismatch, Mismatch::Stale { generation: 4 });
            } else if cut < 63 {
                assert_eq!(mismatch, Mismatch::Torn { first: 5, last: 4 });
            } else {
                // All but the checksum is new.
                assert!(matches!(mismatch, Mismatch::Corrupted { offset: 504.., .. }), "{mismatch}");
            }
        }
    }

    #[test]
    fn every_single_flipped_bit_is_seen() {
        let good = block(STAMP, 512);
        for offset in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[offset] ^= 1 << bit;
                assert!(check(&bad, STAMP).is_err(), "byte {offset} bit {bit}");
            }
        }
        let mut bad = good.clone();
        bad[200] ^= 0xFF;
        let expected = Mismatch::Corrupted { offset: 200, expected: good[200], got: bad[200] };
        assert_eq!(check(&bad, STAMP), Err(expected));
    }
}
