//! What a target is made of, as plain data: configuration files and RPC both end here.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::auth::{GroupSet, HashSet, Secret};
use crate::limits::{CONTROLLER_ID_MAX, NSID_MAX};
use crate::reservation::ReservationRecord;
use crate::wire::{DISCOVERY_NQN, TransportKind};

/// A whole target.
#[derive(Clone, Debug, Default)]
pub struct TargetSpec {
    /// Devices that are there from the start, also those that no namespace uses yet. Those of namespaces may be left out.
    pub devices: Vec<Arc<dyn bdev::Device>>,
    /// Subsystems.
    pub subsystems: Vec<SubsystemSpec>,
    /// Where else hosts are sent.
    pub referrals: Vec<ReferralSpec>,
    /// Limits and defaults of controllers.
    pub controller: ControllerSpec,
    /// How hosts that have keys authenticate.
    pub authentication: AuthenticationSpec,
}

/// How hosts that have keys authenticate, by DH-HMAC-CHAP [NVMe Base 2.0, 8.13.5].
#[derive(Clone, Copy, Debug)]
pub struct AuthenticationSpec {
    /// Hash functions that may be used.
    pub hashes: HashSet,
    /// Groups that may be used.
    pub groups: GroupSet,
    /// S1 of the first challenge: a random number. 0 is taken as 1.
    pub first_sequence: u32,
}

impl Default for AuthenticationSpec {
    fn default() -> Self {
        Self { hashes: HashSet::ALL, groups: GroupSet::ALL, first_sequence: 1 }
    }
}

/// What the discovery log says of somebody else: another discovery service, or a subsystem elsewhere. Every host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferralSpec {
    /// RDMA or TCP.
    pub transport: TransportKind,
    /// Where.
    pub address: SocketAddr,
    /// The well-known discovery NQN for a discovery service, which makes it a referral; another for a subsystem.
    pub subsystem_nqn: String,
    /// Whether hosts need a secure channel there.
    pub needs_secure_channel: bool,
}

impl ReferralSpec {
    /// A discovery service over RDMA.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            transport: TransportKind::Rdma,
            address,
            subsystem_nqn: DISCOVERY_NQN.into(),
            needs_secure_channel: false,
        }
    }

    /// Whether both are the same way to the same thing, whatever is needed there.
    #[must_use]
    pub fn is_same_way(&self, other: &Self) -> bool {
        (self.transport, self.address, &self.subsystem_nqn) == (other.transport, other.address, &other.subsystem_nqn)
    }
}

impl std::fmt::Display for ReferralSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} over {:?}", self.subsystem_nqn, self.address, self.transport)
    }
}

/// A key, and the name by which people speak of it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Itself.
    pub secret: Secret,
}

/// The keys of one host of one subsystem.
#[derive(Clone, Debug)]
pub struct HostKeys {
    /// Its NQN.
    pub host: String,
    /// What it proves itself with.
    pub key: Key,
    /// What the controller proves itself with, where the host asks for that.
    pub controller_key: Option<Key>,
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
    /// Those of them that have to authenticate, and with what: also where every host may connect.
    pub host_keys: Vec<HostKeys>,
    /// Where it can be reached: each of these is an address that the transport listens on.
    pub listeners: Vec<SocketAddr>,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceSpec>,
    /// The highest namespace id that there may be.
    pub nsid_max: u32,
    /// The controller ids that it gives: targets that share a subsystem give each their own.
    pub controller_ids: RangeInclusive<u16>,
    /// Where its controllers come from.
    pub controller_model: ControllerModel,
    /// Whether other targets offer it too. What is not shared with them is said not to be there then.
    pub is_shared: bool,
    /// Whether hosts are told of asymmetric access (ANA).
    pub reports_ana: bool,
    /// Access that is not optimized from the start.
    pub ana: Vec<AnaSpec>,
}

impl SubsystemSpec {
    /// An empty one that nobody may use, with this serial number.
    #[must_use]
    pub fn new(nqn: &str, serial_number: &str) -> Self {
        Self {
            nqn: nqn.into(),
            serial_number: serial_number.into(),
            model_number: "Quiesce".into(),
            allow_any_host: false,
            hosts: Vec::new(),
            host_keys: Vec::new(),
            listeners: Vec::new(),
            namespaces: Vec::new(),
            nsid_max: NSID_MAX,
            controller_ids: 1..=CONTROLLER_ID_MAX,
            controller_model: ControllerModel::Dynamic,
            is_shared: false,
            reports_ana: false,
            ana: Vec::new(),
        }
    }

    /// Whether hosts can reserve its namespaces. What several targets offer is not known to each, and a report of static controllers would name each of
    /// them, which ours does not.
    #[must_use]
    pub fn has_reservations(&self) -> bool {
        !self.is_shared && self.controller_model == ControllerModel::Dynamic
    }

    /// The state of an ANA group at an address, as the rules say it: the last one holds.
    #[must_use]
    pub fn ana_state(&self, listener: SocketAddr, group: u32) -> AnaState {
        let rules = self.ana.iter().rev();
        let mut meant = rules.filter(|rule| rule.listener == listener && rule.group.is_none_or(|g| g == group));
        meant.next().map_or(AnaState::Optimized, |rule| rule.state)
    }
}

/// Where a subsystem's controllers come from [NVMe Base 2.0, 3.1.2].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControllerModel {
    /// One is made for each admin queue, with an id that the target chooses.
    #[default]
    Dynamic,
    /// They are there by their ids, and a host asks for one of them or for any. It finds the one that it had before, if nobody else has asked for that.
    Static,
}

/// How a host may use the namespaces of an ANA group on a path [NVMe Base 2.0, 8.1.3].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AnaState {
    /// As well as it gets.
    #[default]
    Optimized = 0x1,
    /// More slowly.
    NonOptimized = 0x2,
    /// Not now.
    Inaccessible = 0x3,
    /// Never again.
    PersistentLoss = 0x4,
    /// Not at this moment: it goes from one state to another.
    Change = 0xF,
}

/// The state of some groups at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnaSpec {
    /// Where: a listener of the subsystem.
    pub listener: SocketAddr,
    /// Which group. `None`: all.
    pub group: Option<u32>,
    /// How.
    pub state: AnaState,
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
    /// NGUID; where not given it is derived likewise.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64, which is not derived: it would need a number that the IEEE has given out.
    pub eui64: Option<[u8; 8]>,
    /// ANA group. `None`: the one of the namespace's own number.
    pub ana_group: Option<u32>,
    /// Whether every host of the subsystem sees it.
    pub is_auto_visible: bool,
    /// Otherwise these.
    pub hosts: Vec<String>,
    /// Where its reservations are kept through a loss of power. `None`: nowhere, and hosts are told so.
    pub persistence: Option<Persistence>,
}

/// Where the reservations of a namespace are kept.
#[derive(Clone, Debug)]
pub struct Persistence {
    /// The program's name for it: nothing here opens files.
    pub file: Arc<str>,
    /// What was found there.
    pub record: ReservationRecord,
}

impl NamespaceSpec {
    /// One that every host of its subsystem sees, with identifiers that are derived.
    #[must_use]
    pub fn new(nsid: u32, device: Arc<dyn bdev::Device>) -> Self {
        Self {
            nsid,
            device,
            uuid: None,
            nguid: None,
            eui64: None,
            ana_group: None,
            is_auto_visible: true,
            hosts: Vec::new(),
            persistence: None,
        }
    }

    /// Its ANA group.
    #[must_use]
    pub fn ana_group(&self) -> u32 {
        self.ana_group.unwrap_or(self.nsid)
    }
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
    /// What one host may have in flight.
    pub host: HostLimits,
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
            host: HostLimits::default(),
        }
    }
}

/// What the I/O commands of one host, on all its queues together, may use on each CPU. One that would be too many waits, and those of its host behind it.
/// One command is always let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Commands in flight.
    pub command_count_max: u32,
    /// Bytes that they move together.
    pub data_len_max: u64,
}

impl std::fmt::Display for HostLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.command_count_max {
            u32::MAX => write!(f, "any number of commands")?,
            count => write!(f, "{count} commands")?,
        }
        match self.data_len_max {
            u64::MAX => write!(f, ", any amount of data"),
            len => write!(f, ", {len} bytes"),
        }
    }
}

impl Default for HostLimits {
    /// None.
    fn default() -> Self {
        Self { command_count_max: u32::MAX, data_len_max: u64::MAX }
    }
}
