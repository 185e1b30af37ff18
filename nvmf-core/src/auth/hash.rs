//! Hash functions and HMAC, chosen while running.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::wire::auth::{HASH_LEN_MAX, HashId};

/// Hash functions that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSet(u8);

impl HashSet {
    /// Every one.
    pub const ALL: Self = Self(0b1110);

    /// The strongest first: the order in which one is chosen.
    pub const BY_STRENGTH: [HashId; 3] = [HashId::Sha512, HashId::Sha384, HashId::Sha256];

    /// None.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, hash: HashId) -> Self {
        Self(self.0 | 1 << hash.to_byte())
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn contains(self, hash: HashId) -> bool {
        self.0 & 1 << hash.to_byte() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl HashId {
    /// As SPDK's users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        HashSet::BY_STRENGTH.into_iter().find(|hash| hash.name() == name)
    }
}

/// A hash, or an HMAC: secret until somebody decides otherwise.
pub(super) struct Code {
    bytes: Zeroizing<[u8; HASH_LEN_MAX]>,
    len: usize,
}

impl Code {
    fn new(code: &[u8]) -> Self {
        let mut bytes = Zeroizing::new([0; HASH_LEN_MAX]);
        bytes[..code.len()].copy_from_slice(code);
        Self { bytes, len: code.len() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// H(bytes).
pub(super) fn hash(hash: HashId, bytes: &[u8]) -> Code {
    match hash {
        HashId::Sha256 => Code::new(&Sha256::digest(bytes)),
        HashId::Sha384 => Code::new(&Sha384::digest(bytes)),
        HashId::Sha512 => Code::new(&Sha512::digest(bytes)),
    }
}

/// HMAC(key, parts one after the other).
pub(super) fn hmac(hash: HashId, key: &[u8], parts: &[&[u8]]) -> Code {
    match hash {
        HashId::Sha256 => keyed::<Hmac<Sha256>>(key, parts),
        HashId::Sha384 => keyed::<Hmac<Sha384>>(key, parts),
        HashId::Sha512 => keyed::<Hmac<Sha512>>(key, parts),
    }
}

fn keyed<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Code {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Code::new(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sets() {
        for id in HashSet::BY_STRENGTH {
            assert_eq!(HashId::from_name(id.name()), Some(id));
            assert!(HashSet::ALL.contains(id) && HashSet::empty().with(id).contains(id));
            assert!(!HashSet::empty().contains(id));
            assert_eq!(hash(id, b"").as_bytes().len(), id.code_len());
        }
        assert_eq!(HashId::from_name("md5"), None);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn a_published_hmac() {
        let code = hmac(HashId::Sha256, b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let hex: String = code.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
