//! The connections of RPC and metrics: nonblocking sockets in one epoll instance, with a limit on everything.
//!
//! Owns the listeners and all connections; runs on the control plane's reactor and never waits. Peers are told apart by a [`Handle`], so that an event
//! for a connection that is gone is a miss. A peer that is slow or silent costs its buffers and, after a deadline, its connection.

use std::io;

use nvmf_core::ChangeId;
use reactor::{Handle, Slab};
use serde_json::Value;

use super::listener::{Listener, Service};
use super::session::{Answer, Life, PATIENCE_NS, Session};
use crate::rpc::Flow;
use crate::system::{Epoll, Interest};

/// Connections of one service at a time: strangers at the metrics' address must not keep the owner from RPC.
const SESSION_MAX: usize = 32;

/// Services.
const SERVICE_COUNT: usize = 2;

/// Tokens of connections have this bit, and a handle below it.
const SESSION_TOKEN: u64 = 1 << 60;

/// Tokens of listeners: their index above this.
const LISTENER_TOKEN: u64 = 1 << 59;

/// Listeners and their connections.
pub(super) struct Server {
    listeners: Vec<Listener>,
    /// Listeners that are not watched now, since taking a connection failed.
    paused: bool,
    sessions: Slab<Session>,
}

impl Server {
    pub(super) fn new(listeners: Vec<Listener>, epoll: &Epoll) -> io::Result<Self> {
        let mut server = Self { listeners, paused: true, sessions: Slab::new(SERVICE_COUNT * SESSION_MAX) };
        server.watch(epoll)?;
        Ok(server)
    }

    /// Closes everything, and takes the sockets' files away.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.sessions = Slab::new(SERVICE_COUNT * SESSION_MAX);
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

    /// A change is done: whoever asked for it is told.
    /// `result`: what it comes to, where that is known only now.
    pub(super) fn finish(
        &mut self,
        epoll: &Epoll,
        now_ns: u64,
        change: ChangeId,
        failure: Option<&str>,
        result: Option<Value>,
    ) {
        let handles: Vec<Handle<Session>> = self.sessions.handles().collect();
        for handle in handles {
            let Some(session) = self.sessions.look_mut(handle) else { continue };
            let life = session.finish(now_ns, change, failure, result.as_ref()).and_then(|life| {
                session.watch(epoll, SESSION_TOKEN | handle.to_bits())?;
                Ok(life)
            });
            if !matches!(life, Ok(Life::On)) {
                self.sessions.remove(handle);
            }
        }
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
            Ok(_) if self.sessions.iter().filter(|(_, session)| session.service == service).count() >= SESSION_MAX => {
                tracing::warn!(?service, limit = SESSION_MAX, "too many connections: one is closed");
            }
            Ok(stream) => {
                let interest = Interest { read: true, write: false };
                let deadline_ns = match service {
                    // A control program may keep its connection and say nothing.
                    Service::Rpc => None,
                    Service::Metrics => Some(now_ns + PATIENCE_NS),
                };
                let descriptor = stream.as_raw_fd();
                let session = Session {
                    service,
                    stream,
                    incoming: Vec::new(),
                    outgoing: Vec::new(),
                    deferred: Vec::new(),
                    flow: Flow::Open,
                    interest,
                    deadline_ns,
                };
                match self.sessions.insert(session) {
                    Ok(handle) => {
                        if epoll.add(descriptor, SESSION_TOKEN | handle.to_bits(), interest).is_err() {
                            self.sessions.remove(handle);
                        }
                    }
                    // Cannot be: there is room for as many as both services may have.
                    Err(_) => tracing::error!(?service, "no room for a connection: it is closed"),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::super::listener::tests::Place;
    use super::*;
    use crate::rpc::methods::tests::a_change;
    use crate::rpc::{self, Deferred};

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
            let mut answer = |service: Service,
                              incoming: &mut Vec<u8>,
                              outgoing: &mut Vec<u8>,
                              deferred: &mut Vec<Deferred>| match service {
                Service::Rpc => rpc::answer(incoming, outgoing, deferred, |method, parameters| {
                    Ok(match method {
                        "slow" => rpc::Outcome::Begun(a_change(), serde_json::json!(true)),
                        _ => rpc::Outcome::Done(serde_json::json!([method, parameters.cloned()])),
                    })
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
    fn what_is_answered_later_keeps_nobody_waiting() {
        let place = Place::new("later");
        let mut bench = Bench::new(vec![Listener::rpc(&place.0).unwrap()]);
        let mut asks = UnixStream::connect(&place.0).unwrap();
        asks.write_all(br#"{"id":1,"method":"slow"}{"id":2,"method":"a"}"#).unwrap();
        // One that asks no more and waits, and one that does not wait.
        let mut waits = UnixStream::connect(&place.0).unwrap();
        waits.write_all(br#"{"id":"x","method":"slow"}"#).unwrap();
        waits.shutdown(Shutdown::Write).unwrap();
        let mut leaves = UnixStream::connect(&place.0).unwrap();
        leaves.write_all(br#"{"id":4,"method":"slow"}"#).unwrap();
        bench.run(0);
        let mut answers = [0; 500];
        let len = asks.read(&mut answers).unwrap();
        assert_eq!(&answers[..len], b"{\"id\":2,\"jsonrpc\":\"2.0\",\"result\":[\"a\",null]}\n");
        assert_eq!(bench.server.sessions.len(), 3);
        leaves.shutdown(Shutdown::Write).unwrap();
        bench.run(0);
        drop(leaves);
        bench.run(0);
        assert_eq!(bench.server.sessions.len(), 2, "nobody is left to answer to");

        bench.server.finish(&bench.epoll, 0, a_change(), None, None);
        let len = asks.read(&mut answers).unwrap();
        assert_eq!(&answers[..len], b"{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":true}\n");
        let mut rest = String::new();
        waits.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "{\"id\":\"x\",\"jsonrpc\":\"2.0\",\"result\":true}\n", "and the connection ends with it");
        assert_eq!(bench.server.sessions.len(), 1);
        bench.server.finish(&bench.epoll, 0, a_change(), None, None);
        asks.set_nonblocking(true).unwrap();
        assert!(asks.read(&mut answers).is_err(), "once only");
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
        let address = listener.metrics_address().unwrap();
        let place = Place::new("silent");
        let mut bench = Bench::new(vec![listener, Listener::rpc(&place.0).unwrap()]);
        let silent: Vec<TcpStream> = (0..SESSION_MAX + 3).map(|_| TcpStream::connect(address).unwrap()).collect();
        bench.run(0);
        assert_eq!(bench.server.sessions.len(), SESSION_MAX);
        let mut owner = UnixStream::connect(&place.0).unwrap();
        owner.write_all(br#"{"jsonrpc":"2.0","id":1,"method":"a"}"#).unwrap();
        bench.run(0);
        assert_ne!(owner.read(&mut [0; 500]).unwrap(), 0, "RPC is served all the same");
        drop(owner);
        bench.run(0);
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
}
