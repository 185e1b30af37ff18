//! Runs entry functions on inputs that are made by mutation, the same ones for the same seed. For tests: nothing here is part of a program.
//!
//! An entry function takes bytes, makes of them whatever it tests ([`Bytes`] helps), panics where something is wrong, and says what it saw
//! ([`Features`]): an input that shows something new is kept, and others are made of it. That is all the guidance there is, since the compiler's coverage needs
//! another toolchain; an entry function is what cargo-fuzz calls a target, and can be called from one as it is.
//!
//! A corpus is a text file: one input a line, in hexadecimal; lines with `#` are comments. Every run replays it first, whole.
//!
//! | variable | what it does |
//! |---|---|
//! | `QUIESCE_FUZZ_SECONDS` | how long inputs are made, for each entry function; 4 if not set, 60 in the long tests |
//! | `QUIESCE_FUZZ_SEED` | others than those of seed 1 |
//! | `QUIESCE_FUZZ_SAVE` | 1: what showed something new is added to the corpus |
//! | `QUIESCE_FUZZ_INPUT` | this input alone, in hexadecimal: to see a failure again |

mod bytes;
mod corpus;
mod mutation;
mod random;
mod runner;

pub use bytes::Bytes;
pub use runner::{Features, check};
