//! What the worker does: connect(2), mapping, sealing, unmapping. What it brings for something that has ended meanwhile is dropped, which unmaps and closes.

use std::io;
use std::os::fd::OwnedFd;

use super::mapping::{HandOverError, Mapping};
use super::message::Connect;

/// How a job ended. Numbers name peers and queue pairs; late ones are misses.
#[derive(Debug)]
pub(super) enum Outcome {
    Connected {
        peer: u64,
        result: io::Result<OwnedFd>,
    },
    PageMade {
        peer: u64,
        result: io::Result<(Mapping, OwnedFd)>,
    },
    /// Page (on the accepting side) and keys.
    PairMapped {
        peer: u64,
        result: Result<(Option<Mapping>, Option<Mapping>), HandOverError>,
    },
    ArenaMapped {
        peer: u64,
        slot: u32,
        base: u64,
        result: Result<Mapping, HandOverError>,
    },
    RingsMade {
        serial: u64,
        result: io::Result<(Mapping, OwnedFd)>,
    },
    RingsMapped {
        peer: u64,
        connect: Connect,
        result: Result<Mapping, HandOverError>,
    },
    QueuePairUnmapped {
        serial: u64,
    },
    ArenaUnmapped {
        peer: u64,
        slot: u32,
    },
    Dropped,
}

/// The thread and the ways to it. A job takes at most a second, where a listener does not take a connection.
pub(super) type Worker = crate::worker::Worker<Outcome>;

impl Worker {
    /// Drops something that takes its time to.
    pub(super) fn discard(&self, thing: impl Send + 'static) {
        self.begin(move || {
            drop(thing);
            Outcome::Dropped
        });
    }
}
