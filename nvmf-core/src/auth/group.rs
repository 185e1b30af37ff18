//! The groups of RFC 7919, their primes and how long an exponent has to be.

use super::primes::{P2048, P3072, P4096, P6144, P8192};
use crate::wire::auth::GroupId;

/// Groups that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSet(u8);

impl GroupSet {
    /// Every one, none at all among them.
    pub const ALL: Self = Self(0b11_1111);

    /// The largest first: the order in which one is chosen.
    pub const BY_STRENGTH: [GroupId; 6] = [
        GroupId::Ffdhe8192,
        GroupId::Ffdhe6144,
        GroupId::Ffdhe4096,
        GroupId::Ffdhe3072,
        GroupId::Ffdhe2048,
        GroupId::Null,
    ];

    /// None.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, group: GroupId) -> Self {
        Self(self.0 | 1 << group.to_byte())
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn contains(self, group: GroupId) -> bool {
        self.0 & 1 << group.to_byte() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl GroupId {
    /// As SPDK's users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Ffdhe2048 => "ffdhe2048",
            Self::Ffdhe3072 => "ffdhe3072",
            Self::Ffdhe4096 => "ffdhe4096",
            Self::Ffdhe6144 => "ffdhe6144",
            Self::Ffdhe8192 => "ffdhe8192",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        GroupSet::BY_STRENGTH.into_iter().find(|group| group.name() == name)
    }

    /// Big endian; empty where there is no exchange.
    pub(super) const fn prime(self) -> &'static [u8] {
        match self {
            Self::Null => &[],
            Self::Ffdhe2048 => &P2048,
            Self::Ffdhe3072 => &P3072,
            Self::Ffdhe4096 => &P4096,
            Self::Ffdhe6144 => &P6144,
            Self::Ffdhe8192 => &P8192,
        }
    }

    /// Bytes of an exponent: at least the bits that RFC 7919 (appendix A) asks of a short one, 225, 275, 325, 375 and 400. A full one would cost
    /// twenty times as much and protect no better.
    pub(super) const fn exponent_len(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Ffdhe2048 => 32,
            Self::Ffdhe3072 => 40,
            Self::Ffdhe4096 => 48,
            Self::Ffdhe6144 => 48,
            Self::Ffdhe8192 => 56,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sets() {
        for group in GroupSet::BY_STRENGTH {
            assert_eq!(GroupId::from_name(group.name()), Some(group));
            assert_eq!(group.prime().len(), group.number_len());
            assert!(GroupSet::ALL.contains(group) && !GroupSet::empty().contains(group));
            // The highest and lowest 64 bits are ones, of every prime.
            if let [a @ .., _] = group.prime() {
                assert!(a[..8].iter().chain(&group.prime()[group.number_len() - 8..]).all(|byte| *byte == 0xFF));
            }
        }
        assert_eq!(GroupId::from_name("modp2048"), None);
    }
}
