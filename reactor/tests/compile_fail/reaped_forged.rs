//! Only a limbo says that a grace period is over: nobody else makes a `Reaped`, not even out of another one.

use reactor::{Reaped, Unlinked};

fn at_once(object: Unlinked<u64>, other: Reaped<Unlinked<u64>>) -> Box<u64> {
    Reaped { value: object, ..other }.into_object()
}

fn main() {
    let _ = at_once;
}
