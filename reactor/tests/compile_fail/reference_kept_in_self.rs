//! A reference from a shared table is borrowed from the turn: a program cannot keep it for a later one, after which the object may be gone.

use reactor::{Cpu, Program, Progress, Table, Turn};

struct Keeper {
    table: Table<u64>,
    kept: Option<&'static u64>,
}

impl Program for Keeper {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        self.kept = self.table.look(turn.guard(), 0);
        Progress::Idle
    }
}

fn main() {}
