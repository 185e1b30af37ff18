//! Places in the mesh.

/// A reactor's place in the mesh: 0 … n-1 are polling CPUs, and the control plane, where there is one, is the last.
/// This is not the operating system's CPU number: see [`crate::Placement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(pub u16);
