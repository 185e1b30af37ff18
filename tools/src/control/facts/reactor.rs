//! What reactors count, as samples.

use reactor::{Cpu, PollMode};

use super::sample;
use crate::control::lookout::Lookout;
use crate::metrics::{Histogram, Sample, Value};
use crate::poll_mode::{Word, times_us};
use crate::reactors::{Place, Reactors};

/// A mesh of more reactors shows only the pairs whose ring has been full: their number grows with the square.
const ALL_PAIRS_MAX: usize = 17;

pub(super) fn samples(samples: &mut Vec<Sample>, reactors: &Reactors, lookout: &Lookout) {
    let labels: Vec<String> = reactors.all().map(Place::label).collect();
    for place in reactors.all() {
        place_samples(samples, place, lookout.stalls(place.cpu));
        for (to, label) in (0..).map(Cpu).zip(&labels) {
            let count = place.counters.ring_full_count_to(to);
            if to != place.cpu && (count > 0 || labels.len() <= ALL_PAIRS_MAX) {
                let pair = [("from", place.label()), ("to", label.clone())];
                samples.push(sample("reactor_ring_full", &pair, Value::Counter(count)));
            }
        }
    }
    let domain = reactors.domain();
    for (name, value) in [
        ("limbo_entries", Value::Gauge(domain.limbo_len())),
        ("limbo_oldest_age_steps", Value::Gauge(domain.limbo_age_steps())),
        ("reactor_turn_limit_seconds", Value::GaugeSeconds { ns: reactors.watch().limit_ns() }),
        ("reactor_stall_limit_seconds", Value::GaugeSeconds { ns: reactors.stall_limit_ns() }),
    ] {
        samples.push(sample(name, &[], value));
    }
}

fn place_samples(samples: &mut Vec<Sample>, place: &Place, (stall_count, is_stalled): (u64, bool)) {
    let label = place.label();
    let counters = &place.counters;
    let mut add = |name: &str, value: Value| {
        samples.push(sample(name, &[("cpu", label.clone())], value));
    };
    for (name, counter) in [
        ("reactor_turns", &counters.turn_count),
        ("reactor_busy_turns", &counters.busy_turn_count),
        ("reactor_sleeps", &counters.sleep_count),
        ("reactor_messages", &counters.message_count),
        ("reactor_timers", &counters.timer_count),
        ("reactor_slow", &counters.slow_count),
    ] {
        add(name, Value::Counter(counter.value()));
    }
    for (name, counter) in [
        ("reactor_busy_seconds", &counters.busy_ns),
        ("reactor_idle_seconds", &counters.idle_ns),
        ("reactor_sleep_seconds", &counters.sleep_ns),
    ] {
        add(name, Value::CounterSeconds { ns: counter.value() });
    }
    add("reactor_longest_turn_seconds", Value::GaugeSeconds { ns: counters.longest_turn_ns.value() });
    // Only turns that found something to do have their lengths recorded.
    let lengths = Histogram::of_turns(&counters.turn_lengths, counters.busy_ns.value());
    add("reactor_turn_seconds", Value::Histogram(lengths));
    add("reactor_limbo_entries", Value::Gauge(counters.limbo_len.value()));
    add("reactor_stalls", Value::Counter(stall_count));
    add("reactor_stalled", Value::Gauge(u64::from(is_stalled)));
    samples.push(mode_sample(label, place.switch.mode()));
}

fn mode_sample(label: String, mode: PollMode) -> Sample {
    let mut labels = vec![("cpu", label), ("mode", Word::of(mode).name().to_owned())];
    if let Some((spin_us, pause_us)) = times_us(mode) {
        labels.push(("spin_us", spin_us.to_string()));
        labels.push(("pause_us", pause_us.to_string()));
    }
    sample("reactor_poll_mode_info", &labels, Value::Gauge(1))
}
