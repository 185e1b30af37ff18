//! Random numbers from a seed: SplitMix64, and a permutation of a range.

/// A sequence that its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of the argument.
#[inline]
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

impl Random {
    /// Sequence number `stream` of `seed`.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(seed ^ mix(stream.wrapping_add(1))) }
    }

    /// The next number.
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// The next number below `limit`, which is not 0; the bias is below 2^-32 for any limit that a device has.
    #[inline]
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(limit);
        // Cannot truncate: the upper half of the product is below `limit`.
        #[allow(clippy::cast_possible_truncation)]
        let high = (product >> 64) as u64;
        high
    }
}

/// Every number below `len` once, in an order that the seed decides: a Feistel network over the next even number of bits, walked until the
/// number is in range. Needs no table, so that any device can be written once in random order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    len: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    /// Of `0..len`; `len` is not 0.
    pub(crate) fn new(len: u64, seed: u64) -> Self {
        let bits = (64 - (len - 1).leading_zeros()).max(2);
        Self { len, half_bits: bits.div_ceil(2), seed }
    }

    /// Where `index` (below `len`) comes.
    pub(crate) fn at(&self, index: u64) -> u64 {
        let mut value = index;
        loop {
            value = self.shuffle(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn shuffle(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..4 {
            let mixed = mix(right ^ mix(self.seed.wrapping_add(round))) & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_gives_every_number_once() {
        for len in [1, 2, 3, 7, 64, 65, 1000, 4096] {
            let permutation = Permutation::new(len, 42);
            let mut seen: Vec<u64> = (0..len).map(|index| permutation.at(index)).collect();
            let in_order = seen.windows(2).filter(|pair| pair[0] < pair[1]).count();
            if len > 64 {
                assert!(in_order > seen.len() / 3 && in_order < 2 * seen.len() / 3, "{in_order} of {len} ascend");
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..len), "length {len}");
        }
    }

    #[test]
    fn numbers_stay_below_their_limit_and_reach_it() {
        let mut random = Random::new(7, 0);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[usize::try_from(random.below(10)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_ne!(Random::new(7, 0).next(), Random::new(7, 1).next());
    }
}
