//! One turn of one CPU: what a program may use while it runs.

use std::sync::Arc;

use crate::clock::TimeSource;
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::domain::{Domain, Guard, Participant};
use crate::mailbox::Outbox;
#[cfg(any(loom, test))]
use crate::primitive::mutation::Rule;
use crate::program::Name;
use crate::random::Random;
use crate::timer::{TimerId, Timers};
use crate::trace::{Trace, TraceKind, TraceRecord};
use crate::watch::{Slow, Watch};

/// What a program may use during one turn. `'t` is the turn's lifetime, `M` the mesh's message.
pub struct Turn<'t, M> {
    state: &'t mut State<M>,
    domain: &'t Domain,
    time: &'t dyn TimeSource,
    now_ns: u64,
}

/// One CPU's side of the mesh, whatever its program is.
pub(crate) struct State<M> {
    pub(crate) cpu: Cpu,
    pub(crate) cpu_count: u16,
    pub(crate) participant: Participant,
    pub(crate) outbox: Outbox<M>,
    pub(crate) timers: Timers,
    pub(crate) random: Random,
    pub(crate) counters: Arc<ReactorCounters>,
    pub(crate) limbos: Limbos,
    pub(crate) stopwatch: Stopwatch,
    pub(crate) leaving: bool,
    pub(crate) trace: Trace,
    pub(crate) notes: Trace,
}

impl<'t, M> Turn<'t, M> {
    /// The caller is the reactor, with its participant online (`domain`, invariant 1).
    pub(crate) fn new(state: &'t mut State<M>, domain: &'t Domain, time: &'t dyn TimeSource, now_ns: u64) -> Self {
        debug_assert!(state.participant.is_online());
        Self { state, domain, time, now_ns }
    }

    /// This CPU's place in the mesh.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        self.state.cpu
    }

    /// How many reactors the mesh has, the control plane included.
    #[must_use]
    pub fn cpu_count(&self) -> u16 {
        self.state.cpu_count
    }

    /// The turn's time: read once per turn. Monotonic ns, zero at the runtime's start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// From here on the poll does what `name` says: for the report, should it hold the CPU too long ([`crate::Watch`]). Reads the clock once.
    pub fn section(&mut self, name: Name) {
        let now_ns = self.time.now_ns();
        self.state.begin(name, now_ns);
    }

    /// A token that proves that this CPU is inside its turn. `Copy`, and independent of borrows of the turn itself.
    #[must_use]
    #[inline]
    pub fn guard(&self) -> Guard<'t> {
        Guard::new(self.domain)
    }

    /// The mesh's reclamation domain.
    #[must_use]
    pub fn domain(&self) -> &'t Domain {
        self.domain
    }

    /// What this CPU counts.
    #[must_use]
    pub fn counters(&self) -> &ReactorCounters {
        &self.state.counters
    }

    /// The next number of this CPU's seeded random sequence.
    pub fn random(&mut self) -> u64 {
        self.state.random.next_u64()
    }

    /// Notes that something happened, in this CPU's ring of records: for the steps of lives, not for I/O.
    #[inline]
    pub fn trace(&mut self, kind: TraceKind, subject: u64, detail: u64) {
        self.state.trace.push(TraceRecord { at_ns: self.now_ns, kind, subject, detail });
    }

    /// The same in a ring of its own, for what may happen often: it cannot wash the steps of lives away.
    #[inline]
    pub fn note(&mut self, kind: TraceKind, subject: u64, detail: u64) {
        self.state.notes.push(TraceRecord { at_ns: self.now_ns, kind, subject, detail });
    }

    /// What this CPU noted last: the steps of lives, oldest first, then everything else, oldest first.
    pub fn traced(&self) -> impl Iterator<Item = TraceRecord> + '_ {
        self.state.trace.since(0).chain(self.state.notes.since(0))
    }

    /// The most records that [`Self::traced`] has.
    pub const TRACED_MAX: usize = 2 * crate::trace::KEPT;

    /// Sends `message` to another CPU, or to this one (it is then received in a later turn). Never fails: what finds the
    /// ring full waits, in order, in this CPU's backlog and is counted for the pair. A program keeps backlogs bounded by
    /// having at most one message of each kind outstanding per object.
    #[inline]
    pub fn send(&mut self, to: Cpu, message: M) {
        self.state.outbox.send(to, message, &self.state.counters);
    }

    /// Sends a message to each of the others. To have them answer: [`crate::Gathering`].
    pub fn broadcast(&mut self, mut message: impl FnMut(Cpu) -> M) {
        for cpu in (0..self.cpu_count()).map(Cpu).filter(|&cpu| cpu != self.state.cpu) {
            self.state.outbox.send(cpu, message(cpu), &self.state.counters);
        }
    }

    /// Arms a one-shot timer: [`crate::Program::fire`] is called with `token` in the first turn at or after `deadline_ns`,
    /// but not in this one.
    pub fn arm(&mut self, deadline_ns: u64, token: u64) -> TimerId {
        self.state.timers.arm(deadline_ns, token)
    }

    /// Takes a timer back. False if it has fired or was cancelled before.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.state.timers.cancel(timer)
    }

    /// This CPU's program is done: after this turn, once the backlog and the mailbox are empty and no [`crate::Limbo`] of this CPU holds
    /// anything, the reactor goes offline for good and its thread ends; until then it keeps turning. The mesh's last CPU, which moves the
    /// epoch that the others' limbos wait for, also waits until the others have left. A message to a CPU that has left, also one that
    /// still waits in another's backlog then, is our bug and panics: whoever leaves has been told that nobody has anything for it.
    pub fn leave(&mut self) {
        self.state.leaving = true;
    }

    /// For the reactor.
    pub(crate) fn state(&mut self) -> &mut State<M> {
        self.state
    }

    /// For limbos: the epoch in this CPU's slot.
    pub(crate) fn seen_epoch(&self) -> u64 {
        self.state.participant.seen()
    }

    /// For limbos: a place in this CPU's report.
    pub(crate) fn register_limbo(&mut self) -> usize {
        self.state.limbos.0.push(LimboReport::default());
        self.state.limbos.0.len() - 1
    }

    /// For limbos: how many values wait in the one at `place`, and the oldest one's stamp.
    pub(crate) fn report_limbo(&mut self, place: usize, len: usize, oldest: Option<u64>) {
        let state = &mut *self.state;
        let before = state.limbos.len();
        state.limbos.0[place] = LimboReport { len: len as u64, oldest: oldest.unwrap_or(u64::MAX) };
        let now = state.limbos.len();
        #[cfg(any(loom, test))]
        let before = before + u64::from(Rule::NoteAdvancer.is_broken());
        self.domain.report_limbo(state.cpu.0, now, state.limbos.oldest());
        state.counters.limbo_len.set(now);
        if before == 0 && now > 0 {
            // The advancer may be asleep, since nothing waited. Its bell is looked at after the fence at the end of the turn.
            state.outbox.note(Cpu(state.cpu_count - 1));
        }
    }
}

/// What a CPU does, and since when.
pub(crate) struct Stopwatch {
    watch: Watch,
    name: Name,
    began_ns: u64,
}

impl Stopwatch {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, name: &"start", began_ns: 0 }
    }
}

impl<M> State<M> {
    /// Something else begins: what was done until now is reported if it took too long.
    #[inline]
    pub(crate) fn begin(&mut self, name: Name, now_ns: u64) {
        let stopwatch = &self.stopwatch;
        if now_ns.saturating_sub(stopwatch.began_ns) > stopwatch.watch.limit_ns() {
            self.report_slow(now_ns);
        }
        self.begin_anew(name, now_ns);
    }

    /// Something else begins after a time that does not count.
    #[inline]
    pub(crate) fn begin_anew(&mut self, name: Name, now_ns: u64) {
        self.stopwatch.name = name;
        self.stopwatch.began_ns = now_ns;
        self.counters.set_activity(name);
    }

    #[cold]
    fn report_slow(&self, now_ns: u64) {
        let Stopwatch { watch, name, began_ns } = &self.stopwatch;
        self.counters.slow_count.add(1);
        watch.report(Slow { cpu: self.cpu, what: name, len_ns: now_ns - began_ns, began_ns: *began_ns });
    }
}

/// The limbos of one CPU.
#[derive(Default)]
pub(crate) struct Limbos(Vec<LimboReport>);

#[derive(Default)]
struct LimboReport {
    len: u64,
    oldest: u64,
}

impl Limbos {
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|limbo| limbo.len).sum()
    }

    fn oldest(&self) -> u64 {
        self.0.iter().filter(|limbo| limbo.len > 0).map(|limbo| limbo.oldest).min().unwrap_or(u64::MAX)
    }
}
