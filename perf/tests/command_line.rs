//! The program as a process: what it says and how it ends where there is no target.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn nvmf_perf(arguments: &[&str]) -> Output {
    let directory = std::env::temp_dir().join(format!("nvmf-perf-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nvmf-perf"))
        .args(arguments)
        .env("QUIESCE_RUNTIME_DIR", &directory)
        .output()
        .unwrap();
    // Another test of this process may still use it.
    let _ = std::fs::remove_dir(&directory);
    assert!(output.stdout.is_empty() || output.status.success(), "{output:?}");
    output
}

fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = nvmf_perf(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for words in words {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

const NOBODY: &str = "trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4555 subnqn:nqn.2026-11.io.quiesce:nobody";

#[test]
fn a_target_that_is_not_there() {
    fails(&["-r", NOBODY, "-t", "1"], 1, &["cannot reach 127.0.0.1:4555", "nvmf-tgt"]);
    fails(&["-r", NOBODY, "digest", "--nsid", "3"], 1, &["cannot reach 127.0.0.1:4555"]);
    fails(&["-r", NOBODY, "discover"], 1, &["cannot reach 127.0.0.1:4555"]);
    fails(&["-r", NOBODY, "connect", "-n", "3", "-j", "2"], 1, &["cannot reach 127.0.0.1:4555", "nvmf-tgt"]);
}

#[test]
fn devices_that_are_not_there_or_not_built() {
    // A machine that has one: that it does not reach 127.0.0.1.
    let why = if cfg!(feature = "ibv") { "RDMA device" } else { "not built" };
    fails(&["-r", NOBODY, "--provider", "ibv", "-t", "1"], 1, &[why]);
}

#[test]
fn what_makes_no_sense_is_named() {
    fails(&["-t", "1"], 2, &["no target", "-r"]);
    fails(&["-r", "traddr:127.0.0.1", "-t", "1"], 2, &["subnqn", "discover"]);
    fails(&["-r", NOBODY, "-w", "read", "--verify"], 2, &["--verify", "read"]);
    fails(&["-r", NOBODY, "-c", "4000", "-t", "1"], 2, &["4000"]);
    fails(&["-r", "traddr:localhost"], 2, &["traddr", "localhost"]);
    fails(&["-r", NOBODY, "-o", "4q"], 2, &["4q"]);
    fails(&["-r", "traddr:127.0.0.1", "connect"], 2, &["subnqn"]);
    fails(&["-r", NOBODY, "connect", "--verify", "5"], 2, &["--verify is 5", "which is 4"]);
    fails(&["-r", NOBODY, "connect", "--end", "sideways"], 2, &["sideways", "quiet, abrupt, early, mixed"]);
    fails(&["-r", NOBODY, "connect", "-n", "5", "-t", "5"], 2, &["--lives", "--time"]);
    // Before the run, not after it.
    fails(&["-r", NOBODY, "-t", "1", "--json", "/nowhere/result.json"], 1, &["--json", "/nowhere/result.json"]);
}
