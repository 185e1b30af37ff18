//! The right way with buffers: lent in a message, and given or sent home once.

use reactor::{Buffer, Cpu, Pool, Turn};

enum Message {
    Lent(Buffer),
    Home(Buffer),
}

impl From<Buffer> for Message {
    fn from(buffer: Buffer) -> Self {
        Self::Home(buffer)
    }
}

fn lend(turn: &mut Turn<'_, Message>, pool: &mut Pool) {
    if let Some(buffer) = pool.take() {
        turn.send(Cpu(1), Message::Lent(buffer));
    }
}

fn take_back(turn: &mut Turn<'_, Message>, pool: &mut Pool, message: Message) {
    match message {
        Message::Lent(buffer) => buffer.go_home(turn),
        Message::Home(buffer) => pool.give_or_send(turn, buffer),
    }
}

fn main() {
    let _ = (lend, take_back);
}
