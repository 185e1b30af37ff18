//! Starting, watching and ending the programs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The signals that the tests send.
pub(crate) mod signal {
    #[allow(dead_code, reason = "for the test of configurations")]
    pub(crate) const HUP: i32 = libc::SIGHUP;
    pub(crate) const KILL: i32 = libc::SIGKILL;
    pub(crate) const TERM: i32 = libc::SIGTERM;
    pub(crate) const STOP: i32 = libc::SIGSTOP;
    pub(crate) const CONT: i32 = libc::SIGCONT;
}

/// The programs poll, and the machine may be small: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const START_LIMIT: Duration = Duration::from_secs(20);
const RUN_LIMIT: Duration = Duration::from_secs(90);
pub(crate) const SUBSYSTEM: &str = "nqn.2026-11.io.quiesce:test";

/// Real time: these tests watch other processes.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) fn wait_for(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = now();
    while !done() {
        if now() - start > limit {
            return false;
        }
        pause(Duration::from_millis(5));
    }
    true
}

pub(crate) fn send_signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: kill takes no pointers; the child has not been waited for, so that the pid is still its own.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "kill({pid}, {signal})");
}

/// Those that were built with the tests, or others: `scripts/sanitize` has instrumented ones.
pub(crate) fn program(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_nvmf-tgt")).with_file_name(name);
    let path = std::env::var_os("QUIESCE_TEST_PROGRAMS").map_or(built, |folder| Path::new(&folder).join(name));
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
    path
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `nvmf-tgt` with a directory of its own.
pub(crate) struct Target {
    child: Mutex<Child>,
    directory: PathBuf,
    metrics: SocketAddr,
    /// None where another that the test has started has it.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Target {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, |configuration| configuration)
    }

    /// Starts one whose configuration is changed before.
    pub(crate) fn start_with(name: &str, change: impl FnOnce(String) -> String) -> Self {
        Self::start_in(name, |_, configuration| change(configuration))
    }

    /// The same, where something is put into its directory before.
    pub(crate) fn start_in(name: &str, change: impl FnOnce(&Path, String) -> String) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Self::start_in_turn(name, Some(turn), change)
    }

    /// The same, beside one that the test has started: a fabric of its own, so that addresses may be the same.
    #[allow(dead_code, reason = "for the test of images that two targets serve")]
    pub(crate) fn start_beside(&self, name: &str, change: impl FnOnce(String) -> String) -> Self {
        Self::start_in_turn(name, None, |_, configuration| change(configuration))
    }

    fn start_in_turn(
        name: &str,
        turn: Option<MutexGuard<'static, ()>>,
        change: impl FnOnce(&Path, String) -> String,
    ) -> Self {
        let directory = std::env::temp_dir().join(format!("quiesce-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let image: Vec<u8> = (0..8 * 1024 * 1024_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(directory.join("disk.img"), image).unwrap();
        let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
        fs::write(directory.join("target.toml"), change(&directory, configuration(metrics))).unwrap();
        let child = Mutex::new(spawn_target(&directory));
        let target = Self { child, directory, metrics, _turn: turn };
        let ready = wait_for(START_LIMIT, || target.log().contains("ready") || !target.is_alive());
        assert!(ready && target.is_alive(), "the target did not start:\n{}", target.log());
        target
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("target.log")).unwrap_or_default()
    }

    /// Where its configuration, its log and its sockets are.
    #[allow(dead_code, reason = "for the test of storms")]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The subsystem that it has from the start.
    #[allow(dead_code, reason = "for the test of configurations")]
    pub(crate) fn subsystem(&self) -> &'static str {
        SUBSYSTEM
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// CPU time that its threads of this name have used, in whole ticks.
    pub(crate) fn cpu_time(&self, thread: &str) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.lock().unwrap().id());
        let ticks = |path: PathBuf| -> u64 {
            // What follows the name, which is in parentheses: user and system time are its fields 12 and 13 [proc_pid_stat(5)].
            let stat = fs::read_to_string(path.join("stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let is_named =
            |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == thread);
        let threads: Vec<_> =
            fs::read_dir(tasks).unwrap().flatten().map(|task| task.path()).filter(is_named).map(ticks).collect();
        assert!(!threads.is_empty(), "no thread {thread}");
        // SAFETY: takes no pointers.
        let tick_count_per_s = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap();
        Duration::from_millis(threads.iter().sum::<u64>() * 1000 / tick_count_per_s)
    }

    pub(crate) fn signal(&self, signal: i32) {
        send_signal(&self.child.lock().unwrap(), signal);
    }

    /// Sends the signal and waits for the end.
    pub(crate) fn signalled(&self, signal: i32) {
        self.signal(signal);
        assert!(wait_for(RUN_LIMIT, || !self.is_alive()));
    }

    pub(crate) fn host(&self, arguments: &[&str]) -> Host {
        let address = format!("trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:{SUBSYSTEM}");
        Host::start(&address, self, arguments)
    }

    /// The same target once more, after its process has ended.
    pub(crate) fn start_again(&self) {
        assert!(!self.is_alive(), "it runs");
        *self.child.lock().unwrap() = spawn_target(&self.directory);
        let ready = wait_for(START_LIMIT, || self.log().contains("ready") || !self.is_alive());
        assert!(ready && self.is_alive(), "the target did not start again:\n{}", self.log());
    }

    /// The same target once more, also while the first runs: what it says before it gives up.
    pub(crate) fn refuses_to_start(&self) -> String {
        let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let configuration = fs::read_to_string(self.directory.join("target.toml")).unwrap();
        // What is not asked about is another's, should this one run.
        let second = configuration.replace(&self.metrics.to_string(), &metrics.to_string());
        let second = second.replace("disk.img", "other.img").replace("rpc.sock", "other.sock");
        fs::write(self.directory.join("second.toml"), second).unwrap();
        fs::File::create(self.directory.join("other.img")).unwrap().set_len(1 << 20).unwrap();
        let output = Command::new(program("nvmf-tgt"))
            .args(["--config", "second.toml"])
            .args(spdk_file(&self.directory))
            .current_dir(&self.directory)
            .env("QUIESCE_RUNTIME_DIR", self.directory.join("run"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Calls a method: the whole answer.
    pub(crate) fn rpc(&self, method: &str, parameters: Value) -> Value {
        self.rpc_within(Duration::from_secs(5), method, parameters)
    }

    /// Calls a method that must not be refused: its result.
    pub(crate) fn result(&self, method: &str, parameters: Value) -> Value {
        let mut answer = self.rpc(method, parameters);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Calls a method that must be refused: code and text.
    pub(crate) fn refusal(&self, method: &str, parameters: Value) -> (i64, String) {
        let answer = self.rpc(method, parameters);
        let error = &answer["error"];
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
    }

    /// As [`Self::rpc`], with another limit.
    pub(crate) fn rpc_within(&self, limit: Duration, method: &str, parameters: Value) -> Value {
        let mut stream = UnixStream::connect(self.directory.join("rpc.sock")).unwrap();
        stream.set_read_timeout(Some(limit)).unwrap();
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
        stream.write_all(request.to_string().as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// A file of the software fabric's.
    pub(crate) fn runtime_file(&self, name: &str) -> PathBuf {
        self.directory.join("run").join(name)
    }

    /// The value of one line of the metrics, by its name with labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}:\n{metrics}")).parse().unwrap()
    }

    /// Waits until the log has a line with all of these words.
    pub(crate) fn says(&self, words: &[&str]) {
        let said = || self.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(wait_for(START_LIMIT, said), "not said: {words:?}\n{}", self.log());
    }

    #[allow(dead_code, reason = "for the test of metrics")]
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        text
    }

    /// Every gauge of live objects, as its line's name with labels, and value.
    pub(crate) fn live_gauges(&self) -> Vec<(String, f64)> {
        let gauges: Vec<_> = self
            .metrics()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(name, _)| name.split('{').next().is_some_and(|name| name.ends_with("_live")))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect();
        assert!(gauges.len() >= 5, "the target shows {} gauges of live objects: {gauges:?}", gauges.len());
        gauges
    }

    pub(crate) fn gauges_return_to(&self, baseline: &[(String, f64)], limit: Duration) {
        let mut gauges = Vec::new();
        let returned = wait_for(limit, || {
            gauges = self.live_gauges();
            gauges == baseline
        });
        let different: Vec<_> = gauges.iter().filter(|gauge| !baseline.contains(gauge)).collect();
        assert!(returned, "live objects after {limit:?}: {different:?}\nbaseline: {baseline:?}\n{}", self.log());
    }

    /// The gauges once they have stopped changing.
    pub(crate) fn gauges_at_rest(&self, limit: Duration) -> Vec<(String, f64)> {
        let mut last = self.live_gauges();
        let mut same = 0;
        let rests = wait_for(limit, || {
            pause(Duration::from_millis(50));
            let gauges = self.live_gauges();
            same = if gauges == last { same + 1 } else { 0 };
            last = gauges;
            same >= 10
        });
        assert!(rests);
        last
    }

    /// SHA-256 of the file behind the file namespace, as coreutils has it.
    pub(crate) fn file_digest(&self) -> String {
        let output = Command::new("sha256sum").arg(self.directory.join("disk.img")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    }

    /// SIGTERM: drains, exits 0, leaves no file behind but its configuration, its log and its disk.
    pub(crate) fn ends_clean(&self) {
        self.signal(signal::TERM);
        self.ends_clean_soon();
    }

    /// The same, once it has been told to.
    pub(crate) fn ends_clean_soon(&self) {
        assert!(wait_for(RUN_LIMIT, || !self.is_alive()), "does not end after SIGTERM:\n{}", self.log());
        let status = self.child.lock().unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        let mut left = Vec::new();
        files_below(&self.directory, &mut left);
        left.retain(|path| {
            !["disk.img", "other.img", "target.toml", "second.toml", "target.log"]
                .iter()
                .any(|name| path.ends_with(name))
        });
        left.retain(|path| !path.to_string_lossy().contains("host-"));
        assert!(left.is_empty(), "files are left behind: {left:?}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { files_below(&path, files) } else { files.push(path) }
    }
}

fn configuration(metrics: SocketAddr) -> String {
    format!(
        r#"
[target]
cpus = [0]

[[device]]
name = "memory"
type = "memory"
size = "64MiB"

[[device]]
name = "null"
type = "null"
size = "1GiB"

[[device]]
name = "disk"
type = "file"
path = "disk.img"

[[subsystem]]
nqn = "{SUBSYSTEM}"
allow_any_host = true
listeners = ["127.0.0.1:4420"]

[[subsystem.namespace]]
nsid = 1
device = "memory"

[[subsystem.namespace]]
nsid = 2
device = "null"

[[subsystem.namespace]]
nsid = 3
device = "disk"

[metrics]
listen = "{metrics}"

[rpc]
socket = "rpc.sock"
"#
    )
}

/// A socket in the place of a service manager's, where a test puts one.
pub(crate) const MANAGER_SOCKET: &str = "manager.sock";

/// A test puts it there.
fn spdk_file(directory: &Path) -> &'static [&'static str] {
    if directory.join("spdk.json").exists() { &["--spdk-config", "spdk.json"] } else { &[] }
}

fn spawn_target(directory: &Path) -> Child {
    let log = fs::File::create(directory.join("target.log")).unwrap();
    let mut command = Command::new(program("nvmf-tgt"));
    if directory.join(MANAGER_SOCKET).exists() {
        command.env("NOTIFY_SOCKET", directory.join(MANAGER_SOCKET)).env("WATCHDOG_USEC", "10000000");
    }
    command
        .args(["--config", "target.toml"])
        .args(spdk_file(directory))
        .current_dir(directory)
        .env("QUIESCE_RUNTIME_DIR", directory.join("run"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A running `nvmf-perf`. Its output goes to a file in the target's directory.
pub(crate) struct Host {
    child: Mutex<Child>,
    output: PathBuf,
}

impl Host {
    /// One read at this transport address.
    pub(crate) fn at(address: &str, target: &Target) -> Self {
        Self::start(address, target, &["--nsid", "1", "-w", "randread", "-o", "4k", "-q", "1", "-n", "1"])
    }

    pub(crate) fn start(address: &str, target: &Target, arguments: &[&str]) -> Self {
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut number = NUMBER.lock().unwrap();
            *number += 1;
            *number
        };
        let output = target.directory.join(format!("host-{number}.log"));
        let file = fs::File::create(&output).unwrap();
        let child = Command::new(program("nvmf-perf"))
            .args(["-r", address, "--cpus", "1", "--no-progress"])
            .args(arguments)
            .env("QUIESCE_RUNTIME_DIR", target.directory.join("run"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child: Mutex::new(child), output }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn is_alive(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits until it has said this.
    pub(crate) fn says(&self, words: &str) {
        assert!(wait_for(START_LIMIT, || self.text().contains(words)), "not said: {words}\n{}", self.text());
    }

    /// Waits until the target has seen I/O of a host.
    pub(crate) fn is_running_io(&self, target: &Target) {
        let bytes = || {
            let metrics = target.metrics();
            let lines = metrics
                .lines()
                .filter(|line| line.starts_with("nvmf_") && line.contains("bytes") && line.contains("_total"));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
        };
        let before = bytes();
        assert!(wait_for(START_LIMIT, || bytes() > before + 4e6), "no I/O:\n{}", self.text());
        assert!(self.is_alive(), "{}", self.text());
    }

    pub(crate) fn signal(&self, signal: i32) {
        send_signal(&self.child.lock().unwrap(), signal);
    }

    pub(crate) fn signalled(self, signal: i32) {
        self.signal(signal);
        self.child.lock().unwrap().wait().unwrap();
    }

    fn ends(&self, limit: Duration) -> Option<i32> {
        let ended = wait_for(limit, || !self.is_alive());
        if !ended {
            let _ = self.child.lock().unwrap().kill();
        }
        assert!(ended, "still running after {limit:?}:\n{}", self.text());
        self.child.lock().unwrap().wait().unwrap().code()
    }

    /// Its exit code, and what it has said.
    #[allow(dead_code, reason = "for the tests of resets")]
    pub(crate) fn ends_somehow(self) -> (Option<i32>, String) {
        let code = self.ends(RUN_LIMIT);
        (code, self.text())
    }

    pub(crate) fn succeeds(self) -> String {
        let code = self.ends(RUN_LIMIT);
        assert_eq!(code, Some(0), "{}", self.text());
        self.text()
    }

    pub(crate) fn fails(self) -> String {
        self.fails_within(RUN_LIMIT)
    }

    pub(crate) fn fails_within(self, limit: Duration) -> String {
        let code = self.ends(limit);
        assert_eq!(code, Some(1), "{}", self.text());
        self.text()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}
