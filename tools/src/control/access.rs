//! The target, as the methods of RPC reach it: the control plane's part of it, for the time of one request.

use nvmf_core::auth::{GroupSet, HashSet};
use nvmf_core::spec::{HostLimits, ReferralSpec, SubsystemSpec};
use nvmf_core::target::{Base, ControllerFacts, DeviceFacts, QpairFacts};
use nvmf_core::{ChangeError, ChangeId};
use reactor::Turn;
use transport_rdma::target::{Change, Control, ControlError, Message, PlacementError, PlacementRule};
use transport_rdma::verbs::Provider;

use super::devices::{DeviceWorker, Recipe, Work};
use crate::rpc::methods::TargetAccess;

/// See the module.
pub(super) struct Access<'a, 't, P: Provider> {
    pub(super) control: &'a mut Control<P>,
    pub(super) worker: &'a DeviceWorker,
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

    fn make_device(&mut self, name: &str, base: Option<Base<'_>>, recipe: Recipe) -> Result<ChangeId, ControlError> {
        let change = self.control.begin_device(self.turn, name, base)?;
        self.worker.make(change, recipe);
        Ok(change)
    }

    fn work(&mut self, device: Option<String>, work: Work) -> Result<ChangeId, ControlError> {
        let change = self.control.begin_work(self.turn)?;
        self.worker.work(Some(change), device, work);
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
