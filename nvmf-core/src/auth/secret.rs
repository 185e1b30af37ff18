//! A secret as `nvme gen-dhchap-key` writes it [NVMe Base 2.0, 8.13.5.8]: `DHHC-1:hh:base64:`, where hh names the hash function by which the key is made
//! from it (00: it is the key), and the last four bytes in base64 are a CRC-32.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Random;
use super::hash::hmac;
use crate::wire::auth::HashId;

const PREFIX: &str = "DHHC-1:";
const CRC_LEN: usize = 4;
/// Keys have one of these lengths.
const KEY_LENS: [usize; 3] = [32, 48, 64];
/// What a key is bound to its owner with, beside the owner's name.
const KEY_LABEL: &[u8] = b"NVMe-over-Fabrics";

/// A secret. It is wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct Secret {
    hash: Option<HashId>,
    key: Zeroizing<Vec<u8>>,
}

/// Why a text is no secret. It never says what the text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not begin as secrets do.
    #[error("it does not have the form DHHC-1:hh:base64: that nvme gen-dhchap-key writes")]
    Form,
    /// The two digits.
    #[error("its hash function is {0:?}, and should be 00 (none), 01 (SHA-256), 02 (SHA-384) or 03 (SHA-512)")]
    Hash([char; 2]),
    /// What stands between the last two colons.
    #[error("its last part is no base64")]
    Base64,
    /// The key's length.
    #[error("its key has {0} bytes, and should have 32, 48 or 64")]
    Length(usize),
    /// A digit is wrong somewhere.
    #[error("its checksum is wrong: it was not copied whole")]
    Checksum,
}

impl Secret {
    /// From its text; a line's end after it is no part of it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let rest = text.trim_end().strip_prefix(PREFIX).ok_or(SecretError::Form)?;
        let (hash, rest) = rest.split_once(':').ok_or(SecretError::Form)?;
        let encoded = rest.strip_suffix(':').ok_or(SecretError::Form)?;
        let hash = match hash {
            "00" => None,
            "01" => Some(HashId::Sha256),
            "02" => Some(HashId::Sha384),
            "03" => Some(HashId::Sha512),
            other => {
                let mut digits = other.chars();
                let (Some(a), Some(b), None) = (digits.next(), digits.next(), digits.next()) else {
                    return Err(SecretError::Form);
                };
                return Err(SecretError::Hash([a, b]));
            }
        };
        let mut key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?);
        let key_len = key.len().checked_sub(CRC_LEN).ok_or(SecretError::Length(0))?;
        if !KEY_LENS.contains(&key_len) {
            return Err(SecretError::Length(key_len));
        }
        let (bytes, crc) = key.split_at(key_len);
        if crc32fast::hash(bytes).to_le_bytes() != *crc {
            return Err(SecretError::Checksum);
        }
        key.truncate(key_len);
        Ok(Self { hash, key })
    }

    /// A new one, of the length that goes with `hash`.
    #[must_use]
    pub fn generate(hash: Option<HashId>, random: &mut Random<'_>) -> Self {
        let mut key = Zeroizing::new(vec![0; hash.map_or(KEY_LENS[0], HashId::code_len)]);
        random(&mut key);
        Self { hash, key }
    }

    /// Its text: the one way to see it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.key.to_vec());
        bytes.extend_from_slice(&crc32fast::hash(&self.key).to_le_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
        let hash = self.hash.map_or(0, HashId::to_byte);
        Zeroizing::new(format!("{PREFIX}{hash:02}:{}:", *encoded))
    }

    /// The key of `owner`, a host or a subsystem: the secret itself, or an HMAC of the name with it [NVMe Base 2.0, 8.13.5.7].
    pub(super) fn key_of(&self, owner: &str) -> Zeroizing<Vec<u8>> {
        match self.hash {
            None => self.key.clone(),
            Some(hash) => Zeroizing::new(hmac(hash, &self.key, &[owner.as_bytes(), KEY_LABEL]).as_bytes().to_vec()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes 00h to 1Fh; made with Python (base64, zlib.crc32).
    const COUNTING: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

    #[test]
    fn a_secret_is_read_and_written() {
        let secret = Secret::parse(COUNTING).unwrap();
        assert_eq!(*secret.key, (0..32).collect::<Vec<u8>>());
        assert_eq!(*secret.to_text(), COUNTING);
        assert_eq!(*Secret::parse(&format!("{COUNTING}\n")).unwrap().key, *secret.key);
        for hash in [None, Some(HashId::Sha256), Some(HashId::Sha384), Some(HashId::Sha512)] {
            let made = Secret::generate(hash, &mut |bytes| bytes.fill(0x5A));
            let read = Secret::parse(&made.to_text()).unwrap();
            assert_eq!((read.hash, &*read.key), (hash, &*made.key));
        }
    }

    #[test]
    fn it_is_never_shown() {
        let shown = format!("{:?}", Secret::parse(COUNTING).unwrap());
        assert_eq!(shown, "Secret(…)");
    }

    #[test]
    fn what_is_no_secret() {
        let error = |text: &str| Secret::parse(text).unwrap_err();
        assert_eq!(error(""), SecretError::Form);
        assert_eq!(error("secret"), SecretError::Form);
        assert_eq!(error(&COUNTING[..COUNTING.len() - 1]), SecretError::Form);
        assert_eq!(error(&COUNTING.replace(":00:", ":04:")), SecretError::Hash(['0', '4']));
        assert_eq!(error(&COUNTING.replace(":00:", ":0:")), SecretError::Form);
        assert_eq!(error(&COUNTING.replace("AAEC", "A*EC")), SecretError::Base64);
        assert_eq!(error(&COUNTING.replace("AAEC", "AAED")), SecretError::Checksum);
        assert_eq!(error("DHHC-1:00:AAECAw==:"), SecretError::Length(0));
        assert_eq!(error("DHHC-1:00:AAECAwQFBgc=:"), SecretError::Length(4));
    }
}
