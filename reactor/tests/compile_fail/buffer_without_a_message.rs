//! A buffer goes home by message: a program whose messages cannot carry one cannot lend it.

use reactor::{Buffer, Turn};

fn lost(turn: &mut Turn<'_, u64>, buffer: Buffer) {
    buffer.go_home(turn);
}

fn main() {
    let _ = lost;
}
