//! What NVMe over RDMA puts on the wire.
