//! A `Reaped` is spent by what it allows.

use reactor::{Reaped, Unlinked};

fn twice(reaped: Reaped<Unlinked<u64>>) -> (Box<u64>, Box<u64>) {
    (reaped.into_object(), reaped.into_object())
}

fn main() {
    let _ = twice;
}
