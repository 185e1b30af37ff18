//! What a running target shows of its reactors, and how they are switched, while hosts do I/O.

use std::time::Duration;

use serde_json::{Value, json};

use super::processes::{Target, pause};
use crate::MEMORY;

#[test]
fn modes_are_switched_under_io_and_the_figures_are_plausible() {
    let target = Target::start_with("modes", |configuration| configuration.replace("cpus = [0]", "cpus = [0, 1]"));
    let adaptive = json!({ "mode": "adaptive", "spin_us": 100, "pause_us": 900 });
    assert_eq!(target.result("framework_get_reactors", Value::Null)["reactors"][1]["poll_mode"], adaptive);

    let host =
        target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-P", "2", "-n", "4000"]);
    let modes = [
        json!({ "mode": "busy" }),
        json!({ "mode": "adaptive", "spin_us": 0, "pause_us": 0 }),
        json!({ "mode": "yielding" }),
        json!({ "mode": "adaptive" }),
    ];
    for mode in modes.iter().cycle().take(40) {
        assert_eq!(target.result("framework_set_poll_mode", mode.clone()), true);
        pause(Duration::from_millis(10));
    }
    assert_eq!(target.result("framework_set_poll_mode", json!({ "mode": "busy", "lcore": 1 })), true);
    host.succeeds();

    let reactors = target.result("framework_get_reactors", Value::Null)["reactors"].take();
    assert_eq!((&reactors[0]["poll_mode"], &reactors[1]["poll_mode"]["mode"]), (&adaptive, &json!("busy")));
    assert_eq!((&reactors[0]["in_interrupt"], &reactors[1]["in_interrupt"]), (&json!(true), &json!(false)));
    for reactor in reactors.as_array().unwrap() {
        let number = |name: &str| reactor[name].as_u64().unwrap();
        assert!(number("busy") > 0 && number("turns") > number("busy_turns") && number("messages") > 0, "{reactor}");
        let lengths = &reactor["turn_ns"];
        assert!(lengths["p50"].as_u64() <= lengths["p99"].as_u64(), "{reactor}");
        // A quantile is its bucket's end.
        assert!(lengths["p99"].as_u64().unwrap() <= 2 * lengths["max"].as_u64().unwrap(), "{reactor}");
    }

    assert_eq!(target.metric("nvmf_reactor_poll_mode_info{cpu=\"1\",mode=\"busy\"}"), 1.0);
    for cpu in ["0", "1", "control"] {
        let metric = |name: &str| target.metric(&format!("nvmf_reactor_{name}{{cpu=\"{cpu}\"}}"));
        // It goes on turning between two fetches: what is fetched later is not less.
        let lengths = metric("turn_seconds_count");
        let busy_turns = metric("busy_turns_total");
        assert!(0.0 < lengths && lengths <= busy_turns && busy_turns <= metric("turns_total"));
        let whole = target.metric(&format!("nvmf_reactor_turn_seconds_bucket{{cpu=\"{cpu}\",le=\"+Inf\"}}"));
        assert!(whole >= lengths);
        let sum = metric("turn_seconds_sum");
        assert!(0.0 < sum && sum <= metric("busy_seconds_total"));
        assert!(metric("longest_turn_seconds") < 60.0);
        assert_eq!(metric("stalls_total") * metric("stalled"), 0.0);
    }
    assert!(target.metric("nvmf_reactor_sleeps_total{cpu=\"control\"}") > 0.0);
    target.metric("nvmf_reactor_ring_full_total{from=\"0\",to=\"control\"}");
    target.ends_clean();
}

#[test]
fn bad_parameters_are_answered_with_name_value_and_way_out() {
    let target = Target::start("bad-parameters");
    for (method, parameters, message) in [
        (
            "framework_set_poll_mode",
            json!({ "mode": "sleepy" }),
            "mode is \"sleepy\", and should be \"adaptive\" or \"busy\" or \"yielding\"",
        ),
        (
            "framework_set_poll_mode",
            json!({ "mode": "busy", "lcore": 4095 }),
            "lcore is 4095, and should be one of 0, or left out for all of them",
        ),
        (
            "framework_monitor_turns",
            json!({ "turn_limit_us": -1 }),
            "turn_limit_us is -1, and should be a number from 1 to 10000000",
        ),
    ] {
        let answer = target.rpc(method, parameters);
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        assert_eq!(answer["error"]["message"], format!("Invalid parameters: {method}: {message}"));
    }
    let answer = target.rpc("log_set_level", json!({ "level": "loud" }));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    target.ends_clean();
}

#[test]
fn what_holds_a_cpu_longer_than_the_limit_is_named_and_not_for_ever() {
    let target = Target::start("slow");
    assert_eq!(target.result("framework_monitor_turns", json!({}))["turn_limit_us"], 50_000);
    let before = target.metric("nvmf_reactor_slow_total{cpu=\"0\"}");
    // Every turn takes longer than this now and then.
    target.result("framework_monitor_turns", json!({ "turn_limit_us": 1 }));
    let host = target.host(&["--nsid", MEMORY, "-w", "randread", "-o", "64k", "-q", "16", "-t", "1"]);
    target.says(&["WARN a CPU was held too long ", "cpu=\"0\" what=\"poll\" held_us=", "limit_us=1"]);
    host.succeeds();
    assert!(target.metric("nvmf_reactor_slow_total{cpu=\"0\"}") > before + 100.0);
    let lines = target.log().lines().filter(|line| line.contains("held too long")).count();
    assert!(lines < 30, "{}", target.log());

    target.result("framework_monitor_turns", json!({ "turn_limit_us": 10_000_000 }));
    pause(Duration::from_millis(600));
    let calm = target.metric("nvmf_reactor_slow_total{cpu=\"0\"}");
    pause(Duration::from_millis(600));
    assert_eq!(target.metric("nvmf_reactor_slow_total{cpu=\"0\"}"), calm);

    assert_eq!(target.result("log_set_level", json!({ "level": "ERROR" })), true);
    target.result("framework_monitor_turns", json!({ "turn_limit_us": 10_000_000 }));
    assert_eq!(target.result("log_get_level", Value::Null), "ERROR");
    assert_eq!(
        target.log().matches("by RPC: what holds a CPU").count(),
        2,
        "the third is not shown:\n{}",
        target.log()
    );
    target.ends_clean();
}

#[test]
fn more_reactors_than_cpus_serve_and_end_clean() {
    let target = Target::start_with("floating", |configuration| {
        configuration.replace("cpus = [0]", "reactors = 5\ndata_memory = \"4MiB\"")
    });
    let baseline = target.live_gauges();
    target
        .host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "4", "-P", "4", "-n", "400"])
        .succeeds();
    let reactors = target.result("framework_get_reactors", Value::Null)["reactors"].take();
    let used = reactors.as_array().unwrap().iter().filter(|reactor| reactor["messages"].as_u64() > Some(0)).count();
    assert_eq!((reactors.as_array().unwrap().len(), used), (5, 5), "an admin queue and four others: {reactors}");
    assert!(reactors.as_array().unwrap().iter().all(|reactor| reactor["pinned"] == false));
    target.gauges_return_to(&baseline, Duration::from_secs(20));
    target.ends_clean();
}

#[test]
fn connections_that_find_no_room_say_which_key_to_raise() {
    let target = Target::start_with("no-room", |configuration| {
        configuration.replace("cpus = [0]", "cpus = [0]\nqueue_pairs = 1")
    });
    // Its admin queue takes the only place.
    target.host(&["--nsid", MEMORY, "-w", "randread", "-o", "4k", "-q", "1", "-n", "1"]).fails();
    target.says(&["WARN connections were refused for want of room", "connections_max=1", "raise target.queue_pairs"]);
    target.ends_clean();
}
