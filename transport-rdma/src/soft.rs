//! The software NIC.
//!
//! | part | what it is |
//! |---|---|
//! | [`shared`] | the provider between processes: connections over a Unix socket, rings and arenas in shared memory |
//! | [`in_process`] | the provider within one process, under a seeded scheduler: what tests and the simulator use |
//! | [`nic`] | the state machine that both drive: queue pairs, completion queues, shared receive queues, without I/O |
//! | [`wire`] | what the state machine needs to reach a peer |

pub mod in_process;
pub mod nic;
pub mod shared;
pub mod wire;
