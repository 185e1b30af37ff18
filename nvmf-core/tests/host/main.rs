//! The host side against a controller that is sound, refuses, or answers anything.
#![allow(clippy::unwrap_used)]

mod discover;
mod initialise;

mod controller;
