//! What every block device keeps: one suite, run on each kind and on stacks of them.
//!
//! | part | what it is |
//! |---|---|
//! | [`data`] | what is written is what is read |
//! | [`bounds`] | what a device says of itself, and what it refuses |
//! | [`room`] | more operations than there is room for |
//! | [`cancel`] | operations that need not be done any more |
//! | [`reset`] | everything that is under way is ended at once |
//! | [`resize`] | devices that grow under open channels |
//! | [`time`] | time that stands still, and time that leaps |
//! | [`sleep`] | CPUs that sleep |
//! | [`file`] | what only files have |
//! | [`subject`] | the devices |
//! | [`driver`] | one channel, on a clock of the test's own |
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests, on small numbers")]

mod bounds;
mod cancel;
mod data;
mod file;
mod reset;
mod resize;
mod room;
mod sleep;
mod time;

mod driver;
#[path = "../fake_rbd/mod.rs"]
mod fake_rbd;
mod subject;
