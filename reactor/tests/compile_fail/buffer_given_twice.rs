//! A buffer is given back once, whether to its pool or by message.

use reactor::{Buffer, Pool, Turn};

fn twice(pool: &mut Pool, buffer: Buffer) {
    pool.give(buffer);
    pool.give(buffer);
}

fn given_and_sent(turn: &mut Turn<'_, Buffer>, pool: &mut Pool, buffer: Buffer) {
    pool.give(buffer);
    buffer.go_home(turn);
}

fn main() {
    let _ = (twice, given_and_sent);
}
