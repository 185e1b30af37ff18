//! One connection: what came in, what is to go out, and how long its peer may take.

use std::io;

use super::listener::{Service, Stream};
use nvmf_core::ChangeId;
use serde_json::Value;

use crate::rpc::{self, Deferred, Flow};
use crate::system::{Epoll, Interest};

/// Bytes taken from a connection for one event: the others are to have their turn.
const READ_LEN: usize = 16 << 10;

/// Answers not yet taken by the peer, beyond which nothing more is read from it.
const OUTGOING_LEN_MAX: usize = 1 << 20;

/// How long a peer may take to send a request to metrics, or to take an answer.
pub(super) const PATIENCE_NS: u64 = 5_000_000_000;

/// Answers what has come in on a connection: takes from the first buffer, adds to the second, and to the requests that are answered later.
pub(super) type Answer<'a> = dyn FnMut(Service, &mut Vec<u8>, &mut Vec<u8>, &mut Vec<Deferred>) -> Flow + 'a;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) service: Service,
    pub(super) stream: Stream,
    pub(super) incoming: Vec<u8>,
    pub(super) outgoing: Vec<u8>,
    /// Requests that are answered when what they began is done.
    pub(super) deferred: Vec<Deferred>,
    /// Ends once everything is sent.
    pub(super) flow: Flow,
    pub(super) interest: Interest,
    /// It has until then to send or to take something. `None` while nothing is expected of it.
    pub(super) deadline_ns: Option<u64>,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    On,
    Over,
}

impl Session {
    /// It was woken: reads, answers and writes as much as there is.
    pub(super) fn advance(&mut self, now_ns: u64, answer: &mut Answer<'_>) -> io::Result<Life> {
        if !self.interest.read && !self.interest.write {
            // Only the end of the connection wakes who asks for nothing: nobody is left to answer to.
            return Ok(Life::Over);
        }
        if self.interest.read {
            let mut bytes = [0; READ_LEN];
            match self.stream.read(&mut bytes) {
                // It will ask no more, and may still wait for answers.
                Ok(0) => self.flow = Flow::Close,
                Ok(len) => {
                    self.incoming.extend_from_slice(&bytes[..len]);
                    self.flow = answer(self.service, &mut self.incoming, &mut self.outgoing, &mut self.deferred);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.send(now_ns)
    }

    /// Answers the requests that wait for this change and no other, if any do.
    pub(super) fn finish(
        &mut self,
        now_ns: u64,
        change: ChangeId,
        failure: Option<&str>,
        result: Option<&Value>,
    ) -> io::Result<Life> {
        let done: Vec<Deferred> =
            self.deferred.extract_if(.., |request| request.is_ended_by(change, failure, result)).collect();
        for request in &done {
            rpc::answer_deferred(request, &mut self.outgoing);
        }
        if done.is_empty() { Ok(Life::On) } else { self.send(now_ns) }
    }

    fn send(&mut self, now_ns: u64) -> io::Result<Life> {
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
            if self.flow == Flow::Close && self.deferred.is_empty() {
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
    pub(super) fn watch(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
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
