//! Devices on a real Ceph cluster: the target, hosts, the cluster's own commands, and storage daemons that are killed.
//!
//! Run by `scripts/ceph-test`, which makes the cluster and names its folder in `QUIESCE_TEST_CEPH`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "hosts/processes.rs"]
#[allow(dead_code, reason = "what other tests need")]
mod processes;

use std::process::Command;
use std::time::Duration;

use processes::{SUBSYSTEM, Target, now, pause, signal, wait_for};
use serde_json::{Value, json};

/// What a cluster may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const LISTENER: &str = "127.0.0.1";

/// `scripts/ceph ACTION` on the cluster.
fn ceph(arguments: &[&str]) -> String {
    let folder = std::env::var("QUIESCE_TEST_CEPH").expect("run this by scripts/ceph-test, which makes a cluster");
    let (action, rest) = arguments.split_first().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/ceph");
    let output = Command::new(script).arg(action).arg(folder).args(rest).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ceph {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn rbd(arguments: &str) -> String {
    let words: Vec<&str> = ["run", "timeout", "60", "rbd"].into_iter().chain(arguments.split(' ')).collect();
    ceph(&words)
}

fn conf() -> String {
    format!("{}/ceph.conf", std::env::var("QUIESCE_TEST_CEPH").expect("run this by scripts/ceph-test"))
}

/// A configuration whose one namespace is `image`; `more` is said of its device.
fn configuration(text: &str, image: &str, more: &str) -> String {
    let (target, rest) = text.split_once("[[device]]").unwrap();
    let (_, services) = rest.split_once("[metrics]").unwrap();
    format!(
        "{target}[[device]]\nname = \"ceph\"\ntype = \"rbd\"\npool = \"rbd\"\nimage = \"{image}\"\nconf = \"{}\"\n{more}\n\
         [[subsystem]]\nnqn = \"{SUBSYSTEM}\"\nallow_any_host = true\nana_reporting = true\n\
         listeners = [\"{LISTENER}:4420\"]\n[[subsystem.namespace]]\nnsid = 1\ndevice = \"ceph\"\n[metrics]{services}",
        conf()
    )
}

fn start(name: &str, image: &str, more: &str) -> Target {
    Target::start_with(name, |text| configuration(&text, image, more))
}

fn call(target: &Target, method: &str, parameters: Value) -> Value {
    let mut answer = target.rpc_within(PATIENCE, method, parameters);
    assert!(answer["error"].is_null(), "{method}: {answer}");
    answer["result"].take()
}

fn bdev(target: &Target, name: &str) -> Value {
    call(target, "bdev_get_bdevs", json!({ "name": name }))[0].take()
}

fn lock(target: &Target) -> String {
    bdev(target, "ceph")["driver_specific"]["rbd"]["lock"].as_str().unwrap().to_owned()
}

fn ana_state(target: &Target) -> String {
    let listeners = call(target, "nvmf_subsystem_get_listeners", json!({ "nqn": SUBSYSTEM }));
    let states = listeners[0]["ana_states"].as_array().cloned().unwrap_or_default();
    let ours = states.iter().find(|state| state["ana_group"] == 1);
    ours.map_or_else(|| panic!("{listeners}"), |state| state["ana_state"].as_str().unwrap().to_owned())
}

/// The digest that a host reads.
fn digest(target: &Target, nsid: &str) -> String {
    let said = target.host(&["digest", "--nsid", nsid]).succeeds();
    let is_digest = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    said.split_whitespace().find(is_digest).unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn path_losses(target: &Target) -> f64 {
    let metrics = target.metrics();
    let lines = metrics.lines().filter(|line| line.contains("bdev_errors") && line.contains("path_lost"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[test]
#[ignore = "needs a Ceph cluster: scripts/ceph-test"]
fn writes_are_verified_while_storage_daemons_and_the_monitor_are_killed() {
    rbd("create --size 64M rbd/verified");
    let target = start("rbd-verify", "verified", "");
    let baseline = target.live_gauges();
    target.host(&["--nsid", "1", "--verify", "-w", "randwrite", "-o", "4k", "-q", "32", "-n", "2000"]).succeeds();
    let arguments = ["--nsid", "1", "--verify", "-w", "randwrite", "-o", "16k", "-q", "16", "-t", "16"];
    let host = target.host(&arguments);
    host.is_running_io(&target);
    pause(Duration::from_secs(2));
    for osd in ["0", "1"] {
        let start = now();
        ceph(&["kill-osd", osd]);
        pause(Duration::from_millis(500));
        ceph(&["start-osd", osd]);
        eprintln!("osd.{osd} killed and back after {:?}", now() - start);
        pause(Duration::from_secs(2));
    }
    ceph(&["kill-mon"]);
    pause(Duration::from_millis(500));
    ceph(&["start-mon"]);
    host.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    let said = digest(&target, "1");
    target.ends_clean();
    // Once more from the cluster's own side.
    let folder = std::env::var("QUIESCE_TEST_CEPH").unwrap();
    rbd(&format!("export --no-progress rbd/verified {folder}/verified.img"));
    let output = Command::new("sha256sum").arg(format!("{folder}/verified.img")).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(&said));
    assert_eq!(rbd("status rbd/verified"), "Watchers: none\n", "the target has closed it");
}

#[test]
#[ignore = "needs a Ceph cluster: scripts/ceph-test"]
fn sizes_are_followed_and_snapshots_are_served() {
    rbd("create --size 16M rbd/grown");
    let target = start("rbd-sizes", "grown", "");
    let blocks = || bdev(&target, "ceph")["num_blocks"].as_u64().unwrap();
    assert_eq!(blocks(), 32_768);
    rbd("resize --no-progress --size 24M rbd/grown");
    assert!(wait_for(PATIENCE, || blocks() == 49_152), "seen by itself");
    call(&target, "bdev_rbd_resize", json!({ "name": "ceph", "new_size": 32 }));
    assert_eq!(blocks(), 65_536);
    assert!(rbd("info rbd/grown").contains("size 32 MiB"));
    let (_, text) = target.refusal("bdev_rbd_resize", json!({ "name": "ceph", "new_size": 8 }));
    assert!(text.contains("a device can grow and not shrink"), "{text}");

    target.host(&["--nsid", "1", "--verify", "-w", "write", "-o", "64k", "-q", "8"]).succeeds();
    let before = digest(&target, "1");
    rbd("snap create --no-progress rbd/grown@before");
    let arguments = ["--nsid", "1", "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "500", "--seed", "7"];
    target.host(&arguments).succeeds();
    assert_ne!(digest(&target, "1"), before);
    let snapshot = json!({ "name": "snap", "pool_name": "rbd", "rbd_name": "grown", "snapshot_name": "before", "block_size": 512, "config_file": conf() });
    assert_eq!(call(&target, "bdev_rbd_create", snapshot), "snap");
    let namespace = json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": "snap" } });
    assert_eq!(call(&target, "nvmf_subsystem_add_ns", namespace), 2);
    assert_eq!(digest(&target, "2"), before, "as it was");
    let refused = target.host(&["--nsid", "2", "-w", "randwrite", "-o", "4k", "-q", "1", "-n", "1"]).fails();
    assert!(refused.contains("write protected") || refused.contains("read-only"), "{refused}");
    assert_eq!(digest(&target, "2"), before);
    call(&target, "bdev_rbd_delete", json!({ "name": "snap" }));
    target.ends_clean();
}

#[test]
#[ignore = "needs a Ceph cluster: scripts/ceph-test"]
fn clusters_are_registered_shared_and_forgotten() {
    for image in ["one", "two", "three"] {
        rbd(&format!("create --size 4M rbd/{image}"));
    }
    let target = start("rbd-clusters", "one", "");
    let register = json!({ "name": "east", "config_file": conf(), "user_id": "admin" });
    assert_eq!(call(&target, "bdev_rbd_register_cluster", register.clone()), "east");
    let (_, text) = target.refusal("bdev_rbd_register_cluster", register);
    assert!(text.contains("a name that no other cluster has"), "{text}");
    let wrong = json!({ "name": "west", "config_file": "/nowhere/ceph.conf" });
    let (_, text) = target.refusal("bdev_rbd_register_cluster", wrong);
    assert!(text.contains("rados_conf_read_file of the cluster of /nowhere/ceph.conf"), "{text}");
    for image in ["two", "three"] {
        let device = json!({ "pool_name": "rbd", "rbd_name": image, "block_size": 4096, "cluster_name": "east" });
        let name = call(&target, "bdev_rbd_create", device);
        let namespace = json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": name } });
        let nsid = call(&target, "nvmf_subsystem_add_ns", namespace).to_string();
        let arguments = ["--nsid", &nsid, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "200"];
        target.host(&arguments).succeeds();
    }
    let clusters = call(&target, "bdev_rbd_get_clusters_info", json!({}));
    assert_eq!(clusters, json!([{ "cluster_name": "east", "user_id": "admin", "config_file": conf() }]));
    let (_, text) = target.refusal("bdev_rbd_unregister_cluster", json!({ "name": "east" }));
    assert!(text.contains("delete the device first"), "{text}");
    for name in ["Ceph0", "Ceph1"] {
        call(&target, "bdev_rbd_delete", json!({ "name": name }));
    }
    // Images are closed by and by.
    let forgotten =
        || target.rpc_within(PATIENCE, "bdev_rbd_unregister_cluster", json!({ "name": "east" }))["error"].is_null();
    assert!(wait_for(PATIENCE, forgotten));
    let missing =
        json!({ "name": "x", "pool_name": "rbd", "rbd_name": "nowhere", "block_size": 512, "config_file": conf() });
    let (_, text) = target.refusal("bdev_rbd_create", missing);
    assert!(text.contains("x: rbd_open of rbd/nowhere: No such file or directory"), "{text}");
    target.ends_clean();
}

/// The host has no multipath of its own: what a kernel does by ANA is done here by hand, with one connection to each target.
#[test]
#[ignore = "needs a Ceph cluster: scripts/ceph-test"]
fn a_target_that_was_stopped_in_its_writes_cannot_write_once_another_has_the_image() {
    rbd("create --size 16M rbd/shared");
    // One subsystem as far as hosts can see.
    let as_one = |text: String, cntlids: &str| {
        let names = "uuid = \"6f1b2c4e-9d0a-4c55-8a3e-0c1d2e3f4a5b\"\nnguid = \"00112233445566778899aabbccddeeff\"";
        configuration(&text, "shared", "fenced = true")
            .replace(
                "ana_reporting = true",
                &format!("ana_reporting = true\nshared = true\nserial = \"SHARED\"\n{cntlids}"),
            )
            .replace("nsid = 1", &format!("nsid = 1\n{names}"))
    };
    let first = Target::start_with("rbd-first", |text| as_one(text, "min_cntlid = 1\nmax_cntlid = 1000"));
    let second = first.start_beside("rbd-second", |text| as_one(text, "min_cntlid = 1001\nmax_cntlid = 2000"));
    assert_eq!((lock(&first), lock(&second)), ("held".to_owned(), "not held".to_owned()));
    assert!(wait_for(PATIENCE, || ana_state(&second) == "inaccessible"));
    assert_eq!(ana_state(&first), "optimized");
    let refused = second.host(&["--nsid", "1", "-w", "randread", "-o", "4k", "-q", "1", "-n", "1"]).fails();
    assert!(refused.contains("inaccessible"), "{refused}");
    // Whatever is set by hand, the lock decides.
    let optimized = json!({
        "nqn": SUBSYSTEM, "ana_state": "optimized",
        "listen_address": { "trtype": "RDMA", "traddr": LISTENER, "trsvcid": "4420" },
    });
    call(&second, "nvmf_subsystem_listener_set_ana_state", optimized);
    assert!(wait_for(PATIENCE, || ana_state(&second) == "inaccessible"), "taken back");

    // Stopped in the middle of its writes: they are in its queues, and go on when it does.
    let writer = first.host(&["--nsid", "1", "-w", "randwrite", "-o", "4k", "-q", "64", "-t", "60"]);
    writer.is_running_io(&first);
    pause(Duration::from_secs(1));
    first.signal(signal::STOP);

    let start = now();
    call(&second, "bdev_rbd_acquire_lock", json!({ "name": "ceph" }));
    eprintln!("the lock was taken over in {:?}", now() - start);
    assert_eq!(lock(&second), "held");
    assert!(wait_for(PATIENCE, || ana_state(&second) == "optimized"));
    second.host(&["--nsid", "1", "--verify", "-w", "write", "-o", "64k", "-q", "8"]).succeeds();
    let written = digest(&second, "1");

    first.signal(signal::CONT);
    assert!(wait_for(PATIENCE, || path_losses(&first) > 0.0), "late writes fail: {}", first.log());
    assert!(wait_for(PATIENCE, || ana_state(&first) == "inaccessible" && lock(&first) == "lost"), "{}", first.log());
    let refused = writer.fails_within(PATIENCE);
    eprintln!(
        "{} operations of the first failed; its host says: {}",
        path_losses(&first),
        refused.lines().last().unwrap_or_default()
    );
    pause(Duration::from_secs(2));
    assert_eq!(digest(&second, "1"), written, "nothing of the first's came late");
    let refused = first.host(&["--nsid", "1", "-w", "randread", "-o", "4k", "-q", "1", "-n", "1"]).fails();
    assert!(refused.contains("inaccessible"), "{refused}");

    // And back, while the second is idle: it hears of it without an operation.
    call(&first, "bdev_rbd_acquire_lock", json!({ "name": "ceph" }));
    assert!(wait_for(PATIENCE, || ana_state(&first) == "optimized"));
    assert_eq!(digest(&first, "1"), written);
    assert!(wait_for(PATIENCE, || ana_state(&second) == "inaccessible" && lock(&second) == "lost"));
    // Given back in peace, nobody is locked out.
    call(&first, "bdev_rbd_release_lock", json!({ "name": "ceph" }));
    assert!(wait_for(PATIENCE, || ana_state(&first) == "inaccessible"));
    assert_eq!(lock(&first), "not held");
    call(&second, "bdev_rbd_acquire_lock", json!({ "name": "ceph" }));
    assert!(wait_for(PATIENCE, || ana_state(&second) == "optimized"));
    assert_eq!(digest(&second, "1"), written);
    assert_eq!(lock(&first), "not held");
    drop(second);
    first.ends_clean();
}
