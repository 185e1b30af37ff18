//! A polling CPU that does not come back, by stopping its thread alone: ptrace(2) can, where a signal stops the whole process.
//!
//! # Invariants of the unsafe code
//! 1. The calls take no pointers; the thread is of a child of this process that has not been waited for, so that its id is still its own.

use std::path::PathBuf;
use std::ptr::null_mut;
use std::time::Duration;
use std::{fs, io};

use super::processes::{Target, signal};
use crate::{MEMORY, PATIENCE};

/// A thread of the target that stands still until this is dropped. For the test's own thread: ptrace is per thread.
pub(super) struct Stopped {
    thread: libc::pid_t,
}

impl Stopped {
    pub(super) fn new(target: &Target, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap();
        let has_name = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let task = tasks.flatten().map(|task| task.path()).find(has_name).unwrap();
        let thread: libc::pid_t = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let seized = ptrace(libc::PTRACE_SEIZE, thread);
        assert!(seized.is_ok(), "ptrace of a child's thread: {seized:?}; a container may have to be given SYS_PTRACE");
        let stopped = Self { thread };
        ptrace(libc::PTRACE_INTERRUPT, thread).unwrap();
        // SAFETY: invariant 1; no status is asked for.
        let waited = unsafe { libc::waitpid(thread, null_mut(), libc::__WALL) };
        assert_eq!(waited, thread);
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Fails where the process has ended.
        let _ = ptrace(libc::PTRACE_DETACH, self.thread);
    }
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    let nothing = null_mut::<libc::c_void>();
    // SAFETY: invariant 1.
    let result = unsafe { libc::ptrace(request, thread, nothing, nothing) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn a_cpu_that_does_not_turn_is_named_with_what_waits_for_it() {
    let target = Target::start_with("stall", |configuration| {
        configuration.replace("cpus = [0]", "cpus = [0, 1]\npoll_mode = \"busy\"\nqueue_pairs = 8")
    });
    let baseline = target.gauges_at_rest(PATIENCE);
    // Its admin queue and one of its I/O queues are on CPU 0, the other one on CPU 1.
    let host = target.host(&["--nsid", MEMORY, "-w", "randread", "-o", "4k", "-q", "4", "-P", "2", "-t", "60"]);
    host.is_running_io(&target);
    let stopped = Stopped::new(&target, "poll-0");
    target.says(&["WARN a CPU does not turn cpu=\"0\"", "limit_ms=1000 reclamation=\"does not wait for it\""]);
    assert_eq!(target.metric("nvmf_reactor_stalled{cpu=\"0\"}"), 1.0);
    assert_eq!(target.metric("nvmf_reactor_stalled{cpu=\"1\"}"), 0.0);
    // CPU 1 tears its queue pair down, and cannot use its memory again.
    host.signalled(signal::KILL);
    target.says(&["WARN a CPU does not turn cpu=\"0\"", "reclamation=\"waits for it since"]);
    assert!(target.metric("nvmf_reactor_limbo_entries{cpu=\"1\"}") > 0.0);
    drop(stopped);
    target.says(&["INFO a CPU turns again cpu=\"0\""]);
    target.gauges_return_to(&baseline, Duration::from_secs(20));
    assert_eq!(target.metric("nvmf_reactor_stalled{cpu=\"0\"}"), 0.0);
    assert_eq!(target.metric("nvmf_reactor_stalls_total{cpu=\"0\"}"), 1.0);
    target.ends_clean();
}
