//! What a qpair knows of its host's authentication, where the host has to authenticate.
//!
//! Made when Connect is checked, and gone when the qpair drains. Until the host is known only the two authentication commands are admitted; a host that is known
//! may begin again while its queue serves.

use reactor::TimerId;

use crate::auth::Exchange;
use crate::command::{Command, FabricsCommand};
use crate::subsystem::SubsystemId;
use crate::transport::Slot;
use crate::wire::Nqn;

/// Whether commands are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The host has proven nothing yet.
    Stranger,
    /// It has.
    Known,
}

/// A question that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Which of this qpair's: an answer to any other is a miss.
    pub(crate) number: u32,
    /// The request that waits for it.
    pub(crate) slot: Slot,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Authentication {
    /// Who the host says that it is.
    pub(crate) host: Nqn,
    /// To what.
    pub(crate) subsystem: SubsystemId,
    /// The messages.
    pub(crate) exchange: Exchange,
    /// What has come of them so far.
    pub(crate) standing: Standing,
    /// Ends an exchange that takes too long, and the qpair with it. Armed while one is required or under way.
    pub(crate) deadline: Option<(TimerId, u64)>,
    /// At most one.
    pub(crate) asked: Option<Asked>,
    /// Of the last question.
    pub(crate) last_number: u32,
}

impl Authentication {
    /// Nothing is proven.
    pub(crate) fn new(host: Nqn, subsystem: SubsystemId) -> Self {
        Self {
            host,
            subsystem,
            exchange: Exchange::new(),
            standing: Standing::Stranger,
            deadline: None,
            asked: None,
            last_number: 0,
        }
    }

    /// Whether the command has to wait until the host is known [NVMe Base 2.0, 6.3, 8.13].
    pub(crate) fn bars(&self, command: &Command) -> bool {
        let authenticates = matches!(
            command,
            Command::Fabrics(FabricsCommand::AuthenticationSend(_) | FabricsCommand::AuthenticationReceive(_))
        );
        self.standing == Standing::Stranger && !authenticates
    }
}
