//! The target, as the methods of RPC reach it: the control plane's part of it, for the time of one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvmf_core::auth::{GroupSet, HashSet};
use nvmf_core::spec::{HostLimits, ReferralSpec, SubsystemSpec};
use nvmf_core::target::{Base, ControllerFacts, DeviceFacts, QpairFacts};
use nvmf_core::{ChangeError, ChangeId, Directory, PollGroupCounters};
use reactor::{Cpu, Turn};
use transport_rdma::target::{Change, Control, ControlError, Message, PlacementError, PlacementRule};
use transport_rdma::verbs::Provider;

use super::devices::{DeviceWorker, Wanted, Work};
use super::script::Script;
use crate::config::{Config, DeviceSection, Step};
use crate::events::Question;
use crate::notifications::Notifications;
use crate::opening::{Means, blocks_of};
use crate::rpc::methods::TargetAccess;

/// See the module.
pub(super) struct Access<'a, 't, P: Provider> {
    pub(super) control: &'a mut Control<P>,
    pub(super) worker: &'a DeviceWorker,
    pub(super) means: &'a Means,
    pub(super) script: &'a mut Option<Script>,
    pub(super) directory: &'a Directory,
    pub(super) notifications: &'a Notifications,
    pub(super) questions: &'a mut BTreeMap<ChangeId, Question>,
    pub(super) turn: &'a mut Turn<'t, Message<P>>,
}

impl<P: Provider> TargetAccess for Access<'_, '_, P> {
    fn subsystems(&self) -> Vec<&SubsystemSpec> {
        self.control.core().subsystems().collect()
    }

    fn referrals(&self) -> Vec<&ReferralSpec> {
        self.control.core().referrals().collect()
    }

    fn devices(&self) -> Vec<DeviceFacts<'_>> {
        self.control.core().devices().collect()
    }

    fn now_ns(&self) -> u64 {
        self.turn.now_ns()
    }

    fn free_nsid(&self, nqn: &str) -> Result<u32, ChangeError> {
        self.control.core().free_nsid(nqn)
    }

    fn make_device(&mut self, section: DeviceSection) -> Result<ChangeId, ControlError> {
        let base = section.base().map(|name| {
            let device = self.control.core().devices().map(|facts| facts.device).find(|device| device.name() == name);
            (name.as_str(), device.cloned())
        });
        // That there is no such base is said below.
        let blocks = match (section.part(), &base) {
            (Some((offset, len)), Some((_, Some(base)))) => Some(blocks_of(offset, len, &**base)),
            (Some(_) | None, _) => None,
        };
        let below = base.as_ref().map(|(name, _)| Base { name, blocks });
        let change = self.control.begin_device(self.turn, &section.name, below)?;
        let base = base.and_then(|(_, base)| base);
        self.worker.make(change, Wanted { section, base, means: self.means.clone() });
        Ok(change)
    }

    fn work(&mut self, device: Option<String>, work: Work) -> Result<ChangeId, ControlError> {
        let change = self.control.begin_work(self.turn)?;
        self.worker.work(Some(change), device, work);
        Ok(change)
    }

    fn counters(&self, cpu: Cpu) -> Arc<PollGroupCounters> {
        self.directory.counters(cpu)
    }

    fn notifications(&self) -> &Notifications {
        self.notifications
    }

    fn trace(&mut self, question: Question) -> Result<ChangeId, ControlError> {
        let change = self.control.begin_trace(self.turn)?;
        self.questions.insert(change, question);
        Ok(change)
    }

    fn controllers(&self, nqn: &str) -> Option<Vec<ControllerFacts<'_>>> {
        self.control.core().controllers(nqn).map(Iterator::collect)
    }

    fn qpairs(&self, nqn: &str) -> Option<Vec<QpairFacts>> {
        self.control.core().qpairs(self.turn.guard(), nqn)
    }

    fn authentication(&self) -> (HashSet, GroupSet) {
        self.control.core().authentication()
    }

    fn run(&mut self, steps: Vec<Step>, started: Option<Box<Config>>) -> Result<ChangeId, ControlError> {
        let change = self.control.begin_work(self.turn)?;
        *self.script = Some(Script::new(steps, change, started));
        Ok(change)
    }

    fn is_running(&self) -> bool {
        self.script.is_some()
    }

    fn change(&mut self, change: Change) -> Result<ChangeId, ControlError> {
        self.control.change(self.turn, change)
    }

    fn host_limits(&self) -> HostLimits {
        self.control.core().host_limits()
    }

    fn host_queue_pair_limit(&self) -> u32 {
        self.control.host_queue_pair_limit()
    }

    fn set_host_queue_pair_limit(&mut self, limit: u32) {
        self.control.set_host_queue_pair_limit(limit);
    }

    fn placement(&self) -> &[PlacementRule] {
        self.control.placement()
    }

    fn set_placement(&mut self, rules: Vec<PlacementRule>) -> Result<(), PlacementError> {
        self.control.set_placement(rules)
    }
}
