//! The right way to what `compile_fail` shows: use a reference within the turn, copy out what is needed, send values and handles.

use reactor::{Cpu, Guard, Handle, Program, Progress, Published, Reader, Slab, Table, Turn};

struct Connection {
    port: u16,
}

struct Right {
    table: Table<Connection>,
    settings: Published<u64>,
    own: Slab<u64>,
    kept_port: Option<u16>,
}

enum Message {
    /// A copy.
    Port(u16),
    /// A name.
    Number(Handle<u64>),
}

fn port_of<'t>(table: &Table<Connection>, guard: Guard<'t>) -> Option<&'t u16> {
    table.look(guard, 0).map(|connection| &connection.port)
}

impl Program for Right {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, message: Message) {
        match message {
            Message::Port(port) => self.kept_port = Some(port),
            Message::Number(handle) => {
                // The reference outlives the call that made it, and lives beside uses of the turn.
                let connection = self.table.look(turn.guard(), 0);
                turn.arm(1, 2);
                if let (Some(_), Some(number)) = (connection, self.own.look_mut(handle)) {
                    *number += 1;
                }
            }
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
        let guard = turn.guard();
        self.kept_port = port_of(&self.table, guard).copied();
        if let Some(port) = port_of(&self.table, guard) {
            turn.send(Cpu(0), Message::Port(*port));
        }
        if let Ok(handle) = self.own.insert(*self.settings.load(guard)) {
            turn.send(Cpu(0), Message::Number(handle));
        }
        Progress::Idle
    }
}

fn read(reader: &mut Reader, settings: &Published<u64>) -> u64 {
    let mut seen = 0;
    reader.read(|guard| seen = *settings.load(guard));
    seen + reader.read(|guard| *settings.load(guard))
}

fn main() {
    let _ = (read, Right::poll);
}
