//! Leaving the mesh against a message that is sent at that moment.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::thread;

use super::cast::{Mention, Object, Play, mesh, turn};
use super::{Tally, check};
use crate::cpu::Cpu;

#[test]
fn whoever_leaves_after_its_last_message_may_do_so_at_once() {
    let left = Tally::default();
    let seen = left.clone();
    check(move || {
        let mut mesh = mesh(2);
        let object = Object::new(7);
        let mut first = Some(Mention::of(&object));
        let told = Tally::default();
        let is_told = told.clone();
        let mut leaver = Play::sit(
            &mut mesh,
            0,
            move |_| told.count(),
            move |turn| {
                if is_told.is_some() {
                    turn.leave();
                }
            },
        );
        let mut sender = Play::sit(
            &mut mesh,
            1,
            |_| {},
            move |turn| {
                if let Some(mention) = first.take() {
                    turn.send(Cpu(0), mention);
                }
            },
        );
        let leaving = thread::spawn(move || {
            turn(&mut leaver);
            leaver
        });
        turn(&mut sender);
        if leaving.join().unwrap().has_left() {
            seen.count();
        }
        drop(object);
    });
    left.assert_some("a reactor that left in the turn in which it was told to");
}

#[test]
fn a_message_to_whoever_leaves_too_early_is_never_lost_in_silence() {
    let silent = Tally::default();
    let seen = silent.clone();
    check(move || {
        let mut mesh = mesh(2);
        let object = Object::new(7);
        let mut first = Some(Mention::of(&object));
        let received = Tally::default();
        let count = received.clone();
        let mut leaver = Play::sit(&mut mesh, 0, move |_| count.count(), |turn| turn.leave());
        let mut sender = Play::sit(
            &mut mesh,
            1,
            |_| {},
            move |turn| {
                if let Some(mention) = first.take() {
                    turn.send(Cpu(0), mention);
                }
            },
        );
        let leaving = thread::spawn(move || {
            let was_quiet = catch_unwind(AssertUnwindSafe(|| turn(&mut leaver))).is_ok();
            was_quiet && leaver.has_left()
        });
        let sent = catch_unwind(AssertUnwindSafe(|| turn(&mut sender))).is_ok();
        let left = leaving.join().unwrap();
        assert!(received.is_some() || !sent || !left, "a message was lost in silence");
        if !received.is_some() {
            seen.count();
        }
        drop(object);
    });
    silent.assert_some("a message that came too late");
}
