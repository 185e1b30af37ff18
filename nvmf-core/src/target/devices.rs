//! The target's devices: which place each has, who uses it, and how far it has come or gone.
//!
//! A place is an index that every CPU uses for its channel. It is free again when every CPU has given its channel back, so that what names a device by
//! its place never means a later one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

use bdev::{BdevError, Channel, Device, Limits, Statistics, Throttle};
use reactor::{Cpu, RegionId};

use super::change::ChangeError;
use crate::limits::DEVICE_COUNT_MAX;
use crate::namespace::DeviceIndex;
use crate::order::Way;
use crate::subsystem::SubsystemId;

/// Who uses a device. One at a time, but for devices that are made of different blocks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A namespace.
    Namespace(SubsystemId, u32),
    /// Another device, which is made of all of it.
    Device(String),
    /// Other devices, each of which is made of some of its blocks. Never empty.
    Parts(Vec<Part>),
}

/// A device that is made of some blocks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    user: String,
    blocks: Range<u64>,
}

impl Part {
    pub(super) fn user(&self) -> &str {
        &self.user
    }
}

impl Claim {
    /// Of a device on its base.
    fn of(user: &str, blocks: Option<Range<u64>>) -> Self {
        match blocks {
            None => Self::Device(user.into()),
            Some(blocks) => Self::Parts(vec![Part { user: user.into(), blocks }]),
        }
    }

    /// Whether a device may be made of these blocks beside it.
    fn allows(&self, blocks: Option<&Range<u64>>) -> bool {
        match (self, blocks) {
            (Self::Parts(parts), Some(blocks)) => {
                parts.iter().all(|part| part.blocks.end <= blocks.start || blocks.end <= part.blocks.start)
            }
            (Self::Namespace(..) | Self::Device(_) | Self::Parts(_), _) => false,
        }
    }

    /// What is left when this device is no more.
    fn without(self, user: &str) -> Option<Self> {
        match self {
            Self::Device(other) if other == user => None,
            Self::Parts(mut parts) => {
                parts.retain(|part| part.user != user);
                (!parts.is_empty()).then_some(Self::Parts(parts))
            }
            other @ (Self::Namespace(..) | Self::Device(_)) => Some(other),
        }
    }
}

/// The device that another is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base<'n> {
    /// Its name.
    pub name: &'n str,
    /// Which of its blocks. `None`: all, and those to come.
    pub blocks: Option<Range<u64>>,
}

impl<'n> From<&'n str> for Base<'n> {
    fn from(name: &'n str) -> Self {
        Self { name, blocks: None }
    }
}

/// How far it has come.
enum State {
    /// Somebody opens it.
    Making,
    /// It is on its way to every CPU.
    Opening,
    Open,
    /// It is on its way back.
    Closing,
}

/// One place.
struct Place {
    name: String,
    /// `None` only while it is made.
    device: Option<Arc<dyn Device>>,
    state: State,
    claim: Option<Claim>,
    /// Ways into it that have not been sent, the last CPU's first, or have come home.
    ways: Vec<Way>,
    /// What each polling CPU counts of it.
    statistics: Vec<Arc<Statistics>>,
    /// What its users may do.
    throttle: Arc<Throttle>,
}

/// A device that was made, and a way into it for each polling CPU.
pub struct MadeDevice {
    /// It.
    pub device: Arc<dyn Device>,
    /// As many as there are polling CPUs, in their order.
    pub channels: Vec<Box<dyn Channel>>,
}

/// A device that nothing of the target knows any more. Whoever takes it closes the channels, lets go of the device, and may take its memory back.
pub struct RetiredDevice {
    /// It.
    pub device: Arc<dyn Device>,
    /// All its channels. Nothing is outstanding on them.
    pub channels: Vec<Box<dyn Channel>>,
}

/// A device, to list it.
#[derive(Clone, Copy)]
pub struct DeviceFacts<'t> {
    /// It.
    pub device: &'t Arc<dyn Device>,
    /// Whether a namespace or another device uses it.
    pub is_claimed: bool,
    /// What each polling CPU counts of it.
    pub statistics: &'t [Arc<Statistics>],
    /// What its users may do: for the control plane to change.
    pub throttle: &'t Arc<Throttle>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Devices {
    places: Vec<Option<Place>>,
}

impl Devices {
    /// Those that are there from the start: every CPU gets its channels when it is made.
    pub(super) fn new(cpu_count: u16, devices: impl Iterator<Item = Arc<dyn Device>>) -> Self {
        let mut places: Vec<Option<Place>> = Vec::new();
        let mut claims: BTreeMap<String, Claim> = BTreeMap::new();
        for device in devices {
            // One that is listed, and named by a namespace too.
            if places.iter().flatten().any(|place| place.name == device.name()) {
                continue;
            }
            let name = device.name().to_owned();
            if let Some(layer) = device.layer() {
                let claim = claims.remove(layer.base_name());
                let claim = with(claim, Claim::of(&name, layer.blocks()));
                claims.insert(layer.base_name().to_owned(), claim);
            }
            places.push(Some(Place {
                name,
                device: Some(device),
                state: State::Open,
                claim: None,
                ways: Vec::new(),
                statistics: (0..cpu_count).map(|_| Arc::default()).collect(),
                throttle: Arc::default(),
            }));
        }
        for place in places.iter_mut().flatten() {
            place.claim = claims.remove(&place.name);
        }
        Self { places }
    }

    /// Those that can be used, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = DeviceFacts<'_>> {
        self.places.iter().flatten().filter(|place| matches!(place.state, State::Open)).filter_map(|place| {
            let device = place.device.as_ref()?;
            let (statistics, throttle) = (&place.statistics[..], &place.throttle);
            Some(DeviceFacts { device, is_claimed: place.claim.is_some(), statistics, throttle })
        })
    }

    /// Whether any of them has this memory, whether it can be used yet, still, or not.
    pub(super) fn has_memory(&self, region: RegionId) -> bool {
        let devices = self.places.iter().flatten().filter_map(|place| place.device.as_ref());
        devices.filter_map(|device| device.memory()).any(|memory| memory.region() == region)
    }

    /// A CPU's ways into those that are there from the start. May make system calls.
    pub(super) fn open_ways(&self, cpu: Cpu) -> Result<Vec<Way>, BdevError> {
        let open = |facts: DeviceFacts<'_>| {
            Way::open(&**facts.device, &facts.statistics[usize::from(cpu.0)], Arc::clone(facts.throttle))
        };
        self.iter().map(open).collect()
    }

    /// The place of a device that can be used.
    pub(super) fn find(&self, name: &str) -> Result<DeviceIndex, ChangeError> {
        let is_it = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.name == name);
        let Some(index) = self.places.iter().position(is_it) else {
            return Err(ChangeError::NoDevice { name: name.into(), known: self.names() });
        };
        match self.place(DeviceIndex(index_of(index))).map(|place| &place.state) {
            Some(State::Open) => Ok(DeviceIndex(index_of(index))),
            _ => Err(ChangeError::DeviceChanges { name: name.into() }),
        }
    }

    /// The device in a place.
    pub(super) fn device(&self, index: DeviceIndex) -> Option<&Arc<dyn Device>> {
        self.place(index)?.device.as_ref()
    }

    /// Who uses it.
    pub(super) fn claim(&self, index: DeviceIndex) -> Option<&Claim> {
        self.place(index)?.claim.as_ref()
    }

    /// Somebody uses it from now on.
    pub(super) fn take(&mut self, index: DeviceIndex, claim: Claim) {
        if let Some(place) = self.place_mut(index) {
            debug_assert!(place.claim.is_none(), "{} is claimed once", place.name);
            place.claim = Some(claim);
        }
    }

    /// Nobody does any more.
    pub(super) fn free(&mut self, index: DeviceIndex) {
        if let Some(place) = self.place_mut(index) {
            place.claim = None;
        }
    }

    /// Who keeps a device from being made of this one.
    pub(super) fn obstacle(&self, base: &Base<'_>) -> Option<&Claim> {
        let claim = self.claim(self.find(base.name).ok()?)?;
        (!claim.allows(base.blocks.as_ref())).then_some(claim)
    }

    /// Keeps a place for a device that is being made, and the device that it is made of, which nothing is in the way of.
    pub(super) fn keep(&mut self, name: &str, base: Option<Base<'_>>) -> Result<DeviceIndex, ChangeError> {
        if self.places.iter().flatten().any(|place| place.name == name) {
            return Err(ChangeError::DeviceThere { name: name.into() });
        }
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if free >= DEVICE_COUNT_MAX {
            return Err(ChangeError::TooManyDevices { limit: DEVICE_COUNT_MAX });
        }
        if let Some(base) = base {
            let index = self.find(base.name)?;
            if let Some(place) = self.place_mut(index) {
                place.claim = Some(with(place.claim.take(), Claim::of(name, base.blocks)));
            }
        }
        if free == self.places.len() {
            self.places.push(None);
        }
        self.places[free] = Some(Place {
            name: name.to_owned(),
            device: None,
            state: State::Making,
            claim: None,
            ways: Vec::new(),
            statistics: Vec::new(),
            throttle: Arc::default(),
        });
        Ok(DeviceIndex(index_of(free)))
    }

    /// It was made.
    pub(super) fn made(&mut self, index: DeviceIndex, made: MadeDevice, mut watch: impl FnMut(Cpu, RawFd) -> bool) {
        if let Some(place) = self.place_mut(index) {
            let block_len = made.device.geometry().block_len;
            place.device = Some(made.device);
            let throttle = &place.throttle;
            let ways = (0..).map(Cpu).zip(made.channels).map(|(cpu, channel)| {
                let is_watched = channel.wake_descriptor().is_some_and(|descriptor| watch(cpu, descriptor));
                Way::new(channel, block_len, Arc::default(), Arc::clone(throttle), is_watched)
            });
            place.ways = ways.collect();
            place.statistics = place.ways.iter().map(|way| Arc::clone(&way.statistics)).collect();
            // They are sent from the end on.
            place.ways.reverse();
            place.state = State::Opening;
        }
    }

    /// Every CPU has its channel.
    pub(super) fn opened(&mut self, index: DeviceIndex) {
        if let Some(place) = self.place_mut(index) {
            place.state = State::Open;
        }
    }

    /// It goes: nothing is begun with it any more.
    pub(super) fn begin_close(&mut self, index: DeviceIndex) {
        if let Some(place) = self.place_mut(index) {
            place.state = State::Closing;
            // What waits for its turn goes now.
            place.throttle.set(Limits::default());
        }
    }

    /// A way into it, to send it: the next CPU's.
    pub(super) fn next_way(&mut self, index: DeviceIndex) -> Option<Way> {
        self.place_mut(index)?.ways.pop()
    }

    /// A way into it that came home.
    pub(super) fn came_home(&mut self, index: DeviceIndex, way: Way) {
        if let Some(place) = self.place_mut(index) {
            place.ways.push(way);
        }
    }

    /// Its place is free. What it was made of is, too.
    pub(super) fn remove(&mut self, index: DeviceIndex) -> Option<RetiredDevice> {
        let place = self.places.get_mut(usize::from(index.0))?.take()?;
        for other in self.places.iter_mut().flatten() {
            other.claim = other.claim.take().and_then(|claim| claim.without(&place.name));
        }
        Some(RetiredDevice { device: place.device?, channels: place.ways.into_iter().map(|way| way.channel).collect() })
    }

    fn place(&self, index: DeviceIndex) -> Option<&Place> {
        self.places.get(usize::from(index.0))?.as_ref()
    }

    fn place_mut(&mut self, index: DeviceIndex) -> Option<&mut Place> {
        self.places.get_mut(usize::from(index.0))?.as_mut()
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.iter().map(|facts| facts.device.name()).collect();
        if names.is_empty() { "there is none".into() } else { super::subsystems::list(&names) }
    }
}

/// Both.
fn with(claim: Option<Claim>, other: Claim) -> Claim {
    match (claim, other) {
        (Some(Claim::Parts(mut parts)), Claim::Parts(more)) => {
            parts.extend(more);
            Claim::Parts(parts)
        }
        (_, other) => other,
    }
}

/// Places are fewer than [`DEVICE_COUNT_MAX`].
fn index_of(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}
