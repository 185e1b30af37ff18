//! The host side against a controller that is sound, refuses, or answers anything.
// A command that the controller was not made for is a failed test, whichever it is.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod after;
mod discover;
mod initialise;

mod controller;
