//! The crate's code under the model checker: every interleaving of a few threads, and every value that the memory model lets a load return.
//!
//! `scripts/loom` runs them. Each is as small as its subject allows. [`check`] explores everything; [`check_bounded`] leaves out what takes more
//! preemptions than it says, where everything would take hours. [`mutations`] shows for each ordering and each rule that a model fails without it.
//!
//! What the checker does not show:
//! - Its sequentially consistent fences order more than the language's: whoever passes one has seen all that came before the earlier ones. So models
//!   that are about another ordering avoid fences, and the light fence of [`crate::doorbell`] is a full one here.
//! - It never lets a load return what is stored later, and what other crates do inside (`ArrayQueue`, counters) is one step to it.
//! - It remembers only the last access to a word when it looks for interleavings to try, so that a load which the same thread follows by a store hides
//!   others from it. Models yield where that matters, and tally what they must have seen; that they notice what they are to notice is for [`mutations`].
//!
//! Only the ring's `Arc` is the checker's: there the last owner goes on to touch what the other has touched. Nothing depends on who drops another.

mod cast;
mod epochs;
mod leaving;
mod mailbox;
mod messages;
mod mutations;
mod online;
mod places;
mod published;
mod ring;
mod sleep;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::model::Builder;

/// All interleavings.
fn check(model: impl Fn() + Send + Sync + 'static) {
    explore(None, model);
}

/// All with at most so many preemptions (a thread that could go on is interrupted; blocking, yielding and ending do not count).
fn check_bounded(preemption_bound: usize, model: impl Fn() + Send + Sync + 'static) {
    explore(Some(preemption_bound), model);
}

fn explore(preemption_bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemption_bound;
    builder.max_branches = 10_000;
    let run_count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&run_count);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let run_count = run_count.load(Ordering::Relaxed);
    println!("{run_count} interleavings");
    assert!(run_count > 1, "nothing was interleaved");
}

/// In how many interleavings something happened: for showing that a model is not about nothing.
#[derive(Clone, Default)]
struct Tally(Arc<AtomicUsize>);

impl Tally {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn is_some(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    #[track_caller]
    fn assert_some(&self, what: &str) {
        assert!(self.is_some(), "never seen: {what}");
    }
}
