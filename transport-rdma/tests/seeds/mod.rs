//! Which seeds a test tries: all that it names, or a share of them where runs are slow.
//!
//! `QUIESCE_TEST_SHARE=1/3` is every third, from the second on (at least one). `scripts/sanitize` takes another share each day.

use std::ops::Range;

/// Those of `all` that are tried.
pub(crate) fn seeds(all: Range<u64>) -> impl Iterator<Item = u64> {
    let (number, count) = share();
    let first = number % (all.end - all.start).min(count);
    (all.start + first..all.end).step_by(usize::try_from(count).unwrap())
}

fn share() -> (u64, u64) {
    let Ok(text) = std::env::var("QUIESCE_TEST_SHARE") else { return (0, 1) };
    let parsed = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
    match parsed {
        Some((number, count)) if number < count => (number, count),
        _ => panic!("QUIESCE_TEST_SHARE is {text:?}, and should be a share such as 1/3, counted from 0"),
    }
}
