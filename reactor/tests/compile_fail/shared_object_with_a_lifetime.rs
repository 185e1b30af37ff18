//! An object may be given back long after the turn that linked it: it cannot borrow from anything.

use reactor::{Domain, Table};

fn share(domain: &Domain) {
    let local = 1;
    Table::new(domain, 1).link(0, Box::new(&local));
}

fn main() {
    let _ = share;
}
