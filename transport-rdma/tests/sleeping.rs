//! Polling CPUs that sleep, for real: a target and a host on threads of their own, over the software fabric. No command is lost or late, however
//! often both sides sleep; and while nothing happens they use no CPU time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bdev::{BdevError, Channel, Completion, Device, FileOptions, Geometry, Operation};
use nvmf_core::ChangeId;
use nvmf_core::host::HostIdentity;
use nvmf_core::spec::{NamespaceSpec, SubsystemSpec, TargetSpec};
use nvmf_core::target::{Amendment, MadeDevice, NamespaceRequest};
use reactor::{
    Cpu, Placement, PollMode, PollSwitch, Program, Progress, ReactorCounters, ReactorOptions, Rest, Runtime,
    RuntimeBuilder, Segment, Turn,
};
use transport_rdma::host::{self, Ended, HostFailure, HostOptions, IoCommand, IoQueues, Start, Workload};
use transport_rdma::soft::shared::{SharedOptions, SharedProvider};
use transport_rdma::target::{self, Change, Control, Message, TargetOptions};
use transport_rdma::verbs::Port;

const NQN: &str = "nqn.2026-11.io.quiesce:sleeping";
const ADDRESS: &str = "127.0.0.1:4420";
const BLOCK_LEN: u32 = 512;
const BLOCK_COUNT: u64 = 256;
const IO_BLOCK_COUNT: u32 = 8;
/// A CPU that is this late was woken by nobody. Other tests use the machine as well.
const LATE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Sleeps soon, so that a test sees many sleeps.
const SLEEPY: PollMode = PollMode::Adaptive { spin_ns: 10_000, pause_ns: 20_000 };

fn sleepy() -> ReactorOptions {
    ReactorOptions { placement: Placement::Floating, poll_mode: SLEEPY }
}

/// A directory that goes with the test: the fabric's sockets, an image.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quiesce-sleeping-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn provider(&self) -> SharedProvider {
        let directory = Some(self.0.join("run"));
        SharedProvider::new(SharedOptions { directory, ..SharedOptions::default() }).unwrap()
    }

    fn devices(&self) -> Vec<Arc<dyn Device>> {
        let len = u64::from(BLOCK_LEN) * BLOCK_COUNT;
        let file = |name: &str, without_ring| {
            let path = self.0.join(name);
            std::fs::File::create(&path).unwrap().set_len(len).unwrap();
            let options = FileOptions { block_len: BLOCK_LEN, without_ring, ..FileOptions::default() };
            bdev::File::open(name, &path, options).unwrap()
        };
        vec![
            Arc::new(bdev::Memory::new("memory", BLOCK_LEN, BLOCK_COUNT, false).unwrap()),
            Arc::new(file("ring", false)),
            Arc::new(file("thread", true)),
        ]
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The target's control plane, as `nvmf-tgt` has one.
struct TargetControl {
    control: Control<SharedProvider>,
    stop: Arc<AtomicBool>,
    /// Devices that are made while it runs, and become namespaces from 1 on.
    late: Vec<Arc<dyn Device>>,
    /// Those that were made, and not yet open.
    opening: Vec<(ChangeId, NamespaceRequest)>,
    /// How many are namespaces, for the test.
    added: Arc<AtomicU64>,
}

impl TargetControl {
    fn make_devices(&mut self, turn: &mut Turn<'_, Message<SharedProvider>>) {
        for (nsid, device) in (1..).zip(std::mem::take(&mut self.late)) {
            let change = self.control.begin_device(turn, device.name(), None).unwrap();
            let channels = vec![device.open_channel().unwrap()];
            let name = device.name().to_owned();
            self.control.device_made(turn, change, Ok(MadeDevice { device, channels }));
            let request = NamespaceRequest {
                nsid,
                device: name,
                uuid: None,
                nguid: None,
                eui64: None,
                ana_group: None,
                is_auto_visible: true,
                persistence_file: None,
            };
            self.opening.push((change, request));
        }
        while let Some(done) = self.control.next_done() {
            match self.opening.iter().position(|(change, _)| *change == done) {
                Some(place) => {
                    let (_, namespace) = self.opening.remove(place);
                    let addition = Amendment::AddNamespace { nqn: NQN.to_owned(), namespace };
                    self.control.change(turn, Change::Amend(addition)).unwrap();
                }
                None => {
                    self.added.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Program for TargetControl {
    type Message = Message<SharedProvider>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.control.receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.control.fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        if self.stop.swap(false, Ordering::Relaxed) {
            self.control.begin_shutdown(turn);
        }
        let progress = self.control.poll(turn);
        self.make_devices(turn);
        if self.control.is_drained() {
            turn.leave();
        }
        progress
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Self::Message>) -> Rest {
        Rest::Sleep
    }

    fn wake_descriptor(&self) -> Option<std::os::fd::RawFd> {
        self.control.wake_descriptor()
    }
}

/// A target that runs.
struct Target {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    wake: reactor::Wake,
    counters: Arc<ReactorCounters>,
    switch: PollSwitch,
}

impl Target {
    /// Its polling thread is called `name`.
    fn start(directory: &Directory, name: &str) -> Self {
        Self::start_with(directory, name, Vec::new())
    }

    /// With devices that are made while it runs. Without any the directory's are there from the start.
    fn start_with(directory: &Directory, name: &str, late: Vec<Arc<dyn Device>>) -> Self {
        let mut builder = RuntimeBuilder::new(&[sleepy(), ReactorOptions::sleeping()], 256).unwrap();
        let options = TargetOptions {
            cpu_count: 1,
            queue_pair_count_max: 16,
            data_memory_len: 1 << 20,
            huge_pages: false,
            shared_receive_count: 0,
            device_count: 1,
            nodes: Vec::new(),
            placement: Vec::new(),
            host_queue_pair_count_max: u32::MAX,
        };
        let early = if late.is_empty() { directory.devices() } else { Vec::new() };
        let namespaces = (1..).zip(early).map(|(nsid, device)| NamespaceSpec::new(nsid, device)).collect();
        let subsystem = SubsystemSpec {
            model_number: "asleep".to_owned(),
            allow_any_host: true,
            listeners: vec![ADDRESS.parse().unwrap()],
            namespaces,
            ..SubsystemSpec::new(NQN, "1")
        };
        let spec = TargetSpec { subsystems: vec![subsystem], ..TargetSpec::default() };
        let (control, mut cpus) = target::build(directory.provider(), builder.domain(), spec, options).unwrap();
        let program = cpus.pop().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (late_count, added) = (late.len() as u64, Arc::new(AtomicU64::new(0)));
        let opening = Vec::new();
        let control = TargetControl { control, stop: Arc::clone(&stop), late, opening, added: Arc::clone(&added) };
        let (counters, switch) = (builder.counters(Cpu(0)), builder.poll_switch(Cpu(0)));
        let wake = builder.postbox(Cpu(1)).wake();
        builder.spawn(Cpu(0), name, move || program).unwrap();
        builder.spawn(Cpu(1), "control", move || control).unwrap();
        let target = Self { runtime: builder.start(), stop, wake, counters, switch };
        let begin = Instant::now();
        while added.load(Ordering::Relaxed) < late_count {
            assert!(begin.elapsed() < PATIENCE, "{} of {late_count} devices are there", added.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
        target
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.wake();
        self.runtime.join();
    }
}

/// One command at a time, with a pause of its own after each.
struct Napper {
    nsid: u32,
    rounds: u64,
    done: u64,
    pause_ns: fn(u64) -> u64,
    buffer: Option<Segment>,
    submitted_ns: Option<u64>,
    next_ns: u64,
    /// How long each command took, for the test.
    lens_ns: Arc<Mutex<Vec<u64>>>,
    /// Commands that have ended, for the test.
    ended: Arc<AtomicU64>,
    failure: Sender<String>,
}

impl Workload for Napper {
    fn ready(&mut self, start: Start<'_>) {
        self.buffer = Some(start.memory.part(0, (BLOCK_LEN * IO_BLOCK_COUNT) as usize));
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        let Some(buffer) = self.buffer else { return Progress::Idle };
        if self.submitted_ns.is_some() || now_ns < self.next_ns || self.is_done() {
            return Progress::Idle;
        }
        let (nsid, slba, block_count) = (self.nsid, self.done % 16 * 8, IO_BLOCK_COUNT);
        let command = match self.done % 5 {
            0 | 1 => IoCommand::Write { nsid, slba, block_count, force_unit_access: false, buffer },
            2 => IoCommand::Flush { nsid },
            _ => IoCommand::Read { nsid, slba, block_count, buffer },
        };
        io.submit(0, self.done, &command).unwrap();
        self.submitted_ns = Some(now_ns);
        Progress::Busy
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        assert_eq!(ended.len(), 1);
        assert!(ended[0].status.is_success() && ended[0].tag == self.done, "{ended:?}");
        let len_ns = now_ns - self.submitted_ns.take().unwrap();
        self.lens_ns.lock().unwrap().push(len_ns);
        self.done += 1;
        self.next_ns = now_ns + (self.pause_ns)(self.done);
        self.ended.store(self.done, Ordering::Relaxed);
    }

    fn is_done(&self) -> bool {
        self.done == self.rounds
    }

    fn rest(&mut self, now_ns: u64) -> Rest {
        match self.submitted_ns {
            // Its end ends the sleep.
            Some(_) => Rest::Sleep,
            None if self.next_ns > now_ns => Rest::SleepUntil(self.next_ns),
            None => Rest::Poll,
        }
    }

    fn failed(&mut self, failure: &HostFailure) {
        self.failure.send(failure.to_string()).unwrap();
    }
}

/// How a host did.
struct Outcome {
    /// In order of length.
    lens_ns: Vec<u64>,
    sleep_count: u64,
}

impl Outcome {
    fn latest(&self) -> Duration {
        Duration::from_nanos(self.lens_ns.last().copied().unwrap_or(0))
    }
}

/// Runs a host to its end.
fn run_host(
    directory: &Directory,
    nsid: u32,
    rounds: u64,
    pause_ns: fn(u64) -> u64,
    ended: &Arc<AtomicU64>,
    thread: &str,
) -> Outcome {
    let mut options = HostOptions::new(
        ADDRESS.parse().unwrap(),
        NQN.to_owned(),
        HostIdentity::from_uuid([nsid.to_le_bytes()[0]; 16]),
    );
    options.huge_pages = false;
    options.data_memory_len = 64 << 10;
    let lens_ns = Arc::new(Mutex::new(Vec::new()));
    let (failure, failures) = channel();
    let make = |_| Napper {
        nsid,
        rounds,
        done: 0,
        pause_ns,
        buffer: None,
        submitted_ns: None,
        next_ns: 0,
        lens_ns: Arc::clone(&lens_ns),
        ended: Arc::clone(ended),
        failure: failure.clone(),
    };
    let (control, mut programs) = host::build(directory.provider(), options, make).unwrap();
    let mut builder = RuntimeBuilder::new(&[sleepy(), ReactorOptions::sleeping()], 256).unwrap();
    let counters = builder.counters(Cpu(0));
    let program = programs.pop().unwrap();
    builder.spawn(Cpu(0), thread, move || program).unwrap();
    builder.spawn(Cpu(1), "host-control", move || control).unwrap();
    let runtime = builder.start();
    let begin = Instant::now();
    while ended.load(Ordering::Relaxed) < rounds {
        let is_late = begin.elapsed() > PATIENCE;
        assert!(!is_late, "{} of {rounds} commands ended", ended.load(Ordering::Relaxed));
        if let Ok(failure) = failures.recv_timeout(Duration::from_millis(20)) {
            panic!("{failure}");
        }
    }
    runtime.join();
    let mut lens_ns = std::mem::take(&mut *lens_ns.lock().unwrap());
    lens_ns.sort_unstable();
    Outcome { lens_ns, sleep_count: counters.sleep_count.value() }
}

/// From no pause over pauses about as long as it takes to fall asleep to ones in which everybody sleeps.
fn any_pause_ns(round: u64) -> u64 {
    let draw = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    match draw % 4 {
        0 => 0,
        1 => draw % 60_000,
        2 => 25_000 + draw % 20_000,
        _ => draw % 1_500_000,
    }
}

#[test]
fn thousands_of_sleeps_lose_and_delay_no_command() {
    let directory = Directory::new("rounds");
    let target = Target::start(&directory, "rounds-target");
    for nsid in 1..=3 {
        let before = target.counters.sleep_count.value();
        let ended = Arc::default();
        let outcome = run_host(&directory, nsid, 1500, any_pause_ns, &ended, "rounds-host");
        assert!(outcome.latest() < LATE, "namespace {nsid}: a command took {:?}", outcome.latest());
        let target_sleeps = target.counters.sleep_count.value() - before;
        assert!(target_sleeps > 300, "the target slept {target_sleeps} times only");
        assert!(outcome.sleep_count > 300, "the host slept {} times only", outcome.sleep_count);
    }
    target.end();
}

#[test]
fn devices_that_came_later_end_a_sleep_too() {
    let directory = Directory::new("later");
    let target = Target::start_with(&directory, "later-target", directory.devices());
    for nsid in 1..=3 {
        let before = target.counters.sleep_count.value();
        let outcome = run_host(&directory, nsid, 700, any_pause_ns, &Arc::default(), "later-host");
        assert!(outcome.latest() < LATE, "namespace {nsid}: a command took {:?}", outcome.latest());
        let target_sleeps = target.counters.sleep_count.value() - before;
        assert!(target_sleeps > 100, "the target slept {target_sleeps} times only");
    }
    target.end();
}

/// A device each of whose operations takes [`SLOW`], done by a thread of its own.
#[derive(Debug)]
struct Slow;

const SLOW: Duration = Duration::from_millis(300);

struct SlowChannel {
    bell: UnixStream,
    rings: Arc<UnixStream>,
    under_way: VecDeque<u64>,
}

impl Device for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn product(&self) -> &'static str {
        "Slow"
    }

    fn geometry(&self) -> Geometry {
        Geometry::plain(BLOCK_LEN, BLOCK_COUNT, 1 << 16)
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let (bell, rings) = UnixStream::pair().unwrap();
        bell.set_nonblocking(true).unwrap();
        Ok(Box::new(SlowChannel { bell, rings: Arc::new(rings), under_way: VecDeque::new() }))
    }
}

impl Channel for SlowChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        for operation in operations.drain(..) {
            self.under_way.push_back(operation.token);
            let rings = Arc::clone(&self.rings);
            std::thread::spawn(move || {
                std::thread::sleep(SLOW);
                (&*rings).write_all(&[1]).unwrap();
            });
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let mut byte = [0];
        let Ok(1) = self.bell.read(&mut byte) else { return Progress::Idle };
        let token = self.under_way.pop_front().unwrap();
        completions.push(Completion { token, result: Ok(()) });
        Progress::Busy
    }

    fn outstanding_count(&self) -> usize {
        self.under_way.len()
    }

    /// The bell is heard whenever it rings.
    fn arm(&mut self) -> Rest {
        Rest::Sleep
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.bell.as_raw_fd())
    }
}

#[test]
fn a_cpu_sleeps_while_a_late_device_has_its_io() {
    let directory = Directory::new("slow");
    let target = Target::start_with(&directory, "slow-target", vec![Arc::new(Slow)]);
    let (begin, before_ns) = (Instant::now(), cpu_time_ns("slow-target"));
    let outcome = run_host(&directory, 1, 8, |_| 0, &Arc::default(), "slow-host");
    let share = (cpu_time_ns("slow-target") - before_ns) as f64 / begin.elapsed().as_nanos() as f64;
    assert!(u128::from(outcome.lens_ns[0]) >= SLOW.as_nanos(), "{:?}", outcome.lens_ns);
    assert!(outcome.latest() < LATE, "{:?}", outcome.latest());
    assert!(share < 0.05, "{:.2} % of a CPU while the device works", share * 100.0);
    target.end();
}

/// CPU time of a thread of this process (ns).
fn cpu_time_ns(thread: &str) -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.trim_end() != thread {
            continue;
        }
        let clock_id = |tid: i32| !tid << 3 | 6;
        let tid: i32 = task.file_name().to_str().unwrap().parse().unwrap();
        // The clock of another thread of this process, as pthread_getcpuclockid(3) names it.
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the place is ours.
        assert_eq!(unsafe { libc::clock_gettime(clock_id(tid), &raw mut time) }, 0);
        return u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap();
    }
    panic!("no thread {thread}");
}

/// The share of a second that a thread is on a CPU.
fn share(thread: &str) -> f64 {
    let (begin, before_ns) = (Instant::now(), cpu_time_ns(thread));
    std::thread::sleep(Duration::from_secs(1));
    (cpu_time_ns(thread) - before_ns) as f64 / begin.elapsed().as_nanos() as f64
}

/// Some commands, then pauses longer than what is measured in them.
fn long_pause_ns(round: u64) -> u64 {
    if round < 50 { 0 } else { 2_500_000_000 }
}

#[test]
fn who_has_nothing_to_do_uses_no_cpu_time() {
    let directory = Directory::new("idle");
    let target = Target::start(&directory, "idle-target");
    // A busy one for comparison: what is measured can be seen.
    target.switch.set(PollMode::Busy);
    assert!(share("idle-target") > 0.05);
    target.switch.set(PollMode::ADAPTIVE);
    std::thread::sleep(Duration::from_millis(100));
    let alone = share("idle-target");
    assert!(alone < 0.01, "without a host: {:.2} %", alone * 100.0);
    // And with one that is connected and does nothing.
    let ended = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        let host = scope.spawn(|| run_host(&directory, 1, 52, long_pause_ns, &ended, "idle-host"));
        let begin = Instant::now();
        while ended.load(Ordering::Relaxed) < 50 {
            assert!(begin.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
        let shares = [share("idle-target"), share("idle-host")];
        assert!(shares.iter().all(|share| *share < 0.01), "of target and host: {shares:?}");
        // The first command after the pause is answered.
        let outcome = host.join().unwrap();
        assert!(outcome.latest() < LATE, "{:?}", outcome.latest());
    });
    target.end();
}

/// A measurement, to be run alone on an idle machine, in release: `cargo test --release --test sleeping -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_the_first_command_after_a_sleep_costs() {
    let directory = Directory::new("first");
    let target = Target::start(&directory, "first-target");
    for mode in [PollMode::Busy, SLEEPY, PollMode::Busy, SLEEPY] {
        target.switch.set(mode);
        let before = target.counters.sleep_count.value();
        let outcome = run_host(&directory, 1, 2000, |_| 1_000_000, &Arc::default(), "first-host");
        let at = |share: usize| outcome.lens_ns[outcome.lens_ns.len() * share / 1000] as f64 / 1e3;
        let slept = target.counters.sleep_count.value() - before;
        println!("target {mode:?} (slept {slept} times), host sleeps: p50 {:.1} us, p99 {:.1} us", at(500), at(990));
    }
    target.end();
}
