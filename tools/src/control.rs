//! The program of the control plane's reactor: the target's control part, signals, and the connections of RPC and metrics.
//!
//! Owns all of these; sleeps on one epoll instance that watches them. Nothing here waits.

mod access;
mod devices;
mod facts;
mod images;
mod lookout;
mod refusals;
mod server;
mod watch;

mod session;

mod listener;

use std::cell::RefCell;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use bdev::News;
use nvmf_core::ChangeId;
use nvmf_core::target::Amendment;
use reactor::{Cpu, Program, Progress, Rest, Turn};
use transport_rdma::target::{Change, Control, Message};
use transport_rdma::verbs::Provider;

use access::Access;
use devices::{DeviceWorker, Outcome};
pub use devices::{Recipe, Work};
pub use facts::Facts;
use images::Images;
pub use listener::{ListenError, Listener, Service};
use lookout::{LOOK_NS, Lookout};
use refusals::Refusals;
use server::Server;
use watch::{Sighting, Watch};

use crate::clusters::Clusters;
use crate::keeper::{Keeper, Outcome as Kept};
use crate::keyring::Keyring;
use crate::log::Log;
use crate::rpc::{Deferred, methods};
use crate::system::{Epoll, Interest};
use crate::workers::{WORKER_COUNT, Workers};
use crate::{metrics, rpc};

/// Tokens of the epoll instance; the server has its own.
const TRANSPORT_TOKEN: u64 = 1;
const SIGNAL_TOKEN: u64 = 2;
const DEVICE_TOKEN: u64 = 3;
const KEEPER_TOKEN: u64 = 4;
const WORKERS_TOKEN: u64 = 5;
const WATCH_TOKEN: u64 = 6;

/// Timers of this program; all others are the target's.
const TICK_TIMER: u64 = 1 << 62 | 1;
const DEADLINE_TIMER: u64 = 1 << 62 | 2;
const LOOK_TIMER: u64 = 1 << 62 | 3;

/// How often deadlines of connections are looked at.
const TICK_NS: u64 = 1_000_000_000;

/// What the program is made of.
pub struct ControlParts<P: Provider> {
    /// The target's own part.
    pub control: Control<P>,
    /// What is shown by RPC and metrics.
    pub facts: Facts,
    /// The log, to change what it shows.
    pub log: Log,
    /// Keys that hosts can be given.
    pub keyring: Keyring,
    /// The signals that end the target.
    pub signals: crate::target::Signals,
    /// Where RPC and metrics are reached.
    pub listeners: Vec<Listener>,
    /// How long a shutdown may take.
    pub shutdown_deadline_ns: u64,
    /// Who writes reservations to files.
    pub keeper: Keeper,
}

/// The control plane.
pub struct ControlProgram<P: Provider> {
    control: Control<P>,
    facts: Facts,
    log: Log,
    keyring: RefCell<Keyring>,
    workers: Workers,
    refusals: Refusals,
    lookout: Lookout,
    signals: crate::target::Signals,
    epoll: Epoll,
    worker: DeviceWorker,
    watch: Watch,
    clusters: Clusters,
    images: Images,
    server: Server,
    keeper: Keeper,
    shutdown_deadline_ns: u64,
    stage: Stage,
    is_ticking: bool,
    is_looking: bool,
    /// The target's part had a message since its last poll.
    has_news: bool,
    tokens: Vec<u64>,
}

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining { since_ns: u64 },
    Left,
}

impl<P: Provider> ControlProgram<P> {
    /// Puts it together.
    ///
    /// # Errors
    /// If the system refuses an epoll instance.
    pub fn new(parts: ControlParts<P>) -> std::io::Result<Self> {
        let epoll = Epoll::new()?;
        let readable = Interest { read: true, write: false };
        if let Some(descriptor) = parts.control.wake_descriptor() {
            epoll.add(descriptor, TRANSPORT_TOKEN, readable)?;
        }
        epoll.add(parts.signals.as_raw_fd(), SIGNAL_TOKEN, readable)?;
        epoll.add(parts.keeper.descriptor(), KEEPER_TOKEN, readable)?;
        let workers = Workers::start()?;
        epoll.add(workers.as_raw_fd(), WORKERS_TOKEN, readable)?;
        let server = Server::new(parts.listeners, &epoll)?;
        let worker = DeviceWorker::new(parts.facts.directory.cpu_count())?;
        epoll.add(worker.as_raw_fd(), DEVICE_TOKEN, readable)?;
        let watch = Watch::new()?;
        epoll.add(watch.as_raw_fd(), WATCH_TOKEN, readable)?;
        for facts in parts.control.core().devices() {
            watch.add(facts.device);
        }
        Ok(Self {
            control: parts.control,
            lookout: Lookout::new(&parts.facts.reactors),
            facts: parts.facts,
            log: parts.log,
            keyring: RefCell::new(parts.keyring),
            workers,
            refusals: Refusals::default(),
            signals: parts.signals,
            epoll,
            worker,
            watch,
            clusters: Clusters::default(),
            images: Images::default(),
            server,
            keeper: parts.keeper,
            shutdown_deadline_ns: parts.shutdown_deadline_ns,
            stage: Stage::Serving,
            is_ticking: false,
            is_looking: false,
            has_news: false,
            tokens: Vec::new(),
        })
    }

    fn take_signals(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(signal) = self.signals.next() {
            match self.stage {
                Stage::Serving => {
                    tracing::info!(signal, "shutting down: no new connections, the others are drained");
                    self.stage = Stage::Draining { since_ns: turn.now_ns() };
                    turn.arm(turn.now_ns() + self.shutdown_deadline_ns, DEADLINE_TIMER);
                    self.control.begin_shutdown(turn);
                }
                Stage::Draining { .. } => {
                    tracing::warn!(signal, "a second signal: the target ends at once, undrained");
                    self.abandon();
                }
                Stage::Left => {}
            }
        }
    }

    fn serve(&mut self, turn: &mut Turn<'_, Message<P>>, token: u64) {
        let now_ns = turn.now_ns();
        let (control, facts, lookout, log) = (&mut self.control, &self.facts, &self.lookout, &self.log);
        let (worker, keyring, state, clusters) = (&self.worker, &self.keyring, self.keeper.state(), &self.clusters);
        let mut answer = |service: Service,
                          incoming: &mut Vec<u8>,
                          outgoing: &mut Vec<u8>,
                          deferred: &mut Vec<Deferred>| {
            match service {
                Service::Rpc => rpc::answer(incoming, outgoing, deferred, |method, parameters| {
                    let mut target = Access { control, turn, worker };
                    let (reactors, transport) = (&facts.reactors, &facts.transport);
                    let target = &mut target;
                    let transport_type = "RDMA";
                    let view =
                        methods::View { target, reactors, log, keyring, clusters, state, transport, transport_type };
                    methods::perform(view, method, parameters)
                }),
                Service::Metrics => metrics::answer(incoming, outgoing, || facts.samples(control, lookout)),
            }
        };
        self.server.take(&self.epoll, token, now_ns, &mut answer);
    }

    /// Has the keeper do what the target asks for. Writes first: what is read has been written.
    fn order_of_keeper(&mut self) {
        while let Some(write) = self.control.next_reservation_write() {
            self.keeper.keep(write);
        }
        while let Some(read) = self.control.next_reservation_read() {
            self.keeper.find(read);
        }
    }

    /// Devices that were made, or not.
    fn take_devices(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(outcome) = self.worker.next_outcome() {
            match outcome {
                Outcome::Made { change, result } => {
                    if let Ok(made) = &result {
                        self.watch.add(&made.device);
                    }
                    self.control.device_made(turn, change, result);
                }
                Outcome::Worked { change, device, result } => self.take_work(turn, change, device, result),
            }
        }
    }

    /// Something about devices was done, or not.
    fn take_work(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        change: Option<ChangeId>,
        device: Option<String>,
        result: Result<(), String>,
    ) {
        if let Some(name) = device.filter(|_| result.is_ok()) {
            // It may be larger; that it has gone in the meantime is nobody's mistake.
            let rescan = Change::Amend(Amendment::RescanDevice { name });
            if let Err(error) = self.control.change(turn, rescan) {
                tracing::debug!(%error, "a device is not looked at again");
            }
        }
        if let Some(change) = change {
            self.control.work_done(turn, change, result);
        }
    }

    /// What others have done to devices: what there is more of is offered, what is gone is taken from its hosts.
    fn take_sightings(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(Sighting { device, news }) = self.watch.next() {
            let change = match news {
                News::Grown { block_count } => {
                    tracing::info!(device, block_count, "a device has grown");
                    Amendment::RescanDevice { name: device }
                }
                News::Shrunk { block_count } => {
                    tracing::warn!(device, block_count, "a device has shrunk: what hosts do beyond its end fails");
                    continue;
                }
                News::Gone { why } => {
                    // What is made of it goes first; it is seen again.
                    let Some(name) = self.control.core().topmost_device(&device).map(str::to_owned) else { continue };
                    tracing::warn!(device, why, "a device is gone: {name} is taken from its hosts");
                    Amendment::DeleteDevice { name }
                }
            };
            // It may be on its way out already.
            if let Err(error) = self.control.change(turn, Change::Amend(change)) {
                tracing::warn!("what others did to a device came to nothing: {error}");
            }
        }
    }

    /// What was computed goes back, and what may be computed now goes out.
    fn compute(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(done) = self.workers.take() {
            if let Some((host, peer)) = done.refused() {
                self.refusals.add(turn.now_ns(), host, peer);
            }
            self.control.job_done(turn, done);
        }
        while let Some(job) = self.control.next_job(turn, WORKER_COUNT) {
            self.workers.give(job);
        }
    }

    /// Answers who asked for what is done now.
    fn finish_changes(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let now_ns = turn.now_ns();
        while let Some(change) = self.control.next_done() {
            let failure = self.control.take_failure(change);
            if let Some(why) = &failure {
                tracing::warn!("a change came to nothing: {why}");
            }
            self.server.finish(&self.epoll, now_ns, change, failure.as_deref());
        }
        while let Some(device) = self.control.next_retired(turn) {
            self.worker.retire(device);
        }
    }

    /// Looks after the reactors, and does so again in a while.
    fn look(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.lookout.look(&self.facts.reactors, turn.now_ns());
        self.look_at_images(turn);
        turn.arm(turn.now_ns() + LOOK_NS, LOOK_TIMER);
    }

    /// What the locks of images mean for hosts.
    fn look_at_images(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let core = self.control.core();
        let devices: Vec<_> = core.devices().map(|facts| Arc::clone(facts.device)).collect();
        let subsystems: Vec<_> = core.subsystems().collect();
        for amendment in self.images.look(&devices, &subsystems, &self.worker) {
            if let Err(error) = self.control.change(turn, Change::Amend(amendment)) {
                tracing::warn!(%error, "hosts are not told what became of an image's lock");
            }
        }
    }

    /// Connections may have come, gone, or been refused. While the target drains all are refused, which has been said.
    fn note_connections(&mut self) {
        self.has_news = false;
        if self.stage == Stage::Serving {
            self.lookout.note(self.facts.room(&self.control));
        }
    }

    /// The deadline has come: says what is still there, and ends the process.
    fn give_up(&mut self) {
        let alive: Vec<String> = self.facts.alive(&self.control, &self.lookout);
        let waits: Vec<String> = self.control.waits().map(|(what, count)| format!("{count} × {what}")).collect();
        tracing::error!(
            deadline_s = self.shutdown_deadline_ns / 1_000_000_000,
            waits_for = waits.join(", "),
            alive = alive.join(", "),
            "the target could not be drained in time (target.shutdown_deadline_s)"
        );
        self.abandon();
    }

    /// Ends the process without waiting for anything. Only sockets are put away.
    fn abandon(&mut self) {
        self.server.close();
        std::process::exit(1);
    }

    fn leave_if_drained(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if let Stage::Draining { since_ns } = self.stage
            && self.control.is_drained()
        {
            let took_ms = (turn.now_ns() - since_ns) / 1_000_000;
            tracing::info!(took_ms, "drained");
            self.stage = Stage::Left;
            self.server.close();
            turn.leave();
        }
    }
}

impl<P: Provider> Program for ControlProgram<P> {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, from: Option<Cpu>, message: Message<P>) {
        self.has_news = true;
        self.control.receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message<P>>, token: u64) {
        match token {
            TICK_TIMER => {
                self.is_ticking = false;
                self.server.tick(&self.epoll, turn.now_ns());
            }
            LOOK_TIMER if self.stage == Stage::Left => {}
            LOOK_TIMER => self.look(turn),
            DEADLINE_TIMER if matches!(self.stage, Stage::Draining { .. }) => self.give_up(),
            DEADLINE_TIMER => {}
            theirs => self.control.fire(turn, theirs),
        }
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Progress {
        if self.stage == Stage::Left {
            return Progress::Idle;
        }
        if !self.is_looking {
            self.is_looking = true;
            self.look(turn);
        }
        for outcome in self.keeper.outcomes() {
            match outcome {
                Kept::Written(write, outcome) => self.control.reservation_written(write, outcome),
                Kept::Read(change, outcome) => self.control.reservation_read(change, outcome),
            }
        }
        self.compute(turn);
        let progress = self.control.poll(turn);
        self.order_of_keeper();
        if self.has_news || progress == Progress::Busy {
            self.note_connections();
        }
        let mut tokens = std::mem::take(&mut self.tokens);
        self.epoll.ready(&mut tokens);
        let ready = !tokens.is_empty();
        for token in tokens.drain(..) {
            match token {
                // The control part has been polled, the keeper and the workers asked: what is done by now is for the next turn, which comes at once.
                TRANSPORT_TOKEN | KEEPER_TOKEN | WORKERS_TOKEN => {}
                SIGNAL_TOKEN => self.take_signals(turn),
                DEVICE_TOKEN => self.take_devices(turn),
                WATCH_TOKEN => self.take_sightings(turn),
                theirs => self.serve(turn, theirs),
            }
        }
        self.tokens = tokens;
        // Requests may have come, and change something, in this turn.
        self.order_of_keeper();
        self.finish_changes(turn);
        if !self.is_ticking && self.server.needs_time() {
            self.is_ticking = true;
            turn.arm(turn.now_ns() + TICK_NS, TICK_TIMER);
        }
        self.leave_if_drained(turn);
        progress.or(Progress::busy_if(ready))
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Message<P>>) -> Rest {
        Rest::Sleep
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.epoll.as_raw_fd())
    }
}
