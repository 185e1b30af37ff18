//! All CPUs look at a table's objects, at the same time: what only one thread may look at cannot be linked.

use std::cell::Cell;

use reactor::{Domain, Published, Table};

fn share(domain: &Domain) {
    Table::new(domain, 1).link(0, Box::new(Cell::new(1)));
    let _ = Published::new(domain, Box::new(Cell::new(1)));
}

fn main() {
    let _ = share;
}
