//! Addresses and subsystems that come and go by JSON-RPC while hosts do I/O.

use std::time::Duration;

use serde_json::{Value, json};

use super::processes::{Host, SUBSYSTEM, Target, pause, signal, wait_for};
use crate::{FILE, MEMORY, PATIENCE};

fn address(port: &str) -> Value {
    json!({ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port })
}

fn at(port: &str) -> Value {
    json!({ "nqn": SUBSYSTEM, "listen_address": address(port) })
}

fn words(port: &str) -> String {
    format!("trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:{port} subnqn:{SUBSYSTEM}")
}

/// Reads without end.
fn load(target: &Target, port: &str) -> Host {
    let arguments = ["--nsid", MEMORY, "-w", "randread", "-o", "4k", "-q", "16", "-P", "2", "-t", "60"];
    Host::start(&words(port), target, &arguments)
}

fn discovered(target: &Target, port: &str) -> String {
    Host::start(&words(port), target, &["discover"]).succeeds()
}

#[test]
fn an_address_comes_and_goes_under_io() {
    let target = Target::start_with("address", |configuration| configuration.replace("cpus = [0]", "cpus = [0, 1]"));
    let baseline = target.gauges_at_rest(PATIENCE);
    assert_eq!(target.result("nvmf_subsystem_add_listener", at("4421")), true);
    let listeners = target.result("nvmf_subsystem_get_listeners", json!({ "nqn": SUBSYSTEM }));
    assert_eq!(listeners, json!([{ "address": address("4420") }, { "address": address("4421") }]));
    let found = discovered(&target, "4421");
    assert!(found.contains("4420") && found.contains("4421"), "{found}");

    let stays = target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "2000"]);
    let goes = load(&target, "4421");
    goes.is_running_io(&target);
    let by_4421 = |target: &Target| {
        let qpairs = target.result("nvmf_subsystem_get_qpairs", json!({ "nqn": SUBSYSTEM }));
        let of: Vec<Value> = qpairs
            .as_array()
            .unwrap()
            .iter()
            .filter(|qpair| qpair["listen_address"] == address("4421"))
            .cloned()
            .collect();
        of
    };
    // I/O begins with the first queue; the second may still be on its way.
    wait_for(PATIENCE, || {
        let qpairs = by_4421(&target);
        qpairs.len() == 3 && qpairs.iter().all(|qpair| qpair["state"] == "enabled")
    });
    let qpairs = by_4421(&target);
    assert_eq!(qpairs.len(), 3, "an admin queue and two for I/O: {qpairs:?}");
    assert!(qpairs.iter().all(|qpair| qpair["state"] == "enabled"), "{qpairs:?}");
    let controllers = target.result("nvmf_subsystem_get_controllers", json!({ "nqn": SUBSYSTEM }));
    let owner = controllers.as_array().unwrap().iter().find(|owner| owner["cntlid"] == qpairs[0]["cntlid"]).unwrap();
    assert_eq!((&owner["num_io_qpairs"], &owner["cntrltype"]), (&json!(2), &json!("io")));

    assert_eq!(target.result("nvmf_subsystem_remove_listener", at("4421")), true);
    // The answer says that the end of each has begun.
    let qpairs = by_4421(&target);
    assert!(qpairs.iter().all(|qpair| qpair["state"] == "deactivating"), "{qpairs:?}");
    goes.fails_within(Duration::from_secs(5));
    let error = Host::at(&words("4421"), &target).fails();
    assert!(error.contains("127.0.0.1:4421"), "{error}");
    assert!(!discovered(&target, "4420").contains("4421"));
    stays.succeeds();
    // Again, at once.
    assert_eq!(target.result("nvmf_subsystem_add_listener", at("4421")), true);
    Host::at(&words("4421"), &target).succeeds();
    assert_eq!(target.result("nvmf_subsystem_remove_listener", at("4421")), true);
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn a_subsystem_is_deleted_under_io_and_its_name_used_again() {
    let target = Target::start_with("deleted", |configuration| configuration.replace("cpus = [0]", "cpus = [0, 1]"));
    let mut baseline = target.gauges_at_rest(PATIENCE);
    let hosts = [load(&target, "4420"), load(&target, "4420")];
    for host in &hosts {
        host.is_running_io(&target);
    }
    assert_eq!(target.result("nvmf_delete_subsystem", json!({ "nqn": SUBSYSTEM })), true);
    // The answer says that the last controller is gone.
    assert_eq!(target.result("nvmf_get_subsystems", json!({})), json!([]));
    for host in hosts {
        host.fails_within(Duration::from_secs(5));
    }
    // Its address went with it.
    for (name, value) in &mut baseline {
        if name.contains("listeners_live") {
            *value -= 1.0;
        }
    }
    target.gauges_return_to(&baseline, PATIENCE);
    assert_eq!(target.refusal("nvmf_delete_subsystem", json!({ "nqn": SUBSYSTEM })).0, -32602);

    let parameters = json!({ "nqn": SUBSYSTEM, "serial_number": "AGAIN", "allow_any_host": true });
    assert_eq!(target.result("nvmf_create_subsystem", parameters.clone()), true);
    let (code, text) = target.refusal("nvmf_create_subsystem", parameters);
    assert!(code == -32603 && text.contains("delete that one first"), "{code} {text}");
    assert_eq!(target.result("nvmf_subsystem_add_listener", at("4420")), true);
    let found = discovered(&target, "4420");
    assert!(found.contains(SUBSYSTEM), "{found}");
    let identified = Host::start(&words("4420"), &target, &["identify"]).succeeds();
    assert!(identified.contains("AGAIN"), "{identified}");
    target.ends_clean();
}

#[test]
fn a_host_that_stands_still_delays_neither_removal_nor_deletion() {
    let target = Target::start("stopped-host");
    let host = load(&target, "4420");
    host.is_running_io(&target);
    host.signal(signal::STOP);
    pause(Duration::from_millis(100));
    assert_eq!(target.result("nvmf_subsystem_remove_listener", at("4420")), true);
    assert_eq!(target.result("nvmf_subsystem_add_listener", at("4420")), true);
    // Its queue pairs are drained without it, or cut off at their deadline.
    let answer = target.rpc_within(Duration::from_secs(15), "nvmf_delete_subsystem", json!({ "nqn": SUBSYSTEM }));
    assert_eq!(answer["result"], true, "{answer}");
    host.signal(signal::CONT);
    host.fails();
    target.ends_clean();
}

#[test]
fn addresses_that_cannot_be_are_named() {
    let target = Target::start("taken");
    let (code, text) = target.refusal("nvmf_subsystem_add_listener", at("4420"));
    assert!(code == -32602 && text.contains("listen_address is 127.0.0.1:4420, where"), "{code} {text}");
    let (code, text) = target.refusal("nvmf_subsystem_remove_listener", at("4421"));
    assert!(code == -32602 && text.contains("it is offered at 127.0.0.1:4420"), "{code} {text}");
    let unknown = json!({ "nqn": "nqn.2026-11.io.quiesce:none", "listen_address": address("4421") });
    let (code, text) = target.refusal("nvmf_subsystem_add_listener", unknown);
    assert!(code == -32602 && text.contains(SUBSYSTEM), "{code} {text}");
    // Another process has it.
    let socket = target.runtime_file("127.0.0.1:4422");
    let other = std::os::unix::net::UnixListener::bind(&socket);
    let (code, text) = target.refusal("nvmf_subsystem_add_listener", at("4422"));
    assert!(
        code == -32602 && text.contains("127.0.0.1:4422") && text.contains("cannot be listened on"),
        "{code} {text}"
    );
    drop(other);
    std::fs::remove_file(socket).unwrap();
    target.ends_clean();
}

#[test]
fn hosts_ask_for_static_controllers() {
    let target = Target::start_with("static", |configuration| {
        let model = "allow_any_host = true\ncontroller_model = \"static\"\nmin_cntlid = 7\nmax_cntlid = 8";
        let changed = configuration.replacen("allow_any_host = true", model, 1);
        assert_ne!(changed, configuration);
        changed
    });
    let baseline = target.gauges_at_rest(PATIENCE);
    let load = ["--nsid", MEMORY, "-w", "randread", "-o", "4k", "-q", "16", "-t", "60", "--controller-id", "8"];
    let first = Host::start(&words("4420"), &target, &load);
    first.is_running_io(&target);
    let ids = || -> Vec<Value> {
        let controllers = target.result("nvmf_subsystem_get_controllers", json!({ "nqn": SUBSYSTEM }));
        controllers.as_array().unwrap().iter().map(|controller| controller["cntlid"].clone()).collect()
    };
    assert_eq!(ids(), [json!(8)]);
    let busy = target.host(&["identify", "--controller-id", "8"]).fails();
    assert!(busy.contains("the controller is busy"), "{busy}");
    let new = target.host(&["identify"]).fails();
    assert!(new.contains("controller id"), "{new}");
    let any = target.host(&["identify", "--controller-id", "any"]).succeeds();
    assert!(any.contains('7'), "{any}");
    first.signalled(libc::SIGTERM);
    target
        .host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-n", "100", "--controller-id", "any"])
        .succeeds();
    let subsystem = target.result("nvmf_get_subsystems", json!({ "nqn": SUBSYSTEM }));
    assert_eq!(subsystem[0]["controller_model"], "static");
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
