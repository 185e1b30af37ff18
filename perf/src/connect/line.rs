//! A line: one host that stays, and has one association after the other.
//!
//! Runs on a thread of its own, which tells the host's control plane when to connect and listens to what becomes of it. After a failure that may have cost the way to the target
//! the line takes another host, with memory of its own: what the last one offered to a peer that is gone is offered to nobody else.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use reactor::{Clock, Cpu, PollMode, Postbox, ReactorOptions, Runtime, RuntimeBuilder};
use transport_rdma::host::{HostFailure, HostOptions, Message, build};

use super::association::{Association, Event, Order};
use super::outcome::{Outcome, kind_of};
use super::plan::{Ending, Life, Plan};
use super::settings::Settings;
use crate::fabric::Fabric;
use crate::identity::identity;
use crate::random::Random;
use crate::run;
use crate::signal;

/// Messages between two reactors of a host.
const RING_CAPACITY: usize = 1024;
/// How often signals are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long ending may take beyond the drains' deadline, before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(12);
/// Rest after a failure: a target that refuses is not to be asked without pause.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
/// What an association is taken to need to connect before the first one has shown it.
const TYPICAL_CONNECT_NS: u64 = 2_000_000;

/// A host's mesh, and the ways to it.
struct Mesh<P: Fabric> {
    runtime: Runtime,
    postbox: Postbox<Message<P>>,
    clock: Clock,
    orders: Sender<Order>,
    events: Receiver<Event>,
}

/// What became of a host with an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It can have another.
    Stays,
    /// It is to be replaced.
    Replace,
    /// It does not answer.
    Hangs,
}

/// One line.
pub(super) struct Line<P> {
    fabric: PhantomData<fn() -> P>,
    settings: Arc<Settings>,
    number: u16,
    random: Random,
    /// Of the last association that connected.
    typical_connect_ns: u64,
    outcome: Outcome,
}

impl<P: Fabric> Line<P> {
    pub(super) fn new(settings: Arc<Settings>, number: u16) -> Self {
        let random = Random::new(settings.seed, u64::from(number));
        Self {
            fabric: PhantomData,
            settings,
            number,
            random,
            typical_connect_ns: TYPICAL_CONNECT_NS,
            outcome: Outcome::new(),
        }
    }

    /// Has associations until the plan has no more.
    pub(super) fn run(mut self, plan: &Plan) -> anyhow::Result<Outcome> {
        let mut mesh = None;
        while let Some(life) = plan.next(&mut self.random) {
            let host = match mesh.take() {
                Some(host) => host,
                None => self.start()?,
            };
            let failures_before = self.outcome.failure_count();
            let after = self.live(&host, life);
            plan.ended(self.outcome.failure_count() > failures_before || self.outcome.refused.is_some());
            match after {
                After::Stays => mesh = Some(host),
                After::Replace => end(host),
                // Its threads end with the process.
                After::Hangs => break,
            }
            if self.outcome.failure_count() > failures_before {
                plan.rest(AFTER_FAILURE);
            }
        }
        if let Some(host) = mesh {
            end(host);
        }
        Ok(self.outcome)
    }

    fn start(&self) -> anyhow::Result<Mesh<P>> {
        let settings = &self.settings;
        let provider = P::open(&settings.address)?;
        let (orders, orders_out) = channel();
        let (events_in, events) = channel();
        let mut association = Some(Association::new(Arc::clone(settings), self.number, orders_out, events_in));
        let (control, programs) =
            build(provider, self.host_options(), |_cpu| association.take().expect("a line has one polling CPU"))?;
        // Associations wait for the target most of the time: only a line that has a CPU to itself polls on for a while.
        let poll_mode = if usize::from(settings.line_count) > settings.cpus.len() {
            PollMode::SLEEPING
        } else {
            PollMode::ADAPTIVE
        };
        let os_cpu = settings.cpus[usize::from(self.number) % settings.cpus.len()];
        let polling = ReactorOptions { poll_mode, ..ReactorOptions::pinned(os_cpu) };
        let mut builder = RuntimeBuilder::new(&[polling, ReactorOptions::sleeping()], RING_CAPACITY)?;
        let (postbox, clock) = (builder.postbox(Cpu(1)), builder.clock());
        for program in programs {
            builder.spawn(Cpu(0), &format!("line-{}", self.number), move || program)?;
        }
        builder.spawn(Cpu(1), "line-control", move || control)?;
        Ok(Mesh { runtime: builder.start(), postbox, clock, orders, events })
    }

    fn host_options(&self) -> HostOptions {
        let settings = &self.settings;
        let identity = identity(settings.host_nqn.as_deref(), settings.host_id, self.number);
        let mut options = HostOptions::new(settings.address.address, settings.address.subsystem_nqn.clone(), identity);
        options.queue_count_per_cpu = settings.queue_count;
        options.authentication = settings.authentication.clone();
        options.queue_depth = settings.io_depth;
        options.data_memory_len = settings.slot_count() * settings.io_len;
        options.controller_id = settings.controller_id;
        options.keep_alive_ms = settings.keep_alive_ms;
        options.attach_timeout_ms = ms(settings.connect_timeout);
        options.command_timeout_ms = ms(settings.command_timeout);
        options.stays = true;
        // What is tried here is the connections' own end.
        options.shutdown_timeout_ms = 0;
        options.asynchronous_events = false;
        options
    }

    /// One association from beginning to end.
    fn live(&mut self, host: &Mesh<P>, life: Life) -> After {
        let begin_ns = host.clock.now_ns();
        let order = Order { number: life.number, ends_abruptly: life.ending == Ending::Abrupt };
        let _ = host.orders.send(order);
        post(host, Message::connect());

        let hang_ns = begin_ns + ns(self.settings.connect_timeout + self.settings.command_timeout + PATIENCE);
        // Half of these come too late: then the association ends quietly.
        let mut give_up_ns =
            (life.ending == Ending::Early).then(|| begin_ns + self.random.below(2 * self.typical_connect_ns));
        let (mut done_ns, mut failure, mut was_given_up) = (None, None, false);
        let (apart_ns, checks) = loop {
            let now_ns = host.clock.now_ns();
            if give_up_ns.is_some_and(|ns| ns <= now_ns) || (signal::count() > 1 && !was_given_up) {
                post(host, Message::disconnect());
                (give_up_ns, was_given_up) = (None, true);
            }
            let wait = give_up_ns.map_or(LOOK, |ns| Duration::from_nanos(ns.saturating_sub(now_ns)).min(LOOK));
            match host.events.recv_timeout(wait) {
                Ok(Event::Ready { now_ns }) => {
                    self.typical_connect_ns = (now_ns - begin_ns).max(1000);
                    self.outcome.connect_times.saturating_record(now_ns - begin_ns);
                }
                Ok(Event::Done { now_ns, outstanding_count }) => {
                    done_ns = Some(now_ns);
                    self.outcome.cut_off_count += outstanding_count;
                }
                Ok(Event::Failed(why)) => failure = Some(why),
                Ok(Event::Refused(why)) => self.outcome.refused = Some(why),
                Ok(Event::CommandFailed(status)) => self.outcome.fail("command", || status),
                Ok(Event::Apart { now_ns, checks }) => break (now_ns, checks),
                Err(RecvTimeoutError::Timeout) if host.clock.now_ns() > hang_ns => {
                    let words = || format!("association {} did not end by itself", life.number);
                    self.outcome.fail("hang", words);
                    return After::Hangs;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let words = || failure.map_or_else(|| "the host left".to_owned(), |why| why.to_string());
                    self.outcome.fail("not everything could be taken back", words);
                    return After::Replace;
                }
            }
        };
        self.outcome.checks.add(checks);
        match (failure, done_ns) {
            (None, Some(done_ns)) => {
                self.outcome.disconnect_times.saturating_record(apart_ns.saturating_sub(done_ns));
                match life.ending {
                    Ending::Abrupt => self.outcome.abrupt_count += 1,
                    Ending::Quiet | Ending::Early => self.outcome.quiet_count += 1,
                }
                After::Stays
            }
            (Some(HostFailure::Stopped), _) if was_given_up => {
                self.outcome.early_count += 1;
                After::Stays
            }
            (Some(why), _) => {
                self.outcome.fail(kind_of(&why), || why.to_string());
                match why {
                    HostFailure::Rejected { .. }
                    | HostFailure::Controller { .. }
                    | HostFailure::Limit { .. }
                    | HostFailure::Stopped => After::Stays,
                    HostFailure::Unreachable { .. }
                    | HostFailure::Fabric { .. }
                    | HostFailure::TimedOut { .. }
                    | HostFailure::Protocol { .. }
                    | HostFailure::Disconnected { .. }
                    | HostFailure::DeviceGone { .. } => After::Replace,
                }
            }
            (None, None) => {
                self.outcome.fail("hang", || format!("association {} ended without a word", life.number));
                After::Replace
            }
        }
    }
}

/// A full postbox means that the control plane is busy with as many messages from here; there is one at a time.
fn post<P: Fabric>(host: &Mesh<P>, message: Message<P>) {
    let _ = host.postbox.post(message);
}

/// Lets a host go. One that does not end is left to the end of the process.
fn end<P: Fabric>(host: Mesh<P>) {
    let Mesh { runtime, postbox, .. } = host;
    let _ = postbox.post(Message::shutdown());
    let (left_in, left) = channel();
    thread::spawn(move || {
        runtime.join();
        let _ = left_in.send(());
    });
    if left.recv_timeout(run::LEAVE_PATIENCE).is_err() {
        eprintln!("nvmf-perf: a line did not end within {:?}; the process ends without it", run::LEAVE_PATIENCE);
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
