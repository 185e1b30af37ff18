//! What one CPU counts of one device: how many operations of each kind, their bytes, how long they took, and how they failed.
//!
//! | type | what it is |
//! |---|---|
//! | [`Statistics`] | the numbers: one writer, its CPU; anybody may read |
//! | [`Meter`] | the writer: follows each operation from where it is wanted to where it has ended |
//!
//! An operation's time runs from when it was wanted, so it includes waiting for room in the channel. It is told in times of turns: what is submitted and
//! completed in one turn took nothing.

use reactor::{Counter, Durations};

use crate::channel::{Completion, Operation, OperationKind};
use crate::device::DeviceError;
use crate::layer::Passed;

/// What operations are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reads, also straight out of the device's memory.
    Read,
    /// Writes.
    Write,
    /// Deallocations.
    Deallocate,
    /// Write Zeroes.
    WriteZeroes,
    /// Flushes.
    Flush,
    /// Anything else.
    Other,
}

impl Class {
    /// All, each at its place.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Deallocate, Self::WriteZeroes, Self::Flush, Self::Other];

    /// As labels of metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Deallocate => "deallocate",
            Self::WriteZeroes => "write_zeroes",
            Self::Flush => "flush",
            Self::Other => "other",
        }
    }
}

impl From<OperationKind> for Class {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::Read => Self::Read,
            OperationKind::Write { .. } => Self::Write,
            OperationKind::Deallocate => Self::Deallocate,
            OperationKind::WriteZeroes { .. } => Self::WriteZeroes,
            OperationKind::Flush => Self::Flush,
            OperationKind::WriteUncorrectable => Self::Other,
        }
    }
}

/// Of one class.
#[derive(Debug, Default)]
pub struct ClassStatistics {
    /// Operations that have ended, well or not.
    pub operation_count: Counter,
    /// Bytes of those that have ended well.
    pub byte_count: Counter,
    /// Those of them that the device had to do, and that therefore took time.
    pub timed_count: Counter,
    /// How long these took together.
    pub time_sum_ns: Counter,
    /// The shortest. 0 where there was none.
    pub time_min_ns: Counter,
    /// The longest.
    pub time_max_ns: Counter,
}

impl ClassStatistics {
    fn took(&self, time_ns: u64) {
        if self.timed_count.value() == 0 || time_ns < self.time_min_ns.value() {
            self.time_min_ns.set(time_ns);
        }
        if time_ns > self.time_max_ns.value() {
            self.time_max_ns.set(time_ns);
        }
        self.timed_count.add(1);
        self.time_sum_ns.add(time_ns);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Statistics {
    classes: [ClassStatistics; Class::ALL.len()],
    errors: [Counter; DeviceError::ALL.len()],
    /// How long reads took that the device had to do.
    read_times: Durations,
    /// How long writes took.
    write_times: Durations,
    /// How long everything else took.
    other_times: Durations,
    /// Gauge: operations that are wanted and have not ended.
    pub outstanding: Counter,
    /// The most that there were at a time.
    pub outstanding_max: Counter,
}

impl Statistics {
    /// Of one class.
    #[must_use]
    pub fn class(&self, class: Class) -> &ClassStatistics {
        &self.classes[class as usize]
    }

    /// Operations that ended in this error.
    #[must_use]
    pub fn error_count(&self, error: DeviceError) -> u64 {
        self.errors[error as usize].value()
    }

    /// The histogram that a class's times are in.
    #[must_use]
    pub fn times(&self, class: Class) -> &Durations {
        match class {
            Class::Read => &self.read_times,
            Class::Write => &self.write_times,
            Class::Deallocate | Class::WriteZeroes | Class::Flush | Class::Other => &self.other_times,
        }
    }
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    token: u64,
    since_ns: u64,
    len: u64,
    class: Class,
}

/// Follows the operations of one CPU, on whatever device, under tokens of its own, so that it finds each again when it ends.
#[derive(Debug, Default)]
pub struct Meter {
    wanted: Passed<Wanted>,
}

impl Meter {
    /// So many operations can be followed at a time without an allocation.
    pub fn reserve(&mut self, operation_count: usize) {
        self.wanted.reserve(operation_count);
    }

    /// An operation on a device with blocks of `block_len` bytes is wanted. It goes on as what comes back.
    #[must_use]
    pub fn begin(&mut self, now_ns: u64, operation: Operation, block_len: u32, statistics: &Statistics) -> Operation {
        let wanted = Wanted {
            token: operation.token,
            since_ns: now_ns,
            len: operation.block_count * u64::from(block_len),
            class: operation.kind.into(),
        };
        let token = self.wanted.insert(wanted);
        statistics.outstanding.add(1);
        if statistics.outstanding.value() > statistics.outstanding_max.value() {
            statistics.outstanding_max.set(statistics.outstanding.value());
        }
        Operation { token, ..operation }
    }

    /// It has ended, as `completion` says of the operation that went on. Told of the one that was wanted. `None` if there was none such, which the log says.
    #[must_use]
    pub fn end(&mut self, now_ns: u64, completion: Completion, statistics: &Statistics) -> Option<Completion> {
        let Wanted { token, since_ns, len, class } = self.wanted.take(completion.token)?;
        statistics.outstanding.sub(1);
        let of_class = statistics.class(class);
        of_class.operation_count.add(1);
        match completion.result {
            Ok(()) => of_class.byte_count.add(len),
            Err(error) => statistics.errors[error as usize].add(1),
        }
        let time_ns = now_ns.saturating_sub(since_ns);
        of_class.took(time_ns);
        statistics.times(class).record(time_ns);
        Some(Completion { token, ..completion })
    }

    /// Under which token an operation goes that is wanted under `token`, to cancel it.
    #[must_use]
    pub fn token_of(&self, token: u64) -> Option<u64> {
        self.wanted.find(|wanted| wanted.token == token)
    }

    /// A read was served out of the device's own memory: it took the device no time.
    pub fn served_in_place(statistics: &Statistics, len: u64) {
        let reads = statistics.class(Class::Read);
        reads.operation_count.add(1);
        reads.byte_count.add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(token: u64, kind: OperationKind, block_count: u64) -> Operation {
        Operation { token, host: 0, kind, start_block: 0, block_count, data: None }
    }

    #[test]
    fn each_ends_under_its_own_token_and_is_counted_where_it_belongs() {
        let statistics = Statistics::default();
        let mut meter = Meter::default();
        meter.reserve(1);
        let write = OperationKind::Write { force_unit_access: false };
        let first = meter.begin(100, operation(u64::MAX, OperationKind::Read, 8), 512, &statistics);
        let second = meter.begin(200, operation(7, write, 1), 512, &statistics);
        assert_eq!((statistics.outstanding.value(), statistics.outstanding_max.value()), (2, 2));
        assert_eq!(meter.token_of(7), Some(second.token));
        let failed = Completion { token: second.token, result: Err(DeviceError::NoSpace) };
        assert_eq!(meter.end(1000, failed, &statistics), Some(Completion { token: 7, ..failed }));
        assert_eq!(meter.token_of(7), None);
        let done = Completion { token: first.token, result: Ok(()) };
        assert_eq!(meter.end(1100, done, &statistics), Some(Completion { token: u64::MAX, ..done }));
        assert_eq!(meter.end(1100, done, &statistics), None, "once");
        Meter::served_in_place(&statistics, 4096);

        let (reads, writes) = (statistics.class(Class::Read), statistics.class(Class::Write));
        assert_eq!((reads.operation_count.value(), reads.byte_count.value()), (2, 8192));
        assert_eq!((writes.operation_count.value(), writes.byte_count.value()), (1, 0));
        assert_eq!((reads.time_sum_ns.value(), writes.time_max_ns.value()), (1000, 800));
        assert_eq!(statistics.error_count(DeviceError::NoSpace), 1);
        assert_eq!(statistics.error_count(DeviceError::ReadFault), 0);
        assert_eq!(statistics.times(Class::Read).buckets().map(|(_, count)| count).sum::<u64>(), 1);
        assert_eq!((statistics.outstanding.value(), statistics.outstanding_max.value()), (0, 2));
    }

    #[test]
    fn classes_and_errors_are_at_their_places() {
        assert!(Class::ALL.iter().enumerate().all(|(place, class)| *class as usize == place));
        assert!(DeviceError::ALL.iter().enumerate().all(|(place, error)| *error as usize == place));
    }
}
