//! How a reactor's thread sleeps: in one `ppoll` on its bell and on what its program waits for.

use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use crate::bell::Bell;
use crate::reactor::SleepLimit;

const NS_PER_S: u64 = 1_000_000_000;

/// Sleeps until the bell is rung, the program's descriptor becomes readable, or the limit (if any) is over; maybe less. The reactor
/// has lain down before.
pub(super) fn sleep(bell: &Bell, wake_descriptor: Option<RawFd>, limit: SleepLimit) {
    // `poll` ignores negative descriptors.
    let watch = |fd: Option<RawFd>| libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 };
    let mut watched = [watch(bell.descriptor().map(|descriptor| descriptor.as_raw_fd())), watch(wake_descriptor)];
    let limit = limit.0.map(|ns| libc::timespec {
        tv_sec: libc::time_t::try_from(ns / NS_PER_S).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(ns % NS_PER_S).unwrap_or(0),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // An error (EINTR) is a short sleep.
    // SAFETY: the array is exclusively borrowed and of the length given; the time is null or lives through the call; no signal mask.
    unsafe { libc::ppoll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, limit, ptr::null()) };
    if watched[0].revents != 0 {
        bell.clear_signal();
    }
}
