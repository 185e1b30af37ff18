//! A shutdown that cannot end since the device does not end a call: at the deadline the process ends, with a status that says so and a line that names what
//! was waited for. The target's own control plane, on a simulated device.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::sync::Arc;

use nvmf_core::host::HostIdentity;
use nvmf_core::spec::{NamespaceSpec, SubsystemSpec, TargetSpec};
use reactor::{Cpu, Progress, ReactorOptions, RuntimeBuilder, Simulation, SimulationOptions};
use tools::config::{Config, LogFormat, LogSection, ReactorSection};
use tools::control::{ControlParts, ControlProgram, Facts};
use tools::keyring::Keyring;
use tools::opening::Means;
use tools::present::Asked;
use tools::reactors::Reactors;
use tools::target::Signals;
use transport_rdma::host::{self, Ended, HostOptions, IoQueues, Start, Workload};
use transport_rdma::soft::in_process::{Fabric, InProcessProvider, TicketKinds};
use transport_rdma::target::{self, TargetOptions};
use transport_rdma::verbs::Port;

const NQN: &str = "nqn.2026-11.io.quiesce:deadline";
const DEADLINE_NS: u64 = 10_000_000_000;

#[test]
fn a_shutdown_that_cannot_end_ends_at_its_deadline_and_says_what_it_waited_for() {
    let (status, said) = end_with("destroy");
    assert_eq!(status, Some(1), "{said}");
    let line = said.lines().find(|line| line.contains("could not be drained in time")).expect(&said);
    assert!(line.contains("target.shutdown_deadline_s"), "{line}");
    assert!(line.contains("3 × destruction of a queue pair"), "{line}");
    assert!(line.contains("rdma_queue_pairs_live 3"), "{line}");
}

#[test]
fn the_same_shutdown_ends_well_where_every_call_does() {
    let (status, said) = end_with("nothing");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("drained") && !said.contains("in time"), "{said}");
}

/// Runs a target in a process of its own, which ends by itself: its status and its log.
fn end_with(never: &str) -> (Option<i32>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_target_to_be_ended", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env("NEVER_ENDING", never).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Not a test: the process of the tests above.
#[test]
#[ignore = "the process that other tests start"]
fn a_target_to_be_ended() {
    let Ok(never) = std::env::var("NEVER_ENDING") else { return };
    let signals = Signals::block().unwrap();
    let log = tools::log::start(&LogSection { level: "info".to_owned(), format: LogFormat::Text });
    let fabric = Fabric::new(1);
    let options = SimulationOptions { sleeps: false, ..SimulationOptions::default() };
    let mut mesh: Simulation<target::Message<InProcessProvider>> = Simulation::with_options(1, 2, options);
    let (control, cpus) = target::build(fabric.machine(), mesh.domain(), spec(), target_options()).unwrap();
    for cpu in cpus {
        mesh.install(Cpu(0), cpu);
    }
    // Only for its figures: the reactors are simulated.
    let builder: RuntimeBuilder<()> =
        RuntimeBuilder::new(&[ReactorOptions::yielding(), ReactorOptions::sleeping()], 16).unwrap();
    let facts = Facts {
        reactors: Reactors::of(&builder, &ReactorSection::Floating(1), vec![0]),
        queue_pair_count_max: 16,
        directory: control.core().directory(),
    };
    let keeper = tools::keeper::Keeper::start(None).unwrap();
    let text = "[target]\nreactors = 1\n[rpc]\nsocket = \"x.sock\"\n";
    let config = Config::parse(std::path::Path::new("x.toml"), text, &[0]).unwrap();
    let parts = ControlParts {
        control,
        facts,
        log,
        keyring: Keyring::default(),
        signals,
        notifier: tools::notify::Notifier::default(),
        listeners: Vec::new(),
        shutdown_deadline_ns: DEADLINE_NS,
        keeper,
        means: Means::default(),
        asked: Asked::new(config.clone(), &config, None),
        saved: None,
        first: Vec::new(),
    };
    mesh.install(Cpu(1), ControlProgram::new(parts).unwrap());

    let mut host_mesh: Simulation<host::Message<InProcessProvider>> = Simulation::with_options(2, 2, options);
    let mut options = HostOptions::new(address(), NQN.to_owned(), HostIdentity::from_uuid([7; 16]));
    options.queue_count_per_cpu = 2;
    (options.queue_depth, options.data_memory_len, options.huge_pages) = (4, 64 << 10, false);
    let is_ready = std::rc::Rc::new(std::cell::Cell::new(false));
    let (host_control, host_cpus) =
        host::build(fabric.machine(), options, |_| Idle(std::rc::Rc::clone(&is_ready))).unwrap();
    for cpu in host_cpus {
        host_mesh.install(Cpu(0), cpu);
    }
    host_mesh.install(Cpu(1), host_control);

    // Steps of both, and now and then time goes on where nothing else does. Whether the target has left.
    let mut steps = |idle_ns: u64| {
        for _ in 0..2_000 {
            mesh.step();
            host_mesh.step();
        }
        mesh.advance(idle_ns);
        host_mesh.advance(idle_ns);
        mesh.has_left(Cpu(0)) && mesh.has_left(Cpu(1))
    };
    while !is_ready.get() {
        steps(0);
    }
    fabric.change(|options| {
        options.never_ending = if never == "destroy" { TicketKinds::DESTROY_QUEUE_PAIR } else { TicketKinds::empty() };
    });
    // To this thread, which blocks it: the test harness' own do not.
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::raise(libc::SIGTERM) }, 0);
    while !steps(20_000_000) {}
}

/// A workload that wants nothing.
struct Idle(std::rc::Rc<std::cell::Cell<bool>>);

impl Workload for Idle {
    fn ready(&mut self, _: Start<'_>) {
        self.0.set(true);
    }

    fn poll<Q: Port>(&mut self, _: u64, _: &mut IoQueues<'_, Q>) -> Progress {
        Progress::Idle
    }

    fn completed(&mut self, _: u64, _: &[Ended]) {}

    fn is_done(&self) -> bool {
        false
    }

    fn failed(&mut self, _: &host::HostFailure) {}
}

fn address() -> std::net::SocketAddr {
    "127.0.0.1:4420".parse().unwrap()
}

fn target_options() -> TargetOptions {
    TargetOptions {
        cpu_count: 1,
        queue_pair_count_max: 16,
        data_memory_len: 1 << 20,
        huge_pages: false,
        shared_receive_count: 0,
        device_count: 1,
        nodes: Vec::new(),
        placement: Vec::new(),
        host_queue_pair_count_max: u32::MAX,
    }
}

fn spec() -> TargetSpec {
    let device = Arc::new(bdev::Memory::new("disk0", 512, 64, false).unwrap());
    TargetSpec {
        subsystems: vec![SubsystemSpec {
            model_number: "simulated".to_owned(),
            allow_any_host: true,
            listeners: vec![address()],
            namespaces: vec![NamespaceSpec::new(1, device)],
            ..SubsystemSpec::new(NQN, "1")
        }],
        ..TargetSpec::default()
    }
}
