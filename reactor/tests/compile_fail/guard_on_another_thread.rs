//! A guard says something about the CPU that it is on: another thread cannot have it, not even one that ends within the turn.

use std::thread;

use reactor::{Published, Turn};

fn look_elsewhere(turn: &Turn<'_, ()>, settings: &Published<u64>) {
    let guard = turn.guard();
    thread::scope(|scope| {
        scope.spawn(move || *settings.load(guard));
    });
}

fn main() {
    let _ = look_elsewhere;
}
