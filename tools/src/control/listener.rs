//! Where connections come in, and the two kinds of stream that they are.
//!
//! What cannot be listened on is an error with the field of the configuration that says so. A socket's file goes with its listener.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::system;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// JSON-RPC.
    Rpc,
    /// HTTP.
    Metrics,
}

/// Why something cannot be listened on, with the field of the configuration that says where.
#[derive(Debug, thiserror::Error)]
#[error("{field} = \"{place}\": {why}")]
pub struct ListenError {
    field: &'static str,
    place: String,
    why: String,
}

/// A socket that connections come in by.
#[derive(Debug)]
pub struct Listener {
    pub(super) service: Service,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// With the file's device and inode, so that no other file is ever removed.
    Unix {
        socket: UnixListener,
        path: PathBuf,
        identity: (u64, u64),
    },
}

impl Listener {
    /// Listens for HTTP.
    ///
    /// # Errors
    /// Names the field, the address and what to do.
    pub fn metrics(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |error: io::Error| ListenError {
            field: "metrics.listen",
            place: address.to_string(),
            why: if error.kind() == io::ErrorKind::AddrInUse {
                "in use: is another target running? Choose another port".to_owned()
            } else if error.kind() == io::ErrorKind::AddrNotAvailable {
                "not an address of this machine".to_owned()
            } else if error.kind() == io::ErrorKind::PermissionDenied {
                "not allowed: ports below 1024 are root's".to_owned()
            } else {
                error.to_string()
            },
        };
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self { service: Service::Metrics, socket: Socket::Tcp(socket) })
    }

    /// Listens for RPC: a socket that only this user can connect to. What an earlier process left there is replaced; what a living one
    /// serves is not. To be called before there are other threads.
    ///
    /// # Errors
    /// Names the field, the path and what to do.
    pub fn rpc(path: &Path) -> Result<Self, ListenError> {
        let failed = |why: String| ListenError { field: "rpc.socket", place: path.display().to_string(), why };
        match fs::symlink_metadata(path) {
            Ok(facts) if !facts.file_type().is_socket() => {
                return Err(failed("there is a file that is no socket: choose another path".to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(failed(
                    "another process serves it: is another target running? Choose another path".to_owned(),
                ));
            }
            Ok(_) => {
                fs::remove_file(path).map_err(|error| failed(format!("an old socket cannot be removed: {error}")))?
            }
            Err(_) => {}
        }
        let bind = || UnixListener::bind(path);
        let socket = system::with_private_mask(bind).map_err(|error| failed(error.to_string()))?;
        socket.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
        let facts = fs::symlink_metadata(path).map_err(|error| failed(error.to_string()))?;
        let identity = (facts.dev(), facts.ino());
        Ok(Self { service: Service::Rpc, socket: Socket::Unix { socket, path: path.to_owned(), identity } })
    }

    #[cfg(test)]
    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix { socket, .. } => socket.as_raw_fd(),
        }
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Tcp(stream))
            }
            Socket::Unix { socket, .. } => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { path, identity, .. } = &self.socket
            && fs::symlink_metadata(path).is_ok_and(|facts| (facts.dev(), facts.ino()) == *identity)
        {
            // It is only tidiness: a socket that stays is replaced by the next start.
            let _ = fs::remove_file(path);
        }
    }
}

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// Whether its user may ask: root, or whoever runs this process. HTTP is open to all who reach it.
    pub(super) fn is_allowed(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Unix(stream) => system::peer_user(stream).is_ok_and(|user| user == 0 || user == system::user()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A socket's path that is gone with the test.
    pub(in crate::control) struct Place(pub(in crate::control) PathBuf);

    impl Place {
        pub(in crate::control) fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("quiesce-{}-{name}.sock", std::process::id())))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_place_that_is_taken_is_named_with_its_field() {
        let place = Place::new("taken");
        let first = Listener::rpc(&place.0).unwrap();
        assert_eq!(
            Listener::rpc(&place.0).unwrap_err().to_string(),
            format!(
                "rpc.socket = \"{}\": another process serves it: is another target running? Choose another path",
                place.0.display()
            )
        );
        drop(first);
        assert!(!place.0.exists(), "the socket goes with its listener");
        // What a killed process leaves.
        drop(UnixListener::bind(&place.0).unwrap());
        drop(Listener::rpc(&place.0).unwrap());
        fs::write(&place.0, "a file").unwrap();
        assert!(Listener::rpc(&place.0).unwrap_err().to_string().ends_with("no socket: choose another path"));

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(
            Listener::metrics(address).unwrap_err().to_string(),
            format!("metrics.listen = \"{address}\": in use: is another target running? Choose another port")
        );
    }
}
