//! The shapes that SPDK's users script against, and the errors.

use std::sync::{Arc, LazyLock};

use ::bdev::{Completion, Device, DeviceError, Meter, Operation, OperationKind, Statistics, Throttle};
use nvmf_core::QpairStage;
use nvmf_core::spec::{NamespaceSpec, TargetSpec};
use reactor::{Cpu, PollMode, Simulation};
use transport_rdma::target::Origin;

use super::*;
use crate::config::ReactorSection;
use crate::opening::Means;
use crate::{log, reactors};

mod fuzz;
mod spdk;

/// A target of one subsystem with one controller, which takes every change down.
struct Fake {
    subsystem: SubsystemSpec,
    placement: Vec<PlacementRule>,
    changes: Vec<String>,
    refusal: Option<ControlError>,
    devices: [Arc<dyn Device>; 2],
    statistics: Vec<Arc<Statistics>>,
    throttle: Arc<Throttle>,
    referrals: [ReferralSpec; 2],
    counters: Arc<PollGroupCounters>,
    notifications: Notifications,
    /// Whether devices are opened, to see what they are.
    opens_devices: bool,
}

impl TargetAccess for Fake {
    fn authentication(&self) -> (HashSet, GroupSet) {
        (HashSet::ALL, GroupSet::ALL)
    }

    fn subsystems(&self) -> Vec<&SubsystemSpec> {
        vec![&self.subsystem]
    }

    fn referrals(&self) -> Vec<&ReferralSpec> {
        self.referrals.iter().collect()
    }

    fn devices(&self) -> Vec<DeviceFacts<'_>> {
        let (statistics, throttle) = (&self.statistics[..], &self.throttle);
        let facts = |(device, is_claimed)| DeviceFacts { device, is_claimed, statistics, throttle };
        self.devices.iter().zip([true, false]).map(facts).collect()
    }

    fn now_ns(&self) -> u64 {
        77
    }

    fn free_nsid(&self, _nqn: &str) -> Result<u32, ChangeError> {
        Ok(2)
    }

    fn make_device(&mut self, section: DeviceSection) -> Result<ChangeId, ControlError> {
        if !self.opens_devices {
            return Ok(a_change());
        }
        let base = section.base().map(String::as_str);
        let below = self.devices.iter().find(|device| Some(device.name()) == base).cloned();
        let made = Means::default().open(&section, below);
        let product = made.map(|device| format!("{} {:?}", device.product(), device.geometry().block_count));
        self.changes.push(format!("{} of {base:?}: {product:?}", section.name));
        Ok(a_change())
    }

    fn work(&mut self, device: Option<String>, _work: Work) -> Result<ChangeId, ControlError> {
        // Not done: it asks a cluster.
        self.changes.push(format!("work on {device:?}"));
        Ok(a_change())
    }

    fn counters(&self, _cpu: Cpu) -> Arc<PollGroupCounters> {
        Arc::clone(&self.counters)
    }

    fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    fn trace(&mut self, question: crate::events::Question) -> Result<ChangeId, ControlError> {
        self.changes.push(format!("{question:?}"));
        Ok(a_change())
    }

    fn controllers(&self, nqn: &str) -> Option<Vec<ControllerFacts<'_>>> {
        let host_id = *b"\x27\xda\xd5\x28\x63\x68\x41\xc3\x82\xd3\x0b\x95\x6b\x49\x02\x5d";
        (nqn == NQN).then(|| vec![ControllerFacts { id: 7, host_nqn: HOST, host_id }])
    }

    fn qpairs(&self, nqn: &str) -> Option<Vec<QpairFacts>> {
        let qpair = |qid, stage| QpairFacts {
            cpu: Cpu(qid),
            controller_id: 7,
            host_nqn: HOST.into(),
            qid,
            stage,
            listener: "127.0.0.1:4420".parse().unwrap(),
            peer: "127.0.0.1:50000".parse().unwrap(),
            read_count: 3,
            read_bytes: 4096,
            write_count: 1,
            written_bytes: 512,
        };
        (nqn == NQN).then(|| vec![qpair(0, QpairStage::Admin), qpair(1, QpairStage::Draining)])
    }

    fn run(&mut self, steps: Vec<Step>, _started: Option<Box<Config>>) -> Result<ChangeId, ControlError> {
        self.changes.extend(steps.into_iter().map(|step| format!("{} {}", step.method, step.params)));
        Ok(a_change())
    }

    fn is_running(&self) -> bool {
        false
    }

    fn change(&mut self, change: Change) -> Result<ChangeId, ControlError> {
        self.changes.push(change.to_string());
        match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => Ok(a_change()),
        }
    }

    fn host_limits(&self) -> HostLimits {
        HostLimits { command_count_max: 64, ..HostLimits::default() }
    }

    fn host_queue_pair_limit(&self) -> u32 {
        u32::MAX
    }

    fn set_host_queue_pair_limit(&mut self, limit: u32) {
        self.changes.push(limit.to_string());
    }

    fn placement(&self) -> &[PlacementRule] {
        &self.placement
    }

    fn set_placement(&mut self, rules: Vec<PlacementRule>) -> Result<(), PlacementError> {
        if rules.iter().any(|rule| rule.cpus.is_empty()) {
            return Err(PlacementError::NoCpus { rule: 1 });
        }
        self.changes.push(format!("{rules:?}"));
        Ok(())
    }
}

/// Of a target that was started with next to nothing.
fn asked() -> Asked {
    let text = "[target]\nreactors = 1\n[rpc]\nsocket = \"x.sock\"\n";
    let config = Config::parse(std::path::Path::new("x.toml"), text, &[0]).unwrap();
    Asked::new(config.clone(), &config, None)
}

/// All methods.
pub(crate) fn names() -> Vec<&'static str> {
    METHODS.iter().map(|(name, _)| *name).collect()
}

fn a_rule() -> PlacementRule {
    PlacementRule { origin: Origin::Host("10.0.0.7".parse().unwrap()), cpus: vec![1] }
}

/// The id of a change of some target.
pub(crate) fn a_change() -> ChangeId {
    static CHANGE: LazyLock<ChangeId> = LazyLock::new(|| {
        let domain = Simulation::<()>::new(1, 2);
        let mut target = nvmf_core::Target::new(domain.domain(), 1, TargetSpec::default()).unwrap();
        let listless = SubsystemSpec { listeners: Vec::new(), namespaces: Vec::new(), ..subsystem(None) };
        target.create_subsystem(listless).unwrap()
    });
    *CHANGE
}

const NQN: &str = "nqn.2026-11.io.quiesce:demo";
const HOST: &str = "nqn.2026-11.io.quiesce:host";

fn subsystem(device: Option<&Arc<dyn Device>>) -> SubsystemSpec {
    SubsystemSpec {
        allow_any_host: false,
        hosts: vec![HOST.into()],
        listeners: vec!["127.0.0.1:4420".parse().unwrap(), "[::1]:4421".parse().unwrap()],
        namespaces: device
            .map(|device| NamespaceSpec {
                uuid: Some(uuid::uuid!("dd5b8f6e-b67a-4506-b606-7fff5a859920")),
                ..NamespaceSpec::new(1, Arc::clone(device))
            })
            .into_iter()
            .collect(),
        ..SubsystemSpec::new(NQN, "S1")
    }
}

/// A read of a block that took 5 µs, one that failed, and one out of the device's memory.
fn some_reads() -> Arc<Statistics> {
    let statistics = Statistics::default();
    let mut meter = Meter::default();
    let read = Operation { token: 1, host: 0, kind: OperationKind::Read, start_block: 0, block_count: 1, data: None };
    for result in [Ok(()), Err(DeviceError::ReadFault)] {
        let begun = meter.begin(1000, read, 512, &statistics);
        meter.end(6000, Completion { token: begun.token, result }, &statistics).unwrap();
    }
    Meter::served_in_place(&statistics, 4096);
    Arc::new(statistics)
}

fn fake(subsystem: SubsystemSpec, devices: [Arc<dyn Device>; 2]) -> Fake {
    Fake {
        subsystem,
        placement: vec![a_rule()],
        changes: Vec::new(),
        refusal: None,
        devices,
        statistics: vec![some_reads(), Arc::default()],
        throttle: Arc::default(),
        referrals: referral::tests::two(),
        counters: Arc::default(),
        notifications: Notifications::default(),
        opens_devices: true,
    }
}

fn with_target<R>(
    reactors: &Reactors,
    refusal: Option<ControlError>,
    check: impl FnOnce(View<'_>) -> R,
) -> (R, Vec<String>) {
    let device: Arc<dyn Device> = Arc::new(::bdev::Memory::new("disk0", 512, 131_072, false).unwrap());
    let spare: Arc<dyn Device> = Arc::new(::bdev::Null::new("spare", 4096, 10).unwrap());
    let (subsystem, devices) = (subsystem(Some(&device)), [device, spare]);
    let mut target = Fake { refusal, ..fake(subsystem, devices) };
    let (log, _layer) = log::tests::detached();
    let keyring = RefCell::default();
    let keyring = &keyring;
    let (clusters, asked) = (&Clusters::default(), &asked());
    let (log, target_view) = (&log, &mut target);
    let view =
        View { target: target_view, reactors, log, keyring, clusters, state: None, asked, transport_type: "RDMA" };
    let result = check(view);
    (result, target.changes)
}

fn with_view<R>(reactors: &Reactors, check: impl FnOnce(View<'_>) -> R) -> R {
    with_target(reactors, None, check).0
}

/// The result of a method that tells.
fn perform(view: View<'_>, method: &str, parameters: Option<&Value>) -> Result<Value, RpcError> {
    match super::perform(view, method, parameters)? {
        Outcome::Done(result) => Ok(result),
        Outcome::Begun(change, _) => panic!("{method} began {change:?}"),
        Outcome::SeveralBegun(changes, _) => panic!("{method} began {changes:?}"),
    }
}

/// Whether a request is taken.
pub(crate) fn ask(method: &str, parameters: Value) -> Result<(), RpcError> {
    let reactors = reactors::tests::idle();
    with_view(&reactors, |view| super::perform(view, method, Some(&parameters))).map(drop)
}

pub(super) fn call(method: &str, parameters: Value) -> Result<Value, RpcError> {
    let reactors = reactors::tests::idle();
    with_view(&reactors, |view| perform(view, method, Some(&parameters)))
}

#[test]
fn methods_are_listed_by_name() {
    let listed = call("rpc_get_methods", json!({})).unwrap();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.contains(&"framework_set_poll_mode"), "{names:?}");
    assert_eq!(names.len(), METHODS.len());
}

#[test]
fn subsystems_have_spdks_shape() {
    let result = call("nvmf_get_subsystems", json!({ "nqn": "nqn.2026-11.io.quiesce:demo" })).unwrap();
    assert_eq!(
        result,
        json!([{
            "nqn": "nqn.2026-11.io.quiesce:demo",
            "subtype": "NVMe",
            "listen_addresses": [
                { "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420" },
                { "trtype": "RDMA", "adrfam": "IPv6", "traddr": "::1", "trsvcid": "4421" },
            ],
            "allow_any_host": false,
            "hosts": [{ "nqn": "nqn.2026-11.io.quiesce:host" }],
            "serial_number": "S1",
            "model_number": "Quiesce",
            "max_namespaces": 1024,
            "min_cntlid": 1,
            "max_cntlid": 65519,
            "ana_reporting": false,
            "namespaces": [{
                "nsid": 1, "bdev_name": "disk0", "name": "disk0",
                "uuid": "dd5b8f6e-b67a-4506-b606-7fff5a859920",
            }],
        }])
    );
}

#[test]
fn listeners_controllers_and_qpairs_have_spdks_shape() {
    let address = |port: &str| json!({ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port });
    let listeners = call("nvmf_subsystem_get_listeners", json!({ "nqn": NQN })).unwrap();
    assert_eq!(listeners[0], json!({ "address": address("4420") }));
    assert_eq!(listeners.as_array().unwrap().len(), 2);
    assert_eq!(
        call("nvmf_subsystem_get_controllers", json!({ "nqn": NQN, "tgt_name": "nvmf_tgt" })).unwrap(),
        json!([{
            "cntlid": 7, "cntrltype": "io", "hostnqn": HOST, "hostid": "27dad528-6368-41c3-82d3-0b956b49025d",
            "num_io_qpairs": 1,
        }])
    );
    let qpairs = call("nvmf_subsystem_get_qpairs", json!({ "nqn": NQN })).unwrap();
    assert_eq!(
        qpairs[0],
        json!({
            "cntlid": 7, "qid": 0, "state": "enabled", "thread": "nvmf_tgt_poll_group_000", "hostnqn": HOST,
            "listen_address": address("4420"), "peer_address": address("50000"),
            "num_read_ops": 3, "bytes_read": 4096, "num_write_ops": 1, "bytes_written": 512,
        })
    );
    assert_eq!(
        (&qpairs[1]["state"], &qpairs[1]["thread"]),
        (&json!("deactivating"), &json!("nvmf_tgt_poll_group_001"))
    );
    for method in ["nvmf_subsystem_get_listeners", "nvmf_subsystem_get_controllers", "nvmf_subsystem_get_qpairs"] {
        let error = call(method, json!({ "nqn": "nqn.2026-11.io.quiesce:none" })).unwrap_err();
        let text = format!("Invalid parameters: {method}: nqn is \"nqn.2026-11.io.quiesce:none\", and should be {NQN}");
        assert_eq!((error.code, error.message), (-32602, text));
        assert_eq!(call(method, json!({ "nqn": NQN, "tgt_name": "other" })).unwrap_err().code, -32603);
    }
}

/// What becomes of a change: what was asked of the target, or the error.
pub(super) fn change(method: &str, parameters: Value, refusal: Option<ControlError>) -> Result<String, RpcError> {
    let reactors = reactors::tests::idle();
    let (outcome, mut changes) =
        with_target(&reactors, refusal, |view| super::perform(view, method, Some(&parameters)));
    assert!(matches!(outcome?, Outcome::Begun(..)), "changes are answered when they are done");
    Ok(changes.remove(0))
}

#[test]
fn changes_take_spdks_parameters() {
    let address = json!({ "trtype": "rdma", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": "4420" });
    let six = json!({ "trtype": "RDMA", "traddr": "::1", "trsvcid": "4421" });
    for (method, parameters, asked) in [
        ("nvmf_create_subsystem", json!({ "nqn": "nqn.new", "serial_number": "1" }), "subsystem nqn.new is created"),
        ("nvmf_delete_subsystem", json!({ "nqn": NQN }), "subsystem nqn.2026-11.io.quiesce:demo is being deleted"),
        ("nvmf_subsystem_pause", json!({ "nqn": NQN }), "subsystem nqn.2026-11.io.quiesce:demo is being paused"),
        ("nvmf_subsystem_resume", json!({ "nqn": NQN }), "subsystem nqn.2026-11.io.quiesce:demo is resumed"),
        (
            "nvmf_subsystem_add_listener",
            json!({ "nqn": NQN, "listen_address": address, "tgt_name": "nvmf_tgt" }),
            "subsystem nqn.2026-11.io.quiesce:demo is offered at 127.0.0.1:4420",
        ),
        (
            "nvmf_subsystem_remove_listener",
            json!({ "nqn": NQN, "listen_address": six }),
            "subsystem nqn.2026-11.io.quiesce:demo is no longer offered at [::1]:4421",
        ),
        (
            "nvmf_subsystem_add_host",
            json!({ "nqn": NQN, "host": "nqn.h" }),
            "host nqn.h may use subsystem nqn.2026-11.io.quiesce:demo",
        ),
        (
            "nvmf_subsystem_remove_host",
            json!({ "nqn": NQN, "host": "nqn.h" }),
            "host nqn.h may no longer use subsystem nqn.2026-11.io.quiesce:demo",
        ),
        (
            "nvmf_subsystem_allow_any_host",
            json!({ "nqn": NQN, "allow_any_host": true }),
            "every host may use subsystem nqn.2026-11.io.quiesce:demo",
        ),
    ] {
        assert_eq!(change(method, parameters, None).unwrap(), asked);
    }
}

#[test]
fn addresses_that_are_none_are_named() {
    let add = |address: Value| {
        let parameters = json!({ "nqn": NQN, "listen_address": address });
        let error = change("nvmf_subsystem_add_listener", parameters, None).unwrap_err();
        assert_eq!(error.code, -32602);
        error.message.strip_prefix("Invalid parameters: nvmf_subsystem_add_listener: ").unwrap().to_owned()
    };
    let whole = json!({ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "10.0.0.1", "trsvcid": "4420" });
    for (field, value, text) in [
        ("trtype", json!("TCP"), "trtype is \"TCP\", and should be \"RDMA\""),
        ("adrfam", json!("IPv6"), "adrfam is \"IPv6\", and should be \"IPv4\", as traddr \"10.0.0.1\" is, or left out"),
        ("traddr", json!("0.0.0.0"), "traddr is \"0.0.0.0\", and should be an IP address that hosts can connect to"),
        ("traddr", json!("host"), "traddr is \"host\", and should be an IP address"),
        ("trsvcid", json!("0"), "trsvcid is \"0\", and should be a port from \"1\" to \"65535\""),
        ("trsvcid", json!(4420), "trsvcid is 4420, and should be a string"),
    ] {
        let mut address = whole.clone();
        address[field] = value;
        let told = add(address);
        assert!(told.starts_with(&format!("listen_address: {text}")), "{told}");
    }
    assert!(add(json!({ "trtype": "RDMA", "traddr": "10.0.0.1" })).starts_with("listen_address: trsvcid is missing"));
    assert!(
        add(json!("10.0.0.1:4420")).starts_with("listen_address is \"10.0.0.1:4420\", and should be an object with")
    );
    assert!(add(Value::Null).starts_with("listen_address is null"));
}

#[test]
fn refusals_have_spdks_codes_and_our_words() {
    use nvmf_core::ChangeError as E;
    let address = "127.0.0.1:4420".parse().unwrap();
    let nqn = || NQN.to_owned();
    let refused = |error: ControlError| {
        let error = change("nvmf_delete_subsystem", json!({ "nqn": NQN }), Some(error)).unwrap_err();
        (error.code, error.message)
    };
    assert_eq!(
        refused(E::NoSubsystem { nqn: "x".into(), known: NQN.into() }.into()),
        (
            -32602,
            format!(
                "Invalid parameters: nvmf_delete_subsystem: nqn is \"x\", and should be that of a subsystem: {NQN}"
            )
        )
    );
    assert_eq!(refused(E::ListenerThere { nqn: nqn(), address }.into()).0, -32602);
    assert_eq!(refused(E::NoListener { nqn: nqn(), address, offered: "no address".into() }.into()).0, -32602);
    let (code, text) = refused(E::BeingDeleted { nqn: nqn() }.into());
    assert!(code == -32603 && text.contains("wait until nvmf_delete_subsystem has been answered"), "{code} {text}");
    assert_eq!(refused(E::SubsystemThere { nqn: nqn() }.into()).0, -32603);
    assert_eq!(refused(ControlError::AddressEnds { address }).0, -32603);
    let error =
        change("nvmf_create_subsystem", json!({ "nqn": "nqn.x", "max_discard_size_kib": true }), None).unwrap_err();
    assert!(error.message.contains("nvmf_create_subsystem has no \"max_discard_size_kib\"; it takes nqn"), "{error:?}");
}

#[test]
fn devices_have_spdks_shape() {
    let all = call("bdev_get_bdevs", json!({})).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["product_name"], "Malloc disk");
    assert_eq!((&all[0]["block_size"], &all[0]["num_blocks"]), (&json!(512), &json!(131_072)));
    assert_eq!((&all[0]["claimed"], &all[1]["claimed"]), (&json!(true), &json!(false)));
    assert_eq!(all[0]["uuid"], "dd5b8f6e-b67a-4506-b606-7fff5a859920");
    assert_eq!(all[1]["supported_io_types"]["write_zeroes"], true);
    assert_eq!(call("bdev_get_bdevs", json!({ "name": "spare" })).unwrap()[0]["name"], "spare");
}

#[test]
fn limits_take_spdks_parameters_and_more() {
    let mut parameters =
        json!({ "name": "spare", "rw_ios_per_sec": 20_000, "w_mbytes_per_sec": 100, "host_r_ios_per_sec": 7 });
    let reactors = reactors::tests::idle();
    let described = with_view(&reactors, |mut view| {
        let mut ask = |method, parameters: &Value| {
            let View { target, reactors, log, keyring, clusters, state, asked, transport_type } = &mut view;
            let view =
                View { target: &mut **target, reactors, log, keyring, clusters, state: *state, asked, transport_type };
            match super::perform(view, method, Some(parameters)) {
                Ok(Outcome::Done(value)) => value,
                other => panic!("{other:?}"),
            }
        };
        ask("bdev_set_qos_limit", &parameters);
        parameters = json!({ "name": "spare", "rw_ios_per_sec": 0, "r_mbytes_per_sec": 5 });
        ask("bdev_set_qos_limit", &parameters);
        ask("bdev_get_bdevs", &json!({ "name": "spare" }))[0]["assigned_rate_limits"].clone()
    });
    let spdks =
        ["rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"].map(|name| &described[name]);
    assert_eq!(spdks, [&json!(0), &json!(0), &json!(5), &json!(100)], "what is left out stays");
    assert_eq!((&described["host_r_ios_per_sec"], &described["burst_ms"]), (&json!(7), &json!(10)));
    for (parameters, text) in [
        (
            json!({ "name": "spare" }),
            "bdev_set_qos_limit: rw_ios_per_sec is missing, and should be given, or another limit",
        ),
        (
            json!({ "name": "spare", "burst_ms": 3 }),
            "bdev_set_qos_limit: burst_ms is 3, and should be a number from 4 to 10000",
        ),
    ] {
        let error = call("bdev_set_qos_limit", parameters).unwrap_err();
        assert_eq!(error.message, format!("Invalid parameters: {text}"));
    }
}

#[test]
fn reactors_have_spdks_shape_and_more() {
    let reactors = reactors::tests::idle();
    let place = reactors.polling().next().unwrap();
    place.counters.busy_ns.set(7);
    place.counters.idle_ns.set(3);
    place.counters.sleep_ns.set(90);
    place.counters.longest_turn_ns.set(5);
    let result = with_view(&reactors, |view| perform(view, "framework_get_reactors", None)).unwrap();
    assert_eq!(result["tick_rate"], 1_000_000_000_u64);
    assert_eq!(result["reactors"].as_array().unwrap().len(), 2, "the control plane is no polling reactor");
    let reactor = &result["reactors"][0];
    assert_eq!((&reactor["lcore"], &reactor["busy"], &reactor["idle"]), (&json!(5), &json!(7), &json!(3)));
    assert_eq!(reactor["in_interrupt"], false);
    assert_eq!(
        reactor["lw_threads"],
        json!([{ "name": "nvmf_tgt_poll_group_000", "id": 2, "cpumask": "20", "elapsed": 100 }])
    );
    assert_eq!((&reactor["poll_mode"], &reactor["sleep"]), (&json!({ "mode": "yielding" }), &json!(90)));
    assert_eq!(reactor["turn_ns"], json!({ "p50": 0, "p99": 0, "max": 5 }));
}

#[test]
fn threads_are_the_control_plane_and_one_for_each_reactor() {
    let threads = call("thread_get_stats", Value::Null).unwrap()["threads"].take();
    let names: Vec<_> = threads.as_array().unwrap().iter().map(|thread| (&thread["name"], &thread["id"])).collect();
    assert_eq!(
        names,
        [
            (&json!("app_thread"), &json!(1)),
            (&json!("nvmf_tgt_poll_group_000"), &json!(2)),
            (&json!("nvmf_tgt_poll_group_001"), &json!(3)),
        ]
    );
    assert_eq!((&threads[0]["cpumask"], &threads[1]["cpumask"]), (&json!("23"), &json!("20")));
    let pollers = call("thread_get_pollers", Value::Null).unwrap();
    assert_eq!(pollers["threads"][2]["active_pollers"][0]["name"], "poll");
    assert_eq!(pollers["threads"][2]["activity"], "start");
}

#[test]
fn poll_modes_are_switched_for_one_or_for_all() {
    let reactors = reactors::tests::idle();
    let set =
        |parameters: Value| with_view(&reactors, |view| perform(view, "framework_set_poll_mode", Some(&parameters)));
    let modes = || reactors.all().map(|place| place.switch.mode()).collect::<Vec<_>>();
    assert_eq!(set(json!({ "mode": "busy", "lcore": 6 })).unwrap(), true);
    assert_eq!(modes(), [PollMode::Yielding, PollMode::Busy, PollMode::Yielding]);
    assert_eq!(set(json!({ "mode": "adaptive", "spin_us": 7 })).unwrap(), true);
    let adaptive = PollMode::Adaptive { spin_ns: 7000, pause_ns: 900_000 };
    assert_eq!(modes(), [adaptive, adaptive, PollMode::Yielding], "the control plane stays as it is");
    for (parameters, message) in [
        (json!({}), "mode is missing, and should be \"adaptive\" or \"busy\" or \"yielding\""),
        (json!({ "mode": "lazy" }), "mode is \"lazy\", and should be \"adaptive\" or \"busy\" or \"yielding\""),
        (json!({ "mode": "busy", "lcore": 0 }), "lcore is 0, and should be one of 5, 6, or left out for all of them"),
        (json!({ "mode": "busy", "lcore": "5" }), "lcore is \"5\", and should be a number"),
        (
            json!({ "mode": "busy", "spin_us": 1 }),
            "spin_us is only for mode \"adaptive\", and this is \"busy\": leave it out",
        ),
        (
            json!({ "mode": "adaptive", "pause_us": 1_000_001 }),
            "pause_us is 1000001, and should be a number from 0 to 1000000",
        ),
    ] {
        let error = set(parameters).unwrap_err();
        assert_eq!(error.code, -32602);
        assert_eq!(error.message, format!("Invalid parameters: framework_set_poll_mode: {message}"));
    }
    assert_eq!(modes()[..2], [adaptive, adaptive], "what is refused changes nothing");
}

#[test]
fn who_shares_a_cpu_is_not_told_to_keep_it() {
    let reactors = reactors::tests::of(&ReactorSection::Floating(2));
    let parameters = json!({ "mode": "busy" });
    let error = with_view(&reactors, |view| perform(view, "framework_set_poll_mode", Some(&parameters))).unwrap_err();
    assert!(
        error.message.ends_with(
            "mode is \"busy\", and should be \"adaptive\" or \"yielding\" where reactors are not pinned \
                                 (target.reactors)"
        ),
        "{error:?}"
    );
}

#[test]
fn limits_are_set_and_told() {
    let reactors = reactors::tests::idle();
    reactors.set_stall_limit_ns(2_000_000_000);
    let ask =
        |parameters: Value| with_view(&reactors, |view| perform(view, "framework_monitor_turns", Some(&parameters)));
    assert_eq!(ask(json!({})).unwrap(), json!({ "turn_limit_us": 50_000, "stall_limit_ms": 2000 }));
    assert_eq!(ask(json!({ "turn_limit_us": 200 })).unwrap(), json!({ "turn_limit_us": 200, "stall_limit_ms": 2000 }));
    assert_eq!(reactors.watch().limit_ns(), 200_000);
    assert_eq!(
        ask(json!({ "turn_limit_us": 100, "stall_limit_ms": 5 })).unwrap_err().message,
        "Invalid parameters: framework_monitor_turns: stall_limit_ms is 5, and should be a number from 1000 to 3600000"
    );
    assert_eq!(reactors.watch().limit_ns(), 200_000, "what is refused changes nothing");
}

#[test]
fn limits_of_hosts_are_told_and_changed_one_by_one() {
    let told = call("nvmf_get_host_limits", json!({})).unwrap();
    assert_eq!(told, json!({ "queue_pairs": 0, "commands": 64, "data_size": 0 }));
    let set = |parameters| change("nvmf_set_host_limits", parameters, None);
    assert_eq!(set(json!({ "data_size": 4096 })).unwrap(), "what a host may have in flight: 64 commands, 4096 bytes");
    assert_eq!(
        set(json!({ "commands": 0 })).unwrap(),
        "what a host may have in flight: any number of commands, any amount of data"
    );
    assert_eq!(set(json!({ "queue_pairs": 8 })).unwrap(), "8", "and then the change");
    assert!(
        set(json!({ "commands": -1 })).unwrap_err().message.contains("commands is -1, and should be a number from 0")
    );
}

#[test]
fn placement_is_told_and_set_by_the_cpus_numbers() {
    let reactors = reactors::tests::idle();
    let told = with_view(&reactors, |view| perform(view, "nvmf_get_placement", None)).unwrap();
    assert_eq!(told, json!([{ "policy": "host", "host": "10.0.0.7", "cpus": [6] }]));
    let set = |rules: Value| {
        let parameters = json!({ "rules": rules });
        with_target(&reactors, None, |view| perform(view, "nvmf_set_placement", Some(&parameters)))
    };
    let (result, changes) = set(json!([{ "listener": "10.0.0.1:4420", "cpus": [6] }, { "cpus": [6, 5] }]));
    assert_eq!(result.unwrap(), true);
    assert_eq!(
        changes,
        ["[PlacementRule { origin: Listener(10.0.0.1:4420), cpus: [1] }, PlacementRule { origin: Any, cpus: [1, 0] }]"]
    );
    for (rules, expected) in [
        (json!([{ "cpus": [7] }]), "rules[0]: cpus is 7, and should be a list of some of the CPUs that poll: 5, 6"),
        (json!([{ "cpus": [] }]), "rule 1: cpus is empty, and should name at least one polling CPU"),
        (json!([{ "cpus": [5] }, { "nqn": "x" }]), "rules[1] has no \"nqn\"; it takes listener, host, cpus"),
        (json!([{ "host": "10.0.0.1:5", "cpus": [5] }]), "host is \"10.0.0.1:5\", and should be the host's IP address"),
        (json!([{ "host": "10.0.0.1", "listener": "10.0.0.1:5", "cpus": [5] }]), "host does not go with listener"),
        (json!(5), "rules is 5, and should be a list of objects with listener, host, cpus"),
    ] {
        let (result, changes) = set(rules);
        let message = result.unwrap_err().message;
        assert!(message.contains(expected), "{message}");
        assert!(changes.is_empty());
    }
}

#[test]
fn log_levels_are_set_by_our_words_and_spdks() {
    let reactors = reactors::tests::idle();
    with_view(&reactors, |view| {
        let View { target, reactors, log, keyring, clusters, state, asked, transport_type } = view;
        let mut call = |method: &str, parameters: Value| {
            let view = View { target: &mut *target, reactors, log, keyring, clusters, state, asked, transport_type };
            perform(view, method, Some(&parameters))
        };
        assert_eq!(call("log_get_level", Value::Null).unwrap(), "INFO");
        for (level, told) in
            [("debug", "DEBUG"), ("WARNING", "WARNING"), ("NOTICE", "NOTICE"), ("info,bdev=debug", "info,bdev=debug")]
        {
            assert_eq!(call("log_set_level", json!({ "level": level })).unwrap(), true);
            assert_eq!(call("log_get_print_level", Value::Null).unwrap(), told);
        }
        let error = call("log_set_print_level", json!({ "level": "loud" })).unwrap_err();
        assert!(
            error
                .message
                .starts_with("Invalid parameters: log_set_print_level: level is \"loud\", and should be error, warn"),
            "{error:?}"
        );
        assert!(call("log_set_level", json!({})).unwrap_err().message.contains("level is missing"));
    });
}

#[test]
fn wrong_parameters_are_named() {
    let refused = |method, parameters| call(method, parameters).unwrap_err();
    assert_eq!(
        refused("nvmf_get_subsystems", json!({ "nqm": "x" })),
        RpcError {
            code: -32602,
            message: "Invalid parameters: nvmf_get_subsystems has no \"nqm\"; it takes nqn, tgt_name".into()
        }
    );
    assert_eq!(
        refused("bdev_get_bdevs", json!({ "name": 5 })).message,
        "Invalid parameters: bdev_get_bdevs: name is 5, and should be a string"
    );
    assert_eq!(
        refused("framework_get_reactors", json!({ "x": 1 })).message,
        "Invalid parameters: framework_get_reactors takes none, and \"x\" was given"
    );
    assert_eq!(refused("bdev_get_bdevs", json!([1])).code, -32602);
    assert_eq!(refused("bdev_get_bdevs", json!({ "name": "nosuch" })).code, -19);
    assert_eq!(refused("bdev_ftl_create", json!({})).code, -32601);
}

#[test]
fn devices_and_namespaces_take_spdks_parameters() {
    let namespace =
        json!({ "bdev_name": "spare", "no_auto_visible": true, "nguid": "00112233445566778899AABBCCDDEEFF" });
    let address = json!({ "trtype": "RDMA", "traddr": "127.0.0.1", "trsvcid": "4420" });
    for (method, parameters, asked) in [
        (
            "bdev_null_create",
            json!({ "name": "n", "num_blocks": 100, "block_size": 512 }),
            "n of None: Ok(\"Null disk 100\")",
        ),
        (
            "bdev_malloc_create",
            json!({ "num_blocks": 8, "block_size": 4096, "md_size": 0 }),
            "Malloc0 of None: Ok(\"Malloc disk 8\")",
        ),
        (
            "bdev_error_create",
            json!({ "base_name": "spare" }),
            "EE_spare of Some(\"spare\"): Ok(\"Error Injection Disk 10\")",
        ),
        (
            "bdev_delay_create",
            json!({ "name": "slow", "base_bdev_name": "spare", "avg_read_latency": 1, "p99_read_latency": 2, "avg_write_latency": 3, "p99_write_latency": 4 }),
            "slow of Some(\"spare\"): Ok(\"delay 10\")",
        ),
        ("bdev_null_resize", json!({ "name": "spare", "new_size": 2 }), "device spare has 512 blocks"),
        ("bdev_aio_rescan", json!({ "name": "spare" }), "device spare has looked how large it is"),
        ("bdev_reset", json!({ "name": "spare" }), "device spare is being reset"),
        ("bdev_uring_delete", json!({ "name": "spare" }), "device spare is being deleted"),
        (
            "nvmf_subsystem_add_ns",
            json!({ "nqn": NQN, "namespace": namespace }),
            "namespace 2 of subsystem nqn.2026-11.io.quiesce:demo is made of device spare",
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({ "nqn": NQN, "namespace": { "bdev_name": "spare", "ptpl_file": "/var/lib//spare" } }),
            "namespace 2 of subsystem nqn.2026-11.io.quiesce:demo is made of device spare, with what /var/lib/spare keeps of its reservations",
        ),
        (
            "nvmf_subsystem_remove_ns",
            json!({ "nqn": NQN, "nsid": 1 }),
            "namespace 1 of subsystem nqn.2026-11.io.quiesce:demo is being removed",
        ),
        (
            "nvmf_ns_add_host",
            json!({ "nqn": NQN, "nsid": 2, "host": HOST }),
            "host nqn.2026-11.io.quiesce:host sees namespace 2 of subsystem nqn.2026-11.io.quiesce:demo",
        ),
        (
            "nvmf_subsystem_listener_set_ana_state",
            json!({ "nqn": NQN, "listen_address": address, "ana_state": "inaccessible", "anagrpid": 3 }),
            "ANA group 3 of subsystem nqn.2026-11.io.quiesce:demo is Inaccessible at 127.0.0.1:4420",
        ),
        (
            "nvmf_subsystem_set_ns_ana_group",
            json!({ "nqn": NQN, "nsid": 1, "anagrpid": 7 }),
            "namespace 1 of subsystem nqn.2026-11.io.quiesce:demo is in ANA group 7",
        ),
    ] {
        assert_eq!(change(method, parameters, None).unwrap(), asked, "{method}");
    }
    // Results of their own.
    let reactors = reactors::tests::idle();
    let add = json!({ "nqn": NQN, "namespace": { "bdev_name": "spare" } });
    let outcome = with_view(&reactors, |view| super::perform(view, "nvmf_subsystem_add_ns", Some(&add))).unwrap();
    assert!(matches!(outcome, Outcome::Begun(_, nsid) if nsid == json!(2)));
    let split = json!({ "base_bdev": "spare", "split_count": 3 });
    let outcome = with_view(&reactors, |view| super::perform(view, "bdev_split_create", Some(&split))).unwrap();
    let names = json!(["sparep0", "sparep1", "sparep2"]);
    assert!(matches!(outcome, Outcome::SeveralBegun(changes, made) if changes.len() == 3 && made == names));
    for (method, parameters, text) in [
        (
            "bdev_split_create",
            json!({ "base_bdev": "spare", "split_count": 11 }),
            "bdev_split_create: split_count is \"11 of 0 blocks\", and should be partitions that \"spare\" has room for, which has 10 blocks",
        ),
        (
            "bdev_split_create",
            json!({ "base_bdev": "spare", "split_count": 1, "split_size_mb": 1 }),
            "bdev_split_create: split_count is \"1 of 256 blocks\", and should be partitions that \"spare\" has room for, which has 10 blocks",
        ),
        (
            "bdev_split_delete",
            json!({ "base_bdev": "spare" }),
            "bdev_split_delete: base_bdev is \"spare\", and should be that of a device with partitions",
        ),
        (
            "bdev_delay_update_latency",
            json!({ "delay_bdev_name": "spare", "latency_type": "avg_read", "latency_us": 5 }),
            "bdev_delay_update_latency: delay_bdev_name is \"spare\", and should be that of a device of bdev_delay_create",
        ),
        (
            "bdev_delay_delete",
            json!({ "name": "spare" }),
            "bdev_delay_delete: name is \"spare\", and should be that of a device of bdev_delay_create",
        ),
        (
            "bdev_malloc_create",
            json!({ "num_blocks": 8, "block_size": 520 }),
            "bdev_malloc_create: block_size is 520, and should be 512 or 4096",
        ),
        (
            "bdev_null_create",
            json!({ "name": "n", "num_blocks": 8, "block_size": 512, "md_size": 8 }),
            "bdev_null_create: md_size is 8, and should be 0 or left out: these devices have none",
        ),
        (
            "bdev_xnvme_create",
            json!({ "name": "n", "filename": "/dev/ng0n1", "io_mechanism": "libaio" }),
            "bdev_xnvme_create: io_mechanism is \"libaio\", and should be io_uring_cmd or left out: bdev_uring_create serves block devices by io_uring",
        ),
        (
            "bdev_xnvme_create",
            json!({ "name": "n", "filename": "/dev/ng0n1", "conserve_cpu": false }),
            "bdev_xnvme_create: conserve_cpu is false, and should be true or left out: completions come by interrupts, and framework_set_poll_mode says whether CPUs sleep",
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({ "nqn": NQN, "namespace": { "bdev_name": "spare", "eui64": "12" } }),
            "nvmf_subsystem_add_ns: namespace: eui64 is \"12\", and should be 16 hexadecimal digits",
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({ "nqn": NQN, "namespace": { "bdev_name": "spare", "ptpl_file": "" } }),
            "nvmf_subsystem_add_ns: namespace: ptpl_file is \"\", and should be the path of a file",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.x", "controller_model": "fixed" }),
            "nvmf_create_subsystem: controller_model is \"fixed\", and should be \"dynamic\" or \"static\"",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.x", "shared": true }),
            "nvmf_create_subsystem: serial_number is missing, and should be given where the subsystem is shared: all its targets say the same",
        ),
    ] {
        let error = change(method, parameters, None).unwrap_err();
        assert_eq!(error.message, format!("Invalid parameters: {text}"));
    }
}
