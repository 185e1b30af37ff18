//! Hosts of the simulation.
//!
//! | part | what it is |
//! |---|---|
//! | [`raw`] | a host made of verbs alone, which a scenario can steer step by step |
//! | [`real`] | the real host side, on simulated CPUs of its own |
//! | [`blocks`] | which blocks are whose |
//! | [`law`] | what commands may end with |
//! | [`model`] | what each block may hold, as far as hosts can know |

pub mod raw;
pub mod real;

pub mod blocks;
mod fate;
pub mod law;

pub mod model;
