//! The directory of namespaces that name no file of their own: which file is whose, and that one target alone uses it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Characters of a subsystem's name that are shown in the names of its files: enough for a person to find them, and room for the rest in 255 bytes.
const SHOWN_MAX: usize = 96;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system.
    #[error("{path}: {source}: make the directory, or name one that the target may write in")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two targets would write over each other's files.
    #[error("{path} is another target's that runs: give each target a directory of its own")]
    Used {
        /// Which.
        path: PathBuf,
    },
}

/// See the module.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Locked as long as this is open.
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is not there (its parent is), and takes it for this process.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Io { path: path.into(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let lock = File::open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Used { path }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a namespace. Subsystems may have the same namespace, and a subsystem's name may be longer than a file's, and hold what no file's may: what
    /// tells files apart is a UUID made of the name, and the namespace's.
    #[must_use]
    pub fn file(&self, nqn: &str, namespace: Uuid) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        let shown: String = nqn.chars().take(SHOWN_MAX).map(safe).collect();
        let subsystem = Uuid::new_v5(&Uuid::NAMESPACE_URL, nqn.as_bytes());
        self.path.join(format!("{shown}_{}_{}.reservations", subsystem.simple(), namespace.as_hyphenated()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("quiesce-state-{}-{name}", std::process::id()))
    }

    #[test]
    fn one_process_has_it_at_a_time() {
        let path = place("lock");
        let first = StateDirectory::open(&path).unwrap();
        let error = StateDirectory::open(&path).unwrap_err();
        assert!(matches!(error, StateError::Used { .. }), "{error}");
        drop(first);
        drop(StateDirectory::open(&path).unwrap());
        fs::remove_dir(&path).unwrap();
        let below = path.join("below");
        let error = StateDirectory::open(&below).unwrap_err().to_string();
        assert!(error.contains(&*below.to_string_lossy()), "a misspelt path is not made: {error}");
    }

    #[test]
    fn every_namespace_has_a_file_in_it() {
        let path = place("names");
        let directory = StateDirectory::open(&path).unwrap();
        let long = |last: char| format!("nqn.2026-11.io.quiesce:{}{last}", "/../\n\0".repeat(33));
        let nqns = ["nqn.a:x/y".to_owned(), "nqn.a:x_y".to_owned(), long('a'), long('b'), "..".to_owned()];
        let mut names = BTreeSet::new();
        for nqn in &nqns {
            for namespace in [[1; 16], [2; 16]] {
                let file = directory.file(nqn, Uuid::from_bytes(namespace));
                assert_eq!(file.parent(), Some(&*path), "{file:?}");
                // With the ending of the file that is written before it takes its place.
                fs::write(format!("{}.new", file.display()), "").unwrap();
                assert!(names.insert(file));
            }
        }
        assert_eq!(names.len(), 2 * nqns.len());
        let again = directory.file(&nqns[0], Uuid::from_bytes([1; 16]));
        assert!(names.contains(&again), "the same at every start");
        fs::remove_dir_all(&path).unwrap();
    }
}
