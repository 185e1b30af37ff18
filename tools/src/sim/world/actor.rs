//! Whoever acts in a world besides the target: hosts.

/// Acts one step at a time, on a machine of its own.
pub trait Actor {
    /// For traces: `host 1`.
    fn name(&self) -> String;

    /// One step at this time: whatever it finds to do.
    fn act(&mut self, now_ns: u64);

    /// Whether there would be any sense in a step now.
    fn may_act(&self, now_ns: u64) -> bool;

    /// From when on there would be, if nothing happens to it before. `None`: never.
    fn due_ns(&self) -> Option<u64>;

    /// What it does or waits for, for a report that a run is stuck.
    fn condition(&self) -> String;
}
