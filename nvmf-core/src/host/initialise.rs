//! From a connected admin queue to a ready controller whose namespaces are known [NVMe Base 2.0, 3.5.2].

use crate::auth::{Credentials, Entropy};
use crate::host::bring_up::{BringUp, Connection, Enabled, Progress};
use crate::host::identity::HostIdentity;
use crate::host::namespaces::{NamespaceInfo, Scan, ScanProgress};
use crate::host::request;
use crate::host::step::{AdminData, HostError, Outcome, Step};
use crate::wire::identify::{self, IdentifyController, IdentifyKind};
use crate::wire::{DYNAMIC_CONTROLLER_ID, QueueCounts, SUBMISSION_ENTRY_LEN, SglDescriptor, Version, trim_text};

/// Units of 16 bytes in a command capsule without data: no controller can take less.
const COMMAND_CAPSULE_MIN_16B: u32 = 4;
/// A page of the smallest size there is, as a power of two.
const PAGE_EXPONENT: u32 = 12;

/// A controller that is ready, and what it said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Controller id.
    pub controller_id: u16,
    /// VS.
    pub version: Version,
    /// I/O queues that it grants.
    pub io_queue_count: u16,
    /// Most entries of a queue (a count).
    pub queue_depth_max: u16,
    /// Largest transfer in bytes.
    pub transfer_len_max: u32,
    /// Largest in-capsule data of an I/O queue in bytes.
    pub in_capsule_len: u32,
    /// Serial number.
    pub serial_number: String,
    /// Model number.
    pub model_number: String,
    /// Active namespaces.
    pub namespaces: Vec<NamespaceInfo>,
}

/// From a connected admin queue to a ready controller: Connect, CAP, VS, CC.EN, CSTS.RDY, Identify, Number of Queues, namespaces.
#[derive(Debug)]
pub struct Initialise {
    io_queue_count: u16,
    keep_alive_ms: u32,
    state: State,
}

/// What was asked last.
#[derive(Debug)]
enum State {
    BringUp(BringUp),
    Controller(Enabled),
    QueueCount(Enabled, Box<Attached>),
    Namespaces(Scan, Box<Attached>),
    Over,
}

/// The step for the caller and the state that waits for its outcome.
type Next = Result<(Step, State), HostError>;

impl Initialise {
    /// For `subsystem_nqn`, asking for `io_queue_count` I/O queues and a keep-alive timeout (0: none). `admin_depth` is a count.
    #[must_use]
    pub fn new(
        identity: &HostIdentity,
        subsystem_nqn: &str,
        admin_depth: u16,
        io_queue_count: u16,
        keep_alive_ms: u32,
    ) -> Self {
        let connection = Connection {
            identity: identity.clone(),
            subsystem_nqn: subsystem_nqn.to_owned(),
            admin_depth,
            keep_alive_ms,
            wanted: DYNAMIC_CONTROLLER_ID,
            proof: None,
        };
        Self { io_queue_count, keep_alive_ms, state: State::BringUp(BringUp::Start(Box::new(connection))) }
    }

    /// The same, with what to prove ourselves with where the controller asks. `entropy` is for this one time.
    #[must_use]
    pub fn authenticating(mut self, credentials: Credentials, entropy: Entropy) -> Self {
        if let State::BringUp(BringUp::Start(connection)) = &mut self.state {
            connection.proof = Some((credentials, entropy));
        }
        self
    }

    /// The same, of a subsystem with static controllers: this one, or any
    /// ([`ANY_STATIC_CONTROLLER_ID`](crate::wire::ANY_STATIC_CONTROLLER_ID)).
    #[must_use]
    pub fn asking_for(mut self, controller_id: u16) -> Self {
        if let State::BringUp(BringUp::Start(connection)) = &mut self.state {
            connection.wanted = controller_id;
        }
        self
    }

    /// What to do next. First call and after a wait: `None`.
    ///
    /// # Panics
    /// If called after its end, or with an outcome where no command was submitted: the caller's bug.
    pub fn next(&mut self, outcome: Option<Outcome<'_>>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        let next = self.advance(state, outcome);
        Step::taken(next, &mut self.state)
    }

    fn advance(&self, state: State, outcome: Option<Outcome<'_>>) -> Next {
        match (state, outcome) {
            (State::BringUp(bring_up), outcome) => match bring_up.next(outcome)? {
                Progress::Step(step, state) => Ok((step.retarget(), State::BringUp(state))),
                Progress::Enabled(enabled) => {
                    Ok((page(request::identify(IdentifyKind::Controller, 0)), State::Controller(enabled)))
                }
            },
            (State::Controller(enabled), Some(outcome)) => {
                outcome.success("Identify Controller")?;
                let attached = Box::new(self.identified(enabled, outcome.page("Identify Controller")?)?);
                if self.io_queue_count == 0 {
                    return scanned(Scan::begin(enabled.version), attached);
                }
                let command = request::set_queue_count(self.io_queue_count);
                Ok((Step::Submit { command, data: AdminData::None }, State::QueueCount(enabled, attached)))
            }
            (State::QueueCount(enabled, mut attached), Some(outcome)) => {
                let granted = QueueCounts::from_dword(outcome.success("Set Features: Number of Queues")?.dword0());
                // More than was asked for is of no use.
                attached.io_queue_count = u16::try_from(granted.pairs()).unwrap_or(u16::MAX).min(self.io_queue_count);
                scanned(Scan::begin(enabled.version), attached)
            }
            (State::Namespaces(scan, attached), Some(outcome)) => scanned(scan.next(&outcome)?, attached),
            (state, outcome) => panic!("an initialisation in {state:?} was given {outcome:?}"),
        }
    }

    /// Checks what the controller says of itself against what this host needs.
    fn identified(&self, enabled: Enabled, page: &IdentifyController) -> Result<Attached, HostError> {
        let controller_id = page.controller_id.get();
        if controller_id != enabled.controller_id {
            return Err(HostError::peer(format!(
                "Connect gave controller id {}, Identify Controller says {controller_id}",
                enabled.controller_id
            )));
        }
        let sgls = page.sgls.get();
        if sgls & IdentifyController::SGLS_SUPPORTED_MASK == 0 || sgls & IdentifyController::SGLS_KEYED == 0 {
            return Err(HostError::peer(format!(
                "SGLS is {sgls:#x}: keyed SGLs are not supported, and RDMA needs them"
            )));
        }
        let command_capsule_16b = page.command_capsule_16b.get();
        if command_capsule_16b < COMMAND_CAPSULE_MIN_16B {
            return Err(HostError::peer(format!(
                "IOCCSZ is {command_capsule_16b}: a command needs 4 units of 16 bytes"
            )));
        }
        if page.response_capsule_16b.get() < 1 {
            return Err(HostError::peer("IORCSZ is 0: a response needs 1 unit of 16 bytes"));
        }
        if self.keep_alive_ms > 0 && page.keep_alive_granularity_100ms.get() == 0 {
            return Err(HostError::peer(format!(
                "KAS is 0: the controller has no keep-alive timer, and {} ms was asked for; ask for 0",
                self.keep_alive_ms
            )));
        }
        Ok(Attached {
            controller_id,
            version: enabled.version,
            io_queue_count: 0,
            queue_depth_max: queue_depth_max(enabled, page.command_count_max.get()),
            transfer_len_max: transfer_len_max(enabled, page.mdts),
            in_capsule_len: in_capsule_len(page),
            serial_number: trim_text(&page.serial_number),
            model_number: trim_text(&page.model_number),
            namespaces: Vec::new(),
        })
    }
}

fn scanned(progress: ScanProgress, mut attached: Box<Attached>) -> Next {
    match progress {
        ScanProgress::Identify(command, scan) => Ok((page(command), State::Namespaces(scan, attached))),
        ScanProgress::Done(namespaces) => {
            attached.namespaces = namespaces;
            Ok((Step::Done(attached), State::Over))
        }
    }
}

fn page(command: [u8; 64]) -> Step {
    Step::Submit { command, data: AdminData::In(identify::PAGE_LEN) }
}

/// MQES and MAXCMD; a MAXCMD of 0, not legal over fabrics, limits nothing.
fn queue_depth_max(enabled: Enabled, command_count_max: u16) -> u16 {
    let entry_count_max = u16::try_from(enabled.capabilities.entry_count_max()).unwrap_or(u16::MAX);
    if command_count_max == 0 { entry_count_max } else { entry_count_max.min(command_count_max) }
}

/// MDTS in pages of MPSMIN; and no more whole pages than a keyed SGL can say.
fn transfer_len_max(enabled: Enabled, mdts: u8) -> u32 {
    let sgl_max = SglDescriptor::KEYED_LEN_MAX & !((1 << PAGE_EXPONENT) - 1);
    if mdts == 0 {
        return sgl_max;
    }
    let exponent = PAGE_EXPONENT + u32::from(enabled.capabilities.page_size_min_exponent()) + u32::from(mdts);
    1u32.checked_shl(exponent).map_or(sgl_max, |len| len.min(sgl_max))
}

/// What a capsule takes behind its 64 bytes; 0 where offsets are not supported or data does not start right there.
fn in_capsule_len(page: &IdentifyController) -> u32 {
    if page.sgls.get() & IdentifyController::SGLS_OFFSET == 0 || page.in_capsule_data_offset_16b.get() != 0 {
        return 0;
    }
    let capsule_len = u64::from(page.command_capsule_16b.get()) * 16;
    u32::try_from(capsule_len.saturating_sub(SUBMISSION_ENTRY_LEN as u64)).unwrap_or(u32::MAX)
}
