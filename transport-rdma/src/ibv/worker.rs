//! The one thread that makes the calls that may take long or wait: registration, making and destroying of queue pairs, destroying of ids.
//!
//! Owned by the provider. Jobs run one at a time, in order; results come back by a channel, and ring. A destroy call waits until the events of its object are
//! acknowledged, which the control plane does in the turn in which it fetches them: it never waits for this thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::memory::Registration;
use super::news::News;
use super::queue_pair::Object;
use crate::verbs::Ticket;

/// How a job ended. Numbers name connections and listeners; late ones are misses.
#[derive(Debug)]
pub(super) enum Outcome {
    Registered { ticket: Ticket, has_remote: bool, result: io::Result<Registration> },
    Deregistered { ticket: Ticket, result: io::Result<()> },
    Created { ticket: Ticket, connection: u64, result: io::Result<Arc<Object>> },
    Destroyed { ticket: Ticket, connection: u64, result: io::Result<()> },
    ConnectionGone { ticket: Option<Ticket>, connection: u64, result: io::Result<()> },
    DeviceReleased,
    ListenerGone { ticket: Ticket, listener: u64, result: io::Result<()> },
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
    pub(super) fn start(news: News) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (results, outcomes) = channel();
        let thread = std::thread::Builder::new().name("ibv-worker".into()).spawn(move || {
            for job in queue {
                if results.send(job()).is_err() {
                    return;
                }
                news.ring();
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

    /// The next job's end.
    pub(super) fn next(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Waits for the jobs that were begun. All events are acknowledged by then.
    pub(super) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
