//! The first part of what every admin queue goes through: Connect, CAP, VS, CC, CSTS.RDY [NVMe Base 2.0, 3.5.2].

use crate::auth::{Credentials, Entropy};
use crate::host::authenticate::Authenticate;
use crate::host::identity::HostIdentity;
use crate::host::request;
use crate::host::response::{Connected, connect_outcome};
use crate::host::step::{AdminData, HostError, Outcome, Step};
use crate::wire::{Capabilities, Configuration, ControllerStatus, Nqn, Property, Version};

/// How long CSTS is left alone between two looks: doubled each time.
const POLL_DELAY_MIN_NS: u64 = 1_000_000;
const POLL_DELAY_MAX_NS: u64 = 64_000_000;
/// The unit of CAP.TO.
const TIMEOUT_UNIT_NS: u64 = 500_000_000;
/// CC.CSS: the NVM command set alone, or all that CAP.CSS names.
const COMMAND_SET_NVM: u8 = 0b000;
const COMMAND_SET_ALL: u8 = 0b110;

/// What the admin queue is connected with.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) identity: HostIdentity,
    pub(super) subsystem_nqn: String,
    pub(super) admin_depth: u16,
    pub(super) keep_alive_ms: u32,
    /// CNTLID: which controller, or that any will do.
    pub(super) wanted: u16,
    /// What to prove ourselves with, if we are asked.
    pub(super) proof: Option<(Credentials, Entropy)>,
}

/// A controller that is enabled and ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enabled {
    pub(super) controller_id: u16,
    pub(super) capabilities: Capabilities,
    pub(super) version: Version,
}

/// From a connected admin queue to CSTS.RDY.
#[derive(Debug)]
pub(super) enum BringUp {
    Start(Box<Connection>),
    Connect(Box<Connection>),
    Authenticate {
        controller_id: u16,
        authenticate: Box<Authenticate>,
    },
    Capabilities {
        controller_id: u16,
    },
    Version(Enabled),
    Enable(Enabled),
    /// CSTS was asked for.
    Status(Enabled, Patience),
    /// CSTS will be asked for again.
    Waiting(Enabled, Patience),
}

/// How long CSTS.RDY has been waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    waited_ns: u64,
    delay_ns: u64,
}

/// What comes next: a step for the caller and the state that waits for its outcome, or the end.
pub(super) enum Progress {
    Step(Step<std::convert::Infallible>, BringUp),
    Enabled(Enabled),
}

impl BringUp {
    pub(super) fn next(self, outcome: Option<Outcome<'_>>) -> Result<Progress, HostError> {
        match (self, outcome) {
            (Self::Start(connection), None) => connect(connection),
            (Self::Connect(connection), Some(outcome)) => connected(connection, connect_outcome(&outcome.completion)?),
            (Self::Authenticate { controller_id, authenticate }, outcome) => {
                authenticating(controller_id, authenticate, outcome)
            }
            (Self::Capabilities { controller_id }, Some(outcome)) => {
                let capabilities = Capabilities(outcome.success("Property Get of CAP")?.result);
                let enabled = Enabled { controller_id, capabilities, version: Version::default() };
                Ok(property_get(Property::Version, Self::Version(enabled)))
            }
            (Self::Version(enabled), Some(outcome)) => {
                let version = Version(outcome.success("Property Get of VS")?.dword0());
                enable(Enabled { version, ..enabled })
            }
            (Self::Enable(enabled), Some(outcome)) => {
                outcome.success("Property Set of CC")?;
                let patience = Patience { waited_ns: 0, delay_ns: POLL_DELAY_MIN_NS };
                Ok(property_get(Property::Status, Self::Status(enabled, patience)))
            }
            (Self::Status(enabled, patience), Some(outcome)) => {
                let status = ControllerStatus(outcome.success("Property Get of CSTS")?.dword0());
                ready(status, enabled, patience)
            }
            (Self::Waiting(enabled, patience), None) => {
                Ok(property_get(Property::Status, Self::Status(enabled, patience)))
            }
            (state, outcome) => panic!("an admin queue in {state:?} was given {outcome:?}"),
        }
    }
}

fn connect(connection: Box<Connection>) -> Result<Progress, HostError> {
    let Connection { identity, subsystem_nqn, admin_depth, keep_alive_ms, wanted, .. } = &*connection;
    for (field, value) in [("subsystem NQN", subsystem_nqn), ("host NQN", &identity.nqn)] {
        Nqn::new(value).map_err(|error| HostError::Name { field, value: value.clone(), error })?;
    }
    let (command, data) = request::connect(identity, subsystem_nqn, *wanted, 0, *admin_depth, *keep_alive_ms);
    Ok(Progress::Step(Step::Submit { command, data: AdminData::Out(data) }, BringUp::Connect(connection)))
}

fn connected(connection: Box<Connection>, connected: Connected) -> Result<Progress, HostError> {
    let Connected { controller_id, must_authenticate } = connected;
    let Connection { identity, subsystem_nqn, proof, .. } = *connection;
    match (proof, must_authenticate) {
        (None, false) => Ok(property_get(Property::Capabilities, BringUp::Capabilities { controller_id })),
        (None, true) => Err(HostError::peer("the controller asks for authentication: give this host's secret")),
        (Some((credentials, _)), false) if credentials.controller_secret.is_some() => Err(HostError::peer(
            "the controller does not ask for authentication, and so cannot prove that it knows its secret: give the host a key there",
        )),
        (Some(_), false) => Ok(property_get(Property::Capabilities, BringUp::Capabilities { controller_id })),
        (Some((credentials, entropy)), true) => {
            let authenticate = Authenticate::new(&credentials, &identity, &subsystem_nqn, 0, entropy);
            authenticating(controller_id, Box::new(authenticate), None)
        }
    }
}

fn authenticating(
    controller_id: u16,
    mut authenticate: Box<Authenticate>,
    outcome: Option<Outcome<'_>>,
) -> Result<Progress, HostError> {
    let state = |authenticate| BringUp::Authenticate { controller_id, authenticate };
    match authenticate.next(outcome) {
        Step::Submit { command, data } => Ok(Progress::Step(Step::Submit { command, data }, state(authenticate))),
        Step::Wait { delay_ns } => Ok(Progress::Step(Step::Wait { delay_ns }, state(authenticate))),
        Step::Done(_) => Ok(property_get(Property::Capabilities, BringUp::Capabilities { controller_id })),
        Step::Failed(error) => Err(error),
    }
}

fn enable(enabled: Enabled) -> Result<Progress, HostError> {
    let capabilities = enabled.capabilities;
    let sets = capabilities.command_sets();
    let command_set = if sets & Capabilities::COMMAND_SET_NVM != 0 {
        COMMAND_SET_NVM
    } else if sets & Capabilities::COMMAND_SET_IDENTIFY != 0 {
        COMMAND_SET_ALL
    } else {
        return Err(HostError::peer(format!("CAP is {:#018x}: its CSS has no I/O command set", capabilities.0)));
    };
    if capabilities.entry_count_max() < 2 {
        return Err(HostError::peer(format!("CAP is {:#018x}: a queue of its MQES takes no command", capabilities.0)));
    }
    let configuration = Configuration::enabled(command_set, capabilities.page_size_min_exponent());
    let command = request::property_set(Property::Configuration, u64::from(configuration.0));
    Ok(Progress::Step(Step::Submit { command, data: AdminData::None }, BringUp::Enable(enabled)))
}

fn ready(status: ControllerStatus, enabled: Enabled, patience: Patience) -> Result<Progress, HostError> {
    if status.is_fatal() {
        return Err(HostError::peer(format!("the controller failed: CSTS is {:#x}", status.0)));
    }
    if status.is_ready() {
        return Ok(Progress::Enabled(enabled));
    }
    // 0 is no time at all: give it one unit.
    let timeout_ns = u64::from(enabled.capabilities.ready_timeout_500ms().max(1)) * TIMEOUT_UNIT_NS;
    if patience.waited_ns >= timeout_ns {
        let timeout_ms = timeout_ns / 1_000_000;
        return Err(HostError::peer(format!("the controller is not ready after {timeout_ms} ms, its own CAP.TO")));
    }
    let delay_ns = patience.delay_ns.min(timeout_ns - patience.waited_ns);
    let patience =
        Patience { waited_ns: patience.waited_ns + delay_ns, delay_ns: (patience.delay_ns * 2).min(POLL_DELAY_MAX_NS) };
    Ok(Progress::Step(Step::Wait { delay_ns }, BringUp::Waiting(enabled, patience)))
}

fn property_get(property: Property, then: BringUp) -> Progress {
    Progress::Step(Step::Submit { command: request::property_get(property), data: AdminData::None }, then)
}
