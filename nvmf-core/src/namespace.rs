//! What every CPU knows of a namespace: part of the snapshot, read on any CPU for one turn.

use std::sync::Arc;

use bdev::Geometry;
use uuid::Uuid;

use crate::reservation::Standing;
use crate::spec::NamespaceSpec;
use crate::visibility::Visibility;

/// A device's place in the target's list, the same on every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeviceIndex(pub(crate) u16);

/// What every CPU knows of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) nsid: u32,
    pub(crate) device: DeviceIndex,
    pub(crate) geometry: Geometry,
    pub(crate) uuid: Uuid,
    pub(crate) nguid: [u8; 16],
    pub(crate) eui64: Option<[u8; 8]>,
    /// ANAGRPID.
    pub(crate) ana_group: u32,
    /// Who sees it. `None`: every host of the subsystem.
    pub(crate) visibility: Option<Arc<Visibility>>,
    /// A reservation that is held: `None` is the ordinary case, and costs an I/O command a load and a comparison.
    pub(crate) standing: Option<Arc<Standing>>,
    /// RESCAP; 0 where there are no reservations.
    pub(crate) reservation_capabilities: u8,
}

impl Namespace {
    pub(crate) fn new(
        subsystem_nqn: &str,
        spec: &NamespaceSpec,
        device: DeviceIndex,
        visibility: Option<Arc<Visibility>>,
    ) -> Self {
        let name = spec.device.name();
        let (own_nguid, own_eui64) = spec.device.identity().map_or((None, None), |drive| (drive.nguid, drive.eui64));
        Self {
            nsid: spec.nsid,
            device,
            geometry: spec.device.geometry(),
            uuid: spec.uuid.unwrap_or_else(|| Self::derived_uuid(subsystem_nqn, name)),
            nguid: spec.nguid.or(own_nguid).unwrap_or_else(|| Self::derived_nguid(subsystem_nqn, name)),
            eui64: spec.eui64.or(own_eui64),
            ana_group: spec.ana_group(),
            visibility,
            standing: None,
            reservation_capabilities: 0,
        }
    }

    /// Namespace 1 of device 0.
    #[cfg(test)]
    pub(crate) fn blank(geometry: Geometry) -> Self {
        Self {
            nsid: 1,
            device: DeviceIndex(0),
            geometry,
            uuid: Uuid::nil(),
            nguid: [0; 16],
            eui64: None,
            ana_group: 1,
            visibility: None,
            standing: None,
            reservation_capabilities: 0,
        }
    }

    /// Whether the host of this controller sees it.
    pub(crate) fn shows_to(&self, controller_id: u16) -> bool {
        self.visibility.as_ref().is_none_or(|visibility| visibility.shows_to(controller_id))
    }

    /// The NGUID of a namespace that was given none. Another name in the scheme of [`Self::derived_uuid`], so that the two differ.
    pub(crate) fn derived_nguid(subsystem_nqn: &str, device_name: &str) -> [u8; 16] {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{subsystem_nqn}/{device_name}/nguid").as_bytes()).into_bytes()
    }

    /// The UUID of a namespace that was given none: the same after every restart.
    pub(crate) fn derived_uuid(subsystem_nqn: &str, device_name: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{subsystem_nqn}/{device_name}").as_bytes())
    }
}

impl NamespaceSpec {
    /// Its UUID in the subsystem of this name: given, or derived.
    #[must_use]
    pub fn uuid_in(&self, subsystem_nqn: &str) -> uuid::Uuid {
        self.uuid.unwrap_or_else(|| Namespace::derived_uuid(subsystem_nqn, self.device.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drive with names of its own.
    #[derive(Debug)]
    struct Drive(bdev::Null, bdev::Identity);

    impl bdev::Device for Drive {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn product(&self) -> &'static str {
            self.0.product()
        }

        fn geometry(&self) -> Geometry {
            self.0.geometry()
        }

        fn identity(&self) -> Option<&bdev::Identity> {
            Some(&self.1)
        }

        fn open_channel(&self) -> Result<Box<dyn bdev::Channel>, bdev::BdevError> {
            self.0.open_channel()
        }
    }

    #[test]
    fn a_drives_own_names_are_its_namespaces_unless_it_was_given_others() {
        let named = |own: bdev::Identity, given: Option<[u8; 16]>| {
            let drive = Drive(bdev::Null::new("d", 512, 8).unwrap(), own);
            let spec = NamespaceSpec { nguid: given, ..NamespaceSpec::new(1, Arc::new(drive)) };
            let namespace = Namespace::new("nqn.a", &spec, DeviceIndex(0), None);
            (namespace.nguid, namespace.eui64)
        };
        let own = bdev::Identity { nguid: Some([7; 16]), eui64: Some([3; 8]), ..bdev::Identity::default() };
        assert_eq!(named(own.clone(), None), ([7; 16], Some([3; 8])));
        assert_eq!(named(own, Some([9; 16])), ([9; 16], Some([3; 8])));
        let derived = Namespace::derived_nguid("nqn.a", "d");
        assert_eq!(named(bdev::Identity::default(), None), (derived, None));
    }

    #[test]
    fn derived_names_survive_a_restart() {
        let first = Namespace::derived_uuid("nqn.a", "disk");
        assert_eq!(first, Namespace::derived_uuid("nqn.a", "disk"));
        assert_ne!(first, Namespace::derived_uuid("nqn.b", "disk"));
    }
}
