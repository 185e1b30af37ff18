//! A guard's lifetime is neither lengthened nor shortened: each is of the one turn that it was made in.

use reactor::{Guard, Table};

fn longer<'t>(guard: Guard<'t>) -> Guard<'static> {
    guard
}

fn shorter<'t, 's>(guard: Guard<'t>, _turn: &'s u64) -> Guard<'s>
where
    't: 's,
{
    guard
}

fn main() {
    let _ = (longer, shorter, Table::<u64>::capacity);
}
