//! Real devices through rdma-core: the place of the provider. It is not built yet, and asking for it says so.

use crate::verbs::VerbsError;

/// Opens the machine's RDMA devices.
///
/// # Errors
/// Always, in this version.
pub fn open() -> Result<std::convert::Infallible, VerbsError> {
    Err(VerbsError::NotBuilt {
        what: "the provider for RDMA devices (ibv)",
        instead: "use the software fabric: provider = \"soft\"",
    })
}
