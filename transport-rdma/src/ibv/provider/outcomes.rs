//! What the worker has done, and what ports have noticed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::queue_pair::{Object, QueuePair, Stage as QueuePairStage};
use super::super::worker::Outcome;
use super::{IbvProvider, Stage};
use crate::verbs::{ConnectionId, DeviceId, Event, PortId, Ticket, VerbsError};

impl IbvProvider {
    /// Called before each event: nothing of it waits.
    pub(super) fn take_news(&mut self) {
        if !self.news.take() {
            return;
        }
        while let Some(outcome) = self.worker.next() {
            self.conclude(outcome);
        }
        self.hear_ports();
        self.hear_queue_pairs();
        self.release_removed();
    }

    fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Registered { ticket, has_remote, result } => {
                self.registering_count -= 1;
                let result = result.map(|region| {
                    let keys = region.keys(has_remote);
                    self.regions.insert(keys.local_key, region);
                    keys
                });
                let result = result.map_err(|source| VerbsError::System { call: "ibv_reg_mr", source: hinted(source) });
                self.tell(Event::Registered { ticket, result });
            }
            Outcome::Deregistered { ticket, result } => {
                self.note_undestroyed("a memory region", &self.forgiven(result));
                self.tell(Event::Deregistered { ticket });
            }
            Outcome::Created { ticket, connection, result } => self.created(ticket, connection, result),
            Outcome::Destroyed { ticket, connection, result } => self.destroyed(ticket, connection, result),
            Outcome::ConnectionGone { ticket, connection, result } => {
                self.note_undestroyed("a connection", &self.forgiven(result));
                self.connections.remove(&connection);
                if let Some(ticket) = ticket {
                    self.tell(Event::ConnectionDestroyed { ticket });
                }
            }
            Outcome::DeviceReleased => {
                tracing::info!(device = self.device.name(), "the removed device was let go of");
                self.tell(Event::DeviceReleased(DeviceId::ONLY));
            }
            Outcome::DeviceReopened { ticket, result } => self.device_reopened(ticket, result),
            Outcome::ListenerGone { ticket, listener, result } => {
                self.note_undestroyed("a listener", &self.forgiven(result));
                self.listeners.remove(&listener);
                self.tell(Event::Unlistened { ticket });
            }
        }
    }

    /// Calls on a device that is gone fail, and destroy all the same.
    fn forgiven(&self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EIO) || self.is_removed => Ok(()),
            result => result,
        }
    }

    fn note_undestroyed(&mut self, what: &str, result: &io::Result<()>) {
        if let Err(error) = result {
            self.tally.undestroyed += 1;
            tracing::error!(%error, "{what} could not be destroyed");
        }
    }

    fn created(&mut self, ticket: Ticket, connection: u64, result: io::Result<Arc<Object>>) {
        let record = self.connections.get_mut(&connection).filter(|record| record.stage != Stage::Destroying);
        let result = match (result, record) {
            (Ok(object), Some(record)) => {
                record.queue_pair = Some(Arc::clone(&object));
                if record.stage == Stage::Ended {
                    // It was to be disconnected while it was being made.
                    let _ = object.fail();
                }
                Ok(QueuePair { object, connection })
            }
            (Ok(object), None) => {
                drop(object);
                Err(io::Error::other("its connection is gone"))
            }
            (Err(error), _) => Err(hinted(error)),
        };
        if result.is_err() {
            self.give_room_back(connection);
            self.queue_pair_count -= 1;
        }
        let result = result.map_err(|source| VerbsError::System { call: "ibv_create_qp", source });
        self.tell(Event::QueuePairCreated { ticket, result });
    }

    fn destroyed(&mut self, ticket: Ticket, connection: u64, result: io::Result<()>) {
        let result = self.forgiven(result);
        self.note_undestroyed("a queue pair", &result);
        self.give_room_back(connection);
        self.queue_pair_count -= 1;
        let result = result.map_err(|source| VerbsError::System { call: "ibv_destroy_qp", source });
        self.tell(Event::QueuePairDestroyed { ticket, result });
    }

    fn give_room_back(&mut self, connection: u64) {
        let room = self.connections.get_mut(&connection).and_then(|record| record.room.take());
        if let Some((port, count)) = room
            && let Some(port) = self.ports.get_mut(port)
        {
            port.used = port.used.saturating_sub(count);
        }
    }

    fn hear_ports(&mut self) {
        for number in 0..self.ports.len() {
            let port = &mut self.ports[number];
            if port.queues.is_broken.load(Ordering::Acquire) && !port.is_reported {
                port.is_reported = true;
                let port = PortId(u32::try_from(number).unwrap_or(u32::MAX));
                self.tell(Event::CompletionQueueError { port });
            }
        }
    }

    fn hear_queue_pairs(&mut self) {
        let mut broken = Vec::new();
        for (&number, record) in &self.connections {
            let Some(object) = &record.queue_pair else { continue };
            if object.take_late_receives() {
                self.tally.late_receive_flushes += 1;
                let _ = object.fail();
            }
            if object.stage() == QueuePairStage::Broken && !object.is_reported.swap(true, Ordering::Relaxed) {
                broken.push(number);
            }
        }
        for number in broken {
            self.tell(Event::QueuePairFatal { connection: ConnectionId(number) });
        }
    }
}

/// What a person can do about it.
fn hinted(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOMEM) || error.raw_os_error() == Some(libc::EPERM) {
        return io::Error::new(
            error.kind(),
            format!(
                "{error} (memory that the device uses is locked: see `ulimit -l`, LimitMEMLOCK= in a systemd unit)"
            ),
        );
    }
    error
}
