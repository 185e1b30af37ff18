//! The control plane alone: the provider and the polling CPUs are played by the test.

mod bench;
mod fuzz;
mod memory;
mod reopening;
mod set_up;
mod table;
