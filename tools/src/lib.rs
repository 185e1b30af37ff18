//! `nvmf-tgt`, in parts: what its program is made of.
//!
//! | part | what it is |
//! |---|---|
//! | [`target`] | a configuration becomes a running target |
//! | [`control`] | the program of the control plane's reactor: signals, connections of RPC and metrics, shutdown |
//! | [`rpc`], [`metrics`] | what is answered on the two: bytes in, bytes out |
//! | [`config`], [`log`] | the configuration file; the log |
//! | [`machine`] | what this machine offers: CPUs, hugepages, RDMA devices |
//! | [`system`] | system calls that the standard library has not |

pub mod target;

pub mod control;

pub mod metrics;
pub mod rpc;

pub mod config;
pub mod log;
pub mod machine;
mod system;
