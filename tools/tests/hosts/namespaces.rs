//! Devices and namespaces that are made, grown, paused and deleted by JSON-RPC, with hosts and files that are real.

use std::fs::OpenOptions;

use serde_json::json;

use super::processes::{SUBSYSTEM, Target, wait_for};
use crate::{MEMORY, PATIENCE};

fn add(target: &Target, device: &str) -> String {
    let parameters = json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": device } });
    target.result("nvmf_subsystem_add_ns", parameters).to_string()
}

#[test]
fn namespaces_come_and_go_while_others_are_verified() {
    let target = Target::start_with("namespaces", |configuration| configuration.replace("cpus = [0]", "cpus = [0, 1]"));
    let baseline = target.live_gauges();
    let path = target.directory().join("late.img");
    OpenOptions::new().write(true).create_new(true).open(&path).unwrap().set_len(4 << 20).unwrap();
    let stays = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "3000"]);

    let malloc = json!({ "name": "late-memory", "num_blocks": 8192, "block_size": 512 });
    assert_eq!(target.result("bdev_malloc_create", malloc), "late-memory");
    let file = json!({ "name": "late-file", "filename": path, "block_size": 512 });
    assert_eq!(target.result("bdev_aio_create", file.clone()), "late-file");
    let null = json!({ "name": "late-null", "num_blocks": 8192, "block_size": 4096 });
    assert_eq!(target.result("bdev_null_create", null), "late-null");
    let (code, why) = target.refusal("bdev_aio_create", file);
    assert_eq!((code, why.contains("late-file")), (-32603, true), "{why}");
    // It is locked by the first: what cannot be opened is an answer that comes later.
    let (code, why) = target.refusal("bdev_uring_create", json!({ "name": "twice", "filename": path }));
    assert_eq!((code, why.contains("another device of this target")), (-32603, true), "{why}");
    let (code, why) = target.refusal("bdev_aio_create", json!({ "name": "none", "filename": "/no/such/file" }));
    assert_eq!((code, why.contains("/no/such/file")), (-32603, true), "{why}");

    for device in ["late-memory", "late-file"] {
        let nsid = add(&target, device);
        target.host(&["--nsid", &nsid, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "500"]).succeeds();
        let found = target.result("bdev_get_bdevs", json!({ "name": device }));
        assert_eq!(found[0]["claimed"], true);
    }
    let nsid = add(&target, "late-null");
    assert_eq!(target.result("bdev_null_resize", json!({ "name": "late-null", "new_size": 64 })), true);
    let found = target.result("bdev_get_bdevs", json!({ "name": "late-null" }));
    assert_eq!(found[0]["num_blocks"], 16_384);
    target.host(&["--nsid", &nsid, "-w", "randread", "-o", "4k", "-q", "8", "-n", "500"]).succeeds();

    // The file grows, and its namespace with it. It cannot shrink.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(8 << 20).unwrap();
    assert_eq!(target.result("bdev_aio_rescan", json!({ "name": "late-file" })), true);
    let found = target.result("bdev_get_bdevs", json!({ "name": "late-file" }));
    assert_eq!(found[0]["num_blocks"], 16_384);
    // It is noticed, too.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(12 << 20).unwrap();
    let block_count = || target.result("bdev_get_bdevs", json!({ "name": "late-file" }))[0]["num_blocks"].clone();
    assert!(wait_for(PATIENCE, || block_count() == 24_576), "a file that grew is noticed");
    let (_, why) = target.refusal("bdev_null_resize", json!({ "name": "late-null", "new_size": 1 }));
    assert!(why.contains("can grow and not shrink"), "{why}");

    let told = target.result("bdev_get_iostat", json!({ "name": "late-file" }));
    let [writes, timed, took] = ["num_write_ops", "timed_write_ops", "write_latency_ticks"]
        .map(|name| told["bdevs"][0][name].as_u64().unwrap_or_else(|| panic!("{told}")));
    assert!(writes >= 100 && timed == writes && took > 0, "{told}");
    let shown = target.metric("nvmf_bdev_operations_total{device=\"late-file\",operation=\"write\"}");
    assert!(shown >= 100.0, "{shown}");

    assert_eq!(target.result("nvmf_subsystem_remove_ns", json!({ "nqn": SUBSYSTEM, "nsid": 4 })), true);
    for device in ["late-memory", "late-file", "late-null"] {
        assert_eq!(target.result("bdev_uring_delete", json!({ "name": device })), true);
    }
    assert_eq!(target.result("bdev_get_bdevs", json!({})).as_array().unwrap().len(), 3);
    stays.succeeds();
    // Its file is free again.
    let again = json!({ "name": "late-file", "filename": path });
    assert_eq!(target.result("bdev_uring_create", again), "late-file");
    assert_eq!(target.result("bdev_aio_delete", json!({ "name": "late-file" })), true);
    std::fs::remove_file(&path).unwrap();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn a_paused_subsystem_loses_nothing() {
    let target = Target::start("paused");
    let baseline = target.live_gauges();
    let host = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "16", "-n", "30000"]);
    for _ in 0..10 {
        assert_eq!(target.result("nvmf_subsystem_pause", json!({ "nqn": SUBSYSTEM })), true);
        assert_eq!(target.metric("nvmf_device_leases{cpu=\"0\"}"), 0.0, "nothing is with a device");
        assert_eq!(target.result("nvmf_subsystem_resume", json!({ "nqn": SUBSYSTEM })), true);
    }
    host.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
