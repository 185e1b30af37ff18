//! The program of the control plane's reactor: the target's control part, signals, and the connections of RPC and metrics.
//!
//! Owns all of these; sleeps on one epoll instance that watches them. Nothing here waits.

mod access;
mod desk;
mod devices;
mod facts;
mod images;
mod lookout;
mod refusals;
mod saving;
mod script;
mod server;
mod watch;

mod session;

mod listener;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use bdev::News;
use nvmf_core::ChangeId;
use nvmf_core::target::Amendment;
use reactor::{Cpu, Program, Progress, Rest, Turn};
use transport_rdma::target::{Change, Control, Message};
use transport_rdma::verbs::Provider;

use desk::Desk;
pub use devices::Work;
use devices::{DeviceWorker, Outcome};
pub use facts::Facts;
use images::Images;
pub use listener::{ListenError, Listener, Service};
use lookout::{LOOK_NS, Lookout};
use refusals::Refusals;
use saving::Saving;
use server::Server;
use watch::{Sighting, Watch};

use crate::config::Step;
use crate::keeper::{Keeper, Outcome as Kept};
use crate::keyring::Keyring;
use crate::log::Log;
use crate::notifications::{Notifications, REGISTERED, UNREGISTERED};
use crate::notify::{News as Told, Notifier};
use crate::opening::Means;
use crate::present::Asked;
use crate::rpc::{Deferred, Outcome as Answer, methods};
use crate::saved::SavedFile;
use crate::system::{Epoll, Interest, Signal};
use crate::target::CLOSE_PATIENCE;
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

/// What the end of the process may take once the target is drained, or is not waited for any more.
#[allow(clippy::cast_possible_truncation, reason = "seconds")]
const AFTER_DRAIN_NS: u64 = CLOSE_PATIENCE.as_nanos() as u64 + 5_000_000_000;

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
    /// The service manager.
    pub notifier: Notifier,
    /// Where RPC and metrics are reached.
    pub listeners: Vec<Listener>,
    /// How long a shutdown may take.
    pub shutdown_deadline_ns: u64,
    /// Who writes reservations to files.
    pub keeper: Keeper,
    /// What devices are opened with.
    pub means: Means,
    /// What it was started with.
    pub asked: Asked,
    /// Where what requests change is kept.
    pub saved: Option<SavedFile>,
    /// Calls that it starts with.
    pub first: Vec<Step>,
}

/// The control plane.
pub struct ControlProgram<P: Provider> {
    desk: Desk<P>,
    saving: Option<Saving>,
    workers: Workers,
    refusals: Refusals,
    lookout: Lookout,
    signals: crate::target::Signals,
    notifier: Notifier,
    epoll: Epoll,
    watch: Watch,
    images: Images,
    server: Server,
    /// Calls that the target starts with.
    first: Vec<Step>,
    /// Is done when they are.
    first_change: Option<ChangeId>,
    /// What SIGHUP has begun.
    reload: Option<ChangeId>,
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
        let lookout = Lookout::new(&parts.facts.reactors);
        let desk = Desk {
            control: parts.control,
            facts: parts.facts,
            log: parts.log,
            keyring: RefCell::new(parts.keyring),
            worker,
            keeper: parts.keeper,
            means: parts.means,
            asked: parts.asked,
            notifications: Notifications::default(),
            script: None,
            questions: BTreeMap::new(),
        };
        Ok(Self {
            desk,
            saving: parts.saved.map(Saving::new),
            lookout,
            workers,
            refusals: Refusals::default(),
            signals: parts.signals,
            notifier: parts.notifier,
            epoll,
            watch,
            images: Images::default(),
            server,
            first: parts.first,
            first_change: None,
            reload: None,
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
            match (self.stage, signal) {
                (Stage::Serving, Signal::Reload) => self.reload(turn),
                (Stage::Serving, Signal::End(name)) => {
                    tracing::info!(signal = name, "shutting down: no new connections, the others are drained");
                    self.stage = Stage::Draining { since_ns: turn.now_ns() };
                    turn.arm(turn.now_ns() + self.shutdown_deadline_ns, DEADLINE_TIMER);
                    self.notifier.tell(Told::Stopping { at_most_ns: self.shutdown_deadline_ns + AFTER_DRAIN_NS });
                    self.desk.control.begin_shutdown(turn);
                }
                (Stage::Draining { .. }, Signal::End(name)) => {
                    tracing::warn!(signal = name, "a second signal: the target ends at once, undrained");
                    self.abandon();
                }
                (Stage::Draining { .. }, Signal::Reload) | (Stage::Left, _) => {}
            }
        }
    }

    /// SIGHUP: as `reload_config` does. What comes to nothing later is said when it does.
    fn reload(&mut self, turn: &mut Turn<'_, Message<P>>) {
        tracing::info!("SIGHUP: the configuration file is read again");
        self.notifier.tell(Told::Reloading);
        match self.desk.with_view(turn, |view| methods::perform(view, "reload_config", None)) {
            Ok(Answer::Begun(change, _)) => self.reload = Some(change),
            Ok(Answer::Done(_) | Answer::SeveralBegun(..)) => self.notifier.tell(Told::Ready),
            Err(error) => {
                tracing::error!("the target stays as it is: {}", error.message);
                // What an earlier one has begun goes on, and says so itself.
                if self.reload.is_none() {
                    self.notifier.tell(Told::Ready);
                }
            }
        }
    }

    fn serve(&mut self, turn: &mut Turn<'_, Message<P>>, token: u64) {
        let now_ns = turn.now_ns();
        let (desk, lookout, saving) = (&mut self.desk, &self.lookout, &mut self.saving);
        let mut answer =
            |service: Service, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>, deferred: &mut Vec<Deferred>| {
                match service {
                    Service::Rpc => rpc::answer(incoming, outgoing, deferred, |method, parameters| {
                        if let Some(saving) = saving {
                            saving.note();
                        }
                        desk.with_view(turn, |view| methods::perform(view, method, parameters))
                    }),
                    Service::Metrics => {
                        metrics::answer(incoming, outgoing, || desk.facts.samples(&desk.control, lookout, turn.guard()))
                    }
                }
            };
        self.server.take(&self.epoll, token, now_ns, &mut answer);
    }

    /// Has the keeper do what the target asks for. Writes first: what is read has been written.
    fn order_of_keeper(&mut self) {
        while let Some(write) = self.desk.control.next_reservation_write() {
            self.desk.keeper.keep(write);
        }
        while let Some(read) = self.desk.control.next_reservation_read() {
            self.desk.keeper.find(read);
        }
    }

    /// Devices that were made, or not.
    fn take_devices(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(outcome) = self.desk.worker.next_outcome() {
            match outcome {
                Outcome::Made { change, section, result } => {
                    if let Ok(made) = &result {
                        self.watch.add(&made.device);
                        self.desk.asked.add(*section);
                        self.desk.notifications.add(REGISTERED, made.device.name());
                    }
                    self.desk.control.device_made(turn, change, result);
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
            if let Err(error) = self.desk.control.change(turn, rescan) {
                tracing::debug!(%error, "a device is not looked at again");
            }
        }
        if let Some(change) = change {
            self.desk.control.work_done(turn, change, result);
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
                    let Some(name) = self.desk.control.core().topmost_device(&device).map(str::to_owned) else {
                        continue;
                    };
                    tracing::warn!(device, why, "a device is gone: {name} is taken from its hosts");
                    Amendment::DeleteDevice { name }
                }
            };
            // It may be on its way out already.
            if let Err(error) = self.desk.control.change(turn, Change::Amend(change)) {
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
            self.desk.control.job_done(turn, done);
        }
        while let Some(job) = self.desk.control.next_job(turn, WORKER_COUNT) {
            self.workers.give(job);
        }
    }

    /// Answers who asked for what is done now, and goes on with what waited for it.
    fn finish_changes(&mut self, turn: &mut Turn<'_, Message<P>>) {
        loop {
            while let Some(change) = self.desk.control.next_done() {
                let failure = self.desk.control.take_failure(change);
                if let Some(why) = &failure {
                    tracing::warn!("a change came to nothing: {why}");
                }
                self.desk.note_for_script(turn, change, failure.as_deref());
                if self.first_change.take_if(|first| *first == change).is_some() {
                    match &failure {
                        None => self.is_ready(),
                        Some(why) => self.fail_to_begin(why),
                    }
                }
                if self.reload.take_if(|reload| *reload == change).is_some() {
                    self.notifier.tell(Told::Ready);
                }
                match &mut self.saving {
                    None => self.answer(turn, vec![(change, failure)]),
                    Some(saving) => {
                        let told = saving.take(change, failure);
                        self.answer(turn, told);
                    }
                }
            }
            if !self.desk.run_script(turn) {
                break;
            }
        }
        if self.stage == Stage::Serving
            && let Some(saving) = &mut self.saving
        {
            let told = saving.save(&mut self.desk, turn);
            self.answer(turn, told);
        }
        while let Some(device) = self.desk.control.next_retired(turn) {
            self.desk.notifications.add(UNREGISTERED, device.device.name());
            self.desk.asked.forget(device.device.name());
            self.desk.worker.retire(device);
        }
    }

    fn answer(&mut self, turn: &mut Turn<'_, Message<P>>, done: Vec<(ChangeId, Option<String>)>) {
        for (change, failure) in done {
            let result = self.desk.events(change);
            self.server.finish(&self.epoll, turn.now_ns(), change, failure.as_deref(), result);
        }
    }

    /// What the target starts with beside its configuration.
    fn begin(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let first = std::mem::take(&mut self.first);
        if first.is_empty() {
            self.is_ready();
            return;
        }
        match self.desk.with_view(turn, |view| view.target.run(first, None)) {
            Ok(change) => self.first_change = Some(change),
            Err(error) => self.fail_to_begin(&error.to_string()),
        }
    }

    fn is_ready(&mut self) {
        tracing::info!("ready");
        self.notifier.tell(Told::Ready);
    }

    fn fail_to_begin(&mut self, why: &str) {
        tracing::error!("the target does not start: {why}");
        self.abandon();
    }

    /// Looks after the reactors, and does so again in a while.
    fn look(&mut self, turn: &mut Turn<'_, Message<P>>) {
        self.lookout.look(&self.desk.facts.reactors, turn.now_ns());
        self.look_at_images(turn);
        self.tell_manager();
        turn.arm(turn.now_ns() + LOOK_NS, LOOK_TIMER);
    }

    /// A sign of life while every CPU turns: without it the service manager starts a target anew of which a part is stuck. And what it does, in words.
    fn tell_manager(&mut self) {
        let stalled = self.lookout.stalled(&self.desk.facts.reactors);
        if self.notifier.watchdog_ns().is_some() && stalled.is_empty() {
            self.notifier.tell(Told::Alive);
        }
        let connections = self.desk.facts.room(&self.desk.control).connection_count;
        let subsystems = self.desk.control.core().subsystems().count();
        let mut status = match self.stage {
            Stage::Serving => format!("subsystems: {subsystems}, connections: {connections}"),
            Stage::Draining { .. } | Stage::Left => format!("draining; connections: {connections}"),
        };
        if !stalled.is_empty() {
            status = format!("CPU {} does not turn; {status}", stalled.join(", "));
        }
        self.notifier.show(status);
    }

    /// What the locks of images mean for hosts.
    fn look_at_images(&mut self, turn: &mut Turn<'_, Message<P>>) {
        let core = self.desk.control.core();
        let devices: Vec<_> = core.devices().map(|facts| Arc::clone(facts.device)).collect();
        let subsystems: Vec<_> = core.subsystems().collect();
        for amendment in self.images.look(&devices, &subsystems, &self.desk.worker) {
            if let Err(error) = self.desk.control.change(turn, Change::Amend(amendment)) {
                tracing::warn!(%error, "hosts are not told what became of an image's lock");
            }
        }
    }

    /// Connections may have come, gone, or been refused. While the target drains all are refused, which has been said.
    fn note_connections(&mut self) {
        self.has_news = false;
        if self.stage == Stage::Serving {
            self.lookout.note(self.desk.facts.room(&self.desk.control));
        }
    }

    /// The deadline has come: says what is still there, and ends the process.
    fn give_up(&mut self) {
        let alive: Vec<String> = self.desk.facts.alive(&self.desk.control, &self.lookout);
        let waits: Vec<String> = self.desk.control.waits().map(|(what, count)| format!("{count} × {what}")).collect();
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
            && self.desk.control.is_drained()
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
        self.desk.control.receive(turn, from, message);
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
            theirs => self.desk.control.fire(turn, theirs),
        }
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message<P>>) -> Progress {
        if self.stage == Stage::Left {
            return Progress::Idle;
        }
        if !self.is_looking {
            self.is_looking = true;
            self.begin(turn);
            self.look(turn);
        }
        for outcome in self.desk.keeper.outcomes() {
            match outcome {
                Kept::Written(write, outcome) => self.desk.control.reservation_written(write, outcome),
                Kept::Read(change, outcome) => self.desk.control.reservation_read(change, outcome),
            }
        }
        self.compute(turn);
        let progress = self.desk.control.poll(turn);
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
