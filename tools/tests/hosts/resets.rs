//! Devices that are reset, as hosts see them.

use serde_json::json;

use super::processes::{Target, wait_for};
use crate::{FILE, MEMORY, NULL, PATIENCE};

fn reset(target: &Target, device: &str) {
    assert_eq!(target.result("bdev_reset", json!({ "name": device })), true);
}

/// Namespace 1 is made of a fault device over a memory device.
fn start_faulty(name: &str) -> Target {
    Target::start_with(name, |configuration| {
        let fault = "\n[[device]]\nname = \"faulty\"\ntype = \"fault\"\nbase = \"memory\"\n\n[[subsystem]]";
        let over = configuration.replace("device = \"memory\"", "device = \"faulty\"");
        over.replacen("[[subsystem]]", fault, 1).replace("64MiB", "1MiB")
    })
}

/// A device whose operations cannot be stopped loses nothing and fails nothing.
#[test]
fn verified_io_goes_on_over_resets() {
    let target = Target::start("resets");
    let baseline = target.live_gauges();
    let verify = ["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "16", "-n", "40000"];
    let hosts =
        [target.host(&verify), target.host(&["--nsid", NULL, "-w", "randrw", "-o", "4k", "-q", "16", "-n", "40000"])];
    hosts.iter().for_each(|host| host.is_running_io(&target));
    for _ in 0..50 {
        reset(&target, "memory");
        reset(&target, "null");
    }
    for host in hosts {
        host.succeeds();
    }
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

/// What a disk has may be cancelled: the host is told that it was aborted, or does not notice. What is there afterwards is in order.
#[test]
fn a_file_is_reset_under_load() {
    let target = Target::start("resets-file");
    let baseline = target.live_gauges();
    for _ in 0..5 {
        let host = target.host(&["--nsid", FILE, "-w", "randwrite", "-o", "16k", "-q", "32", "-n", "20000"]);
        host.is_running_io(&target);
        (0..20).for_each(|_| reset(&target, "disk"));
        let (code, text) = host.ends_somehow();
        assert!(code == Some(0) || text.contains("command abort requested"), "{text}");
    }
    target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "16k", "-q", "8", "-n", "500"]).succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

/// A device that hangs gives its operations up, and works again.
#[test]
fn what_a_device_holds_back_is_aborted() {
    let target = start_faulty("resets-held");
    let baseline = target.live_gauges();
    let stall = json!({ "name": "faulty", "io_type": "write", "error_type": "pending", "num": 2 });
    for base in ["faulty", "memory"] {
        assert_eq!(target.result("bdev_error_inject_error", stall.clone()), true);
        let held = target.host(&["--nsid", MEMORY, "-w", "write", "-o", "4k", "-q", "2", "-n", "2"]);
        assert!(wait_for(PATIENCE, || target.metric("nvmf_device_leases{cpu=\"0\"}") == 2.0));
        // That of the device below is one of the device above, too.
        reset(&target, base);
        let text = held.fails();
        assert!(text.contains("command abort requested"), "{text}");
        let verify = ["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "500"];
        target.host(&verify).succeeds();
    }
    let (_, why) = target.refusal("bdev_reset", json!({ "name": "nothing" }));
    assert!(why.contains("nothing") && why.contains("memory"), "{why}");
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
