//! Who plays in the models: objects that notice a touch at the wrong time, and CPUs that are moved by hand.

use std::ptr;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::Tally;
use crate::bell::Bell;
use crate::cpu::Cpu;
use crate::limbo::{Grace, Limbo};
use crate::mesh::Mesh;
use crate::program::{Program, Progress, Rest};
use crate::reactor::{Reactor, Seat, SleepLimit};
use crate::table::{Table, Unlinked};
use crate::turn::Turn;

/// Something that readers look at and its owner reclaims. The checker ends the run at a touch that is not ordered against the reclamation.
pub(super) struct Object(UnsafeCell<u32>);

const RECLAIMED: u32 = u32::MAX;

// SAFETY: this is what the models are to show.
unsafe impl Sync for Object {}
// SAFETY: as above.
unsafe impl Send for Object {}

impl Object {
    pub(super) fn new(value: u32) -> Box<Self> {
        let object = Box::new(Self(UnsafeCell::new(0)));
        object.write(value);
        object
    }

    /// Panics if it is reclaimed.
    pub(super) fn read(&self) -> u32 {
        // SAFETY: the checker ends the run before it lets this race.
        let value = self.0.with(|place| unsafe { *place });
        assert_ne!(value, RECLAIMED, "touched after it was reclaimed");
        value
    }

    /// Only for whoever alone has it.
    pub(super) fn write(&self, value: u32) {
        self.0.with_mut(|place| {
            // SAFETY: as for `read`.
            unsafe { *place = value };
        });
    }

    /// Overwrites it, as the next user of its memory would. The memory itself stays until the caller lets go of it at the end of the run, so
    /// that a reader who comes too late is found by the checker and not by the operating system.
    pub(super) fn reclaim(self: Box<Self>) -> Box<Self> {
        self.write(RECLAIMED);
        self
    }
}

/// What somebody found, kept where the compiler would not let it be kept: beyond a turn, or in a message.
#[derive(Clone, Copy)]
pub(super) struct Mention(*const Object);

// SAFETY: this is what the models are to show.
unsafe impl Send for Mention {}

impl Mention {
    pub(super) fn of(object: &Object) -> Self {
        Self(ptr::from_ref(object))
    }

    pub(super) fn read(self) -> u32 {
        // SAFETY: objects stay in memory to the end of the run.
        let object = unsafe { &*self.0 };
        object.read()
    }
}

/// A mesh of so many CPUs with rings of two messages.
pub(super) fn mesh<M>(cpu_count: u16) -> Mesh<M> {
    Mesh::new((0..cpu_count).map(|_| Bell::new(None)).collect(), 2)
}

/// One CPU of a mesh, moved by hand: one step at a time instead of whole turns.
pub(super) struct Hand {
    seat: Seat<()>,
    limbo: Limbo<Unlinked<Object>>,
}

impl Hand {
    /// Online from here on.
    pub(super) fn new(mesh: &mut Mesh<()>, cpu: u16) -> Self {
        Self { seat: mesh.sit(Cpu(cpu), 0), limbo: Limbo::new(Grace::Readers, 1) }
    }

    pub(super) fn turn<R>(&mut self, within: impl FnOnce(&mut Turn<'_, ()>, &mut Limbo<Unlinked<Object>>) -> R) -> R {
        let mut turn = Turn::new(&mut self.seat.state, &self.seat.domain, &0_u64, 0);
        within(&mut turn, &mut self.limbo)
    }

    /// Looks into the table's first slot, and at what it finds there.
    pub(super) fn look(&mut self, table: &Table<Object>) -> Option<u32> {
        self.turn(|turn, _| table.look(turn.guard(), 0).map(Object::read))
    }

    /// Finds what is in the table's first slot, and holds it.
    pub(super) fn find(&mut self, table: &Table<Object>) -> Mention {
        self.turn(|turn, _| table.look(turn.guard(), 0).map(Mention::of)).unwrap()
    }

    /// Takes the object out of the table's first slot and lets it wait.
    pub(super) fn unlink(&mut self, table: &Table<Object>) -> bool {
        match table.unlink(0) {
            Some(unlinked) => {
                self.retire(unlinked);
                true
            }
            None => false,
        }
    }

    pub(super) fn retire(&mut self, unlinked: Unlinked<Object>) {
        self.turn(|turn, limbo| limbo.retire(turn, unlinked).unwrap());
    }

    pub(super) fn quiet(&mut self) {
        self.seat.state.participant.quiet();
    }

    pub(super) fn advance(&self) -> bool {
        self.seat.domain.advance()
    }

    /// Reclaims what it may.
    pub(super) fn reap(&mut self) -> Option<Box<Object>> {
        self.turn(|turn, limbo| limbo.reap(turn).map(|reaped| reaped.into_object().reclaim()))
    }

    /// Reclaims and counts what it may, then waits for the other, and only then frees it: a late look is the checker's finding, and no crash.
    pub(super) fn reap_beside(&mut self, other: thread::JoinHandle<Self>, reclaimed: &Tally) {
        let grave = self.reap();
        if grave.is_some() {
            reclaimed.count();
        }
        drop(other.join().unwrap());
        drop(grave);
    }

    pub(super) fn doze(&mut self) {
        self.seat.state.participant.doze();
    }

    pub(super) fn fall_asleep(&mut self) {
        assert!(self.seat.state.participant.fall_asleep());
    }

    pub(super) fn go_offline(&mut self) {
        self.seat.state.participant.go_offline();
    }

    pub(super) fn go_online(&mut self) {
        self.seat.state.participant.go_online();
    }
}

/// A table with one object in it.
pub(super) fn table_with_object<M>(mesh: &Mesh<M>) -> Arc<Table<Object>> {
    let table = Table::new(mesh.domain(), 1);
    table.link(0, Object::new(7));
    Arc::new(table)
}

/// A program made of what it does with a message and what it does when it polls. It lets its CPU sleep.
pub(super) struct Play<R, P> {
    pub(super) receive: R,
    pub(super) poll: P,
}

impl<R, P> Play<R, P>
where
    R: FnMut(Mention),
    P: for<'t> FnMut(&mut Turn<'t, Mention>),
{
    pub(super) fn sit(mesh: &mut Mesh<Mention>, cpu: u16, receive: R, poll: P) -> Reactor<Self> {
        Reactor::new(Self { receive, poll }, mesh.sit(Cpu(cpu), 0))
    }
}

impl<R, P> Program for Play<R, P>
where
    R: FnMut(Mention),
    P: for<'t> FnMut(&mut Turn<'t, Mention>),
{
    type Message = Mention;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, Mention>, _from: Option<Cpu>, message: Mention) {
        (self.receive)(message);
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Mention>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Mention>) -> Progress {
        (self.poll)(turn);
        Progress::Idle
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Mention>) -> Rest {
        Rest::Sleep
    }
}

/// One turn, at no time.
pub(super) fn turn<P: Program>(reactor: &mut Reactor<P>) {
    reactor.turn(&0_u64);
}

/// What a thread does between turns: sleeps as long as it may, and says whether it did. A sleep with a limit is one that is over.
pub(super) fn rest<P: Program>(reactor: &mut Reactor<P>) -> bool {
    match reactor.lie_down(&0_u64) {
        Some(SleepLimit(None)) => {
            reactor.bell().wait();
            reactor.wake_up(0, 0);
            true
        }
        Some(SleepLimit(Some(_))) => {
            thread::yield_now();
            reactor.wake_up(0, 0);
            false
        }
        None => {
            thread::yield_now();
            false
        }
    }
}
