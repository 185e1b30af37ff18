//! What metrics tell by name, against what hosts have done.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use super::processes::{Target, signal, wait_for};
use crate::{MEMORY, NULL, PATIENCE};

const HOST: &str = "nqn.2026-11.io.quiesce:counted";

/// The value of a host's line.
fn of_host(target: &Target, metric: &str, label: &str) -> f64 {
    let subsystem = target.subsystem();
    target.metric(&format!("nvmf_host_{metric}{{subsystem=\"{subsystem}\",host=\"{HOST}\"{label}}}"))
}

#[test]
fn what_a_host_does_is_counted_over_its_controllers() {
    let target = Target::start("metrics-names");
    let baseline = target.live_gauges();
    for (run, nsid) in [(1.0, MEMORY), (2.0, NULL)] {
        let host =
            target.host(&["--host-nqn", HOST, "--nsid", nsid, "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "3000"]);
        host.succeeds();
        target.gauges_return_to(&baseline, PATIENCE);
        // The last commands may come after the count of operations that the host was told to do.
        assert!(of_host(&target, "operations_total", ",opcode=\"write\"") >= 3000.0 * run);
        let bytes = of_host(&target, "bytes_total", ",direction=\"write\"");
        assert_eq!(bytes, 4096.0 * of_host(&target, "operations_total", ",opcode=\"write\""));
        assert_eq!(of_host(&target, "connects_total", ""), run);
        assert_eq!(of_host(&target, "controllers", ""), 0.0);
    }
    let metrics = target.metrics();
    let subsystem = target.subsystem();
    for line in [
        format!("nvmf_namespace_info{{subsystem=\"{subsystem}\",nsid=\"1\",device=\"memory\"}} 1"),
        format!("nvmf_subsystem_namespaces{{subsystem=\"{subsystem}\"}} 3"),
        "nvmf_listener_queue_pairs{address=\"127.0.0.1:4420\"} 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|known| known == line), "no {line}:\n{metrics}");
    }
    assert!(!metrics.contains("nvmf_controller_info{"), "they are gone:\n{metrics}");
    target.ends_clean();
}

#[test]
fn controllers_are_told_while_they_are_there() {
    let target = Target::start("metrics-controllers");
    let host = target.host(&["--host-nqn", HOST, "--nsid", NULL, "-w", "randread", "-o", "4k", "-q", "8", "-t", "60"]);
    host.is_running_io(&target);
    let subsystem = target.subsystem();
    let whose = format!("nvmf_controller_info{{subsystem=\"{subsystem}\",host=\"{HOST}\",cntlid=\"");
    let metrics = target.metrics();
    let id = metrics.lines().find_map(|line| line.strip_prefix(&whose)).unwrap_or_else(|| panic!("{metrics}"));
    let id = id.split('"').next().unwrap();
    let labels = format!("subsystem=\"{subsystem}\",cntlid=\"{id}\"");
    assert_eq!(target.metric(&format!("nvmf_controller_queue_pairs{{{labels}}}")), 2.0);
    assert_eq!(of_host(&target, "controllers", ""), 1.0);
    // Never back, though the queue pairs go before their controller.
    let mut last = 0.0;
    let reads = || of_host(&target, "operations_total", ",opcode=\"read\"");
    let mut grows = || {
        let now = reads();
        assert!(now >= last, "{now} after {last}");
        let grew = now > last;
        last = now;
        grew
    };
    assert!((0..20).filter(|_| wait_for(PATIENCE, &mut grows)).count() == 20);
    host.signalled(signal::KILL);
    assert!(wait_for(PATIENCE, || {
        grows();
        !target.metrics().contains("nvmf_controller_info{")
    }));
    target.ends_clean();
}

/// Errors have their status, in the specifications' words.
#[test]
fn errors_are_told_by_status() {
    let target = Target::start_with("metrics-errors", |configuration| {
        let fault = "\n[[device]]\nname = \"faulty\"\ntype = \"fault\"\nbase = \"memory\"\n\n[[subsystem]]";
        configuration.replace("device = \"memory\"", "device = \"faulty\"").replacen("[[subsystem]]", fault, 1)
    });
    let inject = json!({ "name": "faulty", "io_type": "write", "error_type": "failure", "num": 3 });
    assert_eq!(target.result("bdev_error_inject_error", inject), true);
    target.host(&["--nsid", MEMORY, "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "100"]).ends_somehow();
    let metrics = target.metrics();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("nvmf_command_errors_by_status_total{") && line.contains("write fault"));
    let count: f64 = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    assert_eq!(count, 3.0, "{metrics}");
    target.ends_clean();
}

/// Many who scrape, most of whom take nothing of what they asked for, disturb neither hosts nor each other for longer than they are waited for.
#[test]
fn who_scrapes_and_takes_nothing_disturbs_nobody() {
    let target = Target::start("metrics-slow");
    let host = target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "20000"]);
    host.is_running_io(&target);
    let address = target.metrics_address();
    let _silent: Vec<TcpStream> = (0..16)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            let request: &[u8] = if number % 2 == 0 { b"GET /metrics HTTP/1.1\r\n\r\n" } else { b"GET /met" };
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert!(target.metrics().contains("nvmf_host_operations_total"));
    }
    host.succeeds();
    target.ends_clean();
}
