//! Only a turn and a reader make guards.

use reactor::{Domain, Guard};

fn forge(domain: &Domain) -> Guard<'_> {
    Guard::new(domain)
}

fn main() {
    let _ = forge;
}
