//! The software fabric between processes.

use std::path::PathBuf;

use crate::verbs::VerbsError;

/// Limits and times of the software fabric. The defaults are meant to be right.
#[derive(Clone, Debug)]
pub struct SharedOptions {
    /// Where listening sockets are. `None`: `$QUIESCE_RUNTIME_DIR`, else `/run/quiesce` for root, else `$XDG_RUNTIME_DIR/quiesce`, else `/tmp/quiesce-$UID`.
    pub directory: Option<PathBuf>,
    /// Bytes of a queue pair's ring in each direction: a power of two. The longest SEND is half of it.
    pub ring_len: u32,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self { directory: None, ring_len: 32 << 10 }
    }
}

/// The software fabric's provider.
pub struct SharedProvider {
    _todo: (),
}

impl SharedProvider {
    /// Starts it: the runtime directory, the worker thread.
    ///
    /// # Errors
    /// If the runtime directory cannot be used, or a descriptor or thread cannot be had.
    pub fn new(options: SharedOptions) -> Result<Self, VerbsError> {
        let _ = options;
        todo!()
    }
}
