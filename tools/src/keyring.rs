//! Keys by name, read from files that nobody but the target's user can read.
//!
//! Owned by the control plane's program. A key is read when it is added and stays here until it is removed; whoever was given it keeps it, so that a name may
//! be used for a new key while connections go on. Secrets are wiped when the last of them is dropped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nvmf_core::auth::{Secret, SecretError};
use nvmf_core::spec::{HostKeys, Key};
use zeroize::Zeroizing;

use crate::system;

/// Bytes of a key's file at most: a secret has about a hundred.
const FILE_LEN_MAX: u64 = 4096;
/// Keys at most.
const KEY_COUNT_MAX: usize = 4096;
/// What others may do with the file: nothing.
const OTHERS_MASK: u32 = 0o077;

/// A key and where it came from.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    secret: Secret,
}

/// Why there is no such key. It never says what the file had in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The name is taken.
    #[error(
        "name is {name:?}, which another key has: remove that with keyring_file_remove_key, or choose another name"
    )]
    Taken {
        /// The name.
        name: String,
    },
    /// The name is no name.
    #[error("name is {name:?}, and should be one to 64 letters, digits and any of -_.:")]
    Name {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("{field} is {name:?}, and should be the name of a key: {known}")]
    Unknown {
        /// Where it was named.
        field: &'static str,
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A path that depends on where the target was started.
    #[error("path is {path:?}, and should begin with /")]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("path is {path:?}, which cannot be read: {source}")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device, or long.
    #[error("path is {path:?}, and should be a file of at most 4096 bytes")]
    File {
        /// The path.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error("path is {path:?}, whose mode is {mode:04o}: nobody but its owner may use it (chmod 0600)")]
    Mode {
        /// The path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("path is {path:?}, which belongs to user {owner}: it should be of the target's own, {user}")]
    Owner {
        /// The path.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
    /// What is in it is no secret.
    #[error("path is {path:?}: {source}")]
    Secret {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
    /// There are too many.
    #[error("there are {KEY_COUNT_MAX} keys, as many as there may be: remove one first")]
    Full,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<String, Entry>,
}

impl Keyring {
    /// Reads a key's file.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn add_file(&mut self, name: &str, path: &Path) -> Result<(), KeyringError> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_known) {
            return Err(KeyringError::Name { name: name.into() });
        }
        if self.entries.contains_key(name) {
            return Err(KeyringError::Taken { name: name.into() });
        }
        if self.entries.len() >= KEY_COUNT_MAX {
            return Err(KeyringError::Full);
        }
        let secret = read(path)?;
        self.entries.insert(name.into(), Entry { path: path.into(), secret });
        Ok(())
    }

    /// The name is free again. Who was given the key keeps it.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn remove(&mut self, name: &str) -> Result<(), KeyringError> {
        match self.entries.remove(name) {
            Some(_) => Ok(()),
            None => Err(self.unknown("name", name)),
        }
    }

    /// The key of this name, which `field` asked for.
    ///
    /// # Errors
    /// If there is none.
    pub fn key(&self, field: &'static str, name: &str) -> Result<Key, KeyringError> {
        match self.entries.get(name) {
            Some(entry) => Ok(Key { name: name.into(), secret: entry.secret.clone() }),
            None => Err(self.unknown(field, name)),
        }
    }

    /// The keys of one host, by their names.
    ///
    /// # Errors
    /// If there is none of these names.
    pub fn host_keys(&self, host: &str, key: &str, controller_key: Option<&str>) -> Result<HostKeys, KeyringError> {
        Ok(HostKeys {
            host: host.into(),
            key: self.key("dhchap_key", key)?,
            controller_key: controller_key.map(|name| self.key("dhchap_ctrlr_key", name)).transpose()?,
        })
    }

    /// Names and paths, by name.
    pub fn list(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry.path.as_path()))
    }

    fn unknown(&self, field: &'static str, name: &str) -> KeyringError {
        let names: Vec<&str> = self.entries.keys().take(8).map(String::as_str).collect();
        let known = if names.is_empty() {
            "there is none: add one with keyring_file_add_key or [[key]]".to_owned()
        } else {
            names.join(", ")
        };
        KeyringError::Unknown { field, name: name.into(), known }
    }
}

/// Reads a secret from a file that is its owner's alone.
///
/// # Errors
/// [`KeyringError`].
pub fn read(path: &Path) -> Result<Secret, KeyringError> {
    if !path.is_absolute() {
        return Err(KeyringError::Relative { path: path.into() });
    }
    let unreadable = |source| KeyringError::Unreadable { path: path.into(), source };
    // A pipe in its place must not hold the control plane up.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    // Of what was opened, not of what is there by now.
    check(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_LEN_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::Form);
    let secret = text.and_then(Secret::parse);
    secret.map_err(|source| KeyringError::Secret { path: path.into(), source })
}

fn check(path: &Path, file: &File) -> Result<(), KeyringError> {
    let metadata = file.metadata().map_err(|source| KeyringError::Unreadable { path: path.into(), source })?;
    if !metadata.is_file() || metadata.len() > FILE_LEN_MAX {
        return Err(KeyringError::File { path: path.into() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_MASK != 0 {
        return Err(KeyringError::Mode { path: path.into(), mode });
    }
    let user = system::effective_user();
    if metadata.uid() != user {
        return Err(KeyringError::Owner { path: path.into(), owner: metadata.uid(), user });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SECRET: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:\n";

    fn file(name: &str, text: &str, mode: u32) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("quiesce-keyring-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn keys_come_and_go() {
        let mut keyring = Keyring::default();
        let path = file("good", SECRET, 0o600);
        keyring.add_file("host", &path).unwrap();
        assert!(matches!(keyring.add_file("host", &path), Err(KeyringError::Taken { .. })));
        keyring.add_file("controller", &path).unwrap();
        assert_eq!(keyring.list().map(|(name, _)| name).collect::<Vec<_>>(), ["controller", "host"]);
        let keys = keyring.host_keys("nqn.x", "host", Some("controller")).unwrap();
        assert_eq!((keys.key.name.as_str(), keys.controller_key.unwrap().name.as_str()), ("host", "controller"));
        keyring.remove("host").unwrap();
        let error = keyring.host_keys("nqn.x", "host", None).unwrap_err().to_string();
        assert_eq!(error, "dhchap_key is \"host\", and should be the name of a key: controller");
        assert!(keyring.remove("host").is_err());
        assert!(!format!("{keyring:?}").contains("AAEC"));
    }

    #[test]
    fn files_that_are_no_keys() {
        let add = |path: &Path| Keyring::default().add_file("key", path).unwrap_err();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
            assert!(matches!(add(&file("open", SECRET, mode)), KeyringError::Mode { mode: told, .. } if told == mode));
        }
        assert!(matches!(add(Path::new("key")), KeyringError::Relative { .. }));
        assert!(matches!(add(Path::new("/no/such/file")), KeyringError::Unreadable { .. }));
        assert!(matches!(add(Path::new("/tmp")), KeyringError::File { .. }));
        assert!(matches!(add(&file("long", &SECRET.repeat(100), 0o600)), KeyringError::File { .. }));
        let wrong = add(&file("wrong", "DHHC-1:00:AAEDAwQ=:", 0o600)).to_string();
        assert!(wrong.contains("its key has 1 bytes") && !wrong.contains("AAED"), "{wrong}");
        assert!(matches!(Keyring::default().add_file("a b", Path::new("/x")), Err(KeyringError::Name { .. })));
    }
}
