//! What requests are performed on: the target's part of the control plane, and what stands beside it.

use std::cell::RefCell;

use reactor::Turn;
use transport_rdma::target::{Control, Message};
use transport_rdma::verbs::Provider;

use super::access::Access;
use super::devices::DeviceWorker;
use super::facts::Facts;
use super::script::Script;
use crate::keeper::Keeper;
use crate::keyring::Keyring;
use crate::log::Log;
use crate::notifications::Notifications;
use crate::opening::Means;
use crate::present::Asked;
use crate::rpc::methods::View;

/// See the module.
pub(super) struct Desk<P: Provider> {
    pub(super) control: Control<P>,
    pub(super) facts: Facts,
    pub(super) log: Log,
    pub(super) keyring: RefCell<Keyring>,
    pub(super) worker: DeviceWorker,
    pub(super) keeper: Keeper,
    pub(super) means: Means,
    pub(super) asked: Asked,
    pub(super) notifications: Notifications,
    /// Calls that are just being performed one after the other.
    pub(super) script: Option<Script>,
}

impl<P: Provider> Desk<P> {
    /// Has something done that methods can do.
    pub(super) fn with_view<R>(&mut self, turn: &mut Turn<'_, Message<P>>, act: impl FnOnce(View<'_>) -> R) -> R {
        let Self { control, facts, log, keyring, worker, keeper, means, asked, notifications, script } = self;
        let mut target = Access { control, turn, worker, means, script, directory: &facts.directory, notifications };
        act(View {
            target: &mut target,
            reactors: &facts.reactors,
            log,
            keyring,
            clusters: &means.clusters,
            asked,
            state: keeper.state(),
            transport_type: "RDMA",
        })
    }
}
