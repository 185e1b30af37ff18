//! Images of Ceph clusters: who holds the lock of those that are fenced, and what hosts are told of that.
//!
//! A namespace on a fenced image is inaccessible in ANA wherever its target does not hold the image's lock, whatever anybody has set, and optimized again when
//! the lock comes. The cluster is asked on threads of their own, one at a time for each device, so that one that does not answer keeps nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bdev::Device;
use nvmf_core::spec::{AnaState, SubsystemSpec};
use nvmf_core::target::Amendment;

use super::devices::{DeviceWorker, Work};

/// What is known of devices, by name.
#[derive(Default)]
pub(super) struct Images(BTreeMap<String, Image>);

#[derive(Default)]
struct Image {
    /// What hosts were told last.
    serves: Option<bool>,
    /// The cluster is being asked.
    is_asked: Arc<AtomicBool>,
}

impl Images {
    /// Has clusters asked whose last answer has come, and gives what is to be changed.
    pub(super) fn look(
        &mut self,
        devices: &[Arc<dyn Device>],
        subsystems: &[&SubsystemSpec],
        worker: &DeviceWorker,
    ) -> Vec<Amendment> {
        self.0.retain(|name, _| devices.iter().any(|device| device.name() == name));
        let mut amendments = Vec::new();
        for device in devices {
            let Some(rbd) = device.as_rbd().filter(|rbd| rbd.options().fenced) else { continue };
            let known = self.0.entry(device.name().to_owned()).or_default();
            known.ask(device, worker);
            let serves = rbd.standing().serves();
            let was = known.serves.replace(serves);
            for subsystem in subsystems.iter().filter(|subsystem| subsystem.reports_ana) {
                let ours = subsystem.namespaces.iter().filter(|namespace| namespace.device.name() == device.name());
                for group in ours.map(|namespace| namespace.ana_group.unwrap_or(namespace.nsid)) {
                    amendments.extend(change(subsystem, group, was, serves));
                }
            }
        }
        amendments
    }
}

impl Image {
    /// Whether the lock is still held: asked in every look, but once at a time.
    fn ask(&self, device: &Arc<dyn Device>, worker: &DeviceWorker) {
        if self.is_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        let (asked, device) = (Arc::clone(&self.is_asked), Arc::clone(device));
        let work: Work = Box::new(move || {
            if let Some(rbd) = device.as_rbd() {
                rbd.check_standing();
            }
            asked.store(false, Ordering::Relaxed);
            Ok(())
        });
        worker.work(None, None, work);
    }
}

/// What one ANA group's states are to be, where they are otherwise.
fn change(subsystem: &SubsystemSpec, group: u32, was: Option<bool>, serves: bool) -> Vec<Amendment> {
    let wanted = |now: AnaState| match (serves, now) {
        (false, AnaState::Optimized | AnaState::NonOptimized) => Some(AnaState::Inaccessible),
        // What was set by hand while the lock is held stays.
        (true, AnaState::Inaccessible) if was == Some(false) => Some(AnaState::Optimized),
        (_, _) => None,
    };
    let listeners = subsystem.listeners.iter();
    listeners
        .filter_map(|listener| {
            let state = wanted(subsystem.ana_state(*listener, group))?;
            tracing::info!(subsystem = subsystem.nqn, group, %listener, ?state, "an image's lock has come or gone");
            Some(Amendment::SetAnaState { nqn: subsystem.nqn.clone(), listener: *listener, group: Some(group), state })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_lock_nothing_is_accessible_and_with_it_what_was_not_set_by_hand_is() {
        let listener = "127.0.0.1:4420".parse().unwrap();
        let mut subsystem = SubsystemSpec { reports_ana: true, ..SubsystemSpec::new("nqn.2026-11.io.quiesce:t", "S") };
        subsystem.listeners.push(listener);
        let state = |subsystem: &SubsystemSpec, was, serves| {
            let mut changed = change(subsystem, 1, was, serves).into_iter().map(|amendment| {
                let Amendment::SetAnaState { state, group: Some(1), .. } = amendment else { panic!("{amendment}") };
                state
            });
            changed.next()
        };
        assert_eq!(state(&subsystem, None, true), None);
        assert_eq!(state(&subsystem, Some(true), false), Some(AnaState::Inaccessible));
        assert_eq!(state(&subsystem, Some(false), false), Some(AnaState::Inaccessible), "set by somebody meanwhile");
        subsystem.ana.push(nvmf_core::spec::AnaSpec { listener, group: Some(1), state: AnaState::Inaccessible });
        assert_eq!(state(&subsystem, Some(false), false), None);
        assert_eq!(state(&subsystem, Some(false), true), Some(AnaState::Optimized));
        assert_eq!(state(&subsystem, Some(true), true), None, "by hand");
    }
}
