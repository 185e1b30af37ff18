//! Hostile bytes: sequences of capsules against a whole target, answers of hostile controllers against the host's side, and every parser.
//!
//! Each input is a function of its bytes alone. How long inputs are made, and how a failure is seen again: the crate `fuzz`.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod harness;

#[path = "fuzz/answers.rs"]
mod answers;
#[path = "fuzz/capsule.rs"]
mod capsule;
#[path = "fuzz/parsers.rs"]
mod parsers;
#[path = "fuzz/session.rs"]
mod session;

/// Where the inputs of an entry function are.
macro_rules! corpus {
    ($name:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/", $name, ".hex")
    };
}

/// Connects, admin commands, I/O, authentication, changes by the control plane, lost connections: everything is answered once, and nothing is left.
#[test]
fn sessions() {
    fuzz::check("sessions", corpus!("sessions"), session::run);
}

/// What a controller may answer our host with.
#[test]
fn answers_of_controllers() {
    fuzz::check("answers", corpus!("answers"), answers::run);
}

/// Bytes become values, or errors.
#[test]
fn everything_that_is_parsed() {
    fuzz::check("parsers", corpus!("parsers"), parsers::run);
}
