//! `nvmf-sim`: the real target and its hosts on simulated CPUs, network, devices and clock, where every choice is the scheduler's.
//!
//! A *scenario* lays out a *world* and lets things happen to it; *checkers* say what must hold in every world; a *run* is a scenario with its choices, drawn
//! from a seed or listed. A run that fails is repeated exactly from either, made short, and told as a trace.
//!
//! | part | what it is |
//! |---|---|
//! | [`command`] | the program: many runs, progress, reports |
//! | [`run`] | one run |
//! | [`scenarios`], [`scenario`] | what is tried, and with what a scenario works |
//! | [`host`] | hosts |
//! | [`checkers`] | what must hold |
//! | [`world`] | target, network, devices, clock, and who acts next |
//! | [`history`], [`failure`] | what happened last, in words; what is wrong |

pub mod command;

pub mod run;

pub mod scenario;
pub mod scenarios;

pub mod host;

pub mod world;

pub mod checkers;

pub mod failure;
pub mod history;
