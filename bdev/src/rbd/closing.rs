//! Threads that close images. An image that is not closed keeps its lock until the cluster misses its client, so whoever opens it again waits for them, and
//! the end of a process does.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often threads are looked at that have some time to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

static THREADS: Mutex<Vec<Closing>> = Mutex::new(Vec::new());

struct Closing {
    image: String,
    thread: JoinHandle<()>,
}

/// `thread` closes `image`.
pub(super) fn add(image: String, thread: JoinHandle<()>) {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    join_finished(&mut threads);
    threads.push(Closing { image, thread });
}

/// Joined, not only let go of: a thread that has finished may still be in destructors of its own, which a library has put there.
fn join_finished(threads: &mut Vec<Closing>) {
    for closing in threads.extract_if(.., |closing| closing.thread.is_finished()) {
        if closing.thread.join().is_err() {
            tracing::error!(image = closing.image, "closing it has panicked");
        }
    }
}

/// Waits until `image` is closed wherever it was let go of, or all are, but not longer than `patience`. Returns whether that is so.
#[allow(clippy::disallowed_methods, reason = "for threads that may wait")]
pub(super) fn wait(image: Option<&str>, patience: Duration) -> bool {
    let mut left = patience;
    loop {
        let is_busy = {
            let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
            join_finished(&mut threads);
            threads.iter().any(|closing| image.is_none_or(|image| image == closing.image))
        };
        if !is_busy || left.is_zero() {
            return !is_busy;
        }
        std::thread::sleep(LOOK_INTERVAL);
        left = left.saturating_sub(LOOK_INTERVAL);
    }
}
