//! The turn is lent to the program for one call.

use reactor::{Cpu, Program, Progress, Turn};

struct Keeper<'a> {
    turn: Option<&'a mut Turn<'a, ()>>,
}

impl<'a> Program for Keeper<'a> {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        self.turn = Some(turn);
        Progress::Idle
    }
}

fn main() {}
