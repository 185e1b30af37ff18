//! The loop's body: one turn.
//!
//! The same code runs on real threads and in the simulation. A turn is: the mailbox as it stood, timers that are due, one poll, then the
//! end of the turn: backlog, bells, quiet point. Between turns the CPU holds no reference to anything shared.

mod ledger;
mod probe;

use std::os::fd::RawFd;

use crate::bell::{Bell, Stage};
use crate::clock::TimeSource;
use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::doorbell;
use crate::mailbox::{Bells, Inbox};
#[cfg(any(loom, test))]
use crate::primitive::mutation::Rule;
use crate::program::{Program, Progress, Rest};
use crate::turn::{State, Turn};

use ledger::Ledger;
pub(crate) use probe::Probe;

/// The longest sleep while something waits in a limbo, or while a program waits to leave.
const BUSY_SLEEP_NS: u64 = 1_000_000;

/// One CPU's loop around a program: the real runtime and the simulation run this same code.
pub struct Reactor<P: Program> {
    program: P,
    inbox: Inbox<P::Message>,
    state: State<P::Message>,
    domain: Domain,
    bells: Bells,
    ledger: Ledger,
    left: bool,
}

/// One CPU's place in a mesh, before it has a program.
pub(crate) struct Seat<M> {
    pub(crate) inbox: Inbox<M>,
    pub(crate) state: State<M>,
    pub(crate) domain: Domain,
    pub(crate) bells: Bells,
}

/// How long a reactor may sleep (ns); `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SleepLimit(pub(crate) Option<u64>);

impl<P: Program> Reactor<P> {
    /// The state's participant is online from before anything could be sent to this CPU.
    pub(crate) fn new(program: P, seat: Seat<P::Message>) -> Self {
        let Seat { inbox, state, domain, bells } = seat;
        Self { program, inbox, state, domain, bells, ledger: Ledger::default(), left: false }
    }

    /// One turn: mailbox, timers, poll, quiet point. Once its program has left it does nothing.
    pub fn turn(&mut self, time: &impl TimeSource) -> Progress {
        if self.left {
            return Progress::Idle;
        }
        // Time does not go back, whatever the source does.
        let now_ns = time.now_ns().max(self.turn_ns());
        self.begin_turn(now_ns);
        self.get_up();
        let asked = self.bell().take_wanted();
        let mut turn = Turn::new(&mut self.state, &self.domain, time, now_ns);
        let progress = drain(&mut self.program, &mut self.inbox, &mut turn, time)
            .or(fire(&mut self.program, &mut turn, time))
            .or(Progress::busy_if(asked));
        if progress == Progress::Busy {
            turn.state().begin(&"poll", time.now_ns());
        }
        let progress = progress.or(self.program.poll(&mut turn));
        let progress = progress.or(Progress::busy_if(self.end_turn()));
        self.ledger.end_turn(now_ns, progress, &self.state.counters);
        if self.left {
            self.ledger.sleep(&self.state.counters);
        }
        progress
    }

    #[inline]
    fn begin_turn(&mut self, now_ns: u64) {
        // What is found in the mailbox has names of its own.
        if self.ledger.begin_turn(now_ns, &self.state.counters) {
            self.state.begin(&"poll", now_ns);
        } else {
            // It slept: that is not a long poll.
            self.state.begin_anew(&"poll", now_ns);
        }
    }

    /// Backlog, bells, quiet point, a step of the epoch. True if anything moved.
    #[inline]
    fn end_turn(&mut self) -> bool {
        let moved = self.state.outbox.flush();
        #[cfg(any(loom, test))]
        if Rule::BellsBeforeQuiet.is_broken() && self.state.outbox.backlog_len() == 0 {
            self.state.participant.quiet();
        }
        // Before the quiet point: a message to a CPU that sleeps holds the epoch up from now on.
        self.state.outbox.ring_bells(&self.domain, self.state.participant.seen());
        let is_quiet = self.state.outbox.backlog_len() == 0;
        #[cfg(any(loom, test))]
        let is_quiet = is_quiet || Rule::BacklogHolds.is_broken();
        if is_quiet {
            self.state.participant.quiet();
        }
        if self.is_advancer() && self.domain.limbo_len() > 0 {
            self.domain.advance();
        }
        if self.state.leaving && self.may_leave() {
            self.go();
        }
        moved
    }

    fn may_leave(&self) -> bool {
        self.has_nothing_to_do() && self.state.limbos.len() == 0 && (!self.is_advancer() || self.others_have_left())
    }

    fn go(&mut self) {
        self.left = true;
        self.bell().enter(Stage::Left);
        self.state.participant.go_offline();
        doorbell::before_looking_back();
        #[cfg(any(loom, test))]
        if Rule::LeaverLooks.is_broken() {
            return;
        }
        let lost = self.inbox.rings.iter().filter_map(|ring| ring.as_ref()).any(|ring| !ring.is_empty());
        assert!(!lost, "a message was sent to cpu {} while it left", self.state.cpu.0);
        // The advancer may be waiting for this.
        self.bells[self.bells.len() - 1].want();
    }

    /// Whether its program has left.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// When the last turn began.
    pub(crate) fn turn_ns(&self) -> u64 {
        self.ledger.turn_ns()
    }

    /// Asks the program whether it can sleep, and if so falls asleep: goes offline, and says for how long it may. `None` if there is something to
    /// do. The next turn comes online again.
    pub(crate) fn lie_down(&mut self, time: &impl TimeSource) -> Option<SleepLimit> {
        if !self.may_sleep() {
            return None;
        }
        self.get_up();
        let now_ns = time.now_ns();
        self.state.begin(&"rest", now_ns);
        let mut turn = Turn::new(&mut self.state, &self.domain, time, now_ns);
        let rest = self.program.rest(&mut turn);
        self.end_turn();
        if rest == Rest::Poll || !self.doze() {
            self.program.awake();
            return None;
        }
        Some(self.sleep_limit(rest, time.now_ns()))
    }

    /// Has slept since `lay_down_ns`.
    pub(crate) fn wake_up(&mut self, lay_down_ns: u64, now_ns: u64) {
        self.program.awake();
        self.state.counters.sleep_count.add(1);
        self.state.counters.sleep_ns.add(now_ns.saturating_sub(lay_down_ns));
    }

    /// Goes offline and true, unless there is something to do.
    pub(crate) fn doze(&mut self) -> bool {
        if !self.may_sleep() {
            return false;
        }
        self.bell().lie_down();
        self.state.participant.doze();
        self.ledger.sleep(&self.state.counters);
        // ORDERING 6: what was sent before the sender could see this is seen here.
        doorbell::before_last_look();
        let may_sleep = self.may_sleep();
        #[cfg(any(loom, test))]
        let may_sleep = may_sleep || Rule::LastLook.is_broken();
        // Offline only now: until here everything that was sent is waited for.
        if may_sleep && self.state.participant.fall_asleep() {
            return true;
        }
        self.state.participant.stay_awake();
        self.bell().get_up();
        false
    }

    fn may_sleep(&self) -> bool {
        !self.left && self.has_nothing_to_do() && !self.bell().is_wanted()
    }

    /// Comes online if it is not.
    fn get_up(&mut self) {
        if !self.state.participant.is_online() {
            self.bell().get_up();
            self.state.participant.go_online();
        }
    }

    fn sleep_limit(&self, rest: Rest, now_ns: u64) -> SleepLimit {
        let timer_ns = self.state.timers.next_deadline_ns();
        let rest_ns = match rest {
            Rest::Poll => Some(now_ns),
            Rest::Sleep => None,
            Rest::SleepUntil(ns) => Some(ns),
        };
        let limbo_waits = self.state.limbos.len() > 0 || (self.is_advancer() && self.domain.limbo_len() > 0);
        let limbo_ns = (limbo_waits || self.state.leaving).then(|| now_ns + BUSY_SLEEP_NS);
        let until_ns = [timer_ns, rest_ns, limbo_ns].into_iter().flatten().min();
        SleepLimit(until_ns.map(|until_ns| until_ns.saturating_sub(now_ns)))
    }

    /// See [`Program::wake_descriptor`].
    pub(crate) fn wake_descriptor(&self) -> Option<RawFd> {
        self.program.wake_descriptor()
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bells[usize::from(self.state.cpu.0)]
    }

    fn has_nothing_to_do(&self) -> bool {
        let outbox = &self.state.outbox;
        outbox.backlog_len() == 0 && outbox.local_len() == 0 && self.inbox.is_empty()
    }

    fn is_advancer(&self) -> bool {
        self.state.cpu.0 + 1 == self.state.cpu_count
    }

    fn others_have_left(&self) -> bool {
        self.bells[..self.bells.len() - 1].iter().all(|bell| bell.stage() != Stage::Live)
    }
}

/// Delivers what stood in the mailbox when its turn came, ring by ring, and no more than a ring holds, so that a turn ends. Never less than
/// that: a grace period counts on a whole turn having emptied what it found.
fn drain<P: Program>(
    program: &mut P,
    inbox: &mut Inbox<P::Message>,
    turn: &mut Turn<'_, P::Message>,
    time: &impl TimeSource,
) -> Progress {
    let mut delivery = Delivery { program, time, message_count: 0 };
    // Self-sent messages first, by their number before anything is delivered: what is sent to itself now waits a turn.
    let this_cpu = turn.cpu();
    for _ in 0..turn.state().outbox.local_len() {
        let Some(message) = turn.state().outbox.pop_local() else { break };
        delivery.deliver(turn, Some(this_cpu), message);
    }
    for (from, ring) in (0..).map(Cpu).zip(inbox.rings.iter_mut()) {
        let Some(ring) = &mut **ring else { continue };
        for _ in 0..ring.capacity() {
            let Some(message) = ring.pop() else { break };
            delivery.deliver(turn, Some(from), message);
            #[cfg(any(loom, test))]
            if Rule::WholeDrain.is_broken() {
                break;
            }
        }
        ring.tell();
    }
    if !inbox.postbox.is_empty() {
        for _ in 0..inbox.postbox.len() {
            let Some(message) = inbox.postbox.pop() else { break };
            delivery.deliver(turn, None, message);
        }
    }
    let message_count = delivery.message_count;
    if message_count > 0 {
        turn.state().counters.message_count.add(message_count);
    }
    Progress::busy_if(message_count > 0)
}

/// Messages on their way to a program.
struct Delivery<'d, P, T> {
    program: &'d mut P,
    time: &'d T,
    message_count: u64,
}

impl<P: Program, T: TimeSource> Delivery<'_, P, T> {
    #[inline]
    fn deliver(&mut self, turn: &mut Turn<'_, P::Message>, from: Option<Cpu>, message: P::Message) {
        // The first one begins with the turn: one look at the clock for each message.
        let began_ns = if self.message_count == 0 { turn.now_ns() } else { self.time.now_ns() };
        turn.state().begin(P::message_name(&message), began_ns);
        self.message_count += 1;
        self.program.receive(turn, from, message);
    }
}

fn fire<P: Program>(program: &mut P, turn: &mut Turn<'_, P::Message>, time: &impl TimeSource) -> Progress {
    let now_ns = turn.now_ns();
    let Some(mut due) = turn.state().timers.due(now_ns) else { return Progress::Idle };
    while let Some(token) = turn.state().timers.pop(&mut due) {
        turn.state().begin(&"timer", time.now_ns());
        turn.state().counters.timer_count.add(1);
        program.fire(turn, token);
    }
    Progress::Busy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limbo::{Grace, Limbo};
    use crate::mailbox::Postbox;
    use crate::mesh::Mesh;

    /// Retires a value when it gets one, arms a timer for it as well; reaps what it may.
    struct Keeper {
        limbo: Limbo<u64>,
    }

    impl Program for Keeper {
        type Message = u64;

        fn receive<'t>(&mut self, turn: &mut Turn<'t, u64>, _from: Option<Cpu>, value: u64) {
            turn.arm(value, 0);
            self.limbo.retire(turn, value).unwrap();
        }

        fn fire<'t>(&mut self, _turn: &mut Turn<'t, u64>, _token: u64) {}

        fn poll<'t>(&mut self, turn: &mut Turn<'t, u64>) -> Progress {
            Progress::busy_if(self.limbo.reap(turn).is_some())
        }

        fn rest<'t>(&mut self, _turn: &mut Turn<'t, u64>) -> Rest {
            Rest::Sleep
        }
    }

    fn keeper() -> (Reactor<Keeper>, Postbox<u64>) {
        let mut mesh = Mesh::new(vec![Bell::new(None)], 2);
        let program = Keeper { limbo: Limbo::new(Grace::Messages, 1) };
        (Reactor::new(program, mesh.sit(Cpu(0), 0)), mesh.postbox(Cpu(0)))
    }

    #[test]
    fn whoever_is_wanted_does_not_lie_down_before_it_has_turned() {
        let (mut reactor, postbox) = keeper();
        reactor.turn(&0_u64);
        // Between the program's poll and its sleep: nothing is in the mailbox, and yet there is something to poll for.
        postbox.wake().wake();
        assert_eq!(reactor.lie_down(&0), None);
        assert_eq!(reactor.turn(&1_u64), Progress::Busy, "whoever asked is owed one more turn after this one");
        assert_eq!(reactor.turn(&2_u64), Progress::Idle);
        assert!(reactor.lie_down(&2).is_some());
        reactor.turn(&3_u64);
        postbox.post(9).unwrap();
        assert_eq!(reactor.lie_down(&0), None);
    }

    #[test]
    fn it_sleeps_until_the_next_timer_and_not_long_while_something_waits() {
        let (mut reactor, postbox) = keeper();
        reactor.turn(&0_u64);
        assert_eq!(reactor.lie_down(&0), Some(SleepLimit(None)));
        postbox.post(5_000_000).unwrap();
        reactor.turn(&10_u64);
        reactor.turn(&20_u64);
        assert_eq!(reactor.lie_down(&30), Some(SleepLimit(Some(BUSY_SLEEP_NS))), "a value waits in a limbo");
        assert_eq!(reactor.lie_down(&4_999_000), Some(SleepLimit(Some(1_000))));
        for now_ns in 40..50 {
            reactor.turn(&now_ns);
        }
        assert_eq!(reactor.lie_down(&50), Some(SleepLimit(Some(4_999_950))), "it was reaped");
    }

    #[test]
    fn time_is_counted_as_busy_or_idle_and_sleep_as_neither() {
        let (mut reactor, postbox) = keeper();
        postbox.post(1 << 40).unwrap();
        reactor.turn(&100_u64);
        reactor.turn(&350_u64);
        // Five more turns: the epoch's steps, and the one that reaps.
        for now_ns in [400, 410, 420, 430, 500, 600] {
            reactor.turn(&now_ns);
        }
        assert!(reactor.lie_down(&600).is_some());
        reactor.turn(&1_000_000);
        let counters = &reactor.state.counters;
        assert_eq!(counters.turn_count.value(), 8, "the last one has not ended");
        assert_eq!(counters.busy_ns.value() + counters.idle_ns.value(), 500);
        assert!(counters.busy_ns.value() >= 250);
        assert_eq!(counters.longest_turn_ns.value(), 250);
        assert_eq!(counters.message_count.value(), 1);
    }
}
