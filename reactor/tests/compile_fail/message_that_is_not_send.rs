//! A message goes to another thread: what two threads must not share cannot be one.

use std::rc::Rc;

use reactor::{Cpu, Program, Progress, Turn};

struct Sender;

impl Program for Sender {
    type Message = Rc<u64>;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, Rc<u64>>, _from: Option<Cpu>, _message: Rc<u64>) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Rc<u64>>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, Rc<u64>>) -> Progress {
        Progress::Idle
    }
}

fn main() {}
