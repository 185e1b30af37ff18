//! The program as a person meets it: its arguments, its first mistakes, its exit statuses.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is gone with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("nvmf-tgt-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_nvmf-tgt"))
            .args(arguments)
            .current_dir(&self.0)
            .env("QUIESCE_RUNTIME_DIR", self.0.join("run"))
            .output()
            .unwrap()
    }

    /// Runs it and expects exit status 1; gives the last line of standard error.
    fn mistake(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        errors.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A target with one memory device; `more` comes in front.
fn config(more: &str) -> String {
    format!(
        "{more}\n[[device]]\nname = \"disk0\"\ntype = \"memory\"\nsize = \"1MiB\"\n\n[[subsystem]]\nnqn = \"nqn.2026-11.io.quiesce:t\"\n\
         allow_any_host = true\nlisteners = [\"127.0.0.1:4420\"]\n[[subsystem.namespace]]\ndevice = \"disk0\"\n"
    )
}

#[test]
fn the_example_passes_its_check() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo.toml");
    let output = Place::new().run(&["--config", example, "--check"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{example}: ok\n"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn version_and_help_are_there() {
    let place = Place::new();
    let version = place.run(&["--version"]);
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("nvmf-tgt {}\n", env!("CARGO_PKG_VERSION")));
    let help = String::from_utf8(place.run(&["--help"]).stdout).unwrap();
    assert!(help.contains("--config <FILE>") && help.contains("--check"), "{help}");
    assert_eq!(place.run(&["--nosuch"]).status.code(), Some(2), "what clap refuses");
    let said = place.mistake(&["--cpus", "4095", "--check"]);
    assert!(said.starts_with("nvmf-tgt: --cpus: 4095: this process may use "), "{said}");
}

#[test]
fn a_file_of_spdks_is_checked() {
    let place = Place::new();
    place.file("good.json", r#"{"subsystems":[{"subsystem":"sock","config":[{"method":"sock_set_default_impl"}]}]}"#);
    assert_eq!(place.run(&["--spdk-config", "good.json", "--check"]).stdout, b"good.json: ok\n");
    for (text, said) in [
        ("{", "bad.json is no JSON"),
        ("{}", "it has no list \"subsystems\""),
        (
            r#"{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_raid_create"},{"method":"nvmf_none"}]}]}"#,
            "what this target has not: bdev: bdev_raid_create, bdev: nvmf_none",
        ),
    ] {
        place.file("bad.json", text);
        let told = place.mistake(&["--spdk-config", "bad.json", "--check"]);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn every_mistake_of_a_file_is_a_line_with_its_place() {
    let place = Place::new();
    place.file("bad.toml", &config("[target]\ncpus = [4095]\n[log]\nformat = \"xml\""));
    let output = place.run(&["--config", "bad.toml", "--check"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 2, "{errors}");
    assert!(lines[0].starts_with("nvmf-tgt: bad.toml:2:9: target.cpus is 4095: this process may use "), "{errors}");
    assert_eq!(lines[1], "bad.toml:4:10: log.format is \"xml\": \"text\" or \"json\"");
    assert_eq!(
        place.mistake(&["--config", "nosuch.toml"]),
        "nvmf-tgt: nosuch.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn devices_that_are_not_there_or_not_built_say_what_to_do() {
    let place = Place::new();
    place.file("ibv.toml", &config("[transport]\nprovider = \"ibv\""));
    let said = place.mistake(&["--config", "ibv.toml"]);
    assert!(said.starts_with("nvmf-tgt: transport.provider = \"ibv\": "), "{said}");
    // On a machine with a device: that the listener's address, 127.0.0.1, is on none.
    let why = if cfg!(feature = "ibv") { "RDMA device" } else { "not built" };
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_metrics_port_in_use_names_address_and_field() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    place.file("t.toml", &config(&format!("[metrics]\nlisten = \"{address}\"")));
    assert_eq!(
        place.mistake(&["--config", "t.toml"]),
        format!("nvmf-tgt: metrics.listen = \"{address}\": in use: is another target running? Choose another port")
    );
}

#[test]
fn more_memory_than_there_is_is_refused_before_it_is_touched() {
    let place = Place::new();
    place.file("t.toml", &config("").replace("\"1MiB\"", "\"512TiB\""));
    let error = place.mistake(&["--config", "t.toml"]);
    assert!(
        error.starts_with("nvmf-tgt: memory: devices of type \"memory\", target.data_memory and queue pairs "),
        "{error}"
    );
    assert!(error.contains(" need 5368"), "{error}");
    assert!(error.ends_with(" MiB are available: make them smaller"), "{error}");
}

#[test]
fn a_second_instance_is_told_which_field_to_change() {
    let place = Place::new();
    let served = std::os::unix::net::UnixListener::bind(place.0.join("rpc.sock")).unwrap();
    place.file("t.toml", &config("[rpc]\nsocket = \"rpc.sock\""));
    assert_eq!(
        place.mistake(&["--config", "t.toml"]),
        "nvmf-tgt: rpc.socket = \"rpc.sock\": another process serves it: is another target running? Choose another path"
    );
    assert!(place.0.join("rpc.sock").exists(), "the other's socket stays");
    drop(served);
}

#[test]
fn reservations_that_cannot_be_read_are_a_mistake_that_names_the_file_and_the_way_out() {
    let place = Place::new();
    let namespace = |file: &str| config("") + &format!("ptpl_file = \"{file}\"\n");
    place.file("target.toml", &namespace("kept"));
    place.file("kept", "quiesce-reservations 1 crc32 00000000\n{}\n");
    let said = place.mistake(&["--config", "target.toml"]);
    for words in ["namespace 1: ptpl_file", "kept is damaged", "checksum", "move it away"] {
        assert!(said.contains(words), "{said}");
    }
}
