//! The same for a published snapshot: the next turn loads it anew, and may find another.

use reactor::{Cpu, Program, Progress, Published, Turn};

struct Keeper {
    settings: Published<u64>,
    kept: Option<&'static u64>,
}

impl Program for Keeper {
    type Message = ();

    fn receive<'t>(&mut self, turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {
        self.kept = Some(self.settings.load(turn.guard()));
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, ()>) -> Progress {
        Progress::Idle
    }
}

fn main() {}
