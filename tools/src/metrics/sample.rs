//! What is shown: a number, or a histogram, with its name.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use reactor::Durations;

use super::declared::{self, Kind};

/// One number, or one histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name, without the prefix `nvmf_` and, for counters, without `_total`.
    pub name: String,
    /// What it is.
    pub help: Cow<'static, str>,
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// As it is now.
    pub value: Value,
}

/// What kind of number it is, and the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Only grows.
    Counter(u64),
    /// Time that only grows; shown in seconds, and named so.
    CounterSeconds {
        /// The time.
        ns: u64,
    },
    /// Goes up and down.
    Gauge(u64),
    /// Time that goes up and down; shown in seconds, and named so.
    GaugeSeconds {
        /// The time.
        ns: u64,
    },
    /// Lengths of time.
    Histogram(Histogram),
}

/// How many things took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Longest time of each bucket, ascending, and how many are in it and not in the ones before.
    pub buckets: Vec<(u64, u64)>,
    /// How many took longer than the last bucket's longest time.
    pub beyond: u64,
    /// All of them together.
    pub sum_ns: u64,
}

impl Sample {
    /// A number of a metric that `declared.toml` has, which also says what it is.
    #[must_use]
    pub fn new(name: &str, labels: Vec<(&'static str, String)>, value: Value) -> Self {
        let mut sample = Self { name: name.to_owned(), help: Cow::Borrowed("Not described."), labels, value };
        let metric = declared::find(&sample.full_name());
        debug_assert!(
            metric.is_some_and(|metric| metric.kind == sample.value.kind()
                && sample.labels.iter().all(|(label, _)| metric.labels.iter().any(|known| known == label))),
            "{sample:?} is not what declared.toml says: {metric:?}"
        );
        if let Some(metric) = metric {
            sample.help = Cow::Borrowed(&metric.about);
        }
        sample
    }

    /// The whole name.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.value {
            Value::Counter(_) | Value::CounterSeconds { .. } => format!("nvmf_{}_total", self.name),
            Value::Gauge(_) | Value::GaugeSeconds { .. } | Value::Histogram(_) => format!("nvmf_{}", self.name),
        }
    }
}

impl Value {
    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) | Self::CounterSeconds { .. } => Kind::Counter,
            Self::Gauge(_) | Self::GaugeSeconds { .. } => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

impl Histogram {
    /// The buckets of turns end before these powers of two (ns): 64 ns to a second, the long ones coarser. They are always the same, as Prometheus needs them, and at most
    /// twenty, as they are multiplied by CPUs, devices and classes.
    const TURN_EXPONENTS: RangeInclusive<u32> = 6..=20;
    const LONG_TURN_EXPONENTS: RangeInclusive<u32> = 22..=30;

    /// Those of teardowns: 16 µs to 9 seconds, which is beyond every deadline.
    const TEARDOWN_EXPONENTS: RangeInclusive<u32> = 14..=33;

    /// Those of operations: a microsecond to four seconds.
    const OPERATION_EXPONENTS: RangeInclusive<u32> = 10..=24;
    const LONG_OPERATION_EXPONENTS: RangeInclusive<u32> = 26..=32;

    /// Turn lengths, which took `sum_ns` together. Their own buckets are four for each power of two: none is cut.
    #[must_use]
    pub fn of_turns(times: &Durations, sum_ns: u64) -> Self {
        let exponents = Self::TURN_EXPONENTS.chain(Self::LONG_TURN_EXPONENTS.step_by(2));
        Self::from_buckets(exponents.map(|exponent| 1 << exponent), times.buckets(), sum_ns)
    }

    /// Teardown times, which took `sum_ns` together; none of their buckets is cut either.
    #[must_use]
    pub fn of_teardowns(times: &Durations, sum_ns: u64) -> Self {
        Self::from_buckets(Self::TEARDOWN_EXPONENTS.map(|exponent| 1 << exponent), times.buckets(), sum_ns)
    }

    /// Operations of devices, `counted` by their longest times, which took `sum_ns` together: a microsecond to four seconds, the long ones coarser.
    #[must_use]
    pub fn of_operations(counted: impl Iterator<Item = (u64, u64)>, sum_ns: u64) -> Self {
        let exponents = Self::OPERATION_EXPONENTS.chain(Self::LONG_OPERATION_EXPONENTS.step_by(2));
        Self::from_buckets(exponents.map(|exponent| 1 << exponent), counted, sum_ns)
    }

    fn from_buckets(ends: impl Iterator<Item = u64>, counted: impl Iterator<Item = (u64, u64)>, sum_ns: u64) -> Self {
        let mut buckets: Vec<(u64, u64)> = ends.map(|end| (end - 1, 0)).collect();
        let mut beyond = 0;
        for (longest_ns, count) in counted {
            match buckets.iter_mut().find(|(ns, _)| *ns >= longest_ns) {
                Some((_, in_bucket)) => *in_bucket += count,
                None => beyond += count,
            }
        }
        Self { buckets, beyond, sum_ns }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn samples() -> Vec<Sample> {
        let sample = |name: &str, help: &'static str, labels: Vec<(&'static str, String)>, value| Sample {
            name: name.into(),
            help: help.into(),
            labels,
            value,
        };
        let cpu = |cpu: usize| ("cpu", cpu.to_string());
        let commands =
            |at, value| sample("commands", "Commands fetched.", vec![cpu(at), ("kind", "read".into())], value);
        let busy = |at, ns| sample("busy_seconds", "Busy.", vec![cpu(at)], Value::CounterSeconds { ns });
        let turns = Histogram { buckets: vec![(63, 2), (1_000_000, 0)], beyond: 5, sum_ns: 12_000_000_000 };
        vec![
            sample("qpairs", "Qpairs.", Vec::new(), Value::Gauge(3)),
            commands(10, Value::Counter(7)),
            commands(9, Value::Counter(u64::MAX)),
            busy(10, u64::MAX),
            busy(9, 50),
            sample("turn_seconds", "Turns.", vec![cpu(0)], Value::Histogram(turns)),
            sample("longest_seconds", "Longest.", Vec::new(), Value::GaugeSeconds { ns: 1_500_000_000 }),
        ]
    }

    #[test]
    fn buckets_are_summed_up_to_powers_of_two_and_none_is_lost() {
        let counted = [(3, 1), (63, 2), (79, 4), (127, 8), ((1 << 30) - 1, 16), ((5 << 28) - 1, 32), (u64::MAX, 64)];
        let ends = (6..=30).map(|exponent| 1 << exponent);
        let histogram = Histogram::from_buckets(ends, counted.into_iter(), 9);
        assert_eq!(histogram.buckets.len(), 25);
        assert_eq!(histogram.buckets[..3], [(63, 3), (127, 12), (255, 0)]);
        assert_eq!(histogram.buckets.last(), Some(&((1 << 30) - 1, 16)));
        assert_eq!((histogram.beyond, histogram.sum_ns), (96, 9));
    }

    #[test]
    fn there_are_at_most_twenty_and_each_ends_where_one_of_the_counts_ends() {
        let times = Durations::default();
        for time_ns in [1, 16_383, 16_384, 5_000_000_000, (1 << 33) - 1, 1 << 33] {
            times.record(time_ns);
        }
        let histogram = Histogram::of_teardowns(&times, 7);
        assert_eq!(histogram.buckets[..2], [(16_383, 2), (32_767, 1)]);
        assert_eq!(histogram.buckets.last(), Some(&((1 << 33) - 1, 2)));
        assert_eq!((histogram.beyond, histogram.sum_ns), (1, 7));
        let operations = Histogram::of_operations(std::iter::empty(), 0);
        for histogram in [histogram, Histogram::of_turns(&times, 7), operations] {
            assert!(histogram.buckets.len() <= 20, "{}", histogram.buckets.len());
        }
    }
}
