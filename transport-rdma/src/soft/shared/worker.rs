//! The one thread that makes the slow calls: connect(2), mapping, sealing, unmapping.
//!
//! Owned by the provider. Jobs run one at a time, in order; results come back by a channel, and ring the bell. A job owns what it works on, so a result for something
//! that has ended meanwhile is simply dropped (which unmaps and closes).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::mapping::{HandOverError, Mapping};
use super::message::Connect;
use super::wake::Bell;

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

type Job = Box<dyn FnOnce() -> Outcome + Send>;

/// The thread and the ways to it.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(bell: Bell) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (results, outcomes) = channel();
        let thread = std::thread::Builder::new().name("soft-worker".into()).spawn(move || {
            for job in queue {
                if results.send(job()).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes, thread: Some(thread) })
    }

    /// Begins a job.
    pub(super) fn begin(&self, job: impl FnOnce() -> Outcome + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only when this sender does, so the send cannot fail.
            let _ = jobs.send(Box::new(job));
        }
    }

    /// Drops something that takes its time to.
    pub(super) fn discard(&self, thing: impl Send + 'static) {
        self.begin(move || {
            drop(thing);
            Outcome::Dropped
        });
    }

    /// The next job's end.
    pub(super) fn next(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

impl Drop for Worker {
    /// Waits for the jobs that were begun: at most a second each, where a listener does not take a connection.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
