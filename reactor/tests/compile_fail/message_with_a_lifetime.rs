//! A message that could hold a reference is no message at all.

use reactor::{Cpu, Program, Progress, Turn};

struct Sender<'a>(&'a u64);

impl<'a> Program for Sender<'a> {
    type Message = &'a u64;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, &'a u64>, _from: Option<Cpu>, _message: &'a u64) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, &'a u64>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, &'a u64>) -> Progress {
        turn.send(Cpu(0), self.0);
        Progress::Idle
    }
}

fn main() {}
