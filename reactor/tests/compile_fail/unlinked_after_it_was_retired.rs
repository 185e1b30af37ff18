//! Retiring takes the object by value: it cannot be retired twice, and so not be given back twice.

use reactor::{Limbo, Turn, Unlinked};

fn twice(turn: &mut Turn<'_, ()>, limbo: &mut Limbo<Unlinked<u64>>, object: Unlinked<u64>) {
    let _ = limbo.retire(turn, object);
    let _ = limbo.retire(turn, object);
}

fn main() {
    let _ = twice;
}
