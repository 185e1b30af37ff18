//! The configuration of a running target: its file read again, its changes kept, itself written down.

use std::fs;

use serde_json::{Value, json};

use super::processes::{Target, signal};
use crate::{MEMORY, PATIENCE};

/// What a configuration has without saying more: what else it says is added.
fn edit(target: &Target, change: impl FnOnce(String) -> String) {
    let path = target.directory().join("target.toml");
    let text = change(fs::read_to_string(&path).unwrap());
    fs::write(path, text).unwrap();
}

fn nsids(target: &Target) -> Vec<u64> {
    let told = target.result("nvmf_get_subsystems", json!({}));
    let own = told.as_array().unwrap().iter().find(|subsystem| subsystem["nqn"] == target.subsystem()).unwrap();
    own["namespaces"].as_array().unwrap().iter().map(|namespace| namespace["nsid"].as_u64().unwrap()).collect()
}

fn device_names(target: &Target) -> Vec<String> {
    let told = target.result("bdev_get_bdevs", json!({}));
    told.as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// A null device and a namespace of the first subsystem.
fn add_by_rpc(target: &Target, name: &str) {
    let null = json!({ "name": name, "num_blocks": 2048, "block_size": 512 });
    assert_eq!(target.result("bdev_null_create", null), name);
    let namespace = json!({ "nqn": target.subsystem(), "namespace": { "bdev_name": name } });
    target.result("nvmf_subsystem_add_ns", namespace);
}

const ONE_MORE: &str = "\n[[device]]\nname = \"more\"\ntype = \"null\"\nsize = \"1MiB\"\n";
const ITS_NAMESPACE: &str = "\n[[subsystem.namespace]]\nnsid = 9\ndevice = \"more\"\n\n[metrics]";

#[test]
fn a_file_that_is_read_again_changes_what_differs_and_nothing_else() {
    let target = Target::start("reload");
    let baseline = target.live_gauges();
    add_by_rpc(&target, "by-rpc");
    let host = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "40000"]);
    host.is_running_io(&target);
    edit(&target, |text| {
        text.replacen("[metrics]", ITS_NAMESPACE.trim_start(), 1).replacen(
            "\n[[subsystem]]",
            &format!("{ONE_MORE}\n[[subsystem]]"),
            1,
        )
    });
    target.signal(signal::HUP);
    target.says(&["SIGHUP"]);
    target.says(&["reload of target.toml"]);
    assert!(super::processes::wait_for(PATIENCE, || nsids(&target) == [1, 2, 3, 4, 9]), "{:?}", nsids(&target));
    // What takes a restart is told, and the rest done; what is wrong changes nothing.
    edit(&target, |text| {
        text.replacen("cpus = [0]\n", "cpus = [0]\nqueue_pairs = 99\n", 1).replacen(
            "size = \"1GiB\"\n",
            "size = \"1GiB\"\nlimits = { iops = 1000000 }\n",
            1,
        )
    });
    let told = target.result("reload_config", json!({}));
    assert_eq!(told["calls"], json!(["bdev_set_qos_limit"]));
    assert!(told["not_applied"][0].as_str().unwrap().starts_with("target.queue_pairs"), "{told}");
    edit(&target, |text| text.replacen("nsid = 9", "nsid = 0", 1));
    let (code, text) = target.refusal("reload_config", json!({}));
    assert!(code == -32602 && text.contains("target.toml:") && text.contains("nsid"), "{text}");
    assert_eq!(nsids(&target), [1, 2, 3, 4, 9]);
    // Out of the file, out of the target; what came by request stays.
    edit(&target, |text| {
        text.replacen("[[subsystem.namespace]]\nnsid = 0\ndevice = \"more\"\n", "", 1).replacen(ONE_MORE, "", 1)
    });
    target.result("reload_config", json!({}));
    assert_eq!(nsids(&target), [1, 2, 3, 4]);
    assert_eq!(device_names(&target), ["memory", "null", "disk", "by-rpc"]);
    host.succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

/// The file asks for what cannot be: what comes before it is done, and told.
#[test]
fn a_call_that_fails_ends_a_reload_and_says_where() {
    let target = Target::start("reload-fails");
    edit(&target, |text| {
        let two = format!(
            "{ONE_MORE}\n[[device]]\nname = \"absent\"\ntype = \"file\"\npath = \"absent.img\"\n\n[[subsystem]]"
        );
        text.replacen("\n[[subsystem]]", &two, 1)
    });
    let (_, text) = target.refusal("reload_config", json!({}));
    assert!(
        text.contains("call 2 (bdev_aio_create)") && text.contains("absent.img") && text.contains("0 after it"),
        "{text}"
    );
    assert_eq!(device_names(&target), ["memory", "null", "disk", "more"]);
    // The way out: what is done is not done again.
    fs::File::create(target.directory().join("absent.img")).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(target.result("reload_config", json!({}))["calls"], json!(["bdev_aio_create"]));
    fs::remove_file(target.directory().join("absent.img")).unwrap();
    target.ends_clean();
}

/// Killed as soon as the answer is there: what was answered holds again.
#[test]
fn what_requests_change_outlives_the_process() {
    let target = Target::start_with("save-changes", |text| {
        text.replacen("cpus = [0]\n", "cpus = [0]\nstate_directory = \"state\"\nsave_changes = true\n", 1)
    });
    add_by_rpc(&target, "kept");
    // Several at once, of which none may be forgotten.
    target.result("bdev_null_create", json!({ "name": "base", "num_blocks": 4096, "block_size": 512 }));
    target.result("bdev_split_create", json!({ "base_bdev": "base", "split_count": 4 }));
    let kept = device_names(&target);
    assert_eq!(kept.len(), 9, "{kept:?}");
    let host = json!({ "nqn": target.subsystem(), "host": "nqn.2026-11.io.quiesce:one" });
    target.result("nvmf_subsystem_add_host", host);
    target.result("nvmf_subsystem_remove_ns", json!({ "nqn": target.subsystem(), "nsid": 2 }));
    let before = target.result("nvmf_get_subsystems", json!({}));
    target.signalled(signal::KILL);
    target.start_again();
    assert_eq!(target.result("nvmf_get_subsystems", json!({})), before);
    assert_eq!(nsids(&target), [1, 3, 4]);
    assert_eq!(device_names(&target), kept);

    // The file is edited meanwhile: both hold.
    target.signalled(signal::KILL);
    edit(&target, |text| text.replacen("\n[[subsystem]]", &format!("{ONE_MORE}\n[[subsystem]]"), 1));
    target.start_again();
    assert_eq!(device_names(&target)[..9], kept);
    assert_eq!(device_names(&target)[9..], ["more"]);
    assert_eq!(nsids(&target), [1, 3, 4]);

    // Damage is an error with a way out, never a target without what it had.
    target.signalled(signal::KILL);
    let saved = target.directory().join("state/configuration.toml");
    let text = fs::read_to_string(&saved).unwrap();
    fs::write(&saved, &text[..text.len() / 2]).unwrap();
    let said = target.refuses_to_start();
    assert!(said.contains("state/configuration.toml") && said.contains("take it away"), "{said}");
    fs::remove_file(&saved).unwrap();
    target.start_again();
    assert_eq!(nsids(&target), [1, 2, 3], "as the file says");
    target.signalled(signal::KILL);
}

/// Written down in both forms, and started from each.
#[test]
fn a_target_that_is_written_down_can_be_started_from_that() {
    let target = Target::start("written");
    add_by_rpc(&target, "by-rpc");
    let listener = json!({ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4499" });
    target.result("nvmf_subsystem_add_listener", json!({ "nqn": target.subsystem(), "listen_address": listener }));
    target.result("bdev_set_qos_limit", json!({ "name": "null", "rw_ios_per_sec": 5000 }));
    let shown = |target: &Target| {
        let mut devices = target.result("bdev_get_bdevs", json!({}));
        for device in devices.as_array_mut().unwrap() {
            // Random where nobody gave one.
            device["uuid"].take();
        }
        [target.result("nvmf_get_subsystems", json!({})), devices]
    };
    let expected = shown(&target);
    let toml = target.result("save_config", json!({ "format": "toml" }));
    let spdk = target.result("save_config", json!({}));
    let parts = target.result("framework_get_subsystems", json!({}));
    for (part, whole) in parts
        .as_array()
        .unwrap()
        .iter()
        .filter(|part| part["subsystem"] != "keyring")
        .zip(spdk["subsystems"].as_array().unwrap())
    {
        let told = target.result("framework_get_config", json!({ "name": part["subsystem"] }));
        assert_eq!(told, whole["config"]);
    }
    target.signalled(signal::TERM);

    edit(&target, |_| toml.as_str().unwrap().to_owned());
    target.start_again();
    assert_eq!(shown(&target), expected);
    target.signalled(signal::TERM);

    edit(&target, |text| {
        let kept = ["target", "transport", "metrics", "rpc"];
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        table.retain(|key, _| kept.contains(&key));
        toml::to_string(&table).unwrap()
    });
    fs::write(target.directory().join("spdk.json"), spdk.to_string()).unwrap();
    target.start_again();
    assert_eq!(shown(&target), expected);
    let baseline = target.live_gauges();
    target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "500"]).succeeds();
    target.gauges_return_to(&baseline, PATIENCE);
    target.signalled(signal::TERM);

    // Calls that do not go together: the target does not start, and says which.
    let mut twice = spdk.clone();
    let calls: &mut Vec<Value> = twice["subsystems"][0]["config"].as_array_mut().unwrap();
    calls.push(calls[0].clone());
    fs::write(target.directory().join("spdk.json"), twice.to_string()).unwrap();
    let said = target.refuses_to_start();
    assert!(said.contains("bdev_malloc_create") && said.contains("\"memory\""), "{said}");
    fs::write(
        target.directory().join("spdk.json"),
        r#"{"subsystems":[{"subsystem":"vhost","config":[{"method":"vhost_create_blk_controller"}]}]}"#,
    )
    .unwrap();
    let said = target.refuses_to_start();
    assert!(said.contains("vhost: vhost_create_blk_controller"), "{said}");
}
