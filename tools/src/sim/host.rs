//! Hosts of the simulation.

pub mod nvme;
pub mod raw;
