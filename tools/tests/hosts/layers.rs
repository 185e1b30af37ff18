//! Partitions, delays and configured faults, as hosts see them: from the configuration and by JSON-RPC, changed and taken away while I/O runs.
//!
//! Times are the target's own, and checked from below only: a slow machine makes no test fail.

use serde_json::{Value, json};

use super::processes::{SUBSYSTEM, Target};
use crate::{MEMORY, PATIENCE};

#[test]
fn partitions_are_apart_and_a_delay_is_seen_and_both_go_while_io_runs() {
    let target = Target::start("layers");
    let baseline = target.live_gauges();
    let stays = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "4", "-n", "20000"]);
    let base = json!({ "name": "base", "num_blocks": 4096, "block_size": 512 });
    assert_eq!(target.result("bdev_malloc_create", base), "base");
    let split = json!({ "base_bdev": "base", "split_count": 2 });
    assert_eq!(target.result("bdev_split_create", split), json!(["basep0", "basep1"]));
    let delay = json!({
        "name": "slow", "base_bdev_name": "basep1",
        "avg_read_latency": 5000, "p99_read_latency": 5000, "avg_write_latency": 0, "p99_write_latency": 0,
    });
    assert_eq!(target.result("bdev_delay_create", delay), "slow");
    let add = |device: &str| {
        let namespace = json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": device } });
        target.result("nvmf_subsystem_add_ns", namespace).to_string()
    };
    let (first, second) = (add("basep0"), add("slow"));

    let verify =
        |nsid: &str| target.host(&["--nsid", nsid, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "400"]);
    let digest = |nsid: &str| target.host(&["digest", "--nsid", nsid]).succeeds();
    let both = (verify(&first), verify(&second));
    both.0.succeeds();
    both.1.succeeds();
    let before = digest(&second);
    verify(&first).succeeds();
    assert_eq!(digest(&second), before, "what is written to one is not on the other");
    let before = digest(&first);
    verify(&second).succeeds();
    assert_eq!(digest(&first), before);

    let shortest = |kind: &str| {
        let told = target.result("bdev_get_iostat", json!({ "name": "slow" }));
        told["bdevs"][0][format!("min_{kind}_latency_ticks")].as_u64().unwrap()
    };
    assert!(shortest("read") >= 5_000_000, "{}", shortest("read"));
    let longer = json!({ "delay_bdev_name": "slow", "latency_type": "avg_write", "latency_us": 20_000 });
    assert_eq!(target.result("bdev_delay_update_latency", longer), true);
    let text =
        target.host(&["--nsid", &second, "-w", "write", "-o", "4k", "-q", "1", "-n", "20", "--json", "/dev/stdout"]);
    let text = text.succeeds();
    let json: Value = serde_json::from_str(&text[text.find('{').unwrap()..=text.rfind('}').unwrap()]).unwrap();
    assert!(json["total"]["latency_us"]["p50"].as_f64().unwrap() >= 20_000.0, "{text}");

    let doomed = [&first, &second]
        .map(|nsid| target.host(&["--nsid", nsid, "-w", "randread", "-o", "4k", "-q", "8", "-t", "60"]));
    doomed[0].is_running_io(&target);
    for (method, parameters) in [
        ("bdev_delay_delete", json!({ "name": "slow" })),
        ("nvmf_subsystem_remove_ns", json!({ "nqn": SUBSYSTEM, "nsid": first.parse::<u32>().unwrap() })),
        ("bdev_split_delete", json!({ "base_bdev": "base" })),
        ("bdev_malloc_delete", json!({ "name": "base" })),
    ] {
        assert_eq!(target.result(method, parameters), true, "{method}");
    }
    for host in doomed {
        host.fails();
    }
    stays.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

/// What the configuration has go wrong, goes wrong from the first operation on.
#[test]
fn faults_of_the_configuration() {
    let target = Target::start_with("faults-toml", |configuration| {
        let fault = concat!(
            "\n[[device]]\nname = \"faulty\"\ntype = \"fault\"\nbase = \"memory\"\n",
            "\n[[device.fault]]\nio_type = \"read\"\nerror_type = \"failure\"\nnum = 1\n",
            "\n[[device.fault]]\nio_type = \"write\"\nerror_type = \"pending\"\npending_us = 300000\nnum = 1\n",
            "\n[[subsystem]]",
        );
        let over = configuration.replace("device = \"memory\"", "device = \"faulty\"");
        over.replacen("[[subsystem]]", fault, 1).replace("64MiB", "1MiB")
    });
    let digest = ["digest", "--nsid", MEMORY];
    let text = target.host(&digest).fails();
    assert!(text.contains("unrecovered read error"), "{text}");
    target.host(&digest).succeeds();
    target.host(&["--nsid", MEMORY, "-w", "write", "-o", "4k", "-q", "1", "-n", "2"]).succeeds();
    let told = target.result("bdev_get_iostat", json!({ "name": "faulty" }));
    assert!(told["bdevs"][0]["max_write_latency_ticks"].as_u64().unwrap() >= 300_000_000, "{told}");
    target.ends_clean();
}
