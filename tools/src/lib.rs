//! `nvmf-tgt`, in parts: what its program is made of; `nvmf-ctl`, its control tool; and `nvmf-sim`, which runs the same target in a simulation.
//!
//! | part | what it is |
//! |---|---|
//! | [`daemon`] | the command line of `nvmf-tgt` |
//! | [`target`] | a configuration becomes a running target |
//! | [`control`] | the program of the control plane's reactor: signals, connections of RPC and metrics, shutdown |
//! | [`rpc`], [`metrics`] | what is answered on the two: bytes in, bytes out |
//! | [`reactors`] | the mesh's reactors, as people name, watch and switch them |
//! | [`opening`] | how a device that a configuration or a request describes is opened |
//! | [`present`] | what a running target is, as a configuration |
//! | [`saved`] | the file that keeps what requests have changed |
//! | [`spdk_file`] | configuration files of SPDK's |
//! | [`notifications`] | the last devices that came and went |
//! | [`clusters`] | connections to Ceph clusters that devices share |
//! | [`notify`] | what the service manager is told |
//! | [`keyring`], `workers` | keys of hosts; threads that compute for authentications |
//! | [`config`], [`log`] | the configuration file; the log |
//! | [`events`], [`words`] | what CPUs have traced, put together; in words |
//! | [`poll_mode`] | words for what a CPU does when there is nothing to do |
//! | [`machine`] | what this machine offers: CPUs, memory, RDMA devices |
//! | [`system`] | system calls that the standard library has not |
//! | [`ctl`] | `nvmf-ctl`, the control tool |
//! | [`sim`] | `nvmf-sim`, the simulator |

pub mod daemon;
pub mod target;

pub mod control;

pub mod metrics;
pub mod rpc;

pub mod reactors;

pub mod events;
pub mod words;

pub mod clusters;
pub mod notifications;
pub mod opening;
pub mod present;
pub mod saved;
pub mod spdk_file;

mod injection;
pub mod keeper;
pub mod keyring;
pub mod notify;
mod workers;

pub mod log;

pub mod config;
pub mod poll_mode;

pub mod fabric;
pub mod machine;
mod system;

pub mod ctl;
pub mod sim;

/// An error and its causes, each told once: most say their cause themselves.
#[must_use]
pub fn in_words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}
