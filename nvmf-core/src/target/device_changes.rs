//! Devices that are made and deleted while the target runs.
//!
//! Opening a device and its channels can take long, so somebody else does that: [`Target::begin_device`] keeps a name and a place,
//! [`Target::device_made`] or [`Target::device_failed`] goes on. Closing is left to somebody else as well: [`Target::next_retired`].

use std::os::fd::RawFd;
use std::sync::Arc;

use bdev::{BdevError, Device};
use reactor::{Cpu, RegionId};

use super::change::{ChangeError, ChangeId, Task, Wait};
use super::devices::{Base, Claim, DeviceFacts, MadeDevice, Part, RetiredDevice};
use super::{Target, check};
use crate::namespace::DeviceIndex;
use crate::order::Way;

impl Target {
    /// A polling CPU's ways into the devices that are there from the start, to make its poll group with. May make system calls.
    ///
    /// # Errors
    /// If a device refuses.
    pub fn open_ways(&self, cpu: Cpu) -> Result<Vec<Way>, BdevError> {
        self.devices.open_ways(cpu)
    }

    /// The devices that can be used.
    pub fn devices(&self) -> impl Iterator<Item = DeviceFacts<'_>> {
        self.devices.iter()
    }

    /// Whether a device has this memory, be it on its way to the CPUs or back. Devices may share some.
    #[must_use]
    pub fn has_memory(&self, region: RegionId) -> bool {
        self.devices.has_memory(region)
    }

    /// Keeps `name` for a device that somebody is going to open, and claims the device that it is made of. Done when the device can be used; failed where
    /// [`Self::device_failed`] says so.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn begin_device(&mut self, name: &str, base: Option<Base<'_>>) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        if let Some(base) = &base
            && let Some(claim) = self.devices.obstacle(base)
        {
            return Err(ChangeError::DeviceUsed { name: base.name.into(), by: self.user(claim) });
        }
        let index = self.devices.keep(name, base)?;
        Ok(self.changes.begin_with(Task::MakeDevice(index), Wait::Making))
    }

    /// The device of [`Self::begin_device`] is open. `watch` has a CPU's sleep end with its channel's descriptor from now on; where it cannot, that CPU stays
    /// awake while it has operations out.
    pub fn device_made(&mut self, change: ChangeId, made: MadeDevice, watch: impl FnMut(Cpu, RawFd) -> bool) {
        let fault = if self.is_closing {
            Some(ChangeError::ShuttingDown.to_string())
        } else {
            check::device("bdev", &*made.device, self.controller.transfer_len_max).err().map(|error| error.to_string())
        };
        match (fault, self.changes.making(change)) {
            (None, Some(index)) => self.devices.made(index, made, watch),
            (fault, _) => {
                self.retired.push_back(RetiredDevice { device: made.device, channels: made.channels });
                self.device_failed(change, fault.unwrap_or_default());
            }
        }
    }

    /// It could not be opened.
    pub fn device_failed(&mut self, change: ChangeId, why: String) {
        let Some(index) = self.changes.making(change) else {
            return tracing::error!(?change, why, "a device failed that nobody waits for");
        };
        drop(self.devices.remove(index));
        self.changes.fail(change, why);
    }

    /// Somebody does something about devices that takes time: an answer waits for it, and nothing else. Done when [`Self::work_done`] says so.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn begin_work(&mut self) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        Ok(self.changes.begin_with(Task::Publish, Wait::Making))
    }

    /// What [`Self::begin_work`] stands for has ended, or failed, and why.
    pub fn work_done(&mut self, change: ChangeId, result: Result<(), String>) {
        match result {
            Ok(()) => self.changes.go_on(change, Task::Publish),
            Err(why) => self.changes.fail(change, why),
        }
    }

    /// The device goes, and with it the namespace that is made of it. Done when no CPU has anything of it any more.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn delete_device(&mut self, name: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let index = self.devices.find(name)?;
        match self.devices.claim(index).cloned() {
            Some(claim @ (Claim::Device(_) | Claim::Parts(_))) => {
                return Err(ChangeError::DeviceUsed { name: name.into(), by: self.user(&claim) });
            }
            Some(Claim::Namespace(subsystem, nsid)) => self.take_namespace(subsystem, nsid),
            None => {}
        }
        self.devices.begin_close(index);
        if let Some(device) = self.devices.device(index) {
            device.let_go();
        }
        Ok(self.begin(Task::CloseDevice(index)))
    }

    /// The device has `block_count` blocks from now on, at least as many as it had. Done when hosts can use them; they are told.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn resize_device(&mut self, name: &str, block_count: u64) -> Result<ChangeId, ChangeError> {
        self.grow(name, |device| device.resize(block_count))
    }

    /// The device looks how large it is.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn rescan_device(&mut self, name: &str) -> Result<ChangeId, ChangeError> {
        self.grow(name, |device| device.rescan())
    }

    /// Every operation that a device has is ended, on every CPU: what can be stopped is cancelled, and its host may send it again (Command Abort Requested,
    /// DNR cleared); the rest is waited for. Commands that come meanwhile wait. Done when they go on. With it every device that is made of it is reset.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn reset_device(&mut self, name: &str) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let mut devices = vec![self.devices.find(name)?];
        let mut seen = 0;
        while let Some(index) = devices.get(seen).copied() {
            seen += 1;
            // One that is being made or deleted has no commands of hosts.
            let users: Vec<DeviceIndex> = match self.devices.claim(index) {
                Some(Claim::Device(user)) => self.devices.find(user).into_iter().collect(),
                Some(Claim::Parts(parts)) => {
                    parts.iter().filter_map(|part| self.devices.find(part.user()).ok()).collect()
                }
                Some(Claim::Namespace(..)) | None => Vec::new(),
            };
            devices.extend(users);
        }
        Ok(self.begin(Task::ResetDevices(devices)))
    }

    /// The device that is made of this one, by way of others perhaps, and that no other is made of: itself, if none is. `None` if it cannot be used.
    pub fn topmost_device<'n>(&'n self, name: &'n str) -> Option<&'n str> {
        let index = self.devices.find(name).ok()?;
        match self.devices.claim(index) {
            Some(Claim::Device(user)) => self.topmost_device(user),
            // One after the other.
            Some(Claim::Parts(parts)) => self.topmost_device(parts.first().map_or(name, Part::user)),
            Some(Claim::Namespace(..)) | None => Some(name),
        }
    }

    /// A device that is gone from the target, each once.
    pub fn next_retired(&mut self) -> Option<RetiredDevice> {
        self.retired.pop_front()
    }

    /// Who has a device, for an error.
    pub(super) fn user(&self, claim: &Claim) -> String {
        match claim {
            Claim::Namespace(id, nsid) => {
                let entry = self.subsystems.iter().find(|entry| entry.id == *id);
                let nqn = entry.map_or("a subsystem that is gone", |entry| entry.spec.nqn.as_str());
                format!("namespace {nsid} of {nqn}")
            }
            Claim::Device(user) => format!("device {user}"),
            Claim::Parts(parts) => {
                let users: Vec<&str> = parts.iter().map(Part::user).collect();
                format!("devices {}", super::subsystems::list(&users))
            }
        }
    }

    fn grow(
        &mut self,
        name: &str,
        grow: impl FnOnce(&Arc<dyn Device>) -> Result<(), BdevError>,
    ) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let index = self.devices.find(name)?;
        if let Some(device) = self.devices.device(index) {
            grow(device).map_err(|error| ChangeError::Device(error.to_string()))?;
        }
        // The one that is made of all of it has grown too, and so on.
        let mut claim = self.devices.claim(index).cloned();
        while let Some(Claim::Device(user)) = claim {
            claim = self.devices.find(&user).ok().and_then(|index| self.devices.claim(index).cloned());
        }
        if let Some(Claim::Namespace(subsystem, nsid)) = claim {
            self.tell_of_namespace(subsystem, nsid);
        }
        Ok(self.begin(Task::Publish))
    }
}
