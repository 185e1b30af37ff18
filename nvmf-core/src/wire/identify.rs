//! What Identify returns: pages of 4096 bytes [NVMe Base 2.0, 5.17].
//!
//! Raw structures with the specification's places; make one with `new_zeroed()`, send it with `as_bytes()`, read one with
//! `ref_from_bytes()` (all of `zerocopy`). A field that nobody here uses is still named, so that whoever needs it finds it.

mod controller;
mod descriptor;
mod namespace;

pub use controller::IdentifyController;
pub use descriptor::{DescriptorPage, NamespaceIdentifiers};
pub use namespace::{
    CommandSetCombinations, ControllerCommandSet, ControllerList, IdentifyNamespace, LbaFormat, NamespaceCommandSet,
    NamespaceIndependent, NamespaceList,
};

use super::opcode::byte_enum;

/// Bytes of every structure.
pub const PAGE_LEN: u32 = 4096;

byte_enum! {
    /// CNS: which structure [NVMe Base 2.0, figure 273].
    IdentifyKind {
        /// [`IdentifyNamespace`].
        Namespace = 0x00,
        /// [`IdentifyController`].
        Controller = 0x01,
        /// [`NamespaceList`] of the active namespaces above NSID.
        ActiveNamespaces = 0x02,
        /// [`NamespaceIdentifiers`], one after another.
        NamespaceDescriptors = 0x03,
        /// Identify Namespace of one I/O command set.
        CommandSetNamespace = 0x05,
        /// Identify Controller of one I/O command set.
        CommandSetController = 0x06,
        /// [`NamespaceList`] of the active namespaces above NSID with one I/O command set.
        CommandSetActiveNamespaces = 0x07,
        /// Identify Namespace, independent of the I/O command set.
        IndependentNamespace = 0x08,
        /// [`NamespaceList`] of all allocated namespaces above NSID.
        AllocatedNamespaces = 0x10,
        /// Controllers that a namespace is attached to.
        AttachedControllers = 0x12,
        /// Controllers of the subsystem.
        SubsystemControllers = 0x13,
        /// Combinations of I/O command sets.
        CommandSetCombinations = 0x1C,
    }
}
