//! Falling asleep without missing anything, over one word that the sleeper and those who have something for it can see.
//!
//! The sleeper announces its sleep in the word, passes a fence, looks once more, and sleeps. Whoever has something for it makes that visible, passes a
//! fence, and looks at the word (`docs/ORDERING.md`, 6). Whichever fence comes second, the look after it sees what the other did before: either the
//! sleeper finds the news, or the other finds that it sleeps, and rings. The word may lie in memory that is shared with another process: a value
//! that nobody should have written costs a wake-up, or the wake-up that its writer wanted.

use crate::primitive::{AtomicU32, Ordering, Site};

/// The sleeper: says that it sleeps from here on. [`before_last_look`] and another look come next.
#[inline]
pub fn announce(word: &AtomicU32) {
    word.store(1, Ordering::Relaxed);
}

/// The sleeper: the fence between its announcements (one or many) and its last look.
#[inline]
pub fn before_last_look() {
    Site::SleepFence.fence();
}

/// The sleeper: it is awake.
#[inline]
pub fn withdraw(word: &AtomicU32) {
    word.store(0, Ordering::Relaxed);
}

/// The others: the fence between their news (for one or many sleepers) and [`take`].
#[inline]
pub fn after_news() {
    Site::WakeFence.fence();
}

/// The others: whether the sleeper is to be woken. Of several that ask at a time one is told so, since only one has to pay for the system call.
#[inline]
pub fn take(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) != 0 && word.swap(0, Ordering::Relaxed) != 0
}
