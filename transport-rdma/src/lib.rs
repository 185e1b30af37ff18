//! The RDMA transport: the verbs that it needs, the providers of them, and both sides of NVMe over RDMA.
//!
//! | part | what it is |
//! |---|---|
//! | [`target`] | a target's CPUs and its control plane: connections, queue pairs, transfers, teardown |
//! | [`host`] | the same for the host side |
//! | [`binding`] | what NVMe over RDMA puts on the wire: private data, `wr_id`s, capsules |
//! | [`soft`] | the software NIC, and its two wires: between processes, and in one process under a scheduler |
//! | [`ibv`] | real devices, by libibverbs and librdmacm |
//! | [`verbs`] | the interface: what the transport may rely on |

pub mod binding;
pub mod host;
pub mod ibv;
mod permit;
pub mod soft;
pub mod target;
mod teardown;
pub mod trace;
pub mod verbs;
mod wake_set;
mod worker;
