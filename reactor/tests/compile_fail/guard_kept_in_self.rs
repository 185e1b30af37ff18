//! A guard lasts for one turn. One that was kept would say in the next turn that the CPU has passed no quiet point since.

use reactor::{Cpu, Guard, Program, Progress, Turn};

struct Keeper {
    guard: Option<Guard<'static>>,
}

impl Program for Keeper {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        self.guard = Some(turn.guard());
        Progress::Idle
    }
}

fn main() {}
