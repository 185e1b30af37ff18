//! How a host goes through its sessions by itself.

use super::RawHost;
use super::commands::BLOCK_COUNT_MAX;
use super::memory::PLACE_COUNT;
use super::nvme;
use super::orders::{Command, Opening};
use super::queue::{Sent, Stage};
use super::session::{End, Session};
use crate::sim::host::blocks::{any_extent, first_own_block};
use crate::sim::host::model::Extent;
use crate::sim::world::layout::address;

/// How long a session lasts until we believe that nobody will throw us out. Long beside what takes turns, short beside a keep-alive.
const PATIENCE_NS: u64 = 200_000_000;
/// How often too many commands are sent.
const ATTEMPTS_MAX: u32 = 100;
/// A call that has not ended after this is left behind: the session is over without it.
const LEFT_BEHIND_NS: u64 = 3_000_000_000;
/// Depth of the admin queue.
const ADMIN_DEPTH: u16 = 8;

/// How far the end of a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// I/O goes on.
    NotYet,
    /// What is special about this end has been done.
    Begun,
    /// Everything was disconnected.
    Disconnected,
}

/// A session that is under way.
#[derive(Debug)]
pub(super) struct Doing {
    session: Session,
    begun_ns: u64,
    turn_count: u32,
    submitted_count: u32,
    /// Grows where the end of a session goes on with I/O.
    wanted_count: u32,
    attempt_count: u32,
    ending: Ending,
    /// It ended as it should.
    is_as_planned: bool,
}

impl RawHost {
    /// One step of a session: the next if none is under way.
    pub(super) fn drive(&mut self) {
        let Some(mut doing) = self.doing.take() else {
            if let Some(session) = self.sessions.pop_front() {
                self.begin_session(session);
            }
            return;
        };
        doing.turn_count += 1;
        self.step_session(&mut doing);
        let is_over = self.queues.iter().flatten().all(|queue| {
            let limit_ns = queue.since_ns.saturating_add(LEFT_BEHIND_NS);
            (queue.stage.is_ending() || queue.is_unwanted) && self.now_ns > limit_ns
        });
        let serves = self.is_serving(&doing.session);
        let mut observed = self.steering.observed.borrow_mut();
        observed.is_serving = serves && !is_over;
        if is_over {
            observed.sessions_ended += 1;
            observed.sessions_as_planned += u32::from(doing.is_as_planned);
        } else {
            drop(observed);
            self.doing = Some(doing);
        }
    }

    /// Somebody ended what was not to end.
    pub(super) fn disturbed(&self, qid: u16, by: &str) {
        if self.doing.as_ref().is_some_and(|doing| doing.session.is_owed) {
            let name = &self.name;
            self.findings.report("host", format!("{name}: queue {qid}: {by}, for no reason that it knows of"));
        }
    }

    fn begin_session(&mut self, session: Session) {
        let opening = self.opening(&session, 0);
        self.ends_together = true;
        self.keeps_alive = session.keeps_alive;
        let wanted_count = session.io_count;
        let doing = Doing {
            session,
            begun_ns: self.now_ns,
            turn_count: 0,
            submitted_count: 0,
            wanted_count,
            attempt_count: 0,
            ending: Ending::NotYet,
            is_as_planned: false,
        };
        if self.open(opening) {
            self.doing = Some(doing);
        } else {
            // Everything that was left behind is still in its place: there is no room for another session.
            self.sessions.clear();
        }
    }

    #[expect(clippy::unused_self, reason = "read as the others are")]
    fn opening(&self, session: &Session, qid: u16) -> Opening {
        Opening {
            qid,
            depth: if qid == 0 { ADMIN_DEPTH } else { session.depth },
            goal: Stage::Ready,
            keep_alive_ms: session.keep_alive_ms,
            request: session.request.clone(),
            address: address(),
        }
    }

    fn step_session(&mut self, doing: &mut Doing) {
        let session = &doing.session;
        let is_late = match session.end {
            End::AfterTurns(turns) => doing.turn_count > turns,
            // Where DISCONNECTED gets lost nobody tells us.
            End::Overrun | End::ShortCapsule | End::WrongKey => self.now_ns > doing.begun_ns + PATIENCE_NS,
            End::Quietly | End::Announced | End::Abruptly | End::WrongSgl | End::Reconnect | End::Dies | End::Wait => {
                false
            }
        };
        if is_late {
            doing.is_as_planned = true;
            self.leave(doing);
            return;
        }
        if doing.ending == Ending::Disconnected || !self.is_admin_ready() {
            return;
        }
        self.open_missing(doing);
        if !self.is_serving(&doing.session) {
            return;
        }
        self.send_event_requests(doing.session.event_request_count);
        if doing.submitted_count < doing.wanted_count {
            if self.submit_any(&doing.session) {
                doing.submitted_count += 1;
            }
            return;
        }
        self.end_session(doing);
    }

    fn end_session(&mut self, doing: &mut Doing) {
        let is_quiet = self.queues.iter().flatten().all(|queue| queue.awaited_count() == 0);
        let first = self.up_queue(1);
        match (doing.session.end, doing.ending) {
            (End::Abruptly, _) => {
                doing.is_as_planned = true;
                self.leave(doing);
            }
            (End::Dies, _) => {
                self.steering.die();
            }
            (End::Reconnect, Ending::NotYet) => {
                doing.ending = Ending::Begun;
                if let Some(place) = first {
                    self.disconnect(place);
                    doing.wanted_count += doing.session.io_count;
                }
            }
            _ if !is_quiet => {}
            (End::Quietly, _)
            | (End::Announced | End::WrongSgl | End::Reconnect, Ending::Begun | Ending::Disconnected) => {
                doing.is_as_planned = true;
                self.leave(doing);
            }
            (End::Announced, Ending::NotYet) => {
                doing.ending = Ending::Begun;
                if let Some(place) = self.up_queue(0) {
                    self.send_simple(place, Sent::ShutDown, |cid| {
                        nvme::property_set(cid, nvme::CC, nvme::CC_SHUT_DOWN)
                    });
                }
            }
            (End::WrongSgl, Ending::NotYet) => {
                doing.ending = Ending::Begun;
                self.submit_first(first, &Command::WrongSgl);
            }
            (End::Overrun, _) => self.overrun(doing, first),
            (End::ShortCapsule, Ending::NotYet) => {
                (doing.ending, doing.is_as_planned) = (Ending::Begun, true);
                self.submit_first(first, &Command::Bytes(vec![0; 10]));
            }
            (End::WrongKey, Ending::NotYet) => {
                (doing.ending, doing.is_as_planned) = (Ending::Begun, true);
                self.submit_first(first, &Command::WrongKey);
            }
            (End::Wait, _) => doing.is_as_planned = true,
            (End::AfterTurns(_) | End::ShortCapsule | End::WrongKey, _) => {}
        }
    }

    /// Again and again: the target may have answered the first before it sees the last. If it never sees all at once nobody is the wiser.
    fn overrun(&mut self, doing: &mut Doing, place: Option<usize>) {
        doing.is_as_planned = true;
        let Some(place) = place.filter(|_| doing.attempt_count < ATTEMPTS_MAX) else { return self.leave(doing) };
        doing.attempt_count += 1;
        let extent = Extent { start: first_own_block(self.number), count: 1 };
        for slot in 0..=usize::from(doing.session.depth) {
            self.submit(place, slot, &Command::Read(extent));
        }
    }

    fn submit_first(&mut self, place: Option<usize>, command: &Command) {
        if let Some(place) = place {
            self.submit(place, 0, command);
        }
    }

    fn leave(&mut self, doing: &mut Doing) {
        doing.ending = Ending::Disconnected;
        // Any of them first.
        let first = self.choices.below("first queue to end", u32::from(doing.session.io_queue_count) + 1);
        if let Some(place) = u16::try_from(first).ok().and_then(|qid| self.up_queue(qid)) {
            self.disconnect(place);
        }
        self.disconnect_all();
    }

    /// I/O queues that are not there are opened: in the beginning, and after [`End::Reconnect`].
    fn open_missing(&mut self, doing: &Doing) {
        for qid in 1..=doing.session.io_queue_count {
            let has_one = |queue: &super::queue::Queue| queue.qid == qid && !queue.stage.is_ending();
            if !self.queues.iter().flatten().any(has_one) {
                let opening = self.opening(&doing.session, qid);
                self.open(opening);
            }
        }
    }

    fn send_event_requests(&mut self, count: u16) {
        let Some(place) = self.up_queue(0) else { return };
        let Some(queue) = &self.queues[place] else { return };
        let out = queue.slots.iter().filter(|slot| matches!(slot.sent, Some(Sent::EventRequest))).count();
        if out < usize::from(count) {
            self.send_simple(place, Sent::EventRequest, nvme::async_event_request);
        }
    }

    /// Any command on any I/O queue that has room for one.
    fn submit_any(&mut self, session: &Session) -> bool {
        let queue_count = u32::from(session.io_queue_count);
        if queue_count == 0 {
            return true;
        }
        let qid = 1 + self.choices.below("I/O queue", queue_count);
        let Some(place) = u16::try_from(qid).ok().and_then(|qid| self.up_queue(qid)) else { return false };
        let Some(slot) = self.queues[place].as_ref().and_then(super::queue::Queue::free_slot) else { return false };
        let command = self.any_command(session);
        self.submit(place, slot, &command)
    }

    fn any_command(&self, session: &Session) -> Command {
        const KINDS: [u8; 10] = *b"WRWRWRWRZF";
        let choices = &self.choices;
        let kind = choices.one_of("I/O command", &KINDS);
        if kind == b'F' {
            return Command::Flush;
        }
        let count_max = session.block_count_max.clamp(1, BLOCK_COUNT_MAX);
        let extent = any_extent(choices, self.number, count_max, session.shares_one_in);
        match kind {
            b'R' => Command::Read(extent),
            b'Z' => Command::WriteZeroes(extent),
            _ => Command::Write { extent, in_capsule: choices.one_in("in capsule", 2) },
        }
    }

    fn is_admin_ready(&self) -> bool {
        self.up_queue(0).is_some_and(|place| self.stage_of(place) == Some(Stage::Ready))
    }

    fn is_serving(&self, session: &Session) -> bool {
        let is_ready = |qid| self.up_queue(qid).is_some_and(|place| self.stage_of(place) == Some(Stage::Ready));
        (0..=session.io_queue_count).all(is_ready)
    }

    /// The queue of this number that is not on its way out.
    pub(super) fn up_queue(&self, qid: u16) -> Option<usize> {
        (0..PLACE_COUNT)
            .rev()
            .find(|place| self.queues[*place].as_ref().is_some_and(|queue| queue.qid == qid && queue.stage.is_up()))
    }
}
