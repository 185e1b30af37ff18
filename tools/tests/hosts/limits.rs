//! Limits of a device, as hosts see them: from the configuration and by JSON-RPC, changed and taken away while I/O runs, and shared by two hosts.
//!
//! Times are the target's own. A machine that is too slow for a limit keeps it all the same: limits are checked from above.

use std::time::Duration;

use serde_json::{Value, json};

use super::processes::{Host, Target, pause};
use crate::{NULL, PATIENCE};

/// Reads and writes that a device has done, bytes that they moved, and the target's time, in s.
struct Done {
    operations: f64,
    bytes: f64,
    s: f64,
}

fn done(target: &Target, device: &str) -> Done {
    let told = target.result("bdev_get_iostat", json!({ "name": device }));
    let of = |key: &str| told["bdevs"][0][key].as_f64().unwrap();
    Done {
        operations: of("num_read_ops") + of("num_write_ops"),
        bytes: of("bytes_read") + of("bytes_written"),
        s: told["ticks"].as_f64().unwrap() / told["tick_rate"].as_f64().unwrap(),
    }
}

/// What the device does in the next second.
fn in_a_second(target: &Target, device: &str) -> Done {
    // What was begun before a change may have ended by now.
    pause(Duration::from_millis(100));
    let before = done(target, device);
    pause(Duration::from_secs(1));
    let after = done(target, device);
    let (operations, bytes) = (after.operations - before.operations, after.bytes - before.bytes);
    Done { operations, bytes, s: after.s - before.s }
}

fn set_limit(target: &Target, limits: Value) {
    let mut parameters = json!({ "name": "null" });
    parameters.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    assert_eq!(target.result("bdev_set_qos_limit", parameters), true);
}

/// The null device has a limit from the start.
fn start_limited(name: &str) -> Target {
    Target::start_with(name, |configuration| {
        configuration.replacen("size = \"1GiB\"\n", "size = \"1GiB\"\n\n[device.limits]\niops = 2000\n", 1)
    })
}

/// Half of what was under way, and bursts of 10 ms, are a small part of this.
const SLACK: f64 = 1.1;
const DEPTH: f64 = 16.0;

#[test]
fn limits_hold_while_they_are_set_and_changed() {
    let target = start_limited("limits");
    let baseline = target.live_gauges();
    let host = target.host(&["--nsid", NULL, "-w", "randrw", "-o", "4k", "-q", "16", "-n", "30000"]);
    host.is_running_io(&target);
    let kept = |rate: f64, done: &Done| {
        assert!(done.operations > 0.0, "it goes on");
        assert!(done.operations <= rate * done.s * SLACK + DEPTH, "{} in {} s at {rate}/s", done.operations, done.s);
    };
    kept(2000.0, &in_a_second(&target, "null"));
    set_limit(&target, json!({ "rw_ios_per_sec": 500 }));
    kept(500.0, &in_a_second(&target, "null"));
    // A MiB per second is 256 operations.
    set_limit(&target, json!({ "rw_ios_per_sec": 0, "rw_mbytes_per_sec": 1 }));
    let bytes = in_a_second(&target, "null");
    kept(256.0, &bytes);
    assert!(bytes.bytes <= 1_048_576.0 * bytes.s * SLACK + DEPTH * 4096.0, "{} bytes", bytes.bytes);
    set_limit(&target, json!({ "rw_mbytes_per_sec": 0, "host_rw_ios_per_sec": 300 }));
    kept(300.0, &in_a_second(&target, "null"));
    set_limit(&target, json!({ "host_rw_ios_per_sec": 0 }));
    host.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

/// The operations per second that a host has had.
fn rate(host: Host) -> f64 {
    let text = host.succeeds();
    let row = text.lines().find(|line| line.trim_start().starts_with(NULL)).unwrap_or_else(|| panic!("{text}"));
    let rate = row.split_whitespace().nth(1).unwrap_or_else(|| panic!("{text}"));
    rate.replace(',', "").parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// In turns as they come, the one would have 16 times as much as the other.
#[test]
fn two_hosts_share_a_limit_whatever_their_depths() {
    let target = start_limited("limits-two");
    let baseline = target.live_gauges();
    let start = |nqn: &str, depth: &str| {
        let nqn = format!("nqn.2026-11.io.quiesce:{nqn}");
        target.host(&["--nsid", NULL, "--host-nqn", &nqn, "-w", "randread", "-o", "4k", "-q", depth, "-t", "4"])
    };
    let (deep, shallow) = (start("deep", "128"), start("shallow", "8"));
    let (deep, shallow) = (rate(deep), rate(shallow));
    assert!(shallow > deep / 4.0 && deep > shallow / 4.0, "{deep}/s and {shallow}/s");
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
