//! The connections of RPC and metrics: nonblocking sockets in one epoll instance, with a limit on everything.
//!
//! Owns the listeners and all connections; runs on the control plane's reactor and never waits. Peers are told apart by a [`Handle`], so that an event
//! for a connection that is gone is a miss. A peer that is slow or silent costs its buffers and, after a deadline, its connection.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use reactor::{Handle, Slab};

use crate::rpc::Flow;
use crate::system::{self, Epoll, Interest};

/// Connections at a time, of both services together.
const SESSION_MAX: usize = 32;

/// Bytes taken from a connection for one event: the others are to have their turn.
const READ_LEN: usize = 16 << 10;

/// Answers not yet taken by the peer, beyond which nothing more is read from it.
const OUTGOING_LEN_MAX: usize = 1 << 20;

/// How long a peer may take to send a request to metrics, or to take an answer.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Tokens of connections have this bit, and a handle below it.
const SESSION_TOKEN: u64 = 1 << 60;

/// Tokens of listeners: their index above this.
const LISTENER_TOKEN: u64 = 1 << 59;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// JSON-RPC.
    Rpc,
    /// HTTP.
    Metrics,
}

/// Answers what has come in on a connection: takes from the first buffer, adds to the second.
type Answer<'a> = dyn FnMut(Service, &mut Vec<u8>, &mut Vec<u8>) -> Flow + 'a;

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
    service: Service,
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

    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix { socket, .. } => socket.as_raw_fd(),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
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
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// Whether its user may ask: root, or whoever runs this process. HTTP is open to all who reach it.
    fn is_allowed(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Unix(stream) => system::peer_user(stream).is_ok_and(|user| user == 0 || user == system::user()),
        }
    }
}

/// One connection.
#[derive(Debug)]
struct Session {
    service: Service,
    stream: Stream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Ends once everything is sent.
    flow: Flow,
    interest: Interest,
    /// It has until then to send or to take something. `None` while nothing is expected of it.
    deadline_ns: Option<u64>,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    On,
    Over,
}

/// Listeners and their connections.
pub(super) struct Server {
    listeners: Vec<Listener>,
    /// Listeners that are not watched now, since taking a connection failed.
    paused: bool,
    sessions: Slab<Session>,
}

impl Server {
    pub(super) fn new(listeners: Vec<Listener>, epoll: &Epoll) -> io::Result<Self> {
        let mut server = Self { listeners, paused: true, sessions: Slab::new(SESSION_MAX) };
        server.watch(epoll)?;
        Ok(server)
    }

    /// Closes everything, and takes the sockets' files away.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.sessions = Slab::new(SESSION_MAX);
    }

    /// Whether a clock is needed: somebody has a deadline, or a listener is to be watched again.
    pub(super) fn needs_time(&self) -> bool {
        self.paused || self.sessions.iter().any(|(_, session)| session.deadline_ns.is_some())
    }

    /// What the clock brings: about once a second while [`Self::needs_time`].
    pub(super) fn tick(&mut self, epoll: &Epoll, now_ns: u64) {
        let late = |session: &Session| session.deadline_ns.is_some_and(|deadline_ns| now_ns >= deadline_ns);
        let over: Vec<Handle<Session>> =
            self.sessions.iter().filter(|(_, session)| late(session)).map(|(handle, _)| handle).collect();
        for handle in over {
            tracing::debug!("a connection was silent for too long and is closed");
            self.sessions.remove(handle);
        }
        if self.paused
            && let Err(error) = self.watch(epoll)
        {
            tracing::warn!(%error, "listeners cannot be watched: tried again in a second");
        }
    }

    /// Something happened under `token`. False if the token is not one of ours.
    pub(super) fn take(&mut self, epoll: &Epoll, token: u64, now_ns: u64, answer: &mut Answer<'_>) -> bool {
        if token & SESSION_TOKEN != 0 {
            let handle = Handle::from_bits(token);
            if let Some(session) = self.sessions.look_mut(handle) {
                let life = session.advance(now_ns, answer).and_then(|life| {
                    session.watch(epoll, token)?;
                    Ok(life)
                });
                if !matches!(life, Ok(Life::On)) {
                    self.sessions.remove(handle);
                }
            }
            return true;
        }
        if token & LISTENER_TOKEN != 0 {
            self.accept(epoll, usize::try_from(token & !LISTENER_TOKEN).unwrap_or(usize::MAX), now_ns);
            return true;
        }
        false
    }

    fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        for (at, listener) in self.listeners.iter().enumerate() {
            let interest = Interest { read: true, write: false };
            epoll.add(listener.as_raw_fd(), LISTENER_TOKEN | at as u64, interest)?;
        }
        self.paused = false;
        Ok(())
    }

    fn accept(&mut self, epoll: &Epoll, at: usize, now_ns: u64) {
        let Some(listener) = self.listeners.get(at) else {
            return;
        };
        let service = listener.service;
        match listener.accept() {
            Ok(stream) if !stream.is_allowed() => tracing::warn!(?service, "a connection of another user is refused"),
            Ok(stream) => {
                let interest = Interest { read: true, write: false };
                let deadline_ns = match service {
                    // A control program may keep its connection and say nothing.
                    Service::Rpc => None,
                    Service::Metrics => Some(now_ns + PATIENCE_NS),
                };
                let descriptor = stream.as_raw_fd();
                let (incoming, outgoing) = (Vec::new(), Vec::new());
                let session = Session { service, stream, incoming, outgoing, flow: Flow::Open, interest, deadline_ns };
                match self.sessions.insert(session) {
                    Ok(handle) => {
                        if epoll.add(descriptor, SESSION_TOKEN | handle.to_bits(), interest).is_err() {
                            self.sessions.remove(handle);
                        }
                    }
                    Err(_) => tracing::warn!(?service, limit = SESSION_MAX, "too many connections: one is closed"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // Out of descriptors, most likely: the connection stays and would wake us for ever.
                tracing::warn!(?service, %error, "a connection cannot be taken: tried again in a second");
                for listener in &self.listeners {
                    let _ = epoll.remove(listener.as_raw_fd());
                }
                self.paused = true;
            }
        }
    }
}

impl Session {
    /// Reads, answers and writes as much as there is.
    fn advance(&mut self, now_ns: u64, answer: &mut Answer<'_>) -> io::Result<Life> {
        if self.interest.read {
            let mut bytes = [0; READ_LEN];
            match self.stream.read(&mut bytes) {
                // It will ask no more, and may still wait for answers.
                Ok(0) => self.flow = Flow::Close,
                Ok(len) => {
                    self.incoming.extend_from_slice(&bytes[..len]);
                    self.flow = answer(self.service, &mut self.incoming, &mut self.outgoing);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(len) => {
                    self.outgoing.drain(..len);
                    self.deadline_ns = Some(now_ns + PATIENCE_NS);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.outgoing.is_empty() {
            if self.flow == Flow::Close {
                return Ok(Life::Over);
            }
            if self.service == Service::Rpc {
                self.deadline_ns = None;
            }
        } else if self.deadline_ns.is_none() {
            self.deadline_ns = Some(now_ns + PATIENCE_NS);
        }
        Ok(Life::On)
    }

    /// Watches for what it now waits for.
    fn watch(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let interest = Interest {
            read: self.flow == Flow::Open && self.outgoing.len() < OUTGOING_LEN_MAX,
            write: !self.outgoing.is_empty(),
        };
        if interest != self.interest {
            epoll.modify(self.stream.as_raw_fd(), token, interest)?;
            self.interest = interest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::rpc;

    /// A socket's path that is gone with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("quiesce-{}-{name}.sock", std::process::id())))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    struct Bench {
        epoll: Epoll,
        server: Server,
    }

    impl Bench {
        fn new(listeners: Vec<Listener>) -> Self {
            let epoll = Epoll::new().unwrap();
            let server = Server::new(listeners, &epoll).unwrap();
            Self { epoll, server }
        }

        /// Takes what is ready, until nothing is.
        fn run(&mut self, now_ns: u64) {
            let mut answer = |service: Service, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>| match service {
                Service::Rpc => rpc::answer(incoming, outgoing, |method, parameters| {
                    Ok(serde_json::json!([method, parameters.cloned()]))
                }),
                Service::Metrics => crate::metrics::answer(incoming, outgoing, Vec::new),
            };
            loop {
                let mut tokens = Vec::new();
                self.epoll.ready(&mut tokens);
                if tokens.is_empty() {
                    return;
                }
                for token in tokens {
                    assert!(self.server.take(&self.epoll, token, now_ns, &mut answer));
                }
            }
        }
    }

    #[test]
    fn requests_in_pieces_are_answered_in_order_on_one_connection() {
        let place = Place::new("pieces");
        let mut bench = Bench::new(vec![Listener::rpc(&place.0).unwrap()]);
        assert_eq!(fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = UnixStream::connect(&place.0).unwrap();
        client.set_nonblocking(true).unwrap();
        let request = br#"{"jsonrpc":"2.0","id":1,"method":"a"}{"jsonrpc":"2.0","id":2,"method":"b"}"#;
        for byte in request {
            client.write_all(&[*byte]).unwrap();
            bench.run(0);
        }
        let mut answers = [0; 500];
        let len = client.read(&mut answers).unwrap();
        assert_eq!(
            std::str::from_utf8(&answers[..len]).unwrap(),
            "{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":[\"a\",null]}\n{\"id\":2,\"jsonrpc\":\"2.0\",\"result\":[\"b\",null]}\n"
        );
        drop(client);
        bench.run(0);
        assert!(bench.server.sessions.is_empty());
    }

    #[test]
    fn a_peer_that_takes_no_answers_is_not_read_from_and_then_closed() {
        let place = Place::new("deaf");
        let mut bench = Bench::new(vec![Listener::rpc(&place.0).unwrap()]);
        let mut client = UnixStream::connect(&place.0).unwrap();
        client.set_nonblocking(true).unwrap();
        let request = format!("{{\"id\":1,\"method\":\"a\",\"params\":\"{}\"}}", "x".repeat(60_000));
        let mut sent_len = 0;
        for _ in 0..10_000 {
            match client.write(request.as_bytes()) {
                Ok(len) => sent_len += len,
                Err(_) => break,
            }
            bench.run(0);
        }
        assert!(sent_len < 8 << 20, "back-pressure reaches the peer");
        assert!(bench.server.sessions.iter().all(|(_, session)| session.outgoing.len() < 4 << 20));
        bench.server.tick(&bench.epoll, PATIENCE_NS - 1);
        assert_eq!(bench.server.sessions.len(), 1);
        bench.server.tick(&bench.epoll, PATIENCE_NS);
        assert!(bench.server.sessions.is_empty());
    }

    #[test]
    fn silent_peers_neither_stay_nor_keep_others_out_for_ever() {
        let listener = Listener::metrics("127.0.0.1:0".parse().unwrap()).unwrap();
        let Socket::Tcp(socket) = &listener.socket else { panic!("metrics are TCP") };
        let address = socket.local_addr().unwrap();
        let mut bench = Bench::new(vec![listener]);
        let silent: Vec<TcpStream> = (0..SESSION_MAX + 3).map(|_| TcpStream::connect(address).unwrap()).collect();
        bench.run(0);
        assert_eq!(bench.server.sessions.len(), SESSION_MAX);
        assert!(bench.server.needs_time());
        bench.server.tick(&bench.epoll, PATIENCE_NS);
        assert!(bench.server.sessions.is_empty());
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        bench.run(PATIENCE_NS);
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK"));
        drop(silent);
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
