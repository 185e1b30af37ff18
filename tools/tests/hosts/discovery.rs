//! What hosts are told: where else to ask, and what has changed while they are connected.

use serde_json::{Value, json};

use super::processes::{Host, SUBSYSTEM, Target};
use crate::{MEMORY, PATIENCE};

fn address(port: &str) -> Value {
    json!({ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port })
}

fn discover(target: &Target, arguments: &[&str]) -> Host {
    let arguments: Vec<&str> = ["discover"].into_iter().chain(arguments.iter().copied()).collect();
    Host::start("trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420", target, &arguments)
}

#[test]
fn referrals_are_shown_followed_and_taken_back() {
    let configuration =
        |text: String| format!("{text}\n[[referral]]\naddress = \"10.0.0.9:4420\"\ntransport = \"tcp\"\n");
    let target = Target::start_with("referrals", configuration);
    let baseline = target.live_gauges();
    let by_file =
        "trtype:TCP adrfam:IPv4 traddr:10.0.0.9 trsvcid:4420 subnqn:nqn.2014-08.org.nvmexpress.discovery  (another";
    let itself = "trsvcid:4420 subnqn:nqn.2014-08.org.nvmexpress.discovery  (this discovery service)";
    let log = discover(&target, &[]).succeeds();
    assert!(log.contains(by_file) && log.contains(itself) && log.contains(SUBSYSTEM), "{log}");

    // Another address of this target is as good as another target.
    let listener = json!({ "nqn": SUBSYSTEM, "listen_address": address("4421") });
    assert_eq!(target.result("nvmf_subsystem_add_listener", listener), true);
    assert_eq!(target.result("nvmf_discovery_add_referral", json!({ "address": address("4421") })), true);
    let (code, why) = target.refusal("nvmf_discovery_add_referral", json!({ "address": address("4421") }));
    assert!(code == -32602 && why.contains("127.0.0.1:4421, where hosts are sent"), "{code} {why}");
    let referrals = target.result("nvmf_discovery_get_referrals", json!({}));
    assert_eq!((referrals.as_array().unwrap().len(), &referrals[1]["address"]), (2, &address("4421")));
    let log = discover(&target, &["--follow"]).succeeds();
    let (first, second) = log.split_once("\n127.0.0.1:4421:\n").unwrap_or_else(|| panic!("not followed:\n{log}"));
    assert!(first.contains("trsvcid:4420 subnqn:nqn.2014-08.org.nvmexpress.discovery  (this"), "{log}");
    assert!(second.contains("trsvcid:4421 subnqn:nqn.2014-08.org.nvmexpress.discovery  (this"), "{log}");
    assert!(!second.contains("\n127.0.0.1:"), "it refers to itself, and is asked once:\n{log}");

    assert_eq!(target.result("nvmf_discovery_remove_referral", json!({ "address": address("4421") })), true);
    let (code, why) = target.refusal("nvmf_discovery_remove_referral", json!({ "address": address("4421") }));
    assert!(code == -32602 && why.contains("there is: "), "{code} {why}");
    assert!(!discover(&target, &["--follow"]).succeeds().contains("127.0.0.1:4421:"));
    let listener = json!({ "nqn": SUBSYSTEM, "listen_address": address("4421") });
    assert_eq!(target.result("nvmf_subsystem_remove_listener", listener), true);
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn a_connected_host_hears_of_namespaces_that_come_and_go() {
    let target = Target::start("events");
    let baseline = target.live_gauges();
    let host = target.host(&["--nsid", MEMORY, "-w", "randread", "-o", "4k", "-q", "4", "-t", "5"]);
    host.is_running_io(&target);
    let null = json!({ "name": "late", "num_blocks": 8192, "block_size": 512 });
    assert_eq!(target.result("bdev_null_create", null), "late");
    let namespace = json!({ "nqn": SUBSYSTEM, "namespace": { "bdev_name": "late", "nsid": 9 } });
    assert_eq!(target.result("nvmf_subsystem_add_ns", namespace), 9);
    host.says("namespaces have changed; now there are 1 ");
    host.says("9 (8192 blocks of 512)");
    assert_eq!(target.result("nvmf_subsystem_remove_ns", json!({ "nqn": SUBSYSTEM, "nsid": 9 })), true);
    assert_eq!(target.result("bdev_null_delete", json!({ "name": "late" })), true);
    let text = host.succeeds();
    let told: Vec<&str> = text.lines().filter(|line| line.contains("namespaces have changed")).collect();
    assert_eq!(told.len(), 2, "{text}");
    assert!(told[0].contains("9 (8192") && !told[1].contains("9 (8192"), "{text}");
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
