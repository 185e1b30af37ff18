//! Falling asleep without missing anything, over one word that the sleeper and those who have something for it can see.
//!
//! The sleeper announces its sleep in the word, passes a fence, looks once more, and sleeps. Whoever has something for it makes that visible, passes a
//! fence, and looks at the word (`docs/ORDERING.md`, 6). Whichever fence comes second, the look after it sees what the other did before: either the
//! sleeper finds the news, or the other finds that it sleeps, and rings. The word may lie in memory that is shared with another process: a value
//! that nobody should have written costs a wake-up, or the wake-up that its writer wanted.
//!
//! Sleeping is rare and news are not, so the sleeper pays for both fences where the kernel lets it: `membarrier(2)` has every other CPU that runs a
//! process which takes part pass one, and the others' own is left to the compiler. A fence there would wait until all messages of the turn have
//! reached the other CPU's cache.

mod barrier;

use crate::primitive::{AtomicU32, Ordering, Site};

/// The sleeper: says that it sleeps from here on. [`before_last_look`] and another look come next.
#[inline]
pub fn announce(word: &AtomicU32) {
    store(word, 1);
}

/// The sleeper: the fence between its announcements (one or many) and its last look. Slow: a system call.
pub fn before_last_look() {
    barrier::heavy(Site::SleepFence);
}

/// Whoever leaves the mesh: the fence between saying so and its last look.
pub(crate) fn before_looking_back() {
    // ORDERING 8: pairs with the senders' light fence, as the sleepers' does.
    barrier::heavy(Site::LeaveFence);
}

/// The sleeper: it is awake.
#[inline]
pub fn withdraw(word: &AtomicU32) {
    store(word, 0);
}

/// The others: the fence between their news (for one or many sleepers) and [`take`].
#[inline]
pub fn after_news() {
    barrier::light();
}

/// The others: whether the sleeper is to be woken. Of several that ask at a time one is told so, since only one has to pay for the system call.
#[inline]
pub fn take(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) != 0 && word.swap(0, Ordering::Relaxed) != 0
}

/// Whether [`before_last_look`] reaches other processes that call [`after_news`]. Where it does not (the kernel or a sandbox refuses `membarrier(2)`), whoever
/// waits for another process is to look again from time to time: its news may come without a ring.
#[must_use]
pub fn reaches_other_processes() -> bool {
    barrier::is_asymmetric()
}

#[inline]
fn store(word: &AtomicU32, value: u32) {
    #[cfg(not(loom))]
    word.store(value, Ordering::Relaxed);
    // To the model checker, a plain store may come between an exchange and the store that the exchange read, which is impossible.
    #[cfg(loom)]
    word.swap(value, Ordering::Relaxed);
}
