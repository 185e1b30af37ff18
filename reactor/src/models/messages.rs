//! A message about an object, from somebody who could find it, is received before the object is reclaimed: whoever receives it too late here touches
//! what was reclaimed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use loom::thread;

use super::cast::{Mention, Object, Play, turn};
use super::{Tally, check_bounded};
use crate::bell::Bell;
use crate::cpu::Cpu;
use crate::limbo::{Grace, Limbo};
use crate::mesh::Mesh;
use crate::program::{Program, Progress};
use crate::reactor::Reactor;
use crate::table::{Table, Unlinked};
use crate::turn::Turn;

const SENDER: u16 = 0;
const RECEIVER: u16 = 1;
/// The advancer as well.
const OWNER: u16 = 2;

#[test]
fn a_message_is_received_before_what_it_is_about_is_reclaimed() {
    let early = Tally::default();
    let seen = early.clone();
    // Without the bound it takes hours.
    check_bounded(2, move || {
        let mut stage = Stage::new(1, 2);
        let (mut sender, mut receiver) = (stage.sender(|| ()), stage.receiver(|| ()));
        let mut owner = stage.owner(&mut [&mut sender, &mut receiver]);
        let sending = thread::spawn(move || {
            turn(&mut sender);
            thread::yield_now();
            turn(&mut sender);
            sender
        });
        let receiving = thread::spawn(move || {
            turn(&mut receiver);
            thread::yield_now();
            turn(&mut receiver);
            receiver
        });
        for _ in 0..4 {
            turn(&mut owner);
            thread::yield_now();
        }
        if stage.received.is_some() {
            seen.count();
        }
        stage.play_on(sending.join().unwrap(), receiving.join().unwrap(), owner);
    });
    early.assert_some("a message that was received meanwhile");
}

#[test]
fn a_message_sent_late_in_a_turn_is_received_before_what_it_is_about_is_reclaimed() {
    let early = Tally::default();
    let seen = early.clone();
    check_bounded(3, move || {
        let mut stage = Stage::new(1, 2);
        let owner: Rc<RefCell<Option<Reactor<Owner>>>> = Rc::default();
        // The owner's first turn falls into the sender's, between its look and its message. One thread for both: so the checker has fewer to interleave.
        let nested = Rc::clone(&owner);
        let mut sender = stage.sender(move || {
            nested.borrow_mut().iter_mut().for_each(turn);
            thread::yield_now();
        });
        let mut turn_count = 0;
        let mut receiver = stage.receiver(move || {
            turn_count += 1;
            if turn_count == 3 {
                thread::yield_now();
            }
        });
        *owner.borrow_mut() = Some(stage.owner(&mut [&mut sender, &mut receiver]));
        let receiving = thread::spawn(move || {
            turn(&mut receiver);
            turn(&mut receiver);
            receiver
        });
        turn(&mut sender);
        let mut owner = owner.take().unwrap();
        turn(&mut owner);
        thread::yield_now();
        turn(&mut sender);
        turn(&mut owner);
        turn(&mut owner);
        if stage.received.is_some() {
            seen.count();
        }
        stage.play_on(sender, receiving.join().unwrap(), owner);
    });
    early.assert_some("a message that was received meanwhile");
}

#[test]
fn many_messages_are_received_before_what_the_last_is_about_is_reclaimed() {
    // All in the ring at once, and most of them in the backlog.
    for ring_capacity in [4, 1] {
        check_bounded(3, move || {
            let mut stage = Stage::new(4, ring_capacity);
            let (mut sender, mut receiver) = (stage.sender(|| ()), stage.receiver(|| ()));
            let mut owner = stage.owner(&mut [&mut sender, &mut receiver]);
            let receiving = thread::spawn(move || {
                for _ in 0..3 {
                    turn(&mut receiver);
                    thread::yield_now();
                }
                receiver
            });
            for _ in 0..5 {
                turn(&mut sender);
                turn(&mut owner);
                thread::yield_now();
            }
            stage.play_on(sender, receiving.join().unwrap(), owner);
        });
    }
}

#[test]
fn a_message_to_whoever_falls_asleep_holds_the_epoch_up() {
    let slept = Tally::default();
    let seen = slept.clone();
    check_bounded(3, move || {
        let mut stage = Stage::new(1, 2);
        let (mut sender, mut receiver) = (stage.sender(|| ()), stage.receiver(|| ()));
        let mut owner = stage.owner(&mut [&mut sender, &mut receiver]);
        let seen = seen.clone();
        let receiving = thread::spawn(move || {
            if receiver.lie_down(&0_u64).is_some() {
                seen.count();
            }
            turn(&mut receiver);
            receiver
        });
        // The yields make up for preemptions: the receiver may be in the middle of falling asleep.
        thread::yield_now();
        turn(&mut sender);
        thread::yield_now();
        turn(&mut owner);
        for _ in 0..4 {
            turn(&mut sender);
            turn(&mut owner);
        }
        stage.play_on(sender, receiving.join().unwrap(), owner);
    });
    slept.assert_some("a receiver that fell asleep");
}

/// A mesh, an object in a table, and what is known of them.
struct Stage {
    mesh: Mesh<Mention>,
    table: Arc<Table<Object>>,
    message_count: usize,
    received: Tally,
    reclaimed: Tally,
}

impl Stage {
    /// The sender sends so many messages, of which the last is about the object in the table.
    fn new(message_count: usize, ring_capacity: usize) -> Self {
        let mesh = Mesh::new((0..3).map(|_| Bell::new(None)).collect(), ring_capacity);
        let table = Table::new(mesh.domain(), 1);
        table.link(0, Object::new(7));
        let (received, reclaimed) = (Tally::default(), Tally::default());
        Self { mesh, table: Arc::new(table), message_count, received, reclaimed }
    }

    /// Looks and sends in the first turn of the model, and does something in between.
    fn sender<F: FnMut()>(&mut self, mut between: F) -> Reactor<impl Program<Message = Mention> + use<F>> {
        let (table, message_count) = (Arc::clone(&self.table), self.message_count);
        let other = Object::new(1);
        let mut turn_count = 0;
        let play = move |turn: &mut Turn<'_, Mention>| {
            turn_count += 1;
            if turn_count != 2 {
                return;
            }
            if let Some(object) = table.look(turn.guard(), 0) {
                between();
                for _ in 1..message_count {
                    turn.send(Cpu(RECEIVER), Mention::of(&other));
                }
                turn.send(Cpu(RECEIVER), Mention::of(object));
            }
        };
        Play::sit(&mut self.mesh, SENDER, |_| {}, play)
    }

    /// Does something between its mailbox and its quiet point.
    fn receiver<F: FnMut()>(&mut self, mut between: F) -> Reactor<impl Program<Message = Mention> + use<F>> {
        let received = self.received.clone();
        let receive = move |mention: Mention| {
            mention.read();
            received.count();
        };
        Play::sit(&mut self.mesh, RECEIVER, receive, move |_| between())
    }

    /// One step of the epoch later: the others have seen it, the owner has not.
    fn owner(&mut self, others: &mut [&mut dyn Turns]) -> Reactor<Owner> {
        let owner = Owner {
            table: Arc::clone(&self.table),
            limbo: Limbo::new(Grace::Messages, 1),
            grave: None,
            reclaimed: self.reclaimed.clone(),
        };
        let owner = Reactor::new(owner, self.mesh.sit(Cpu(OWNER), 0));
        assert!(self.mesh.domain().advance());
        others.iter_mut().for_each(|other| other.turn());
        owner
    }

    /// To the end: every message is received, and the object is reclaimed.
    fn play_on(self, mut sender: impl Turns, mut receiver: impl Turns, mut owner: Reactor<Owner>) {
        for _ in 0..12 {
            sender.turn();
            receiver.turn();
            turn(&mut owner);
        }
        assert!(self.reclaimed.is_some(), "never reclaimed");
    }
}

/// A reactor, whatever its program is.
trait Turns {
    fn turn(&mut self);
}

impl<P: Program> Turns for Reactor<P> {
    fn turn(&mut self) {
        turn(self);
    }
}

/// Unlinks in its first turn, then reaps when it may.
struct Owner {
    table: Arc<Table<Object>>,
    limbo: Limbo<Unlinked<Object>>,
    /// Reclaimed, and in memory to the end of the run.
    grave: Option<Box<Object>>,
    reclaimed: Tally,
}

impl Program for Owner {
    type Message = Mention;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, Mention>, _from: Option<Cpu>, _message: Mention) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Mention>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Mention>) -> Progress {
        if let Some(unlinked) = self.table.unlink(0) {
            self.limbo.retire(turn, unlinked).unwrap();
        }
        if let Some(reaped) = self.limbo.reap(turn) {
            self.grave = Some(reaped.into_object().reclaim());
            self.reclaimed.count();
        }
        Progress::Idle
    }
}
