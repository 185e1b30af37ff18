//! Where listeners are found: a socket file per address, in a directory that belongs to one user.
//!
//! Owned by the provider. Blocking file system calls, short and local; the slow part of finding a listener, the connect, is the worker's.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::socket;
use crate::verbs::VerbsError;

/// Connections that may wait at a listener's socket.
const BACKLOG: i32 = 64;

/// The runtime directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The given one, or the default for this user. Made when something listens.
    pub(super) fn choose(path: Option<PathBuf>) -> Self {
        let path = path.unwrap_or_else(|| {
            if let Some(path) = variable("QUIESCE_RUNTIME_DIR") {
                return path;
            }
            if own_uid() == 0 {
                return PathBuf::from("/run/quiesce");
            }
            match variable("XDG_RUNTIME_DIR") {
                Some(path) => path.join("quiesce"),
                None => PathBuf::from(format!("/tmp/quiesce-{}", own_uid())),
            }
        });
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where listeners of `address` may be: its own file, then the wildcard's.
    pub(super) fn candidates(&self, address: SocketAddr) -> Vec<PathBuf> {
        let wildcard = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut paths = vec![self.file(address)];
        if address.ip() != wildcard {
            paths.push(self.file(SocketAddr::new(wildcard, address.port())));
        }
        paths
    }

    /// Listens on `address`.
    pub(super) fn listen(&self, address: SocketAddr) -> Result<SocketFile, VerbsError> {
        let failed = |why: String| VerbsError::Address { address, why };
        self.prepare().map_err(|error| {
            failed(format!("the runtime directory {} cannot be used: {error}", self.path.display()))
        })?;
        let path = self.file(address);
        let describe = |error: io::Error| failed(format!("listening on {} failed: {error}", path.display()));
        let socket = match socket::listen(&path, BACKLOG) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if let Some(user) = live_user(&path) {
                    return Err(failed(format!("in use by {user} ({})", path.display())));
                }
                fs::remove_file(&path).map_err(describe)?;
                socket::listen(&path, BACKLOG).map_err(describe)?
            }
            Err(error) => return Err(describe(error)),
        };
        let identity = fs::symlink_metadata(&path).map(|file| (file.dev(), file.ino())).map_err(describe)?;
        Ok(SocketFile { socket, path, identity })
    }

    fn file(&self, address: SocketAddr) -> PathBuf {
        self.path.join(address.to_string())
    }

    /// Makes the directory if it is not there; refuses one that others may change.
    fn prepare(&self) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Not following a link: in /tmp anybody could have put one there.
        let found = fs::symlink_metadata(&self.path)?;
        let refuse = |why: &str| Err(io::Error::other(why.to_owned()));
        if !found.file_type().is_dir() {
            return refuse("it is not a directory (a link to one is not followed)");
        }
        if found.uid() != own_uid() {
            return refuse("it belongs to another user");
        }
        if found.permissions().mode() & 0o022 != 0 {
            return refuse("other users may write to it: chmod go-w");
        }
        Ok(())
    }
}

/// The directory where the software fabric of this user has its sockets, or the given one: made if it is not there, refused if others may change it.
///
/// # Errors
/// What is wrong with it.
pub fn prepare_runtime_directory(path: Option<PathBuf>) -> io::Result<PathBuf> {
    let directory = Directory::choose(path);
    let prepared = directory.prepare();
    prepared.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.path.display())))?;
    Ok(directory.path)
}

/// A listening socket and its file, which goes with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    socket: OwnedFd,
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only our own: it may have been replaced meanwhile.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who listens on a socket file; `None` if it is a leftover.
fn live_user(path: &Path) -> Option<String> {
    match socket::connect(path) {
        Ok(connected) => Some(match socket::peer_credentials(&connected) {
            Ok(credentials) => format!("process {}", credentials.pid),
            Err(_) => "another process".to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("something that does not answer: {error}")),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The effective user.
pub(super) fn own_uid() -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("quiesce-directory-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn addresses_become_files_and_fall_back_to_the_wildcard() {
        let directory = Directory::choose(Some(PathBuf::from("/run/x")));
        assert_eq!(
            directory.candidates("127.0.0.1:4420".parse().unwrap()),
            [PathBuf::from("/run/x/127.0.0.1:4420"), PathBuf::from("/run/x/0.0.0.0:4420")]
        );
        assert_eq!(
            directory.candidates("[::1]:4420".parse().unwrap()),
            [PathBuf::from("/run/x/[::1]:4420"), PathBuf::from("/run/x/[::]:4420")]
        );
        assert_eq!(directory.candidates("0.0.0.0:1".parse().unwrap()).len(), 1);
    }

    #[test]
    fn a_leftover_is_replaced_and_a_live_listener_is_named() {
        let path = scratch("leftover");
        let directory = Directory::choose(Some(path.clone()));
        let address: SocketAddr = "127.0.0.1:4420".parse().unwrap();
        let first = directory.listen(address).unwrap();
        let error = directory.listen(address).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        // As after SIGKILL: the file stays, nobody listens.
        let file = first.path.clone();
        let saved = path.join("saved");
        fs::rename(&file, &saved).unwrap();
        drop(first);
        fs::rename(&saved, &file).unwrap();
        let second = directory.listen(address).unwrap();
        assert!(file.exists());
        drop(second);
        assert!(!file.exists());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn directories_that_others_may_change_are_refused() {
        let path = scratch("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let address = "127.0.0.1:4420".parse().unwrap();
        let error = Directory::choose(Some(path.clone())).listen(address).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let link = scratch("link");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let error = Directory::choose(Some(link.clone())).listen(address).unwrap_err().to_string();
        assert!(error.contains("link"), "{error}");
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
