//! What NVMe over RDMA puts on the wire and into work requests; both sides use it.
//!
//! | part | what it is |
//! |---|---|
//! | `private_data` | what both sides say to each other in the connection manager's messages |
//! | `work_request` | how a `wr_id` names a piece of work, so that a late completion is a miss |
//!
//! Pure functions over bytes: no I/O, no state, any CPU.

mod private_data;
mod work_request;

pub use private_data::{AcceptData, PrivateDataError, RejectData, RejectStatus, RequestData};
pub use work_request::{WorkKind, WorkRequestId};

/// Bytes of a command capsule without in-capsule data: the submission queue entry [NVMe over Fabrics 1.1, 2.1].
pub const COMMAND_LEN: usize = 64;

/// Bytes of a response capsule: the completion queue entry [NVMe over Fabrics 1.1, 2.2].
pub const RESPONSE_LEN: usize = 16;
