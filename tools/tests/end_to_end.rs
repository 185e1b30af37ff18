//! A whole target as its own process: it starts, is asked, is scraped, and ends.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// A directory with a configuration, gone with the test.
struct Place {
    path: PathBuf,
    metrics: SocketAddr,
}

impl Place {
    fn new(more: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("quiesce-e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::File::create(path.join("disk.img")).unwrap().set_len(1 << 20).unwrap();
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            r#"
[target]
hugepages = false
data_memory = "4MiB"
{more}
[[device]]
name = "memory"
type = "memory"
size = "4MiB"
block_size = 4096
[[device]]
name = "image"
type = "file"
path = "disk.img"
[[subsystem]]
nqn = "nqn.2026-11.io.quiesce:e2e"
allow_any_host = true
listeners = ["127.0.0.1:4420"]
[[subsystem.namespace]]
device = "memory"
[[subsystem.namespace]]
device = "image"
[metrics]
listen = "{metrics}"
[rpc]
socket = "rpc.sock"
"#
        );
        fs::write(path.join("target.toml"), text).unwrap();
        Self { path, metrics }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nvmf-tgt"));
        command.args(["--config", "target.toml"]).current_dir(&self.path);
        command.env("QUIESCE_RUNTIME_DIR", self.path.join("run")).stderr(Stdio::piped());
        command
    }

    /// Files that are left, below the directory.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![self.path.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                } else {
                    files.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A running target; killed with the test if it still runs.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    /// Starts it and waits until it is ready.
    fn start(place: &Place) -> Self {
        let mut child = place.command().spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, log };
        let lines = running.log_until("ready");
        assert!(lines.last().is_some_and(|line| line.contains("ready")), "{lines:?}");
        running
    }

    /// Lines of the log up to one that has `word`, or all.
    fn log_until(&mut self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.log.read_line(&mut line).unwrap() == 0 {
                return lines;
            }
            let found = line.contains(word);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end, and gives the rest of the log.
    fn end(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    response
}

fn call(stream: &mut UnixStream, method: &str) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method });
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let response: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(response["id"], 7);
    response
}

#[test]
fn it_starts_answers_and_ends_without_a_trace() {
    let place = Place::new("");
    let target = Running::start(&place);

    let text = scrape(place.metrics);
    assert!(text.contains("# TYPE nvmf_commands_total counter\n"), "{text}");
    assert!(text.contains("nvmf_qpairs{cpu="), "{text}");
    assert!(text.contains("nvmf_reactor_turns_total{cpu=\"control\"}"), "{text}");

    let mut rpc = UnixStream::connect(place.path.join("rpc.sock")).unwrap();
    rpc.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let methods = call(&mut rpc, "rpc_get_methods")["result"].take();
    for method in methods.as_array().unwrap() {
        let answer = call(&mut rpc, method.as_str().unwrap());
        let name = method.as_str().unwrap();
        // Those that tell of everything, or change nothing where nothing is named; the others want parameters.
        let tells = !name.contains("nvmf_subsystem_") && (name.contains("get_") || name.contains("monitor"));
        let tells = tells && name != "framework_get_config";
        let may_be_empty =
            ["nvmf_set_host_limits", "nvmf_set_config", "reload_config", "save_config", "framework_wait_init"];
        let wants = !tells && !may_be_empty.contains(&name);
        assert_eq!(answer["error"]["code"] == -32602, wants, "{name}: {answer}");
        assert_eq!(answer["result"].is_null(), wants, "{name}: {answer}");
    }
    let subsystems = call(&mut rpc, "nvmf_get_subsystems");
    assert_eq!(subsystems["result"][0]["nqn"], "nqn.2026-11.io.quiesce:e2e");
    assert_eq!(subsystems["result"][0]["namespaces"][1]["bdev_name"], "image");
    assert_eq!(subsystems["result"][0]["namespaces"][1]["uuid"].as_str().unwrap().len(), 36);
    let devices = call(&mut rpc, "bdev_get_bdevs");
    assert_eq!(
        (&devices["result"][0]["num_blocks"], &devices["result"][1]["num_blocks"]),
        (&json!(1024), &json!(2048))
    );
    // A polling CPU may make its first turns later than the control plane answers.
    let mut reactors = call(&mut rpc, "framework_get_reactors");
    for _ in 0..100_000 {
        if reactors["result"]["reactors"][0]["idle"] != 0 {
            break;
        }
        reactors = call(&mut rpc, "framework_get_reactors");
    }
    assert!(reactors["result"]["reactors"][0]["idle"].as_u64().unwrap() > 0, "{reactors}");
    assert_eq!(call(&mut rpc, "bdev_nosuch_create")["error"]["code"], -32601);

    target.signal("-TERM");
    let (status, log) = target.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("drained"), "{log}");
    assert_eq!(place.files(), ["disk.img", "target.toml"]);
}

#[test]
fn a_second_instance_says_what_is_taken_and_leaves_the_first_alone() {
    let place = Place::new("");
    let target = Running::start(&place);
    let second = place.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let errors = String::from_utf8(second.stderr).unwrap();
    assert!(
        errors.lines().last().unwrap().starts_with("nvmf-tgt: rpc.socket = \"rpc.sock\": another process"),
        "{errors}"
    );

    // The same with sockets of its own: now it is the listening address that is taken.
    let text = fs::read_to_string(place.path.join("target.toml")).unwrap();
    let text = text.split("[metrics]").next().unwrap().replace("disk.img", "other.img");
    fs::write(place.path.join("target.toml"), text).unwrap();
    fs::copy(place.path.join("disk.img"), place.path.join("other.img")).unwrap();
    let third = place.command().output().unwrap();
    assert_eq!(third.status.code(), Some(1));
    let errors = String::from_utf8(third.stderr).unwrap();
    assert!(errors.lines().last().unwrap().starts_with("nvmf-tgt: 127.0.0.1:4420: "), "{errors}");

    scrape(place.metrics);
    target.signal("-INT");
    assert_eq!(target.end().0.code(), Some(0));
}

#[test]
fn json_logs_are_json_to_the_last_line() {
    let place = Place::new("[log]\nformat = \"json\"");
    let mut target = place.command().spawn().unwrap();
    let log = BufReader::new(target.stderr.take().unwrap());
    let mut running = Running { child: target, log };
    let mut lines = running.log_until("ready");
    running.signal("-INT");
    let (status, rest) = running.end();
    assert_eq!(status.code(), Some(0));
    lines.extend(rest.lines().map(str::to_owned));
    for line in lines {
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string() && event["message"].is_string(), "{event}");
    }
}

#[test]
fn a_target_that_was_killed_is_followed_by_another() {
    let place = Place::new("");
    let first = Running::start(&place);
    first.signal("-KILL");
    assert_eq!(first.end().0.code(), None);
    let second = Running::start(&place);
    scrape(place.metrics);
    second.signal("-TERM");
    assert_eq!(second.end().0.code(), Some(0));
    assert_eq!(place.files(), ["disk.img", "target.toml"]);
}
