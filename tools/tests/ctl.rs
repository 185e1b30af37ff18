//! `nvmf-ctl` as people use it: the real program against a real target, each noun's commands, and the mistakes that are made with them.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the test of hosts uses the rest")]
#[path = "hosts/processes.rs"]
mod processes;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use processes::{SUBSYSTEM, Target, wait_for};
use serde_json::{Value, json};

/// Longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it with these words.
fn run(socket: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nvmf-ctl")).arg("--socket").arg(socket).args(words).output().unwrap()
}

struct Ctl<'a>(&'a Target);

impl Ctl<'_> {
    fn run(&self, words: &[&str]) -> Output {
        run(&self.0.directory().join("rpc.sock"), words)
    }

    /// Must succeed: what it says.
    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn json(&self, words: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(words);
        serde_json::from_str(&self.says(&all)).unwrap()
    }

    /// Must fail with this status: what it complains of.
    fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
        assert!(output.stdout.is_empty(), "{words:?} says something, and fails");
        errors
    }
}

#[test]
fn a_subsystem_is_made_served_and_deleted() {
    let target = Target::start("ctl-subsystem");
    let ctl = Ctl(&target);
    let nqn = "nqn.2026-11.org.example:disks";
    let said = ctl.says(&["subsystem", "create", nqn, "--serial", "S1", "--ana"]);
    assert!(said.contains("is created; next: nvmf-ctl namespace add"), "{said}");
    assert_eq!(
        ctl.says(&["device", "create", "malloc", "late", "16MiB"]),
        "late is there; next: nvmf-ctl namespace add NQN late"
    );
    assert_eq!(ctl.says(&["namespace", "add", nqn, "late", "--nsid", "7"]), format!("late is namespace 7 of {nqn}"));
    ctl.says(&["listener", "add", nqn, "127.0.0.1:4499"]);
    ctl.says(&["listener", "ana", nqn, "127.0.0.1:4499", "inaccessible", "--group", "7"]);
    ctl.says(&["host", "allow", nqn, "nqn.2026-11.org.example:host"]);
    ctl.says(&["subsystem", "pause", nqn]);
    ctl.says(&["subsystem", "resume", nqn]);

    let listed = ctl.says(&["subsystem", "list"]);
    let line = listed.lines().find(|line| line.starts_with(nqn)).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [nqn, "S1", "1", "127.0.0.1:4499", "1", "host"]);
    assert!(ctl.says(&["listener", "list", nqn]).contains("optimized × 1023, inaccessible × 1"));
    // What programs read is what the target says.
    let shown = ctl.json(&["subsystem", "show", nqn]);
    assert_eq!(shown, target.result("nvmf_get_subsystems", json!({ "nqn": nqn })));
    assert_eq!(ctl.json(&["namespace", "list"])[nqn], shown[0]["namespaces"]);
    assert_eq!(ctl.json(&["host", "list", nqn]), json!([{ "nqn": "nqn.2026-11.org.example:host" }]));

    ctl.says(&["host", "disallow", nqn, "nqn.2026-11.org.example:host"]);
    ctl.says(&["subsystem", "allow-any-host", nqn, "on"]);
    assert!(ctl.says(&["host", "list", nqn]).contains("any host"));
    ctl.says(&["namespace", "remove", nqn, "7"]);
    ctl.says(&["listener", "remove", nqn, "127.0.0.1:4499"]);
    ctl.says(&["subsystem", "delete", nqn]);
    ctl.says(&["device", "delete", "late"]);
    assert!(!ctl.says(&["subsystem", "list"]).contains(nqn));
    target.ends_clean();
}

#[test]
fn who_is_connected_and_what_devices_did_is_told() {
    let target = Target::start("ctl-connected");
    let ctl = Ctl(&target);
    assert_eq!(ctl.says(&["controller", "list"]), "no host is connected");
    let host = target.host(&["--nsid", "1", "-w", "randread", "-o", "4k", "-q", "4", "-P", "2", "-t", "60"]);
    host.is_running_io(&target);
    let controllers = ctl.json(&["controller", "list", SUBSYSTEM]);
    assert_eq!(controllers.as_array().unwrap().len(), 1, "{controllers}");
    let line = ctl.says(&["controller", "list"]);
    assert!(line.contains(controllers[0]["hostnqn"].as_str().unwrap()), "{line}");
    let qpairs = ctl.says(&["qpair", "list", SUBSYSTEM]);
    assert!(qpairs.lines().count() >= 3 && qpairs.contains("enabled"), "{qpairs}");
    let stats = ctl.says(&["device", "stats", "memory"]);
    let reads = stats.lines().nth(1).and_then(|line| line.split_whitespace().nth(1));
    assert!(reads.is_some_and(|reads| reads != "0"), "{stats}");
    let top = ctl.json(&["top", "--once", "-i", "0.2"]);
    let of = |list: &str| top[list].as_array().unwrap().clone();
    assert_eq!((&of("namespaces")[0]["nsid"], of("hosts").len(), of("cpus").len()), (&json!(1), 1, 1), "{top}");
    assert!(of("namespaces")[0]["iops"].as_u64().unwrap() > 0 && of("hosts")[0]["iops"].as_u64().unwrap() > 0, "{top}");
    assert!(of("qpairs").iter().any(|qpair| qpair["iops"].as_u64().unwrap() > 0 && qpair["cpu"] == 0), "{top}");
    assert!(ctl.says(&["top", "--once", "-i", "0.1"]).contains("BUSY%"));
    let reactors = ctl.says(&["target", "reactors"]);
    assert!(reactors.contains("adaptive"), "{reactors}");
    drop(host);
}

#[test]
fn devices_and_limits_are_changed() {
    let target = Target::start("ctl-devices");
    let ctl = Ctl(&target);
    assert_eq!(ctl.says(&["device", "resize", "null", "2GiB"]), "null has 2 GiB");
    assert_eq!(ctl.says(&["namespace", "resize", SUBSYSTEM, "2", "3GiB"]), "null has 3 GiB");
    assert_eq!(
        ctl.says(&["device", "create", "null", "n", "1GiB", "--block-size", "4096"]),
        "n is there; next: nvmf-ctl namespace add NQN n"
    );
    assert_eq!(ctl.says(&["device", "create", "partitions", "n", "2"]), "np0, np1 are there");
    assert_eq!(ctl.says(&["device", "create", "fault", "np0"]), "EE_np0 is there");
    ctl.says(&["device", "fault", "inject", "EE_np0", "read", "failure", "--num", "3"]);
    ctl.says(&["device", "fault", "clear", "EE_np0"]);
    ctl.says(&["device", "create", "delay", "slow", "np1", "--read-us", "500"]);
    ctl.says(&["device", "latency", "slow", "avg_write", "20"]);
    assert!(ctl.says(&["device", "show", "slow"]).contains("avg_write_latency 20"));
    let listed = ctl.says(&["device", "list"]);
    let line = listed.lines().find(|line| line.starts_with("slow")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["slow", "delay", "512", "MiB", "4096", "np1", "no"]);

    ctl.says(&["device", "limits", "memory", "--iops", "5000", "--read-bandwidth", "10MiB"]);
    ctl.says(&["device", "limits", "memory", "--each-host", "--iops", "100"]);
    let limits = ctl.json(&["device", "limits", "memory"]);
    let of = |field: &str| limits[field].as_u64().unwrap();
    assert_eq!((of("rw_ios_per_sec"), of("r_mbytes_per_sec"), of("host_rw_ios_per_sec")), (5000, 10, 100));
    assert!(ctl.says(&["host", "limits", "--commands", "64", "--data", "1MiB"]).contains("1 MiB"));
    assert!(ctl.says(&["target", "poll-mode", "adaptive", "--spin-us", "50"]).contains("50"));
    assert_eq!(ctl.says(&["log", "level", "debug"]), "the log shows debug");
    assert_eq!(ctl.says(&["log", "level"]), "DEBUG");
    assert!(ctl.says(&["placement", "set", "any=0"]).contains("least_loaded"));
    ctl.says(&["referral", "add", "10.0.0.9:8009", "--transport", "tcp"]);
    assert!(ctl.says(&["referral", "list"]).contains("10.0.0.9:8009"));
    ctl.says(&["referral", "remove", "10.0.0.9:8009", "--transport", "tcp"]);
    assert_eq!(ctl.says(&["referral", "list"]), "no referrals");
    assert!(ctl.says(&["target", "info"]).contains("polling CPUs:  0"));
    assert_eq!(ctl.json(&["rpc", "log_get_level"]), json!("DEBUG"));
}

#[test]
fn a_configuration_is_shown_loaded_and_read_again() {
    let target = Target::start("ctl-config");
    let ctl = Ctl(&target);
    ctl.says(&["device", "reset", "null"]);
    let shown = ctl.says(&["config", "show"]);
    assert!(shown.contains("name = \"memory\""), "{shown}");
    assert!(ctl.says(&["config", "reload"]).contains("nothing has changed"));
    let spdk = r#"{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_null_create","params":{"name":"loaded","num_blocks":8,"block_size":512}}]}]}"#;
    let file = target.directory().join("spdk.saved");
    std::fs::write(&file, spdk).unwrap();
    assert!(ctl.says(&["config", "load", file.to_str().unwrap()]).contains("1 calls are done"));
    let failed = ctl.fails(1, &["config", "load", file.to_str().unwrap()]);
    assert!(failed.contains("call 1 (bdev_null_create)") && failed.contains("loaded"), "{failed}");
    std::fs::write(&file, "{").unwrap();
    ctl.fails(2, &["config", "load", file.to_str().unwrap()]);
    assert!(ctl.says(&["config", "show", "--format", "json"]).contains("bdev_null_create"));
    std::fs::remove_file(file).unwrap();
    target.ends_clean();
}

#[test]
fn mistakes_are_told_with_the_way_out_and_have_their_status() {
    let target = Target::start("ctl-mistakes");
    let ctl = Ctl(&target);
    for (code, words, said) in [
        (1, &["subsystem", "delete", "nqn.x:none"][..], "should be that of a subsystem: nqn.2026-11.io.quiesce:test"),
        (1, &["namespace", "add", SUBSYSTEM, "nodisk"], "nodisk"),
        (1, &["namespace", "remove", SUBSYSTEM, "77"], "1, 2, 3"),
        (1, &["namespace", "resize", SUBSYSTEM, "77", "1GiB"], "has no namespace 77"),
        (1, &["device", "resize", "memory", "1GiB"], "only null, rbd and file can"),
        (1, &["device", "resize", "disk", "1GiB"], "nvmf-ctl device rescan disk"),
        (1, &["device", "create", "file", "f", "/no/such/file"], "/no/such/file"),
        (1, &["device", "fault", "clear", "memory"], "bdev_error_create"),
        (1, &["listener", "ana", SUBSYSTEM, "127.0.0.1:4420", "optimized"], "ana_reporting"),
        (1, &["target", "poll-mode", "busy", "--spin-us", "3"], "spin_us is only for mode \"adaptive\""),
        (1, &["host", "allow", SUBSYSTEM, "nqn.h", "--dhchap-key", "k"], "\"k\""),
        (1, &["key", "add", "k", "/no/such/key"], "/no/such/key"),
        (1, &["log", "level", "loud"], "loud"),
        (1, &["placement", "set", "any=99"], "99"),
        (1, &["rpc", "nope"], "rpc_get_methods lists those that there are"),
        (2, &["rpc", "bdev_get_bdevs", "name"], "a JSON object such as"),
        (2, &["listener", "add", SUBSYSTEM, "127.0.0.1"], "10.0.0.1:4420"),
        (2, &["listener", "ana", SUBSYSTEM, "127.0.0.1:4420", "good"], "optimized"),
        (2, &["device", "create", "malloc", "a", "64MB/s"], "64MiB"),
        (2, &["device", "create", "malloc", "a", "1000"], "a multiple of the block size, 512"),
        (2, &["device", "create", "malloc", "a", "1M", "--block-size", "13"], "neither 512 nor 4096"),
        (2, &["device", "limits", "memory", "--bandwidth", "1000"], "whole number of MiB"),
        (2, &["device", "limits", "memory", "--each-host"], "add --iops"),
        (2, &["placement", "set", "cpu0"], "WHO=CPUS"),
        (2, &["top", "-i", "0"], "from 0.1 to 3600"),
        (2, &["trace", "-n", "0"], "1..=1048576"),
        (1, &["rpc", "trace_get_events", "{\"cntlid\": 70000}"], "a number from 0 to 65535"),
        (2, &["subsytem", "list"], "a similar subcommand exists: 'subsystem'"),
        (2, &["target", "poll-mode", "--cpu", "0"], "<MODE>"),
    ] {
        let errors = ctl.fails(code, words);
        assert!(errors.contains(said), "{words:?} has to say {said:?}:\n{errors}");
    }
    // Nothing was changed by any of them.
    assert_eq!(ctl.json(&["device", "list"]).as_array().unwrap().len(), 3);
}

/// Why did my host disconnect? All CPUs tell, also of what is gone.
#[test]
fn the_last_events_outlive_what_they_are_of() {
    let target = Target::start_with("ctl-trace", |configuration| configuration.replace("cpus = [0]", "cpus = [0, 1]"));
    let ctl = Ctl(&target);
    assert_eq!(ctl.says(&["trace", "--qid", "2"]), "nothing of that kind is known any more, or ever happened");
    target.host(&["--nsid", "1", "-w", "randread", "-o", "4k", "-q", "4", "-P", "2", "-n", "10"]).succeeds();
    let gone = || ctl.json(&["trace", "--qid", "2", "-n", "1000"]).to_string().contains("is forgotten");
    assert!(wait_for(PATIENCE, gone));
    let events = ctl.json(&["trace", "--qid", "2", "-n", "1000"]);
    let events = events.as_array().unwrap();
    let said = |words: &str| events.iter().position(|event| event["event"].as_str().unwrap().contains(words)).unwrap();
    let life =
        ["is asked for", "is opened, queue id 2", "joins controller", "drains", "is reaped", "is forgotten"].map(said);
    assert!(life.is_sorted(), "{life:?} {events:?}");
    let host = events[0]["hostnqn"].as_str().unwrap();
    assert!(events.iter().all(|event| event["qid"] == 2 && event["hostnqn"] == host), "{events:?}");
    let all = ctl.says(&["trace", "--host", host, "-n", "1000"]);
    for words in ["is enabled by its host", "is shut down by its host", "closes"] {
        assert!(all.contains(words), "{words}:\n{all}");
    }

    // Commands that fail, and commands that wait.
    ctl.says(&["device", "create", "malloc", "bad", "1MiB"]);
    ctl.says(&["device", "create", "fault", "bad"]);
    ctl.says(&["namespace", "add", SUBSYSTEM, "EE_bad", "--nsid", "9"]);
    ctl.says(&["device", "fault", "inject", "EE_bad", "read", "failure", "--num", "1000"]);
    target.host(&["--nsid", "9", "-w", "randread", "-o", "4k", "-q", "1", "-n", "1"]).fails();
    let told = ctl.says(&["trace", "-n", "1000"]);
    assert!(told.lines().any(|line| line.contains("failed: unrecovered read error")), "{told}");
    ctl.says(&["host", "limits", "--commands", "1"]);
    target.host(&["--nsid", "1", "-w", "randread", "-o", "4k", "-q", "16", "-n", "500"]).succeeds();
    let events = || ctl.says(&["trace", "-n", "1000"]);
    assert!(events().contains("commands wait for the host's limit"), "{}", events());
    assert!(wait_for(PATIENCE, || events().contains("no command has waited for the host's limit for a second")));
    target.ends_clean();
}

/// What it finds depends on the machine; that it looks at everything, and says so in its status, does not.
#[test]
fn doctor_looks_at_this_machine() {
    let target = Target::start("ctl-doctor");
    let output = Ctl(&target).run(&["--json", "doctor"]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    for check in ["hugepages", "memlock", "CPUs", "RDMA", "firewall", "io_uring", "target"] {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}: {findings:?}");
    }
    assert!(findings.iter().all(|finding| (finding["level"] == "ok") == finding["fix"].is_null()), "{findings:?}");
    let has_problem = findings.iter().any(|finding| finding["level"] == "problem");
    assert_eq!(output.status.code(), Some(i32::from(has_problem)));
    let of_target = findings.iter().find(|finding| finding["check"] == "target").unwrap();
    assert!(of_target["finding"].as_str().unwrap().contains("Quiesce v"), "{of_target}");
}

#[test]
fn without_a_target_the_path_and_the_way_out_are_told() {
    let directory = std::env::temp_dir().join(format!("quiesce-ctl-none-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("rpc.sock");
    let fails = |said: &str| {
        let output = run(&socket, &["subsystem", "list"]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains("rpc.sock") && errors.contains(said), "{errors}");
    };
    fails("nvmf-tgt --config FILE");
    // A target that was killed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    fails("was left by a target that is gone");
    // Where no path is given it says where it looked.
    let output = Command::new(env!("CARGO_BIN_EXE_nvmf-ctl"))
        .args(["device", "list"])
        .env("QUIESCE_RUNTIME_DIR", &directory)
        .env("XDG_RUNTIME_DIR", &directory)
        .current_dir(&directory)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    if !Path::new("/run/quiesce/nvmf-tgt.sock").exists() {
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains("no target's socket at") && errors.contains("--socket PATH"), "{errors}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
