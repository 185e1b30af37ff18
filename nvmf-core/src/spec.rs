//! What a target is made of, as plain data: configuration files and RPC both end here.

use std::net::SocketAddr;
use std::sync::Arc;

/// A whole target.
#[derive(Clone, Debug, Default)]
pub struct TargetSpec {
    /// Subsystems.
    pub subsystems: Vec<SubsystemSpec>,
    /// Limits and defaults of controllers.
    pub controller: ControllerSpec,
}

/// One NVM subsystem.
#[derive(Clone, Debug)]
pub struct SubsystemSpec {
    /// Its NVMe qualified name.
    pub nqn: String,
    /// Serial number, at most 20 ASCII characters.
    pub serial_number: String,
    /// Model number, at most 40 ASCII characters.
    pub model_number: String,
    /// Whether every host may connect.
    pub allow_any_host: bool,
    /// Otherwise these.
    pub hosts: Vec<String>,
    /// Where it can be reached: each of these is an address that the transport listens on.
    pub listeners: Vec<SocketAddr>,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceSpec>,
}

/// One namespace.
#[derive(Clone, Debug)]
pub struct NamespaceSpec {
    /// 1 or more, unique in the subsystem.
    pub nsid: u32,
    /// The device behind it.
    pub device: Arc<dyn bdev::Device>,
    /// UUID; where not given it is derived from the subsystem's and the device's names, so that it survives a restart.
    pub uuid: Option<uuid::Uuid>,
}

/// Limits and defaults of every controller.
#[derive(Clone, Copy, Debug)]
pub struct ControllerSpec {
    /// Most I/O queues of one controller.
    pub io_queue_count_max: u16,
    /// Most entries of an I/O queue.
    pub queue_depth_max: u16,
    /// Most entries of an admin queue.
    pub admin_queue_depth_max: u16,
    /// Largest data transfer of one command, in bytes: a power of two of at least 8192.
    pub transfer_len_max: u32,
    /// In-capsule data of an I/O queue, in bytes: a multiple of 16.
    pub in_capsule_len: u32,
}

impl Default for ControllerSpec {
    fn default() -> Self {
        Self {
            io_queue_count_max: 127,
            // A queue of 256 entries holds 255 commands; one of 128 would refuse the 128 that many loads ask for.
            queue_depth_max: 256,
            admin_queue_depth_max: 32,
            transfer_len_max: 128 * 1024,
            in_capsule_len: 4096,
        }
    }
}
