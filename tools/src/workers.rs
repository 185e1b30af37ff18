//! Threads that compute for authentications, so that neither the polling CPUs nor the control plane do.
//!
//! A few, at a lower priority than everything else: a storm of strangers takes what nobody wants. How many jobs there are at a time, and from whom, is the
//! control plane's to say ([`nvmf_core::Target::next_job`]); these do what they are given, in turn, and ring when something is done.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use nvmf_core::auth::{Done, Job};

use crate::system;

/// How many: with two, each host address has one of them at most.
pub(crate) const WORKER_COUNT: usize = 2;

/// The threads, as the control plane's program sees them.
#[derive(Debug)]
pub(crate) struct Workers {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    /// Readable when something is done.
    bell: UnixStream,
}

impl Workers {
    /// Starts them. They end with this value, when each has done what it has in hand.
    pub(crate) fn start() -> io::Result<Self> {
        // Said now rather than by the first host that comes.
        draw(&mut [0])?;
        let (jobs, waiting) = mpsc::channel::<Job>();
        let (finished, done) = mpsc::channel();
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..WORKER_COUNT {
            let (waiting, finished, ringer) = (Arc::clone(&waiting), finished.clone(), ringer.try_clone()?);
            let body = move || work(&waiting, &finished, ringer);
            std::thread::Builder::new().name(format!("auth-{number}")).spawn(body)?;
        }
        Ok(Self { jobs, done, bell })
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Somebody does it.
    pub(crate) fn give(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!(
                "no thread is left that computes for authentications: hosts that need it run into their deadline"
            );
        }
    }

    /// Something that is done, each once.
    pub(crate) fn take(&mut self) -> Option<Done> {
        let mut rings = [0; 64];
        while self.bell.read(&mut rings).is_ok_and(|count| count == rings.len()) {}
        self.done.try_recv().ok()
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, finished: &Sender<Done>, mut ringer: UnixStream) {
    if let Err(error) = system::yield_to_others() {
        tracing::warn!(%error, "threads that compute for authentications keep their priority");
    }
    loop {
        // Whoever waits holds the lock: the others wait for that.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let done = job.perform(&mut |bytes| {
            // It answered at the start, and does for the life of a process.
            draw(bytes).expect("the system's generator of random bytes");
        });
        if finished.send(done).is_err() {
            return;
        }
        // A bell that is full rings already.
        let _ = ringer.write(&[1]);
    }
}

/// Random bytes of the system.
pub(crate) fn draw(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::from)
}
