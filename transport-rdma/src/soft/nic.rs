//! The software NIC: a state machine without I/O.
