//! What happens to a host's machine.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Fate {
    /// It runs.
    #[default]
    Runs,
    /// It is stopped, as under SIGSTOP: process and device.
    Stopped,
    /// It is gone: nothing of it is heard again.
    Dead,
}
