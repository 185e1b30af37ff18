//! The one thread of a provider that makes the calls that may take long or wait.
//!
//! Owned by the provider. Jobs run one at a time, in order; how each ended (`O`) comes back by a channel, and rings. A job owns what it works on, so what it
//! brings for something that has ended meanwhile is simply dropped.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

type Job<O> = Box<dyn FnOnce() -> O + Send>;

/// The thread and the ways to it.
#[derive(Debug)]
pub(crate) struct Worker<O> {
    jobs: Option<Sender<Job<O>>>,
    outcomes: Receiver<O>,
    thread: Option<JoinHandle<()>>,
}

impl<O: Send + 'static> Worker<O> {
    /// Starts a thread of this name, which calls `ring` after each job.
    pub(crate) fn start(name: &str, ring: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job<O>>();
        let (results, outcomes) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in queue {
                if results.send(job()).is_err() {
                    return;
                }
                ring();
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes, thread: Some(thread) })
    }

    /// Begins a job.
    pub(crate) fn begin(&self, job: impl FnOnce() -> O + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only when this sender does, so the send cannot fail.
            let _ = jobs.send(Box::new(job));
        }
    }

    /// The next job's end.
    pub(crate) fn next(&self) -> Option<O> {
        self.outcomes.try_recv().ok()
    }
}

impl<O> Worker<O> {
    /// Waits for the jobs that were begun.
    pub(crate) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<O> Drop for Worker<O> {
    fn drop(&mut self) {
        self.finish();
    }
}
