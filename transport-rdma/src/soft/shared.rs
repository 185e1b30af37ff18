//! The software fabric between processes.
