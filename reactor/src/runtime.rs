//! Reactors on real threads.
//!
//! Each reactor's thread pins itself, makes its program, waits until all were spawned, and then turns until the program has
//! left, with pauses between turns as its [`PollMode`] says. A thread that panics stops the others, and [`Runtime::join`] passes the panic on: a mesh that lacks a CPU is of no use.

mod affinity;
mod poll_mode;
mod sleep;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::bell::Bell;
use crate::clock::Clock;
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::mailbox::{Bells, Postbox, Wake};
use crate::mesh::Mesh;
use crate::primitive::{AtomicBool, Ordering};
use crate::program::Program;
use crate::reactor::Reactor;
use crate::watch::Watch;

pub use affinity::os_cpus_allowed;
use poll_mode::{Between, Idleness};
pub use poll_mode::{PollMode, PollSwitch};

/// Where a reactor's thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Pinned to this CPU of the operating system.
    Pinned {
        /// The operating system's CPU number.
        os_cpu: usize,
    },
    /// Wherever the operating system puts it.
    Floating,
}

/// One reactor of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorOptions {
    /// Where it runs.
    pub placement: Placement,
    /// What it does when there is nothing to do, to begin with.
    pub poll_mode: PollMode,
}

impl ReactorOptions {
    /// Pinned, adaptive.
    #[must_use]
    pub const fn pinned(os_cpu: usize) -> Self {
        Self { placement: Placement::Pinned { os_cpu }, poll_mode: PollMode::ADAPTIVE }
    }

    /// Not pinned, and gives its CPU away whenever a turn found nothing: for more reactors than CPUs, and for tests.
    #[must_use]
    pub const fn yielding() -> Self {
        Self { placement: Placement::Floating, poll_mode: PollMode::Yielding }
    }

    /// Not pinned, asleep as soon as there is nothing to do: the control plane.
    #[must_use]
    pub const fn sleeping() -> Self {
        Self { placement: Placement::Floating, poll_mode: PollMode::SLEEPING }
    }
}

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The CPU cannot be used.
    #[error("cpu {os_cpu} is not available to this process (allowed: {allowed})")]
    NoSuchCpu {
        /// What was asked for.
        os_cpu: usize,
        /// What the process may use, as a list.
        allowed: String,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    System {
        /// Which call.
        call: &'static str,
        /// errno.
        source: std::io::Error,
    },
}

/// A mesh being put together. `M` is its message.
pub struct RuntimeBuilder<M> {
    mesh: Mesh<M>,
    reactors: Box<[ReactorOptions]>,
    switches: Box<[PollSwitch]>,
    clock: Clock,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
    /// Dropped without a word, each makes its thread end.
    gates: Vec<mpsc::Sender<()>>,
}

impl<M: Send + 'static> RuntimeBuilder<M> {
    /// A mesh of these reactors; rings between each two hold `ring_capacity` messages. Checks the CPU numbers.
    ///
    /// # Errors
    /// [`RuntimeError::NoSuchCpu`]; a system call that failed.
    pub fn new(reactors: &[ReactorOptions], ring_capacity: usize) -> Result<Self, RuntimeError> {
        for reactor in reactors {
            match reactor.placement {
                Placement::Pinned { os_cpu } => affinity::check(os_cpu)?,
                Placement::Floating => {}
            }
        }
        let bells = reactors.iter().map(|_| Ok(Bell::new(Some(eventfd()?))));
        let mesh = Mesh::new(bells.collect::<Result<_, RuntimeError>>()?, ring_capacity);
        let stop = Stop { wanted: Arc::new(AtomicBool::new(false)), bells: Arc::clone(mesh.bells()) };
        let switches = (0..)
            .map(Cpu)
            .zip(reactors)
            .map(|(cpu, reactor)| PollSwitch::new(reactor.poll_mode, Wake::new(Arc::clone(mesh.bells()), cpu)));
        let switches = switches.collect();
        let clock = Clock::start();
        Ok(Self { mesh, reactors: reactors.into(), switches, clock, stop, threads: Vec::new(), gates: Vec::new() })
    }

    /// The mesh's reclamation domain, to make tables in.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.mesh.domain()
    }

    /// The way into `cpu` for other threads.
    #[must_use]
    pub fn postbox(&self, cpu: Cpu) -> Postbox<M> {
        self.mesh.postbox(cpu)
    }

    /// What `cpu` counts.
    #[must_use]
    pub fn counters(&self, cpu: Cpu) -> Arc<ReactorCounters> {
        self.mesh.counters(cpu)
    }

    /// Who holds a CPU too long.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.mesh.watch().clone()
    }

    /// Changes what `cpu` does when there is nothing to do, also while it runs.
    #[must_use]
    pub fn poll_switch(&self, cpu: Cpu) -> PollSwitch {
        self.switches[usize::from(cpu.0)].clone()
    }

    /// The clock that turns take their time from.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Starts `cpu`'s thread; the program is made on it. It turns from [`Self::start`] on. Panics if `cpu` has a program.
    ///
    /// # Errors
    /// If the thread cannot be started or pinned. The builder is then of no more use: dropped, it ends the threads that it started.
    pub fn spawn<P>(
        &mut self,
        cpu: Cpu,
        name: &str,
        make: impl FnOnce() -> P + Send + 'static,
    ) -> Result<(), RuntimeError>
    where
        P: Program<Message = M> + 'static,
    {
        let placement = self.reactors[usize::from(cpu.0)].placement;
        let switch = self.switches[usize::from(cpu.0)].clone();
        let seat = self.mesh.sit(cpu, random_seed());
        let clock = self.clock;
        let stop = self.stop.clone();
        let (report_pinned, pinned) = mpsc::channel();
        let (gate, opened) = mpsc::channel();
        let body = move || {
            let stopper = StopOnPanic(&stop);
            let is_pinned = affinity::place(placement);
            let go_on = is_pinned.is_ok();
            // The builder waits for this.
            let _ = report_pinned.send(is_pinned);
            if go_on {
                let reactor = Reactor::new(make(), seat);
                if opened.recv().is_ok() {
                    run(reactor, clock, &switch, &stop);
                }
            }
            drop(stopper);
        };
        // A thread's name is a C string.
        let name = name.replace('\0', "");
        let thread = thread::Builder::new().name(name).spawn(body);
        self.threads.push(thread.map_err(|source| RuntimeError::System { call: "pthread_create", source })?);
        self.gates.push(gate);
        match pinned.recv() {
            Ok(is_pinned) => is_pinned,
            Err(mpsc::RecvError) => unreachable!("the thread reports before it does anything that could panic"),
        }
    }

    /// All reactors were spawned: they begin to turn. Panics if one was not.
    #[must_use = "the runtime is joined"]
    pub fn start(self) -> Runtime {
        if let Some(cpu) = self.mesh.vacant() {
            panic!("a mesh was started with no program on cpu {}", cpu.0);
        }
        for gate in &self.gates {
            // Fails where the thread has panicked; `join` tells.
            let _ = gate.send(());
        }
        Runtime { threads: self.threads }
    }
}

/// A running mesh.
#[derive(Debug)]
pub struct Runtime {
    threads: Vec<JoinHandle<()>>,
}

impl Runtime {
    /// Waits until every program has left. Panics with a reactor's panic.
    pub fn join(self) {
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        if let Some(panic) = ends.into_iter().find_map(Result::err) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Turns until the program has left.
fn run<P: Program>(mut reactor: Reactor<P>, clock: Clock, switch: &PollSwitch, stop: &Stop) {
    let mut idleness = Idleness::default();
    while !stop.is_wanted() {
        let progress = reactor.turn(&clock);
        if reactor.has_left() {
            // Its last turn is counted already: there is no time to go on from.
            break;
        }
        match idleness.after(progress, switch, reactor.turn_ns()) {
            Between::Nothing => {}
            Between::Pause => poll_mode::pause(),
            Between::Yield => thread::yield_now(),
            Between::Sleep => {
                if let Some(limit) = reactor.lie_down(&clock) {
                    let lay_down_ns = clock.now_ns();
                    sleep::sleep(reactor.bell(), reactor.wake_descriptor(), limit);
                    reactor.wake_up(lay_down_ns, clock.now_ns());
                }
            }
        }
    }
}

/// Ends all reactors of a mesh after one has panicked.
#[derive(Clone)]
struct Stop {
    wanted: Arc<AtomicBool>,
    bells: Bells,
}

impl Stop {
    fn is_wanted(&self) -> bool {
        // ORDERING 9.
        self.wanted.load(Ordering::Relaxed)
    }
}

struct StopOnPanic<'s>(&'s Stop);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // ORDERING 9. The signal stays readable until it is taken, so that a thread on its way to sleep does not sleep either; the
            // system call is more than fence enough for it to find the flag then.
            self.0.wanted.store(true, Ordering::Relaxed);
            self.0.bells.iter().for_each(|bell| bell.signal());
        }
    }
}

fn eventfd() -> Result<OwnedFd, RuntimeError> {
    // SAFETY: no memory is involved.
    let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if number < 0 {
        return Err(RuntimeError::System { call: "eventfd", source: io::Error::last_os_error() });
    }
    // SAFETY: a descriptor that was opened just now and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The standard library's seed for hash maps is the operating system's randomness.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
