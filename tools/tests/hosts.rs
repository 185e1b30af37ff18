//! The real programs as real processes: a target, hosts, signals, and what is left afterwards.
//!
//! `nvmf-perf` is another package's program: it is looked for beside `nvmf-tgt`, where a build of the workspace puts it
//! (`scripts/test` does that first).
#![allow(clippy::unwrap_used, reason = "tests")]

mod hosts {
    mod authentication;
    mod configuration;
    mod discovery;
    mod faults;
    mod layers;
    mod limits;
    mod manager;
    mod metrics;
    mod namespaces;
    pub(crate) mod processes;
    mod reactors;
    mod reservations;
    mod resets;
    mod stall;
    mod subsystems;
}

use std::time::Duration;

use hosts::processes::{Host, Target, signal};

/// One namespace of memory, one null, one file.
const MEMORY: &str = "1";
const NULL: &str = "2";
const FILE: &str = "3";

/// Longer than any of these takes, shorter than anybody wants to wait.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn serves_verifies_and_ends_clean() {
    let target = Target::start("plain");
    let baseline = target.live_gauges();

    target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "32", "-n", "2000"]).succeeds();
    target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "16k", "-q", "8", "-n", "200"]).succeeds();
    target.host(&["--nsid", NULL, "-w", "randread", "-o", "4k", "-q", "32", "-n", "20000"]).succeeds();

    let digest = target.host(&["digest", "--nsid", FILE]).succeeds();
    assert!(digest.contains(&target.file_digest()), "{digest}");

    target.gauges_return_to(&baseline, PATIENCE);
    let metrics = target.metrics();
    assert!(metrics.contains("# TYPE nvmf_"), "{metrics}");
    target.ends_clean();
}

/// Polling CPUs sleep while nothing happens, before the first host and after the last; the first command after a sleep is answered.
#[test]
fn an_idle_target_uses_no_cpu_time() {
    let target = Target::start("idle");
    let baseline = target.live_gauges();
    for _ in 0..3 {
        hosts::processes::pause(Duration::from_millis(200));
        let before = target.cpu_time("poll-0");
        hosts::processes::pause(Duration::from_secs(1));
        let used = target.cpu_time("poll-0") - before;
        // 1 %, in the kernel's ticks.
        assert!(used <= Duration::from_millis(10), "{used:?} in a second");
        target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-q", "1", "-n", "50"]).succeeds();
        target.gauges_return_to(&baseline, PATIENCE);
    }
    target.ends_clean();
}

#[test]
fn two_hosts_at_once() {
    let target = Target::start("two");
    let baseline = target.live_gauges();
    let first = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "16", "-n", "5000"]);
    let second = target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-q", "16", "-n", "500"]);
    first.succeeds();
    second.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn queues_on_two_cpus_with_shared_receives() {
    let target = Target::start_with("two-cpus", |configuration| {
        configuration.replace("cpus = [0]", "cpus = [0, 1]") + "\n[transport]\nshared_receives = 512\n"
    });
    let baseline = target.live_gauges();
    for _ in 0..10 {
        let arguments =
            ["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-P", "4", "-n", "200"];
        target.host(&arguments).succeeds();
    }
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn a_hundred_connects_and_disconnects_leave_nothing() {
    let target = Target::start("hundred");
    target.host(&["--nsid", NULL, "-w", "randread", "-o", "4k", "-q", "4", "-n", "10"]).succeeds();
    let baseline = target.gauges_at_rest(PATIENCE);
    for _ in 0..100 {
        target.host(&["--nsid", NULL, "-w", "randread", "-o", "4k", "-q", "4", "-P", "2", "-n", "10"]).succeeds();
    }
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn a_host_killed_in_the_middle_of_io_disturbs_nobody() {
    let target = Target::start("host-killed");
    let baseline = target.live_gauges();
    for _ in 0..5 {
        let victim = target.host(&["--nsid", MEMORY, "-w", "randrw", "-M", "50", "-o", "64k", "-q", "32", "-t", "60"]);
        let other = target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "300"]);
        victim.is_running_io(&target);
        victim.signalled(signal::KILL);
        other.succeeds();
        target.gauges_return_to(&baseline, Duration::from_secs(5));
    }
    target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "500"]).succeeds();
    target.ends_clean();
}

#[test]
fn a_killed_target_ends_its_hosts_with_an_error() {
    let target = Target::start("target-killed");
    let host = target.host(&["--nsid", MEMORY, "-w", "randrw", "-M", "50", "-o", "64k", "-q", "32", "-t", "60"]);
    host.is_running_io(&target);
    target.signalled(signal::KILL);
    let error = host.fails_within(Duration::from_secs(5));
    assert!(error.contains("lost") || error.contains("gone") || error.contains("disconnect"), "{error}");
}

#[test]
fn a_stopped_host_delays_nobody_and_goes_on() {
    let target = Target::start("host-stopped");
    let stopped = target.host(&["--nsid", MEMORY, "-w", "randrw", "-M", "50", "-o", "64k", "-q", "32", "-t", "4"]);
    stopped.is_running_io(&target);
    stopped.signal(signal::STOP);
    target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "300"]).succeeds();
    stopped.signal(signal::CONT);
    stopped.succeeds();
    target.ends_clean();
}

#[test]
fn a_stopped_target_is_waited_for() {
    let target = Target::start("target-stopped");
    let host = target.host(&["--nsid", MEMORY, "-w", "randrw", "-M", "50", "-o", "64k", "-q", "32", "-t", "3"]);
    host.is_running_io(&target);
    target.signal(signal::STOP);
    std::thread::yield_now();
    hosts::processes::pause(Duration::from_millis(700));
    target.signal(signal::CONT);
    host.succeeds();
    target.ends_clean();
}

#[test]
fn a_target_that_ends_under_load_ends_clean() {
    let target = Target::start("drain");
    let host = target.host(&["--nsid", MEMORY, "-w", "randrw", "-M", "50", "-o", "4k", "-q", "32", "-t", "60"]);
    host.is_running_io(&target);
    target.ends_clean();
    host.fails_within(Duration::from_secs(5));
}

#[test]
fn first_mistakes_are_named() {
    let target = Target::start("mistakes");
    let second = target.refuses_to_start();
    assert!(second.contains("127.0.0.1:4420"), "{second}");

    let error = target.host(&["--nsid", "9", "-w", "randread", "-o", "4k", "-q", "1", "-n", "1"]).fails();
    assert!(error.contains("nsid is 9"), "{error}");
    let error =
        Host::at("trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4421 subnqn:nqn.2026-11.io.quiesce:test", &target)
            .fails();
    assert!(error.contains("127.0.0.1:4421"), "{error}");
    let error =
        Host::at("trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2026-11.io.quiesce:other", &target)
            .fails();
    assert!(error.contains("no subsystem of this name"), "{error}");
    target.ends_clean();
}
