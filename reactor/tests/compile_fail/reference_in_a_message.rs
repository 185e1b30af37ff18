//! A reference cannot be sent: when the message arrives, the sender's turn is over.

use reactor::{Cpu, Program, Progress, Table, Turn};

struct Sender {
    table: Table<u64>,
}

impl Program for Sender {
    type Message = &'static u64;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, &'static u64>, _from: Option<Cpu>, _message: &'static u64) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, &'static u64>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, &'static u64>) -> Progress {
        if let Some(object) = self.table.look(turn.guard(), 0) {
            turn.send(Cpu(0), object);
        }
        Progress::Idle
    }
}

fn main() {}
