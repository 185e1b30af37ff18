//! `nvmf-sim`: the real target and its hosts on simulated CPUs, network, devices and clock, where every choice is the scheduler's.
//!
//! A *scenario* lays out a *world* and lets things happen to it; *checkers* say what must hold in every world; a *run* is a scenario with its choices, drawn
//! from a seed or listed. A run that fails is repeated exactly from either, made short, and told as a trace.
//!
//! | part | what it is |
//! |---|---|
//! | [`command`], [`arguments`] | the program |
//! | [`report`], [`summary`], [`progress`] | what it says: of a run that failed, of all runs, meanwhile |
//! | [`trials`], [`explore`] | many runs: from seeds, and all near the calm one |
//! | [`defects`] | whether what is wrong on purpose is found |
//! | [`shrink`], [`repeat`] | one run many times: made short; the same each time? |
//! | [`workers`], [`watchdog`], [`stopwatch`] | threads around runs, and the only clock |
//! | [`run`], [`schedule`] | one run, and what is special about it |
//! | [`scenarios`], [`scenario`] | what is tried, and with what a scenario works |
//! | [`host`] | hosts |
//! | [`world`] | target, network, devices, clock, and who acts next |
//! | [`checkers`] | what must hold |
//! | [`history`], [`words`](crate::words), [`failure`] | what happened last, in words; what is wrong |

pub mod command;

pub mod arguments;

pub mod report;

pub mod defects;
pub mod trials;

pub mod progress;
pub mod summary;

pub mod explore;
pub mod repeat;
pub mod shrink;

pub mod workers;

pub mod run;

pub mod scenario;
pub mod scenarios;

pub mod host;

pub mod world;

pub mod checkers;

pub mod failure;
pub mod history;
pub mod pattern;
pub mod schedule;
pub mod stopwatch;
pub mod watchdog;
