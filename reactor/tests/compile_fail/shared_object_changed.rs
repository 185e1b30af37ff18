//! What is shared is read: to change it, its owner publishes another, or the object holds atomics.

use reactor::{Guard, Published};

fn change(settings: &Published<u64>, guard: Guard<'_>) {
    *settings.load(guard) += 1;
}

fn main() {
    let _ = change;
}
