//! What was unlinked may still be looked at: it becomes a `Box` by way of a limbo, and by no other.

use reactor::{Table, Unlinked};

fn at_once(table: &Table<u64>) -> Option<Box<u64>> {
    table.unlink(0).map(Unlinked::into_object)
}

fn main() {
    let _ = at_once;
}
