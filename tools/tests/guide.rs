//! The guide's task on one machine, as it stands there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The commands between this heading's first fences.
fn commands(guide: &str, heading: &str) -> String {
    let part = guide.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    part.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_task_on_one_machine_works_as_it_is_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guide = fs::read_to_string(root.join("docs/GUIDE.md")).unwrap();
    let place = std::env::temp_dir().join(format!("quiesce-guide-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_nvmf-tgt")).parent().unwrap();
    assert!(programs.join("nvmf-perf").exists(), "nvmf-perf is not built: run `cargo build --workspace` first");
    // What a person does in between: waits for the target, looks for a moment, ends it.
    let task = commands(&guide, "## The same on one machine")
        .replace("/tmp/quiesce-try", "run")
        .replace("nvmf-tgt &", "nvmf-tgt 2>log &\nuntil grep -q ready log; do kill -0 $! || exit; sleep 0.1; done")
        .replace("-t 5", "-t 1 --no-progress")
        .replace("nvmf-ctl top ", "nvmf-ctl top --once ");
    let script = format!("set -e\ntrap 'kill $(jobs -p)' EXIT\n{task}\nnvmf-ctl config show > saved\n");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&place)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(place.join("log")).unwrap_or_default();
    assert!(output.status.success(), "{said}\n{log}");
    assert!(said.contains("disk0 is namespace 1"), "{said}");
    assert!(fs::read_to_string(place.join("saved")).unwrap().contains("disk0"));
    fs::remove_dir_all(&place).unwrap();
}
