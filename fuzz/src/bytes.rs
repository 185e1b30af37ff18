//! Bytes as choices: what an entry function reads its input with.

/// What is left of an input. At its end everything is zero.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// All of it.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// One in so many.
    pub fn one_in(&mut self, count: u8) -> bool {
        self.u8() % count.max(1) == 1
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    /// So many, or as many as there are.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// So many; what is missing is zero.
    pub fn array<const LEN: usize>(&mut self) -> [u8; LEN] {
        let taken = self.take(LEN);
        let mut array = [0; LEN];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// A number that is more often a small one, a power of two or the largest than any other.
    pub fn number(&mut self) -> u64 {
        let choice = self.u8();
        match choice {
            0..=99 => u64::from(choice % 20),
            100..=149 => u64::from(self.u8()),
            150..=179 => u64::from(self.u16()),
            180..=199 => u64::from(self.u32()),
            200..=209 => self.u64(),
            210..=229 => 1_u64 << (self.u8() % 64),
            230..=239 => (1_u64 << (self.u8() % 64)) - 1,
            240..=247 => u64::from(u32::MAX) - u64::from(choice - 240),
            248..=255 => u64::MAX - u64::from(choice - 248),
        }
    }
}
