//! Step 4 of the walk: a controller, and its admin commands.
//!
//! Lives on the CPU of its admin qpair, which alone changes it. It is *closed* when that qpair begins to drain, and *gone* when that qpair is
//! reaped and every member's lease has come home; only then may its id be used again.

mod effects;
mod errors;
mod events;
mod features;
mod identify;
mod log;
pub(crate) mod members;
mod properties;
mod reservations;

use std::net::SocketAddr;

use reactor::{Handle, TimerId};

use crate::Qpair;
use crate::command::{AdminCommand, DataPointer, PropertyGet, PropertySet};
use crate::defect::{self, Defect};
use crate::limits::{DISCOVERY_TIMEOUT_MS, KEEP_ALIVE_GRANULARITY_MS, KEEP_ALIVE_MAX_MS};
use crate::membership::{Host, SubsystemLease};
use crate::petition::Plea;
use crate::qpair::header::Tally;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject};
use crate::target::Directory;
use crate::transport::Slot;
use crate::wire::log::LogPageId;
use errors::Errors;
use events::Events;
use features::Features;
use members::Members;
pub(crate) use properties::Effect;
use properties::Properties;

/// Where a controller is in its life. Consumed by value at each step, since it holds the lease that keeps the subsystem from being forgotten.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The control plane has been asked for an id.
    Admitting,
    /// It serves.
    Live {
        /// Its id, its subsystem.
        lease: SubsystemLease,
    },
    /// Its admin qpair drains; its members have been told to end. `None`: no id ever came.
    Closing {
        /// Its id, its subsystem.
        lease: Option<SubsystemLease>,
    },
    /// Its admin qpair is reaped; leases of members are out.
    Leaving {
        /// Its id, its subsystem.
        lease: Option<SubsystemLease>,
    },
}

impl Stage {
    /// CNTLID, where it has one.
    pub(crate) fn id(&self) -> Option<u16> {
        match self {
            Self::Admitting => None,
            Self::Live { lease } => Some(lease.controller_id()),
            Self::Closing { lease } | Self::Leaving { lease } => lease.as_ref().map(SubsystemLease::controller_id),
        }
    }

    /// What it holds.
    fn into_lease(self) -> Option<SubsystemLease> {
        match self {
            Self::Admitting => None,
            Self::Live { lease } => Some(lease),
            Self::Closing { lease } | Self::Leaving { lease } => lease,
        }
    }
}

/// What becomes of an admin command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It ends. Where there is data, it is for the host.
    Done {
        /// How.
        status: Status,
        /// DW0 and DW1.
        result: u64,
    },
    /// It is held until there is an event.
    Held,
    /// The control plane answers.
    Petition {
        /// On which namespace.
        nsid: u32,
        /// What for.
        plea: Plea,
    },
    /// Somebody looks for this command.
    Abort {
        /// On which queue.
        sqid: u16,
        /// Which.
        command_id: u16,
    },
}

impl Answer {
    const SUCCESS: Self = Self::Done { status: Status::SUCCESS, result: 0 };
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self::Done { status, result: 0 }
    }
}

/// A host that says nothing for this long is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    /// 0: no limit.
    timeout_ms: u32,
    /// Without a limit: how long a host may send nothing; 0 is for ever.
    idle_limit_ms: u32,
    /// When the interval began: with a Keep Alive, or where one ended in which a command came. A stamp of the CPU's turns.
    seen_ns: u64,
    /// Armed while there is a limit.
    pub(crate) timer: Option<TimerId>,
}

impl KeepAlive {
    /// When it is too late.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        let limit_ms = if self.timeout_ms == 0 { self.idle_limit_ms } else { self.timeout_ms };
        (limit_ms != 0).then(|| self.seen_ns + u64::from(limit_ms) * 1_000_000)
    }

    /// The time is over, and the last command of any of the controller's queues came at `last_command_ns`. True if that was after the host was last
    /// seen: then a new interval begins [NVMe Base 2.0, 3.9].
    pub(crate) fn renew(&mut self, last_command_ns: u64, now_ns: u64) -> bool {
        let is_alive = last_command_ns > self.seen_ns;
        if is_alive {
            self.seen_ns = now_ns;
        }
        is_alive
    }

    fn set_timeout(&mut self, timeout_ms: u32, now_ns: u64) {
        // Rounded up to what KAS promises; a limit beyond reason is taken as the longest one.
        let rounded = timeout_ms.min(KEEP_ALIVE_MAX_MS).next_multiple_of(KEEP_ALIVE_GRANULARITY_MS);
        self.timeout_ms = rounded;
        self.seen_ns = now_ns;
    }
}

/// One controller, on the CPU of its admin qpair.
pub(crate) struct Controller {
    /// Its admin qpair.
    pub(crate) admin: Handle<Qpair>,
    /// Of what.
    pub(crate) subject: Subject,
    /// For whom.
    pub(crate) host: Host,
    /// Where its admin queue came by.
    listener: SocketAddr,
    /// Whether its subsystem's hosts are told of ANA.
    reports_ana: bool,
    /// Where it is in its life.
    pub(crate) stage: Stage,
    /// Its I/O qpairs.
    pub(crate) members: Members,
    /// Fires when a Join has waited long enough.
    pub(crate) join_timer: Option<TimerId>,
    /// The host's sign of life.
    pub(crate) keep_alive: KeepAlive,
    properties: Properties,
    features: Features,
    events: Events,
    errors: Errors,
    /// Of members that have left.
    pub(crate) left_tally: Tally,
}

/// What a command is executed in: the target as it is in this turn.
pub(crate) struct Surroundings<'t> {
    pub(crate) snapshot: &'t Snapshot,
    pub(crate) directory: &'t Directory,
    pub(crate) now_ns: u64,
    /// When this CPU's first qpair was opened.
    pub(crate) begun_ns: u64,
    /// What the controller's queues have done, of those that are there.
    pub(crate) tally: Tally,
}

/// A discovery controller has no I/O queues [NVMe Base 2.0, 3.1.2.3].
fn io_queue_count_max(subject: Subject, snapshot: &Snapshot) -> u16 {
    match subject {
        Subject::Discovery => 0,
        Subject::Nvm(_) => snapshot.controller.io_queue_count_max,
    }
}

/// What a new controller is made of.
pub(crate) struct NewController {
    pub(crate) admin: Handle<Qpair>,
    pub(crate) subject: Subject,
    pub(crate) host: Host,
    pub(crate) listener: SocketAddr,
    pub(crate) keep_alive_ms: u32,
    pub(crate) now_ns: u64,
}

impl Controller {
    /// A controller that waits for its id.
    pub(crate) fn new(new: NewController, snapshot: &Snapshot) -> Self {
        let limits = &snapshot.controller;
        let io_queue_count = io_queue_count_max(new.subject, snapshot);
        let reports_ana = match new.subject {
            Subject::Nvm(id) => snapshot.subsystem(id).is_some_and(|subsystem| subsystem.reports_ana),
            Subject::Discovery => false,
        };
        let idle_limit_ms = if new.subject == Subject::Discovery { DISCOVERY_TIMEOUT_MS } else { 0 };
        let mut keep_alive = KeepAlive { timeout_ms: 0, idle_limit_ms, seen_ns: new.now_ns, timer: None };
        keep_alive.set_timeout(new.keep_alive_ms, new.now_ns);
        Self {
            admin: new.admin,
            subject: new.subject,
            host: new.host,
            stage: Stage::Admitting,
            members: Members::new(io_queue_count),
            join_timer: None,
            keep_alive,
            properties: Properties::new(limits.queue_depth_max),
            features: Features::new(io_queue_count),
            listener: new.listener,
            reports_ana,
            events: Events::new(new.subject, reports_ana),
            errors: Errors::default(),
            left_tally: Tally::default(),
        }
    }

    /// CNTLID; 0, which is nobody's, while it has none.
    pub(crate) fn id(&self) -> u16 {
        self.stage.id().unwrap_or(0)
    }

    /// The admin qpair drains. A controller without an id closes when its answer comes.
    pub(crate) fn close(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Admitting) {
            Stage::Live { lease } => Stage::Closing { lease: Some(lease) },
            stage @ (Stage::Admitting | Stage::Closing { .. } | Stage::Leaving { .. }) => stage,
        };
    }

    /// The admin qpair is reaped.
    pub(crate) fn leave(&mut self) {
        let lease = std::mem::replace(&mut self.stage, Stage::Admitting).into_lease();
        self.stage = Stage::Leaving { lease };
    }

    /// Whether nothing of it is left but itself.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
            && (self.members.count() == 0 || defect::is(Defect::ControllerGoesFirst))
    }

    /// What goes home with it.
    pub(crate) fn into_lease(self) -> Option<SubsystemLease> {
        self.stage.into_lease()
    }

    /// Bytes that a command brings to the host.
    pub(crate) fn data_len(&self, command: &AdminCommand) -> u32 {
        match command {
            AdminCommand::Identify(identify) => identify.data.len(),
            AdminCommand::GetLogPage(page) => page.len,
            AdminCommand::GetFeatures(get) => self.feature_read_len(get),
            AdminCommand::SetFeatures(_)
            | AdminCommand::KeepAlive
            | AdminCommand::AsyncEventRequest
            | AdminCommand::Abort { .. } => 0,
        }
    }

    /// What a command takes from the host: where from, and how many bytes. `None`: nothing.
    ///
    /// # Errors
    /// The answer, where its SGL is not one for that.
    pub(crate) fn input(&self, command: &AdminCommand) -> Result<Option<(DataPointer, u32)>, Status> {
        let AdminCommand::SetFeatures(set) = command else { return Ok(None) };
        match self.feature_write_len(set) {
            0 => Ok(None),
            len => Ok(Some((features::source(set, len)?, len))),
        }
    }

    /// Answers an admin command, whose [`Self::input`] has come. What goes to the host with it is put into `data`, which is empty and at most [`Self::data_len`] long in the end.
    pub(crate) fn execute(
        &mut self,
        slot: Slot,
        command: &AdminCommand,
        input: &[u8],
        around: &Surroundings<'_>,
        data: &mut Vec<u8>,
    ) -> Answer {
        // Before CSTS.RDY only Fabrics commands are served [NVMe over Fabrics 1.1, 3.3]. Keep Alive may come at any time.
        if !self.properties.is_ready() && !matches!(command, AdminCommand::KeepAlive) {
            return Status::COMMAND_SEQUENCE_ERROR.into();
        }
        match command {
            AdminCommand::KeepAlive => {
                self.keep_alive.seen_ns = around.now_ns;
                Answer::SUCCESS
            }
            AdminCommand::AsyncEventRequest => {
                if self.events.hold(slot) {
                    Answer::Held
                } else {
                    Status::EVENT_REQUEST_LIMIT_EXCEEDED.into()
                }
            }
            AdminCommand::Abort { sqid, command_id } => Answer::Abort { sqid: *sqid, command_id: *command_id },
            AdminCommand::Identify(identify) => match self.identify(identify, around, data) {
                Ok(()) => Answer::SUCCESS,
                Err(status) => status.into(),
            },
            AdminCommand::GetLogPage(page) => match self.log_page(page, around, data) {
                Ok(()) => Answer::SUCCESS,
                Err(status) => status.into(),
            },
            AdminCommand::GetFeatures(get) if self.asks_for(get.feature) => {
                self.read_reservation_feature(get, around.snapshot)
            }
            AdminCommand::SetFeatures(set) if self.asks_for(set.feature) => {
                self.change_reservation_feature(set, around.snapshot)
            }
            AdminCommand::GetFeatures(get) => self.read_feature(get, around, data),
            AdminCommand::SetFeatures(set) => self.change_feature(set, input, around),
        }
    }

    /// Whether what its queues have done is part of the answer.
    pub(crate) fn needs_tally(command: &AdminCommand) -> bool {
        matches!(command, AdminCommand::GetLogPage(page) if page.log_page == LogPageId::Smart.to_byte())
    }

    /// Property Get.
    pub(crate) fn property(&self, get: &PropertyGet) -> Answer {
        match self.properties.value(get.offset, get.is_wide) {
            Ok(result) => Answer::Done { status: Status::SUCCESS, result },
            Err(status) => status.into(),
        }
    }

    /// Property Set.
    pub(crate) fn set_property(&mut self, set: &PropertySet) -> Result<Effect, Status> {
        self.properties.set(set.offset, set.is_wide, set.value, self.members.count())
    }

    /// A reset that [`Self::set_property`] began: features and events are what they were in the beginning. Held event requests have been released.
    pub(crate) fn reset(&mut self, snapshot: &Snapshot) {
        self.features = Features::new(io_queue_count_max(self.subject, snapshot));
        self.reset_events();
    }

    /// Whether I/O queues may be connected.
    pub(crate) fn is_ready(&self) -> bool {
        self.properties.is_ready()
    }

    /// Whether it has granted this queue id.
    pub(crate) fn grants(&self, qid: u16) -> bool {
        (1..=self.features.io_queue_count()).contains(&qid)
    }

    /// The last member has left: a reset or shutdown that waited for this ends.
    pub(crate) fn queues_ended(&mut self) {
        self.properties.queues_ended();
    }
}
