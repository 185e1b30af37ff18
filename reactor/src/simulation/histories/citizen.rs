//! The program of the histories: links, unlinks, publishes, looks, tells others of what it saw, sleeps, and leaves when all have said goodbye.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::cpu::Cpu;
use crate::domain::{Domain, Guard};
use crate::full::Full;
use crate::limbo::{Grace, Limbo};
use crate::program::{Program, Progress, Rest};
use crate::published::Published;
use crate::table::{Table, Unlinked};
use crate::turn::Turn;

use super::ledger::Ledger;

const SLOTS_PER_CPU: usize = 3;

/// Shared by all programs of one history, and by its readers.
pub(super) struct Shared {
    table: Table<Object>,
    published: Published<Object>,
    pub(super) phase: Cell<Phase>,
    /// Objects that were unlinked and have not found room in a limbo.
    pub(super) homeless_count: Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Active,
    /// What waits is given back, and nothing else is done.
    Calm,
    /// Everything is unlinked, and all leave.
    Ending,
}

pub(super) struct Object {
    pub(super) number: u64,
    grace: Grace,
}

pub(super) struct Letter {
    number: u64,
    /// `None` is a goodbye: the sender will send nothing more.
    named: Option<u64>,
}

impl Shared {
    pub(super) fn new(domain: &Domain, cpu_count: u16, ledger: &mut Ledger) -> Self {
        let first = Box::new(Object { number: ledger.make(), grace: Grace::Messages });
        Self {
            table: Table::new(domain, usize::from(cpu_count) * SLOTS_PER_CPU),
            published: Published::new(domain, first),
            phase: Cell::new(Phase::Active),
            homeless_count: Cell::new(0),
        }
    }

    pub(super) fn look_at_all<'t>(&self, guard: Guard<'t>) -> Vec<&'t Object> {
        let linked = (0..self.table.capacity()).filter_map(|slot| self.table.look(guard, slot));
        linked.chain([self.published.load(guard)]).collect()
    }
}

/// A limbo, and what stands before it.
struct Exit {
    grace: Grace,
    limbo: Limbo<Unlinked<Object>>,
    /// What is in the limbo, in order.
    numbers: VecDeque<u64>,
    homeless: VecDeque<(u64, Unlinked<Object>)>,
}

pub(super) struct Citizen {
    cpu: Cpu,
    shared: Rc<Shared>,
    ledger: Rc<RefCell<Ledger>>,
    exits: [Exit; 2],
    /// Breaks a rule: names objects that wait for readers only.
    names_all: bool,
    goodbye_count: u16,
    has_said_goodbye: bool,
}

impl Citizen {
    pub(super) fn new(
        cpu: Cpu,
        limbo_capacity: usize,
        names_all: bool,
        shared: Rc<Shared>,
        ledger: Rc<RefCell<Ledger>>,
    ) -> Self {
        let exits = [Grace::Readers, Grace::Messages].map(|grace| Exit {
            grace,
            limbo: Limbo::new(grace, limbo_capacity),
            numbers: VecDeque::new(),
            homeless: VecDeque::new(),
        });
        Self { cpu, shared, ledger, exits, names_all, goodbye_count: 0, has_said_goodbye: false }
    }

    fn act(&mut self, turn: &mut Turn<'_, Letter>) {
        let slot = usize::from(self.cpu.0) * SLOTS_PER_CPU + below(turn, SLOTS_PER_CPU);
        match turn.random() % 4 {
            0 => self.tell_somebody(turn),
            1 if self.cpu == Cpu(0) => {
                let new = self.make(turn);
                let grace = self.shared.published.load(turn.guard()).grace;
                let number = self.shared.published.load(turn.guard()).number;
                let old = self.shared.published.replace(new);
                self.retire(turn, grace, number, old);
            }
            _ if self.shared.table.look(turn.guard(), slot).is_some() => self.unlink(turn, slot),
            _ => {
                let new = self.make(turn);
                self.shared.table.link(slot, new);
            }
        }
    }

    fn make(&mut self, turn: &mut Turn<'_, Letter>) -> Box<Object> {
        let grace = if turn.random().is_multiple_of(3) { Grace::Readers } else { Grace::Messages };
        Box::new(Object { number: self.ledger.borrow_mut().make(), grace })
    }

    fn tell_somebody(&mut self, turn: &mut Turn<'_, Letter>) {
        let seen = self.shared.look_at_all(turn.guard());
        seen.iter().for_each(|object| self.ledger.borrow_mut().look("a turn", object.number));
        let to = Cpu(u16::try_from(turn.random() % u64::from(turn.cpu_count())).unwrap());
        for _ in 0..1 + turn.random() % 3 {
            let object = seen[below(turn, seen.len())];
            if object.grace == Grace::Messages || self.names_all {
                self.send(turn, to, Some(object.number));
            }
        }
    }

    fn send(&mut self, turn: &mut Turn<'_, Letter>, to: Cpu, named: Option<u64>) {
        let number = self.ledger.borrow_mut().send(self.cpu, to, named);
        turn.send(to, Letter { number, named });
    }

    fn unlink(&mut self, turn: &mut Turn<'_, Letter>, slot: usize) {
        let Some((number, grace)) = self.shared.table.look(turn.guard(), slot).map(|it| (it.number, it.grace)) else {
            return;
        };
        let object = self.shared.table.unlink(slot).unwrap();
        self.retire(turn, grace, number, object);
    }

    fn retire(&mut self, turn: &mut Turn<'_, Letter>, grace: Grace, number: u64, object: Unlinked<Object>) {
        self.ledger.borrow_mut().retire(self.cpu, number, grace);
        let exit = self.exits.iter_mut().find(|exit| exit.grace == grace).unwrap();
        exit.homeless.push_back((number, object));
        self.shared.homeless_count.set(self.shared.homeless_count.get() + 1);
        self.settle(turn);
    }

    /// The homeless go to their limbos while there is room.
    fn settle(&mut self, turn: &mut Turn<'_, Letter>) {
        for exit in &mut self.exits {
            while let Some((number, object)) = exit.homeless.pop_front() {
                if let Err(Full(object)) = exit.limbo.retire(turn, object) {
                    assert_eq!(exit.limbo.len(), exit.limbo.capacity());
                    self.ledger.borrow_mut().limbo_full();
                    exit.homeless.push_front((number, object));
                    break;
                }
                exit.numbers.push_back(number);
                self.shared.homeless_count.set(self.shared.homeless_count.get() - 1);
            }
        }
    }

    fn reap(&mut self, turn: &mut Turn<'_, Letter>) {
        for exit in &mut self.exits {
            while let Some(reaped) = exit.limbo.reap(turn) {
                let number = exit.numbers.pop_front().unwrap();
                if self.ledger.borrow_mut().reap(self.cpu, number) {
                    assert_eq!(reaped.into_object().number, number);
                } else {
                    // Somebody still looks at it: leaked, so that the history can be told.
                    let _ = reaped.into_inner();
                }
            }
        }
    }

    fn has_homeless(&self) -> bool {
        self.exits.iter().any(|exit| !exit.homeless.is_empty())
    }

    fn end(&mut self, turn: &mut Turn<'_, Letter>) {
        let first = usize::from(self.cpu.0) * SLOTS_PER_CPU;
        (first..first + SLOTS_PER_CPU).for_each(|slot| self.unlink(turn, slot));
        if !self.has_said_goodbye && !self.has_homeless() {
            self.has_said_goodbye = true;
            let this = self.cpu;
            for to in (0..turn.cpu_count()).map(Cpu).filter(|to| *to != this) {
                self.send(turn, to, None);
            }
        }
        if self.has_said_goodbye && self.goodbye_count + 1 == turn.cpu_count() {
            turn.leave();
        }
    }
}

impl Program for Citizen {
    type Message = Letter;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, Letter>, from: Option<Cpu>, letter: Letter) {
        let Letter { number, named } = letter;
        self.ledger.borrow_mut().receive(from.unwrap(), self.cpu, number, named);
        if named.is_none() {
            self.goodbye_count += 1;
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Letter>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Letter>) -> Progress {
        self.reap(turn);
        self.settle(turn);
        match self.shared.phase.get() {
            Phase::Active if !self.has_homeless() => {
                for _ in 0..turn.random() % 4 {
                    self.act(turn);
                }
            }
            Phase::Active | Phase::Calm => {}
            Phase::Ending => self.end(turn),
        }
        Progress::Idle
    }

    fn rest<'t>(&mut self, turn: &mut Turn<'t, Letter>) -> Rest {
        match self.shared.phase.get() {
            Phase::Active => match turn.random() % 4 {
                0 => Rest::Poll,
                1 => Rest::SleepUntil(turn.now_ns() + turn.random() % 50_000),
                _ => Rest::Sleep,
            },
            Phase::Calm | Phase::Ending => Rest::Sleep,
        }
    }
}

fn below<M>(turn: &mut Turn<'_, M>, bound: usize) -> usize {
    usize::try_from(turn.random() % bound as u64).unwrap()
}
