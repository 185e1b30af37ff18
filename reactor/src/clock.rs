//! Time in ns.

/// A monotonic clock: the time stamp counter where it is invariant, else the operating system's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    _todo: (),
}

impl Clock {
    /// Calibrates (takes some ms) and starts at zero.
    #[must_use]
    pub fn start() -> Self {
        todo!()
    }

    /// ns since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        todo!()
    }
}
