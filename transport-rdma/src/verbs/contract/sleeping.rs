//! Ports whose CPU sleeps: what wakes it, what does not, and that nothing is lost in between.

use reactor::Rest;

use super::pair::{Attach, End, Pair, Setup};
use super::{Case, Rig};
use crate::verbs::{CompletionStatus as Status, Event, Flags, Port, Provider, SendOperation};

pub(super) fn cases<R: Rig>() -> Vec<(&'static str, Case<R>)> {
    vec![
        ("a_message_ends_the_sleep", a_message_ends_the_sleep),
        ("what_the_peer_consumes_ends_the_sleep", what_the_peer_consumes_ends_the_sleep),
        ("the_own_control_plane_ends_the_sleep", the_own_control_plane_ends_the_sleep),
        ("the_peer_s_end_ends_the_sleep", the_peer_s_end_ends_the_sleep),
        ("the_peer_s_death_ends_the_sleep", the_peer_s_death_ends_the_sleep),
        ("what_comes_before_the_sleep_prevents_it", what_comes_before_the_sleep_prevents_it),
        ("who_is_awake_is_not_rung_for", who_is_awake_is_not_rung_for),
        ("timers_limit_the_sleep", timers_limit_the_sleep),
        ("no_message_of_many_sleeps_is_lost", no_message_of_many_sleeps_is_lost),
    ]
}

impl<R: Rig> Pair<R> {
    /// Arms a side's port once there is nothing to do for it: its CPU does not turn from then on.
    fn fall_asleep(&mut self, side: usize) -> Rest {
        self.sides[side].is_stopped = false;
        let rest = self.until("a port with nothing to do", |pair| {
            // After a poll that gave everything out.
            pair.step();
            let now_ns = pair.now_ns;
            let port = &mut pair.sides[side].port;
            match port.arm(now_ns) {
                Rest::Poll => {
                    port.disarm();
                    None
                }
                rest @ (Rest::Sleep | Rest::SleepUntil(_)) => Some(rest),
            }
        });
        self.sides[side].is_stopped = true;
        rest
    }

    fn is_woken(&mut self, side: usize) -> bool {
        let Self { rig, sides, .. } = self;
        rig.is_woken(&mut sides[side].port)
    }

    /// Waits until something wakes it; its CPU turns again.
    fn woken(&mut self, side: usize) {
        self.until("what ends the sleep", |pair| pair.is_woken(side).then_some(()));
        self.wake_up(side);
    }

    fn wake_up(&mut self, side: usize) {
        self.sides[side].port.disarm();
        // A device's notification that was not needed may come yet.
        assert!(R::IS_DEVICE || !self.is_woken(side), "what had rung is taken");
        self.sides[side].is_stopped = false;
    }

    fn asleep(&mut self) -> [End; 2] {
        let ends = self.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 0, 8);
            }
        });
        assert_eq!(self.fall_asleep(1), Rest::Sleep);
        ends
    }
}

fn a_message_ends_the_sleep<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.asleep();
    for id in 0..4 {
        pair.steps(30);
        assert!(!pair.is_woken(1), "by nothing");
        pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::SIGNALED, &[]);
        pair.woken(1);
        assert_eq!(pair.completions(1, 1), [(id, Status::Success)]);
        assert_eq!(pair.completions(0, 1), [(id, Status::Success)]);
        assert_eq!(pair.fall_asleep(1), Rest::Sleep);
    }
    pair.wake_up(1);
    pair.finish_with_completions(ends);
}

fn what_the_peer_consumes_ends_the_sleep<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 8);
        }
    });
    for id in 0..4 {
        pair.sides[1].is_stopped = true;
        pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::SIGNALED, &[]);
        if R::IS_DEVICE {
            // The peer's device consumes whether its CPU turns or not: it may have done so before ours sleeps.
            let now_ns = pair.now_ns;
            if pair.sides[0].port.arm(now_ns) != Rest::Poll {
                pair.sides[0].is_stopped = true;
                pair.until("what ends the sleep", |pair| pair.is_woken(0).then_some(()));
            }
            pair.wake_up(0);
            pair.sides[1].is_stopped = false;
            assert_eq!(pair.completions(0, 1), [(id, Status::Success)]);
            assert_eq!(pair.completions(1, 1), [(id, Status::Success)]);
            continue;
        }
        // Not for ever: a peer that never consumes is given up in time.
        assert!(matches!(pair.fall_asleep(0), Rest::SleepUntil(_)));
        pair.steps(30);
        assert!(!pair.is_woken(0), "by nothing");
        pair.sides[1].is_stopped = false;
        pair.woken(0);
        assert_eq!(pair.completions(0, 1), [(id, Status::Success)]);
        assert_eq!(pair.completions(1, 1), [(id, Status::Success)]);
    }
    pair.finish_with_completions(ends);
}

fn the_own_control_plane_ends_the_sleep<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let active = pair.resolve();
    let parameters = pair.parameters(b"");
    pair.sides[0].provider.connect(&active.connection, parameters);
    let passive = pair.request().connection.attach(&mut pair, 1);
    pair.post_receives(1, passive.name, 0, 2);
    assert_eq!(pair.fall_asleep(1), Rest::Sleep);
    // The connection comes up: the port has to take its link, where it has one to take.
    pair.sides[1].provider.accept(&passive.connection, parameters);
    if !R::IS_DEVICE {
        pair.woken(1);
    }
    pair.established(0, active.id());
    pair.established(1, passive.id());
    if R::IS_DEVICE {
        pair.wake_up(1);
    }
    assert_eq!(pair.fall_asleep(1), Rest::Sleep);
    // It ends: the port has to flush.
    pair.sides[1].provider.disconnect(passive.id());
    pair.woken(1);
    let flushed = Status::WorkRequestFlushed;
    assert_eq!(pair.completions(1, 2), [(0, flushed), (1, flushed)]);
    pair.finish_with_completions([active, passive]);
}

/// The peer's queue pair leaves its port (a device: ends) while a send of ours waits for it.
fn the_peer_s_end_ends_the_sleep<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let [active, passive] = pair.connect();
    pair.sides[1].is_stopped = true;
    pair.sides[0].send_with(active.name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    let rest = pair.fall_asleep(0);
    assert!(matches!(rest, Rest::SleepUntil(_)) || R::IS_DEVICE);
    let queue_pair = pair.sides[1].port.detach(passive.name).unwrap();
    if R::IS_DEVICE {
        pair.destroy_queue_pair(1, queue_pair);
        pair.woken(0);
        assert_eq!(pair.completions(0, 1), [(1, Status::RetryExceeded)]);
        pair.sides[1].is_stopped = false;
    } else {
        pair.woken(0);
        assert_eq!(pair.completions(0, 1), [(1, Status::RetryExceeded)]);
        pair.sides[1].is_stopped = false;
        pair.destroy_queue_pair(1, queue_pair);
    }
    pair.destroy_connection(1, passive.connection);
    pair.end(0, active);
    pair.close();
}

fn the_peer_s_death_ends_the_sleep<R: Rig>(mut rig: R) {
    if R::IS_DEVICE {
        return rig.note("not run: a device does not notice the end of a peer to which it sends nothing; the connection's events tell");
    }
    let mut pair = Pair::new(rig);
    let [_active, passive] = pair.connect_with(|pair, side, name| {
        if side == 0 {
            pair.post_receives(0, name, 10, 1);
        }
    });
    assert_eq!(pair.fall_asleep(0), Rest::Sleep);
    let Pair { mut rig, sides: [mut first, second], .. } = pair;
    rig.kill(second.provider);
    drop((second.port, passive));
    for _ in 0..200_000 {
        let now_ns = rig.step();
        // It sleeps again each time: what has woken it before may not be what says that the peer is gone.
        if rig.is_woken(&mut first.port) {
            loop {
                first.port.disarm();
                first.port.poll(now_ns, 32, &mut first.completions);
                if !first.completions.is_empty() || first.port.arm(now_ns) != Rest::Poll {
                    break;
                }
            }
        }
        if let Some(event) = first.provider.next_event(now_ns) {
            first.events.push(first.provider.acknowledge(event));
        }
        if !first.completions.is_empty() {
            break;
        }
    }
    assert_eq!(first.take_completions(), [(10, Status::WorkRequestFlushed)]);
}

/// Between the last poll and the sleep: the last look finds it.
fn what_comes_before_the_sleep_prevents_it<R: Rig>(rig: R) {
    let mut pair = Pair::new(rig);
    let ends = pair.asleep();
    pair.wake_up(1);
    pair.sides[1].is_stopped = true;
    pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    if R::IS_DEVICE {
        // By then it is there.
        assert_eq!(pair.completions(0, 1), [(1, Status::Success)]);
    }
    let now_ns = pair.now_ns;
    assert_eq!(pair.sides[1].port.arm(now_ns), Rest::Poll);
    pair.sides[1].port.disarm();
    pair.sides[1].provider.disconnect(ends[1].id());
    assert_eq!(pair.sides[1].port.arm(now_ns), Rest::Poll);
    pair.sides[1].port.disarm();
    pair.finish_with_completions(ends);
}

fn who_is_awake_is_not_rung_for<R: Rig>(mut rig: R) {
    if R::IS_DEVICE {
        return rig.note("not run: a notification that a device was asked for cannot be called off");
    }
    let mut pair = Pair::new(rig);
    let ends = pair.asleep();
    pair.wake_up(1);
    pair.sides[1].is_stopped = true;
    pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    pair.steps(50);
    assert!(!pair.is_woken(1));
    pair.finish_with_completions(ends);
}

fn timers_limit_the_sleep<R: Rig>(rig: R) {
    let mut pair = Pair::with(rig, Setup { rnr_retry_count: 1, ..Setup::default() });
    let ends = pair.connect();
    pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
    // The peer has no receive: there are two tries.
    let status = loop {
        let rest = pair.fall_asleep(0);
        // A device may take its time from the failure to the completion.
        if let Some((id, status)) = pair.sides[0].take_completions().pop() {
            assert_eq!(id, 1);
            break status;
        }
        let until_ns = match rest {
            Rest::SleepUntil(until_ns) => until_ns,
            Rest::Sleep if R::IS_DEVICE => u64::MAX,
            rest => panic!("{rest:?} while a send is outstanding"),
        };
        while pair.now_ns <= until_ns && !pair.is_woken(0) {
            pair.step();
        }
        pair.wake_up(0);
        pair.step();
    };
    assert_eq!(status, Status::RnrRetryExceeded);
    pair.finish_with_completions(ends);
}

/// Messages at any moment of polls, sleeps and what is between: each comes, and none before the sleeper was told where it slept.
fn no_message_of_many_sleeps_is_lost<R: Rig>(rig: R) {
    const COUNT: u64 = 300;
    let mut pair = Pair::new(rig);
    let ends = pair.connect_with(|pair, side, name| {
        if side == 1 {
            pair.post_receives(1, name, 0, 16);
        }
    });
    pair.sides[1].is_stopped = true;
    let (mut sent, mut received, mut slept) = (0, 0, 0);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    while received < COUNT {
        // Between any two steps of the sleeper a message may come.
        let mut maybe_send = |pair: &mut Pair<R>, limit: u64| {
            if sent < COUNT && sent - received < 8 && below(limit) == 0 {
                pair.sides[0].send_with(ends[0].name, sent, SendOperation::Send, Flags::SIGNALED, &[]);
                sent += 1;
            }
        };
        maybe_send(&mut pair, 12);
        let side = &mut pair.sides[1];
        side.port.poll(pair.now_ns, 32, &mut side.completions);
        side.port.ring();
        maybe_send(&mut pair, 12);
        let now_ns = pair.now_ns;
        if pair.sides[1].port.arm(now_ns) != Rest::Poll {
            slept += 1;
            maybe_send(&mut pair, 2);
            let is_owed = sent > received + pair.sides[1].completions.len() as u64;
            if is_owed {
                pair.until("what ends the sleep", |pair| pair.is_woken(1).then_some(()));
            }
        }
        pair.sides[1].port.disarm();
        pair.step();
        assert!(pair.sides[0].take_completions().iter().all(|(_, status)| *status == Status::Success));
        for (id, status) in pair.sides[1].take_completions() {
            assert_eq!((id, status), (received, Status::Success));
            received += 1;
            pair.post_receives(1, ends[1].name, id + 16, 1);
        }
    }
    assert!(slept > COUNT / 20, "{slept} sleeps are too few to show anything");
    pair.finish_with_completions(ends);
}

impl<R: Rig> Pair<R> {
    /// As [`Pair::finish`], with whatever was left to complete.
    fn finish_with_completions(mut self, ends: [End; 2]) {
        for side in &mut self.sides {
            side.is_stopped = false;
            side.port.disarm();
        }
        self.steps(20);
        for (side, end) in self.sides.iter_mut().zip(&ends) {
            side.provider.disconnect(end.id());
        }
        self.steps(20);
        for side in &mut self.sides {
            side.completions.clear();
            side.events.retain(|event| matches!(event, Event::ConnectRequest(_)));
        }
        self.finish(ends);
    }
}
