//! What the timers of this layer are for. A token is a kind above a handle: late firings are misses.

use reactor::{Handle, Turn};

use super::PollGroup;
use crate::defect::{self, Defect};
use crate::membership::Remote;
use crate::message::Message;
use crate::qpair::Stage;
use crate::qpair::header::{QpairHeader, Tally};
use crate::trace::{Step, place};
use crate::transport::{DisconnectReason, Transport};
use crate::{ControllerKind, Qpair};

/// Timer tokens of this layer have this bit; those without it are the transport's.
pub const TIMER_BIT: u64 = 1 << 63;

const KIND_SHIFT: u32 = 56;
const KIND_MASK: u64 = 0x7F;
const CONNECT: u64 = 1;
const KEEP_ALIVE: u64 = 2;
const JOIN_WAIT: u64 = 3;
const AUTHENTICATION: u64 = 4;

/// A timer of this layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// No Connect has succeeded on this qpair.
    Connect(Handle<Qpair>),
    /// The host of this controller may have gone.
    KeepAlive(Handle<ControllerKind>),
    /// A Join of this controller has waited for its queue id.
    JoinWait(Handle<ControllerKind>),
    /// The host of this qpair has not authenticated, or has begun to and not ended.
    Authentication(Handle<Qpair>),
}

pub(super) fn token(timer: Timer) -> u64 {
    let (kind, handle) = match timer {
        Timer::Connect(qpair) => (CONNECT, qpair.to_bits()),
        Timer::KeepAlive(controller) => (KEEP_ALIVE, controller.to_bits()),
        Timer::JoinWait(controller) => (JOIN_WAIT, controller.to_bits()),
        Timer::Authentication(qpair) => (AUTHENTICATION, qpair.to_bits()),
    };
    TIMER_BIT | kind << KIND_SHIFT | handle
}

fn timer(token: u64) -> Option<Timer> {
    match token >> KIND_SHIFT & KIND_MASK {
        CONNECT => Some(Timer::Connect(Handle::from_bits(token))),
        KEEP_ALIVE => Some(Timer::KeepAlive(Handle::from_bits(token))),
        JOIN_WAIT => Some(Timer::JoinWait(Handle::from_bits(token))),
        AUTHENTICATION => Some(Timer::Authentication(Handle::from_bits(token))),
        _ => None,
    }
}

impl PollGroup {
    /// A timer with [`TIMER_BIT`].
    pub fn fire<M: From<Message>, T: Transport>(&mut self, turn: &mut Turn<'_, M>, transport: &mut T, token: u64) {
        match timer(token) {
            Some(Timer::Connect(qpair)) => {
                let waits = self.qpairs.look(qpair).map(|body| &body.stage);
                if matches!(waits, Some(Stage::AwaitingConnect { .. } | Stage::Connecting { .. })) {
                    self.counters.connect_timeout_count.add(1);
                    transport.disconnect(qpair, DisconnectReason::ConnectTimeout);
                }
            }
            Some(Timer::KeepAlive(controller)) => self.check_keep_alive(turn, transport, controller),
            Some(Timer::JoinWait(controller)) => self.expire_joins(turn, controller),
            Some(Timer::Authentication(qpair)) => self.expire_authentication(transport, qpair),
            None => tracing::error!(token, "a timer that this layer never armed"),
        }
    }

    /// Arms the keep-alive timer of a controller anew, or none.
    pub(super) fn watch_keep_alive<M>(&mut self, turn: &mut Turn<'_, M>, handle: Handle<ControllerKind>) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        if let Some(timer) = controller.keep_alive.timer.take() {
            turn.cancel(timer);
        }
        let deadline_ns = controller.keep_alive.deadline_ns();
        controller.keep_alive.timer =
            deadline_ns.map(|deadline_ns| turn.arm(deadline_ns, super::token(Timer::KeepAlive(handle))));
    }

    fn check_keep_alive<M, T: Transport>(
        &mut self,
        turn: &mut Turn<'_, M>,
        transport: &mut T,
        handle: Handle<ControllerKind>,
    ) {
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        // Keep Alive commands only stamp the time, so the timer may be early.
        controller.keep_alive.timer = None;
        let is_over = controller.keep_alive.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= turn.now_ns());
        // Any command of any of its queues is a sign of life, on whatever CPU: their stamps are read only now.
        let last_command_ns =
            if is_over && !defect::is(Defect::TrafficIsNoSignOfLife) { self.last_command_ns(turn, handle) } else { 0 };
        let Some(controller) = self.controllers.look_mut(handle) else { return };
        let is_alive = is_over && controller.keep_alive.renew(last_command_ns, turn.now_ns());
        match controller.keep_alive.deadline_ns() {
            Some(_) if is_over && !is_alive => {
                self.counters.keep_alive_expired_count.add(1);
                transport.disconnect(controller.admin, DisconnectReason::KeepAlive);
                Step::KeepAliveExpired.trace(turn, place(self.cpu, handle), 0);
            }
            Some(_) => self.watch_keep_alive(turn, handle),
            None => {}
        }
    }
}

impl PollGroup {
    /// The queues of a controller of this CPU, as all CPUs see them.
    fn headers_of<'t, M>(
        &self,
        turn: &Turn<'t, M>,
        handle: Handle<ControllerKind>,
    ) -> impl Iterator<Item = &'t QpairHeader> {
        let controller = self.controllers.look(handle);
        let admin = controller.map(|controller| Remote { cpu: self.cpu, handle: controller.admin });
        let members = controller.into_iter().flat_map(|controller| controller.members.iter());
        admin.into_iter().chain(members).filter_map(|qpair| {
            let header = self.directory.header(turn.guard(), qpair.cpu, qpair.handle.index())?;
            (header.handle == qpair.handle).then_some(header)
        })
    }

    fn last_command_ns<M>(&self, turn: &Turn<'_, M>, handle: Handle<ControllerKind>) -> u64 {
        self.headers_of(turn, handle).map(|header| header.last_command_ns.value()).max().unwrap_or(0)
    }

    /// What the queues of a controller of this CPU have done.
    pub(super) fn tally_of<M>(&self, turn: &Turn<'_, M>, handle: Handle<ControllerKind>) -> Tally {
        let mut tally = Tally::default();
        for header in self.headers_of(turn, handle) {
            tally += header.tally();
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let bits = 0x00FF_EEDD_CCBB_AA99;
        for made in [
            Timer::Connect(Handle::from_bits(bits)),
            Timer::KeepAlive(Handle::from_bits(bits)),
            Timer::JoinWait(Handle::from_bits(bits)),
            Timer::Authentication(Handle::from_bits(bits)),
        ] {
            assert_ne!(token(made) & TIMER_BIT, 0);
            assert_eq!(timer(token(made)), Some(made));
        }
        assert_eq!(timer(TIMER_BIT), None);
    }
}
