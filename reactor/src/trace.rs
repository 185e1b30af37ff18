//! What a CPU did last, for people who look for the reason of something, and for the simulator's checkers.
//!
//! Each CPU has two rings of records, written by its program by way of its turn and read on the same CPU: others ask by message. One is for what is rare and matters
//! later (the steps of a life, [`crate::Turn::trace`]), one for what a host can cause at any rate (commands that fail, [`crate::Turn::note`]), so that no flood of those washes the
//! steps away. Both are always on: a record costs a few plain stores.

/// What kind of thing happened. Each crate numbers its own: `nvmf-core` from 0x100, `transport-rdma` from 0x200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceKind(pub u16);

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TraceRecord {
    /// When: the turn's time.
    pub at_ns: u64,
    /// What.
    pub kind: TraceKind,
    /// To what: usually a handle in bits.
    pub subject: u64,
    /// What else is to be said; its meaning is the kind's.
    pub detail: u64,
}

/// Records that each ring keeps.
pub(crate) const KEPT: usize = 1024;

/// One CPU's records.
pub(crate) struct Trace {
    ring: Box<[TraceRecord]>,
    count: u64,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { ring: vec![TraceRecord::default(); KEPT].into_boxed_slice(), count: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, record: TraceRecord) {
        let at = position(self.count);
        self.ring[at] = record;
        self.count += 1;
    }

    /// How many records were ever written.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The records from number `first` on, oldest first; those that were overwritten are left out.
    pub(crate) fn since(&self, first: u64) -> impl Iterator<Item = TraceRecord> + '_ {
        let oldest = self.count.saturating_sub(KEPT as u64);
        (first.max(oldest)..self.count).map(|number| self.ring[position(number)])
    }
}

#[inline]
fn position(number: u64) -> usize {
    // Below KEPT.
    usize::try_from(number % KEPT as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_records_are_kept_in_order() {
        let mut trace = Trace::new();
        for subject in 0..KEPT as u64 + 10 {
            trace.push(TraceRecord { subject, ..TraceRecord::default() });
        }
        let kept: Vec<_> = trace.since(0).map(|record| record.subject).collect();
        assert_eq!(kept, (10..KEPT as u64 + 10).collect::<Vec<_>>());
        assert_eq!(trace.since(KEPT as u64 + 8).count(), 2);
        assert_eq!(trace.since(trace.count()).count(), 0);
    }
}
