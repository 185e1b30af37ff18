//! The fault device, as hosts see it: from the configuration and by JSON-RPC.

use std::time::Duration;

use serde_json::{Value, json};

use super::processes::{SUBSYSTEM, Target, wait_for};
use crate::{MEMORY, PATIENCE};

/// Namespace 1 is made of a fault device over the memory device.
fn start(name: &str) -> Target {
    Target::start_with(name, |configuration| {
        let fault = "\n[[device]]\nname = \"faulty\"\ntype = \"fault\"\nbase = \"memory\"\n\n[[subsystem]]";
        let over = configuration.replace("device = \"memory\"", "device = \"faulty\"");
        over.replacen("[[subsystem]]", fault, 1).replace("64MiB", "1MiB")
    })
}

fn inject(target: &Target, device: &str, io_type: &str, error_type: &str, more: Value) {
    let mut parameters = json!({ "name": device, "io_type": io_type, "error_type": error_type });
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(target.result("bdev_error_inject_error", parameters), true);
}

fn clear(target: &Target, device: &str) {
    let parameters = json!({ "name": device, "io_type": "clear", "error_type": "failure" });
    assert_eq!(target.result("bdev_error_inject_error", parameters), true);
}

fn injected(target: &Target, device: &str) -> u64 {
    let found = target.result("bdev_get_bdevs", json!({ "name": device }));
    found[0]["driver_specific"]["error_disk"]["injected"].as_u64().unwrap()
}

#[test]
fn what_is_injected_is_what_hosts_see() {
    let target = start("faults");
    let baseline = target.live_gauges();
    let found = target.result("bdev_get_bdevs", json!({ "name": "faulty" }));
    assert_eq!(found[0]["product_name"], "Error Injection Disk");
    assert_eq!(found[0]["driver_specific"]["error_disk"]["base_bdev"], "memory");
    assert_eq!(target.result("bdev_get_bdevs", json!({ "name": "memory" }))[0]["claimed"], true);

    let verify = ["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "500"];
    let digest = ["digest", "--nsid", MEMORY];
    target.host(&verify).succeeds();

    // Write Uncorrectable, until the blocks are written.
    target.host(&["--nsid", MEMORY, "-w", "uncorrectable", "-o", "4k", "-q", "2", "-n", "4"]).succeeds();
    let text = target.host(&digest).fails();
    assert!(text.contains("unrecovered read error"), "{text}");
    target.host(&["--nsid", MEMORY, "-w", "write", "-o", "4k", "-q", "2", "-n", "4"]).succeeds();
    target.host(&digest).succeeds();

    inject(&target, "faulty", "read", "failure", json!({}));
    let text = target.host(&digest).fails();
    assert!(text.contains("unrecovered read error"), "{text}");
    assert_eq!(injected(&target, "faulty"), 1, "num is 1 where it is left out");
    target.host(&digest).succeeds();
    inject(&target, "faulty", "all", "failure", json!({ "num": 1000 }));
    let text = target.host(&verify).fails();
    assert!(text.contains("write fault"), "{text}");
    clear(&target, "faulty");
    target.host(&verify).succeeds();

    inject(&target, "faulty", "read", "corrupt_data", json!({ "corrupt_offset": 100, "corrupt_value": 255 }));
    let text = target.host(&verify).fails();
    assert!(text.contains("corrupted: at byte 100"), "{text}");
    inject(&target, "faulty", "write", "nomem", json!({ "num": 20 }));
    let before = injected(&target, "faulty");
    target.host(&verify).succeeds();
    assert_eq!(injected(&target, "faulty"), before + 20);
    // No host has so many outstanding.
    inject(&target, "faulty", "write", "failure", json!({ "queue_depth": 1000 }));
    target.host(&verify).succeeds();

    inject(&target, "faulty", "flush", "pending", json!({ "num": 0 }));
    inject(&target, "faulty", "write", "pending", json!({ "num": 2 }));
    let held = target.host(&["--nsid", MEMORY, "-w", "write", "-o", "4k", "-q", "2", "-n", "2"]);
    assert!(wait_for(PATIENCE, || target.metric("nvmf_device_leases{cpu=\"0\"}") == 2.0));
    super::processes::pause(Duration::from_millis(300));
    assert_eq!(target.metric("nvmf_device_leases{cpu=\"0\"}"), 2.0, "they wait");
    clear(&target, "faulty");
    held.succeeds();

    for (parameters, why) in [
        (json!({ "name": "memory", "io_type": "read", "error_type": "failure" }), "bdev_error_create"),
        (json!({ "name": "faulty", "io_type": "reset", "error_type": "failure" }), "io_type is \"reset\""),
        (json!({ "name": "faulty", "io_type": "read", "error_type": "fail" }), "error_type is \"fail\""),
        (json!({ "name": "faulty", "io_type": "read", "error_type": "corrupt_data" }), "corrupt_value is 0"),
        (json!({ "name": "faulty", "io_type": "read" }), "error_type is missing"),
    ] {
        let (_, text) = target.refusal("bdev_error_inject_error", parameters);
        assert!(text.contains(why), "{text}");
    }
    target.gauges_return_to(&baseline, PATIENCE);
    // What is held back at the end does not keep the target.
    inject(&target, "faulty", "all", "pending", json!({ "num": 1000 }));
    let held = target.host(&["--nsid", MEMORY, "-w", "write", "-o", "4k", "-q", "2", "-n", "2"]);
    assert!(wait_for(PATIENCE, || target.metric("nvmf_device_leases{cpu=\"0\"}") == 2.0));
    target.ends_clean();
    // It may have had its answers before it was disconnected.
    drop(held);
}

#[test]
fn a_layer_comes_and_goes_while_others_are_served() {
    let target = Target::start("fault-layers");
    let baseline = target.live_gauges();
    let stays = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "3000"]);
    let null = json!({ "name": "base", "num_blocks": 8192, "block_size": 512 });
    assert_eq!(target.result("bdev_null_create", null), "base");
    assert_eq!(target.result("bdev_error_create", json!({ "base_name": "base" })), true);
    let (_, why) = target.refusal("bdev_error_create", json!({ "base_name": "base" }));
    assert!(why.contains("EE_base"), "{why}");
    let (_, why) = target.refusal("bdev_error_create", json!({ "base_name": "nothing" }));
    assert!(why.contains("nothing"), "{why}");
    let (_, why) = target.refusal("bdev_null_delete", json!({ "name": "base" }));
    assert!(why.contains("in use by device EE_base"), "{why}");
    let (_, why) = target.refusal("bdev_error_delete", json!({ "name": "base" }));
    assert!(why.contains("bdev_error_create"), "{why}");

    let namespace = json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": "EE_base" } });
    let nsid = target.result("nvmf_subsystem_add_ns", namespace).to_string();
    // The layer grows with what is below it.
    assert_eq!(target.result("bdev_null_resize", json!({ "name": "base", "new_size": 8 })), true);
    let found = target.result("bdev_get_bdevs", json!({ "name": "EE_base" }));
    assert_eq!(found[0]["num_blocks"], 16_384);
    target.host(&["--nsid", &nsid, "-w", "read", "-o", "4k", "-q", "8", "-n", "2048"]).succeeds();

    inject(&target, "EE_base", "read", "pending", json!({ "num": 100 }));
    let held = target.host(&["--nsid", &nsid, "-w", "read", "-o", "4k", "-q", "2", "-n", "2"]);
    assert!(wait_for(PATIENCE, || injected(&target, "EE_base") == 2));
    // It goes with what it holds back.
    assert_eq!(target.result("bdev_error_delete", json!({ "name": "EE_base" })), true);
    assert_eq!(target.result("bdev_null_delete", json!({ "name": "base" })), true);
    held.succeeds();
    stays.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
