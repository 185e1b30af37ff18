//! Runs a job: starts the mesh, watches it, and collects what its CPUs come to.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use nvmf_core::host::{Attached, Discovered};
use reactor::{Clock, Cpu, PollMode, ReactorOptions, RuntimeBuilder};
use transport_rdma::host::{HostFailure, HostOptions, Message, build};
use transport_rdma::soft::shared::SharedProvider;

use crate::address::TransportAddress;
use crate::arguments::{Arguments, Common};
use crate::cpus;
use crate::fabric::{self, Chosen, Fabric};
use crate::identity::identity;
use crate::news::NewsDesk;
use crate::outcome::{End, Live, Outcome, Stop};
use crate::reservation::ReservationResult;
use crate::settings::{Extent, Job, Settings};
use crate::signal;
use crate::workload::JobWorkload;

/// Messages between two reactors of a host: a queue has a handful outstanding at most.
const RING_CAPACITY: usize = 1024;
/// How often the main thread looks at signals and draws the progress bar.
const WATCH_PERIOD: Duration = Duration::from_millis(50);
/// How long commands that are out get to end after a signal.
const STOP_PATIENCE_NS: u64 = 2_000_000_000;
/// How long the end of the connections may take before the process ends without it.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(8);

/// What a run came to.
pub(crate) enum Result {
    Outcomes(Vec<Outcome>),
    Attached(Box<Attached>),
    Discovered(Vec<Discovered>),
    Reservation(Box<ReservationResult>),
}

/// The operating system's CPUs to poll on.
pub(crate) fn choose_cpus(common: &Common) -> anyhow::Result<Vec<usize>> {
    let allowed = cpus::allowed();
    let Some(chosen) = &common.cpus else {
        // The first CPU is where a target is most likely to be.
        return Ok(vec![*allowed.last().context("the kernel names no CPU that this process may use")?]);
    };
    if let Some(other) = chosen.0.iter().find(|cpu| !allowed.contains(cpu)) {
        bail!("--cpus names CPU {other}; this process may use {allowed:?}");
    }
    Ok(chosen.0.clone())
}

/// Connects, runs the job, disconnects.
pub(crate) fn run(
    arguments: &Arguments,
    address: &TransportAddress,
    settings: &Arc<Settings>,
    cpus: &[usize],
) -> anyhow::Result<Result> {
    match fabric::choose(arguments.common.provider, address)? {
        Chosen::Soft => run_over::<SharedProvider>(arguments, address, settings, cpus),
        #[cfg(feature = "ibv")]
        Chosen::Ibv => run_over::<transport_rdma::ibv::IbvProvider>(arguments, address, settings, cpus),
    }
}

fn run_over<P: Fabric>(
    arguments: &Arguments,
    address: &TransportAddress,
    settings: &Arc<Settings>,
    cpus: &[usize],
) -> anyhow::Result<Result> {
    let provider = P::open(address)?;
    let lives: Vec<Arc<Live>> = cpus.iter().map(|_| Arc::default()).collect();
    let stop = Arc::new(Stop::default());
    let (ends_in, ends) = channel();
    let options = host_options(arguments, address, settings);
    let (control, programs) = build(provider, options, |cpu| {
        let live = Arc::clone(&lives[usize::from(cpu)]);
        JobWorkload::new(settings, cpu, live, Arc::clone(&stop), ends_in.clone())
    })?;
    drop(ends_in);

    // A load generator measures: it does not sleep between responses.
    let busy = |&os_cpu| ReactorOptions { poll_mode: PollMode::Busy, ..ReactorOptions::pinned(os_cpu) };
    let mut reactors: Vec<_> = cpus.iter().map(busy).collect();
    reactors.push(ReactorOptions::sleeping());
    let mut builder = RuntimeBuilder::new(&reactors, RING_CAPACITY)?;
    let control_cpu = Cpu(settings.cpu_count);
    let postbox = builder.postbox(control_cpu);
    for (program, cpu) in programs.into_iter().zip(0..) {
        builder.spawn(Cpu(cpu), &format!("perf-{cpu}"), move || program)?;
    }
    builder.spawn(control_cpu, "perf-control", move || control)?;
    let runtime = builder.start();

    let shut_down = || {
        // A full postbox means that the control plane is busy, and that it has been asked before.
        let _ = postbox.post(Message::shutdown());
    };
    let watch = Watch { settings, lives: &lives, stop: &stop, bar: progress_bar(arguments, settings) };
    let result = watch.until_ended(&ends, shut_down);

    let (left_in, left) = channel();
    thread::spawn(move || {
        runtime.join();
        let _ = left_in.send(());
    });
    if left.recv_timeout(LEAVE_PATIENCE).is_err() {
        eprintln!("nvmf-perf: the connections did not end within {LEAVE_PATIENCE:?}; the process ends without them");
    }
    result
}

fn host_options(arguments: &Arguments, address: &TransportAddress, settings: &Settings) -> HostOptions {
    let common = &arguments.common;
    let identity = identity(common.host_nqn.as_deref(), common.host_id, 0);
    let mut options = HostOptions::new(address.address, address.subsystem_nqn.clone(), identity);
    options.cpu_count = settings.cpu_count;
    options.authentication = settings.authentication.clone();
    options.controller_id = common.controller_id;
    options.queue_count_per_cpu = settings.queue_count_per_cpu;
    options.queue_depth = settings.io_depth;
    options.data_memory_len = settings.slot_count() * settings.io_len;
    options.in_capsule_data = arguments.load.in_capsule;
    options.keep_alive_ms = common.keep_alive;
    options.attach_timeout_ms = u64::from(common.connect_timeout) * 1000;
    options.command_timeout_ms = u64::from(common.command_timeout) * 1000;
    options
}

fn progress_bar(arguments: &Arguments, settings: &Settings) -> ProgressBar {
    let wanted = !arguments.common.no_progress && std::io::stderr().is_terminal();
    if !wanted || matches!(settings.job, Job::Durability(_) | Job::Discover | Job::Identify | Job::Reservation(_)) {
        return ProgressBar::hidden();
    }
    let style = "{bar:32} {percent:>3}%  {msg}";
    let style = ProgressStyle::with_template(style).expect("the template is valid").progress_chars("=> ");
    ProgressBar::new(1000).with_style(style)
}

/// The main thread's view of a run.
struct Watch<'a> {
    settings: &'a Settings,
    lives: &'a [Arc<Live>],
    stop: &'a Stop,
    bar: ProgressBar,
}

impl Watch<'_> {
    fn until_ended(&self, ends: &Receiver<End>, shut_down: impl Fn()) -> anyhow::Result<Result> {
        let clock = Clock::start();
        let (mut outcomes, mut found, mut failure) = (Vec::new(), None, None);
        let (mut stop_ns, mut is_shut_down, mut began_ns) = (None, false, None);
        let (mut last, mut news) = ((0, 0), NewsDesk::default());
        while outcomes.len() < self.lives.len() && found.is_none() && failure.is_none() {
            match ends.recv_timeout(WATCH_PERIOD) {
                Ok(End::Outcome(outcome)) => outcomes.push(*outcome),
                Ok(End::Attached(attached)) => found = Some(Result::Attached(attached)),
                Ok(End::Discovered(log)) => found = Some(Result::Discovered(log)),
                Ok(End::Reservation(result)) => found = Some(Result::Reservation(result)),
                Ok(End::News(told)) => news.say(&told, &self.bar),
                Ok(End::Failed(why)) => failure = Some(why),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("a polling CPU ended without a result"),
            }
            let now_ns = clock.now_ns();
            let is_ready = self.lives.iter().all(|live| live.is_ready.load(Ordering::Relaxed));
            if is_ready && began_ns.is_none() {
                began_ns = Some(now_ns);
            }
            if signal::count() > 0 && stop_ns.is_none() {
                self.stop.ask();
                stop_ns = Some(now_ns);
            }
            let out_of_patience = stop_ns.is_some_and(|ns| now_ns > ns + STOP_PATIENCE_NS);
            if !is_shut_down && stop_ns.is_some() && (!is_ready || out_of_patience || signal::count() > 1) {
                shut_down();
                is_shut_down = true;
            }
            if let Some(began_ns) = began_ns {
                self.draw(now_ns, began_ns, &mut last);
            }
        }
        self.bar.finish_and_clear();
        news.close();
        match failure {
            // Somebody asked for it: the exit status says so, and what was measured is shown.
            Some(HostFailure::Stopped) => {
                outcomes.push(Outcome { was_stopped: true, ..Outcome::default() });
                Ok(Result::Outcomes(outcomes))
            }
            // Its text has that of its cause in it.
            Some(failure) => Err(anyhow!("{failure}")),
            None => Ok(found.unwrap_or(Result::Outcomes(outcomes))),
        }
    }

    fn draw(&self, now_ns: u64, began_ns: u64, last: &mut (u64, u64)) {
        let count: u64 = self.lives.iter().map(|live| live.io_count.value()).sum();
        let total: u64 = self.lives.iter().map(|live| live.io_total.value()).sum();
        let elapsed_ns = now_ns - began_ns;
        let thousandths = match self.settings.job {
            Job::Load(Extent::Time(time)) | Job::Verify(Extent::Time(time)) => {
                u128::from(elapsed_ns) * 1000 / (time + self.settings.warmup).as_nanos().max(1)
            }
            Job::Load(_)
            | Job::Verify(_)
            | Job::Digest
            | Job::Durability(_)
            | Job::Discover
            | Job::Identify
            | Job::Reservation(_) => u128::from(count) * 1000 / u128::from(total.max(1)),
        };
        self.bar.set_position(u64::try_from(thousandths.min(1000)).unwrap_or(1000));
        // Every fifth of a second: a number that can be read.
        if now_ns - last.0 > 200_000_000 {
            let rate = u128::from(count - last.1) * 1_000_000_000 / u128::from(now_ns - last.0);
            self.bar.set_message(format!("{count} I/Os, {rate} IOPS"));
            *last = (now_ns, count);
        }
    }
}
