//! What channels through io_uring share: handing entries to the kernel, and sleeping on the ring.

use std::path::Path;

use io_uring::{IoUring, cqueue, squeue};
use reactor::Rest;

/// Hands queued entries to the kernel, if there are any. What it does not take now is offered again by the next call. `has_failed` keeps whether a failure has been
/// reported.
pub(crate) fn enter<S, C>(ring: &mut IoUring<S, C>, path: &Path, has_failed: &mut bool)
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    if ring.submission().is_empty() {
        return;
    }
    match ring.submit() {
        Ok(_) => *has_failed = false,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)) => {}
        Err(error) if *has_failed => drop(error),
        Err(error) => {
            *has_failed = true;
            tracing::error!(path = %path.display(), %error, "io_uring_enter fails: operations wait");
        }
    }
}

/// Whether its CPU may sleep on the ring's descriptor.
pub(crate) fn arm<S, C>(ring: &mut IoUring<S, C>) -> Rest
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    // What the kernel did not take is offered again by the next poll.
    let has_offers = !ring.submission().is_empty();
    if has_offers || !ring.completion().is_empty() { Rest::Poll } else { Rest::Sleep }
}
