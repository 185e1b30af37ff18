//! Listeners, and what is owed for events.
//!
//! Control plane only.

use std::os::fd::AsRawFd;

use super::connection::Listener;
use super::wake::Token;
use super::{SharedProvider, SharedWire};
use crate::soft::nic::Nic;
use crate::verbs::{Charge, Event, Ticket};

impl SharedProvider {
    /// Stops listening: requests that nobody has fetched are refused.
    pub(super) fn unlisten(&mut self, ticket: Ticket, number: u64) {
        // What refusing causes stands behind what is there.
        for event in std::mem::take(&mut self.events) {
            if let Event::ConnectRequest(request) = event {
                if request.listener.0 == number {
                    self.refuse_request(request, &[]);
                } else {
                    self.events.push_back(Event::ConnectRequest(request));
                }
            } else {
                self.events.push_back(event);
            }
        }
        if let Some(listener) = self.listeners.get_mut(&number) {
            if let Some(file) = listener.file.take() {
                self.waker.unwatch(file.socket().as_raw_fd());
            }
            listener.unlisten = Some(ticket);
        }
    }

    /// A request was answered: the backlog has room again.
    pub(super) fn answered(&mut self, number: u64) {
        let listener = self.connections.get_mut(&number).and_then(|connection| connection.listener.take());
        if let Some(listener) = listener.and_then(|listener| self.listeners.get_mut(&listener)) {
            listener.waiting_count = listener.waiting_count.saturating_sub(1);
        }
    }

    pub(super) fn finish_listeners(&mut self) {
        let now_ns = self.now_ns;
        for (&number, listener) in &mut self.listeners {
            if listener.paused_until_ns.is_some_and(|until_ns| until_ns <= now_ns)
                && let Some(file) = &listener.file
                && self.waker.watch(file.socket().as_raw_fd(), Token::Listener(number)).is_ok()
            {
                listener.paused_until_ns = None;
            }
        }
        let is_done = |listener: &Listener| listener.unacknowledged == 0;
        let done: Vec<(u64, Ticket)> = self
            .listeners
            .iter()
            .filter(|(_, listener)| is_done(listener))
            .filter_map(|(&number, listener)| Some((number, listener.unlisten?)))
            .collect();
        for (number, ticket) in done {
            self.listeners.remove(&number);
            self.events.push_back(Event::Unlistened { ticket });
        }
    }

    /// Counts what was given out and what was acknowledged, for the object that it is about.
    pub(super) fn count_unacknowledged(&mut self, event: &Event<Nic<SharedWire>>, change: i32) {
        let count = match event.charge() {
            Charge::Nothing => None,
            Charge::Listener(listener) => {
                self.listeners.get_mut(&listener.0).map(|listener| &mut listener.unacknowledged)
            }
            Charge::Connection(connection) => {
                self.connections.get_mut(&connection.0).map(|connection| &mut connection.unacknowledged)
            }
            Charge::QueuePair(connection) => self
                .connections
                .get(&connection.0)
                .and_then(|connection| connection.queue_pair)
                .and_then(|serial| self.queue_pairs.get_mut(&serial))
                .map(|record| &mut record.unacknowledged),
        };
        if let Some(count) = count {
            *count = count.saturating_add_signed(change);
        }
    }

    /// Whether some destroy may wait for an acknowledgement.
    pub(super) fn is_destroying(&self) -> bool {
        self.connections.values().any(|connection| connection.destroy.is_some())
            || self.queue_pairs.values().any(|record| record.ending.is_some())
            || self.listeners.values().any(|listener| listener.unlisten.is_some())
    }
}

/// The connection that an event of the CM or of its queue pair is about.
pub(super) fn event_connection(event: &Event<Nic<SharedWire>>) -> Option<u64> {
    match event.charge() {
        Charge::Connection(connection) | Charge::QueuePair(connection) => Some(connection.0),
        Charge::Listener(_) | Charge::Nothing => None,
    }
}
