//! Everything of one run: a target, hosts, a network and devices between them, a clock; and who of them acts next.
//!
//! | part | what it is |
//! |---|---|
//! | here | the scheduler: one step after the other, each chosen |
//! | [`layout`] | how a world is laid out, and what its weather is like |
//! | [`target`] | the real target: its polling CPUs and its control plane, on simulated CPUs |
//! | [`actor`] | whoever else acts: hosts |
//! | [`asked`] | changes that were asked for |
//! | [`shelf`] | where reservations are kept |
//! | [`device`] | the block device, whose operations end when it is chosen that they do |
//! | [`ground`] | the memory under a machine's programs, which goes with them |
//! | [`losses`] | when what became of unanswered writes is settled |
//!
//! One thread; all choices come from one [`Choices`]. After each step every checker is asked.

pub mod actor;
pub mod asked;
pub mod device;
pub mod ground;
pub mod layout;
mod losses;
pub mod shelf;
pub mod target;

use std::sync::Arc;

use bdev::Device;
use nvmf_core::target::{Amendment, MadeDevice};
use reactor::{Choices, Turn};
use transport_rdma::soft::in_process::{Fabric, InProcessProvider};
use transport_rdma::target::{Change, Control, Message};

use super::checkers::{Checkers, View};
use super::failure::{Failure, Findings};
use super::history::History;
use super::host::law::Law;
use super::host::model::{Extent, Model};
use crate::words;
use actor::Actor;
use asked::Asked;
pub use layout::Layout;
use layout::{BLOCK_COUNT, BLOCK_LEN, disk_name};
use losses::Losses;
use target::SimulatedTarget;

/// The provider of everything here.
pub type P = InProcessProvider;

/// What the clock moves on by before a step. The first is the calm one.
const STEP_NS: [u64; 4] = [1_000, 0, 200, 20_000];

/// Steps between two leaps of the clock while the end of everything is waited for: some turns of everybody.
const ROUND_STEPS: u64 = 40;

/// See the module.
pub struct World {
    /// Where everything that can go one way or another is asked.
    pub choices: Choices,
    /// The network and its devices.
    pub fabric: Fabric,
    /// The target.
    pub target: SimulatedTarget,
    /// What the namespaces' blocks may hold.
    pub model: Model,
    /// What I/O commands may end with.
    pub law: Law,
    /// Where hosts report what they find wrong.
    pub findings: Findings,
    /// What happened last.
    pub history: History,
    hosts: Vec<Box<dyn Actor>>,
    checkers: Checkers,
    losses: Losses,
    /// Of targets that were killed.
    killed_life_count: u64,
    loses_receives: bool,
    now_ns: u64,
    step_count: u64,
    /// Who acted last.
    last: u32,
    /// A CPU of the target that gets no turn.
    stalled: Option<u16>,
}

impl World {
    /// A target and no hosts.
    #[must_use]
    pub fn new(layout: &Layout, choices: &Choices, history: &History) -> Self {
        let fabric = Fabric::with_choices(choices.clone(), layout.fabric.clone());
        let target = SimulatedTarget::new(layout, &fabric, choices);
        Self {
            choices: choices.clone(),
            fabric,
            target,
            model: Model::new(BLOCK_COUNT * layout.disk_count as u64, layout.reads_in_place),
            law: Law::default(),
            findings: Findings::default(),
            history: history.clone(),
            hosts: Vec::new(),
            checkers: Checkers::all(),
            losses: Losses::default(),
            killed_life_count: 0,
            loses_receives: false,
            now_ns: 0,
            step_count: 0,
            last: 0,
            stalled: None,
        }
    }

    /// A host comes in.
    pub fn add(&mut self, host: impl Actor + 'static) {
        self.hosts.push(Box::new(host));
    }

    /// The target's machine is gone, in the midst of everything. Its block device stays.
    pub fn kill_target(&mut self) {
        self.history.note("target", || "is killed".to_owned());
        self.killed_life_count += self.target.count("rdma_disconnects");
        self.target.kill();
        self.losses.target_killed(&self.model);
        self.checkers.target_killed();
    }

    /// Another target in the place of one that was killed, on another machine.
    pub fn restart_target(&mut self) {
        self.history.note("target", || "is started again".to_owned());
        self.target.restart(&self.fabric);
        self.target.advance_to(self.now_ns);
    }

    /// Shared receives may be gone for good from here on: their completion queue broke, or the device is gone.
    pub fn expect_receives_lost(&mut self) {
        self.loses_receives = true;
    }

    /// Queue pairs that lived and ended at the target, and at those before it.
    #[must_use]
    pub fn life_count(&self) -> u64 {
        self.killed_life_count + self.target.count("rdma_disconnects")
    }

    /// This CPU of the target gets no turn from here on, as one that is not scheduled; or all get theirs again.
    pub fn stall(&mut self, cpu: Option<u16>) {
        self.stalled = cpu;
    }

    /// Virtual time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Steps made.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step_count
    }

    /// One step: the clock moves on, somebody acts.
    ///
    /// # Errors
    /// What anybody found wrong.
    pub fn step(&mut self) -> Result<(), Failure> {
        // What was chosen between the steps is no part of this one.
        self.note_choices();
        self.advance(self.choices.one_of("clock", &STEP_NS));
        self.skip_dead_time();
        self.step_count += 1;
        self.history.advance(self.now_ns, self.step_count);
        let cpu_count = u32::from(self.target.cpu_count());
        let actor_count = cpu_count + u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        // The calm choice is whose turn it is.
        self.last = (self.last + 1 + self.choices.below("who acts", actor_count)) % actor_count;
        self.target.forget_rows();
        match self.last.checked_sub(cpu_count) {
            Some(host) => self.hosts[host as usize].act(self.now_ns),
            None => {
                let cpu = u16::try_from(self.last).unwrap_or_default();
                if self.stalled != Some(cpu) {
                    self.target.turn(cpu);
                }
            }
        }
        self.check()
    }

    /// Steps until `done`.
    ///
    /// # Errors
    /// What anybody found wrong; or it did not come to `what` within `step_limit` steps.
    pub fn reach(&mut self, what: &str, step_limit: u64, mut done: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        for _ in 0..step_limit {
            if done(self) {
                return Ok(());
            }
            self.step()?;
        }
        if done(self) { Ok(()) } else { Err(self.stuck(what, step_limit)) }
    }

    /// Until `done`: what comes by acting has as many steps as it may need, then time passes faster, for what comes by a deadline.
    ///
    /// # Errors
    /// What anybody found wrong; or it did not come to `what`, and time passed fast for `limit_ns`.
    pub fn within(&mut self, what: &str, limit_ns: u64, mut done: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        const ACTING_STEPS: u64 = 30_000;
        const PACE_NS: u64 = 10_000_000;
        // Between two looks: counters are text.
        const LOOK_STEPS: u64 = 20;
        let (first_step, mut passed_ns) = (self.step_count, 0);
        while !done(self) {
            self.steps(LOOK_STEPS)?;
            let step_count = self.step_count - first_step;
            if step_count > ACTING_STEPS && step_count.is_multiple_of(ROUND_STEPS) {
                if passed_ns >= limit_ns {
                    return Err(self.stuck(&format!("within {limit_ns} ns, {what}"), step_count));
                }
                self.advance(PACE_NS);
                passed_ns += PACE_NS;
            }
        }
        Ok(())
    }

    /// So many steps.
    ///
    /// # Errors
    /// What anybody found wrong.
    pub fn steps(&mut self, count: u64) -> Result<(), Failure> {
        (0..count).try_for_each(|_| self.step())
    }

    /// Time passes, faster than in steps: everybody acts, and not often; the longer it is the less often, but some hundred times in a second.
    ///
    /// # Errors
    /// What anybody found wrong.
    pub fn pass(&mut self, ns: u64) -> Result<(), Failure> {
        let pace_ns = (ns / 2_000).clamp(500_000, 3_000_000);
        let until_ns = self.now_ns + ns;
        while self.now_ns < until_ns {
            self.advance(pace_ns);
            self.steps(12)?;
        }
        Ok(())
    }

    /// Time passes in which nobody acts, as on machines that were all held up.
    pub fn advance(&mut self, ns: u64) {
        self.now_ns += ns;
        self.target.advance_to(self.now_ns);
    }

    /// Does something to the control plane in its next turn, as its RPC would; `what` is for the trace: "orders the target to …".
    pub fn order(&mut self, what: &str, order: impl FnOnce(&mut Control<P>, &mut Turn<'_, Message<P>>) + 'static) {
        self.history.note("scenario", || what.to_owned());
        self.target.order(order);
    }

    /// Changes something of the target, as an RPC would, and says so in the trace. What is refused changes nothing, and is answered at once.
    pub fn change(&mut self, change: Change) -> Asked {
        self.history.note("scenario", || format!("asks the target for a change: {change}"));
        self.target.change(change)
    }

    /// The same for what is the NVMe layer's alone.
    pub fn amend(&mut self, amendment: Amendment) -> Asked {
        self.change(Change::Amend(amendment))
    }

    /// Has the target open a device that it does not have; scenarios delete them by [`Self::amend`].
    pub fn add_disk(&mut self, disk: usize) -> Asked {
        self.history.note("scenario", || format!("asks the target for device {disk}"));
        let device = Arc::clone(&self.target.devices()[disk]);
        let cpu_count = self.target.cpu_count() - 1;
        self.target.ask(move |control, turn| {
            let change = control.begin_device(turn, disk_name(disk), None).ok()?;
            let channels = (0..cpu_count).map(|_| device.open_channel());
            let made = match channels.collect::<Result<Vec<_>, _>>() {
                Ok(channels) => Ok(MadeDevice { device, channels }),
                Err(error) => Err(error.to_string()),
            };
            control.device_made(turn, change, made);
            Some(change)
        })
    }

    /// What a scenario does by other ways than through here, for the trace.
    pub fn note(&self, what: impl FnOnce() -> String) {
        self.history.note("scenario", what);
    }

    /// Until nothing of any connection is left at the target, however long deadlines take: every checker that looks at rest is asked then.
    ///
    /// # Errors
    /// What anybody found wrong; or something is left for longer than every deadline together.
    pub fn settle(&mut self) -> Result<(), Failure> {
        const ROUNDS: u32 = 2_000;
        for _ in 0..ROUNDS {
            self.steps(ROUND_STEPS)?;
            if self.target.is_at_rest() {
                self.check_data()?;
                return self.look(Checkers::at_rest);
            }
            // Deadlines are seconds away, and limbos of CPUs that sleep empty at intervals.
            self.advance(10_000_000);
        }
        Err(self.stuck("that nothing of any connection is left", u64::from(ROUNDS) * ROUND_STEPS))
    }

    /// Shuts the target down and waits for its end. To be called last.
    ///
    /// # Errors
    /// What anybody found wrong, or what is left.
    pub fn shut_down(&mut self) -> Result<(), Failure> {
        const ROUNDS: u32 = 2_000;
        self.history.note("scenario", || "orders the target to shut down".to_owned());
        self.target.order(|control, turn| control.begin_shutdown(turn));
        for _ in 0..ROUNDS {
            self.steps(ROUND_STEPS)?;
            if self.target.has_left() {
                return self.look(Checkers::at_end);
            }
            self.advance(10_000_000);
        }
        Err(self.stuck("that the target ends", u64::from(ROUNDS) * ROUND_STEPS))
    }

    /// Nothing is under way: the medium holds what hosts were told.
    fn check_data(&mut self) -> Result<(), Failure> {
        self.losses.at_rest(&self.model);
        let bytes: Vec<u8> = self.target.devices().iter().flat_map(|device| device.contents()).collect();
        for (start, bytes) in (0..).zip(bytes.chunks_exact(BLOCK_LEN as usize)) {
            let read = self.model.begin_read(Extent { start, count: 1 });
            let looked_at = self.model.end_read(read, bytes);
            looked_at.map_err(|what| Failure { found_by: "data", what: format!("at rest, on the medium: {what}") })?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.note_choices();
        let mut last = None;
        for noted in self.target.take_noted() {
            self.losses.noted(&noted);
            if !last.is_some_and(|last| words::imply(&last, &noted.record)) {
                self.history.note(&self.target.name_of(noted.cpu), || noted.to_string());
            }
            last = Some(noted.record);
            self.checkers.noted(&noted)?;
        }
        self.look(Checkers::stepped)?;
        self.losses.stepped(&self.model);
        self.findings.take().map_or(Ok(()), Err)
    }

    fn note_choices(&self) {
        if self.history.is_wanted() {
            self.history.note_choices(&self.choices.recorded_from(self.history.next_choice()));
        }
    }

    /// Has every checker look at the target, if there is one.
    fn look(&mut self, at: fn(&mut Checkers, &View<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        if !self.target.is_up() {
            return Ok(());
        }
        let Self { checkers, target, fabric, now_ns, loses_receives, .. } = self;
        at(checkers, &View { target, fabric, loses_receives: *loses_receives, now_ns: *now_ns })
    }

    /// While nobody could act only time can pass.
    fn skip_dead_time(&mut self) {
        let now_ns = self.now_ns;
        if self.target.may_turn() || self.hosts.iter().any(|host| host.may_act(now_ns)) {
            return;
        }
        let due_ns = self.hosts.iter().filter_map(|host| host.due_ns()).chain(self.target.due_ns()).min();
        if let Some(due_ns) = due_ns.filter(|due_ns| *due_ns > now_ns) {
            self.advance(due_ns - now_ns);
        }
    }

    fn stuck(&self, what: &str, step_limit: u64) -> Failure {
        let hosts: String = self.hosts.iter().map(|host| format!("\n  {}", host.condition())).collect();
        Failure::stuck(format!("not within {step_limit} steps: {what}\n{}{hosts}", self.target.condition()))
    }
}
