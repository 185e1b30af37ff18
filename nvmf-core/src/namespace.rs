//! What every CPU knows of a namespace: part of the snapshot, read on any CPU for one turn.

use std::sync::Arc;

use bdev::Geometry;
use uuid::Uuid;

use crate::reservation::Standing;
use crate::spec::NamespaceSpec;

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
    /// A reservation that is held: `None` is the ordinary case, and costs an I/O command a load and a comparison.
    pub(crate) standing: Option<Arc<Standing>>,
}

impl Namespace {
    pub(crate) fn new(subsystem_nqn: &str, spec: &NamespaceSpec, device: DeviceIndex) -> Self {
        let name = spec.device.name();
        Self {
            nsid: spec.nsid,
            device,
            geometry: spec.device.geometry(),
            uuid: spec.uuid.unwrap_or_else(|| Self::derived_uuid(subsystem_nqn, name)),
            // Another name in the same scheme, so that the two differ.
            nguid: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{subsystem_nqn}/{name}/nguid").as_bytes()).into_bytes(),
            standing: None,
        }
    }

    /// The UUID of a namespace that was given none: the same after every restart.
    pub(crate) fn derived_uuid(subsystem_nqn: &str, device_name: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{subsystem_nqn}/{device_name}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_survive_a_restart() {
        let first = Namespace::derived_uuid("nqn.a", "disk");
        assert_eq!(first, Namespace::derived_uuid("nqn.a", "disk"));
        assert_ne!(first, Namespace::derived_uuid("nqn.b", "disk"));
    }
}
