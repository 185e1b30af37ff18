//! Falling asleep against messages, wake-ups and the first value that is retired. A wake-up that is lost leaves a thread asleep for ever, which
//! the checker reports as a deadlock.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::cast::{Mention, Object, Play, mesh, rest, table_with_object, turn};
use super::{Tally, check, check_bounded};
use crate::cpu::Cpu;
use crate::limbo::{Grace, Limbo};
use crate::mailbox::Wake;
use crate::runtime::{PollMode, PollSwitch};

#[test]
fn a_message_ends_a_sleep() {
    let slept = Tally::default();
    let seen = slept.clone();
    check(move || {
        let mut mesh = mesh(2);
        let object = Object::new(7);
        let mention = Mention::of(&object);
        let mut first = Some(mention);
        let mut sender = Play::sit(
            &mut mesh,
            0,
            |_| {},
            move |turn| {
                if let Some(mention) = first.take() {
                    turn.send(Cpu(1), mention);
                }
            },
        );
        let received = Tally::default();
        let count = received.clone();
        let mut receiver = Play::sit(
            &mut mesh,
            1,
            move |mention: Mention| {
                mention.read();
                count.count();
            },
            |_| {},
        );
        let sending = thread::spawn(move || {
            turn(&mut sender);
            sender
        });
        loop {
            turn(&mut receiver);
            if received.is_some() {
                break;
            }
            if rest(&mut receiver) {
                seen.count();
            }
        }
        drop(sending.join().unwrap());
        drop(object);
    });
    slept.assert_some("a receiver that slept");
}

#[test]
fn whoever_takes_a_request_sees_what_came_with_it() {
    check(|| {
        let mut mesh = mesh::<Mention>(1);
        let reactor = Play::sit(&mut mesh, 0, |_| {}, |_| {});
        let wake = Wake::new(Arc::clone(mesh.bells()), Cpu(0));
        let news = Object::new(7);
        let mention = Mention::of(&news);
        let waking = thread::spawn(move || {
            news.write(8);
            wake.wake();
            news
        });
        if reactor.bell().take_wanted() {
            assert_eq!(mention.read(), 8);
        }
        drop(waking.join().unwrap());
    });
}

#[test]
fn no_wake_up_of_two_is_lost() {
    check_bounded(3, || {
        let mut mesh = mesh::<Mention>(1);
        let news: Arc<[AtomicU32; 2]> = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let looked = Arc::clone(&news);
        let heard = Tally::default();
        let all = heard.clone();
        let mut reactor = Play::sit(
            &mut mesh,
            0,
            |_| {},
            move |_| {
                if looked.iter().all(|news| news.load(Ordering::Relaxed) == 1) {
                    all.count();
                }
            },
        );
        let wakers = [0, 1].map(|number: usize| {
            let wake = Wake::new(Arc::clone(mesh.bells()), Cpu(0));
            let news = Arc::clone(&news);
            thread::spawn(move || {
                news[number].store(1, Ordering::Relaxed);
                wake.wake();
            })
        });
        loop {
            turn(&mut reactor);
            if heard.is_some() {
                break;
            }
            rest(&mut reactor);
        }
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

#[test]
fn a_poll_mode_is_seen_by_whoever_sleeps() {
    check(|| {
        let mut mesh = mesh::<Mention>(1);
        let mut reactor = Play::sit(&mut mesh, 0, |_| {}, |_| {});
        let switch = PollSwitch::new(PollMode::SLEEPING, Wake::new(Arc::clone(mesh.bells()), Cpu(0)));
        let switched = switch.clone();
        let switching = thread::spawn(move || switched.set(PollMode::Busy));
        loop {
            turn(&mut reactor);
            if switch.mode() == PollMode::Busy {
                break;
            }
            rest(&mut reactor);
        }
        switching.join().unwrap();
    });
}

#[test]
fn reclamation_goes_on_while_cpus_sleep() {
    let slept = Tally::default();
    let seen = slept.clone();
    check_bounded(2, move || {
        let mut mesh = mesh(3);
        let table = table_with_object(&mesh);
        let mut limbo = Limbo::new(Grace::Readers, 1);
        let graves = Tally::default();
        let reaped = graves.clone();
        let mut owner = Play::sit(
            &mut mesh,
            0,
            |_| {},
            move |turn| {
                if let Some(unlinked) = table.unlink(0) {
                    limbo.retire(turn, unlinked).unwrap();
                }
                if let Some(reaped_object) = limbo.reap(turn) {
                    drop(reaped_object.into_object().reclaim());
                    reaped.count();
                }
            },
        );
        // It sleeps through all this.
        let mut sleeper = Play::sit(&mut mesh, 1, |_| {}, |_| {});
        assert!(sleeper.doze());
        let done = Tally::default();
        let told = done.clone();
        let mut advancer = Play::sit(&mut mesh, 2, |_| {}, |_| {});
        let wake = Wake::new(Arc::clone(mesh.bells()), Cpu(2));
        let owning = thread::spawn(move || {
            while !graves.is_some() {
                turn(&mut owner);
                thread::yield_now();
            }
            told.count();
            wake.wake();
            owner
        });
        loop {
            turn(&mut advancer);
            if done.is_some() {
                break;
            }
            if rest(&mut advancer) {
                seen.count();
            }
        }
        drop(owning.join().unwrap());
        drop(sleeper);
    });
    slept.assert_some("an advancer that slept");
}
