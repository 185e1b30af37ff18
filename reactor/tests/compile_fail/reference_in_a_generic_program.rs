//! Nor does it help to give the program a lifetime of its own: the turn is shorter than any that it could name.

use reactor::{Cpu, Program, Progress, Table, Turn};

struct Keeper<'a> {
    table: Table<u64>,
    kept: Option<&'a u64>,
}

impl<'a> Program for Keeper<'a> {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        self.kept = self.table.look(turn.guard(), 0);
        Progress::Idle
    }
}

fn main() {}
