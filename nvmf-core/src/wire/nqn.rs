//! NVMe qualified names [NVMe Base 2.0, 4.5].

use std::fmt;

/// Most bytes of a name, without the NUL that ends it on the wire.
pub const NQN_LEN_MAX: usize = 223;

/// The well-known discovery subsystem [NVMe Base 2.0, 4.5].
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

const PREFIX: &[u8] = b"nqn.";

/// A legal name, kept in place: cloning it allocates nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nqn {
    // What is behind the name is zero, so that the derived comparisons are right.
    bytes: [u8; NQN_LEN_MAX],
    len: u8,
}

/// Why a name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NqnError {
    /// It does not start with `nqn.`.
    #[error("an NVMe qualified name starts with \"nqn.\"")]
    Prefix,
    /// It has no end, or more than 223 bytes.
    #[error("an NVMe qualified name has at most 223 bytes")]
    Length,
    /// It is no UTF-8, or has a control character in it.
    #[error("an NVMe qualified name is UTF-8 without control characters")]
    Characters,
}

impl Nqn {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NqnError`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, NqnError> {
        if name.len() > NQN_LEN_MAX {
            return Err(NqnError::Length);
        }
        if !name.as_bytes().starts_with(PREFIX) {
            return Err(NqnError::Prefix);
        }
        // A name ends in logs, metrics and on terminals, and the wire ends it at a NUL.
        if name.chars().any(char::is_control) {
            return Err(NqnError::Characters);
        }
        let mut bytes = [0; NQN_LEN_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let len = u8::try_from(name.len()).map_err(|_| NqnError::Length)?;
        Ok(Self { bytes, len })
    }

    /// The well-known discovery subsystem's.
    #[must_use]
    pub fn discovery() -> Self {
        let mut bytes = [0; NQN_LEN_MAX];
        bytes[..DISCOVERY_NQN.len()].copy_from_slice(DISCOVERY_NQN.as_bytes());
        // Shorter than any name may be.
        Self { bytes, len: DISCOVERY_NQN.len().to_le_bytes()[0] }
    }

    /// From a field of 256 bytes, ended by NUL. What follows the NUL is not looked at.
    ///
    /// # Errors
    /// [`NqnError`] says which rule it breaks.
    pub fn from_field(field: &[u8; 256]) -> Result<Self, NqnError> {
        let end = field.iter().position(|byte| *byte == 0).ok_or(NqnError::Length)?;
        Self::new(std::str::from_utf8(&field[..end]).map_err(|_| NqnError::Characters)?)
    }

    /// As a field of 256 bytes, filled with NULs.
    #[must_use]
    pub fn to_field(&self) -> [u8; 256] {
        let mut field = [0; 256];
        field[..NQN_LEN_MAX].copy_from_slice(&self.bytes);
        field
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of a str in `new`, whole, and never changed: it is UTF-8.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Whether it is the well-known discovery subsystem's.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        self.as_str() == DISCOVERY_NQN
    }
}

impl std::str::FromStr for Nqn {
    type Err = NqnError;

    fn from_str(name: &str) -> Result<Self, NqnError> {
        Self::new(name)
    }
}

impl AsRef<str> for Nqn {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(bytes: &[u8]) -> [u8; 256] {
        let mut field = [0; 256];
        field[..bytes.len()].copy_from_slice(bytes);
        field
    }

    #[test]
    fn legal_names() {
        for name in [DISCOVERY_NQN, "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "nqn.x"] {
            let nqn = Nqn::new(name).unwrap();
            assert_eq!(nqn.as_str(), name);
            assert_eq!(Nqn::from_field(&nqn.to_field()), Ok(nqn));
        }
        assert!(Nqn::new(DISCOVERY_NQN).unwrap().is_discovery());
    }

    #[test]
    fn the_longest_name() {
        let longest = format!("nqn.{}", "a".repeat(219));
        assert_eq!(longest.len(), 223);
        assert_eq!(Nqn::from_field(&field(longest.as_bytes())).unwrap().as_str(), longest);
        assert_eq!(Nqn::new(&format!("{longest}a")), Err(NqnError::Length));
        assert_eq!(Nqn::from_field(&field(format!("{longest}a").as_bytes())), Err(NqnError::Length));
    }

    #[test]
    fn a_field_without_end_is_refused() {
        let mut endless = [b'a'; 256];
        endless[..4].copy_from_slice(b"nqn.");
        assert_eq!(Nqn::from_field(&endless), Err(NqnError::Length));
    }

    #[test]
    fn wrong_names() {
        assert_eq!(Nqn::from_field(&[0; 256]), Err(NqnError::Prefix));
        assert_eq!(Nqn::new("iqn.2014-08.org"), Err(NqnError::Prefix));
        assert_eq!(Nqn::from_field(&field(b"nqn.\xFF\xFE")), Err(NqnError::Characters));
        assert_eq!(Nqn::new("nqn.a\x1B[2J"), Err(NqnError::Characters));
    }

    #[test]
    fn what_follows_the_end_is_ignored() {
        let mut with_rest = field(b"nqn.a\0");
        with_rest[6..].fill(0xFF);
        assert_eq!(Nqn::from_field(&with_rest), Nqn::new("nqn.a"));
    }

    proptest! {
        #[test]
        fn any_field_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..=256)) {
            if let Ok(nqn) = Nqn::from_field(&field(&bytes)) {
                prop_assert_eq!(Nqn::new(nqn.as_str()), Ok(nqn));
            }
        }
    }
}
