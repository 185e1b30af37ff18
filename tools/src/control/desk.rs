//! What requests are performed on: the target's part of the control plane, and what stands beside it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use nvmf_core::ChangeId;
use nvmf_core::wire::DISCOVERY_NQN;
use reactor::Turn;
use serde_json::Value;
use transport_rdma::target::{Control, Message};
use transport_rdma::verbs::Provider;

use super::access::Access;
use super::devices::DeviceWorker;
use super::facts::Facts;
use super::script::Script;
use crate::events::{self, Owner, Question};
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
    /// Who asked for traces, and which.
    pub(super) questions: BTreeMap<ChangeId, Question>,
}

impl<P: Provider> Desk<P> {
    /// The events that somebody asked for by this change, if it is such a one.
    pub(super) fn events(&mut self, change: ChangeId) -> Option<Value> {
        let traced = self.control.take_trace(change)?;
        let question = self.questions.remove(&change)?;
        let core = self.control.core();
        let past = core.past_controllers().map(|past| Owner {
            cntlid: past.id,
            host_nqn: past.host_nqn.clone(),
            ended_ns: Some(past.ended_ns),
        });
        let nqns = core.subsystems().map(|subsystem| subsystem.nqn.as_str()).chain([DISCOVERY_NQN]);
        let live = nqns.filter_map(|nqn| core.controllers(nqn)).flatten().map(|facts| Owner {
            cntlid: facts.id,
            host_nqn: facts.host_nqn.to_owned(),
            ended_ns: None,
        });
        let owners: Vec<Owner> = past.chain(live).collect();
        Some(events::answer(&traced, &owners, &question, |cpu| self.facts.reactors.label(cpu)))
    }

    /// Has something done that methods can do.
    pub(super) fn with_view<R>(&mut self, turn: &mut Turn<'_, Message<P>>, act: impl FnOnce(View<'_>) -> R) -> R {
        let Self { control, facts, log, keyring, worker, keeper, means, asked, notifications, script, questions } =
            self;
        let directory = &facts.directory;
        let mut target = Access { control, turn, worker, means, script, directory, notifications, questions };
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
