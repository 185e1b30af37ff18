//! Doorbells in the hands of a peer that does with them as it likes: it hurts itself.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use reactor::Rest;

use super::hostile::{Heard, Hostile, Scene};
use crate::soft::shared::message::Message;
use crate::soft::shared::pair::PAGE_LEN;
use crate::soft::shared::socket;
use crate::verbs::contract::Rig;
use crate::verbs::{CompletionStatus as Status, Flags, Port, SendOperation};

/// Bytes before the asleep words of a side's block.
const ASLEEP_OFFSET: usize = 6144;

impl Scene {
    /// The honest listener's port, with nothing to do.
    fn fall_asleep(&mut self) {
        self.pair.sides[1].is_stopped = false;
        let rest = self.pair.until("a port with nothing to do", |pair| {
            pair.step();
            let now_ns = pair.now_ns;
            let port = &mut pair.sides[1].port;
            let rest = port.arm(now_ns);
            if rest == Rest::Poll {
                port.disarm();
                return None;
            }
            Some(rest)
        });
        assert_eq!(rest, Rest::Sleep);
        self.pair.sides[1].is_stopped = true;
    }

    fn is_woken(&mut self) -> bool {
        self.pair.rig.is_woken(&mut self.pair.sides[1].port)
    }

    fn wake_up(&mut self) {
        self.pair.sides[1].port.disarm();
        self.pair.sides[1].is_stopped = false;
    }

    /// The honest peer's next message wakes the port that sleeps.
    fn honest_message_wakes(&mut self, id: u64) {
        let name = self.ends[0].name;
        self.pair.sides[0].send_with(name, id, SendOperation::Send, Flags::SIGNALED, &[]);
        self.pair.until("the honest peer's ring", |pair| pair.rig.is_woken(&mut pair.sides[1].port).then_some(()));
        self.wake_up();
        assert_eq!(self.pair.completions(1, 1).len(), 1);
        assert_eq!(self.pair.completions(0, 1), [(id, Status::Success)]);
    }
}

fn ring(hostile: &Hostile) -> bool {
    let doorbells = hostile.doorbells.borrow();
    // SAFETY: one byte of ours.
    let sent = unsafe { libc::send(doorbells[0].as_raw_fd(), [0_u8].as_ptr().cast(), 1, libc::MSG_DONTWAIT) };
    sent == 1
}

/// Whoever rings more often than it was asked to is listened to no more.
#[test]
fn a_flooded_doorbell_is_silenced_and_the_others_ring() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let (end, _accept, _rings) = scene.be_accepted(&hostile, 600);
    // As full as it gets.
    let mut count = 0;
    while ring(&hostile) {
        count += 1;
    }
    assert!(count > 10, "{count}");
    scene.fall_asleep();
    assert!(scene.is_woken());
    scene.wake_up();
    for id in 1..4 {
        scene.fall_asleep();
        for _ in 0..10 {
            ring(&hostile);
        }
        assert!(!scene.is_woken(), "its doorbell is out of the alarm");
        scene.honest_message_wakes(id);
    }
    scene.part(hostile, end);
}

/// A doorbell that is shut rings never, and keeps nobody awake.
#[test]
fn a_shut_doorbell_keeps_nobody_awake() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let (end, accept, rings) = scene.be_accepted(&hostile, 610);
    hostile.doorbells.borrow_mut().clear();
    // Its closing may wake once.
    scene.fall_asleep();
    scene.wake_up();
    scene.fall_asleep();
    assert!(!scene.is_woken());
    scene.honest_message_wakes(1);
    // What it sends is found when the port is awake.
    rings.word(crate::soft::shared::link::CONTROL_LEN + super::hostile::RING_LEN as usize).store(0, Ordering::Relaxed);
    let page = hostile.page.as_ref().unwrap();
    page.word(PAGE_LEN / 2 + accept.news_slot as usize * 4).store(1, Ordering::Release);
    assert_eq!(scene.pair.completions(1, 1), [(0, Status::Success)]);
    scene.part(hostile, end);
}

/// It claims to sleep, and gave a doorbell that nobody empties: ringing it never waits.
#[test]
fn a_peer_that_sleeps_for_ever_delays_nobody() {
    let mut scene = Scene::new();
    let hostile = scene.shake_hands();
    let [full, _kept] = socket::pair().unwrap();
    // Blocking, and full.
    // SAFETY: our own descriptor.
    unsafe { libc::fcntl(full.as_raw_fd(), libc::F_SETFL, 0) };
    // SAFETY: one byte of ours.
    while unsafe { libc::send(full.as_raw_fd(), [0_u8].as_ptr().cast(), 1, libc::MSG_DONTWAIT) } == 1 {}
    hostile.send(&Message::Doorbell { port: 0 }, &[full]);
    let (end, _accept, _rings) = scene.be_accepted(&hostile, 620);
    for id in 0..8 {
        // The connector's block is the first.
        hostile.page.as_ref().unwrap().word(ASLEEP_OFFSET).store(1, Ordering::SeqCst);
        scene.pair.sides[1].send_with(end.name, id, SendOperation::Send, Flags::SIGNALED, &[]);
        let word = hostile.page.as_ref().unwrap().word(ASLEEP_OFFSET).load(Ordering::SeqCst);
        assert_eq!(word, 0, "it was rung for");
    }
    scene.part(hostile, end);
}

#[test]
fn what_is_no_doorbell_ends_its_peer() {
    let event = || {
        // SAFETY: no memory is involved.
        let number = unsafe { libc::eventfd(0, 0) };
        // SAFETY: opened just now.
        unsafe { OwnedFd::from_raw_fd(number) }
    };
    let udp = || OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let stream = || OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
    let mut scene = Scene::new();
    let before = scene.counter("peers_at_fault");
    for descriptor in [event(), udp(), stream()] {
        let hostile = scene.shake_hands();
        hostile.send(&Message::Doorbell { port: 0 }, &[descriptor]);
        scene.expect_end(&hostile);
    }
    // One for each port.
    for ports in [[5, 5], [5, 32], [5, u32::MAX]] {
        let hostile = scene.shake_hands();
        for port in ports {
            hostile.send(&Message::Doorbell { port }, &[socket::pair().unwrap()[0].try_clone().unwrap()]);
        }
        scene.expect_end(&hostile);
    }
    // Before there is anything between us.
    let hostile = scene.connect();
    assert!(matches!(scene.hear(&hostile), Heard::Message(Message::Hello { .. })));
    hostile.send(&Message::Doorbell { port: 0 }, &[event()]);
    scene.expect_end(&hostile);
    assert_eq!(scene.counter("peers_at_fault") - before, 7);
    scene.close();
}
