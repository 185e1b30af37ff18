//! The right way from a shared table back to a `Box`, also on another thread; and a limbo that moves with its program.

use std::thread;

use reactor::{Domain, Full, Grace, Limbo, Published, Table, Turn, Unlinked};

fn share(domain: &Domain) -> (Table<String>, Published<String>) {
    let table = Table::new(domain, 1);
    table.link(0, Box::new("linked".to_owned()));
    (table, Published::new(domain, Box::new("published".to_owned())))
}

fn retire(turn: &mut Turn<'_, ()>, table: &Table<String>, limbo: &mut Limbo<Unlinked<String>>) {
    if let Some(object) = table.unlink(0)
        && let Err(Full(object)) = limbo.retire(turn, object)
    {
        // No room: it still waits to be retired.
        let _ = limbo.retire(turn, object);
    }
    while let Some(reaped) = limbo.reap(turn) {
        let object: Box<String> = reaped.into_object();
        drop(object);
    }
}

fn main() {
    let limbo: Limbo<Unlinked<String>> = Limbo::new(Grace::Messages, 1);
    let _ = thread::spawn(move || assert!(limbo.is_empty())).join();
    let _ = (share, retire);
}
