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
                let help = "Messages that found the ring between two CPUs full and waited in their sender's backlog.";
                let pair = [("from", place.label()), ("to", label.clone())];
                samples.push(sample("reactor_ring_full", help, &pair, Value::Counter(count)));
            }
        }
    }
    let domain = reactors.domain();
    for (name, help, value) in [
        ("limbo_entries", "Unlinked objects that wait for their grace period.", Value::Gauge(domain.limbo_len())),
        (
            "limbo_oldest_age_steps",
            "Epoch steps since the oldest of them was unlinked.",
            Value::Gauge(domain.limbo_age_steps()),
        ),
        (
            "reactor_turn_limit_seconds",
            "What holds a CPU longer is reported.",
            Value::GaugeSeconds { ns: reactors.watch().limit_ns() },
        ),
        (
            "reactor_stall_limit_seconds",
            "A CPU that is awake for so long without a turn is reported.",
            Value::GaugeSeconds { ns: reactors.stall_limit_ns() },
        ),
    ] {
        samples.push(sample(name, help, &[], value));
    }
}

fn place_samples(samples: &mut Vec<Sample>, place: &Place, (stall_count, is_stalled): (u64, bool)) {
    let label = place.label();
    let counters = &place.counters;
    let mut add = |name: &str, help: &str, value: Value| {
        samples.push(sample(name, help, &[("cpu", label.clone())], value));
    };
    for (name, help, counter) in [
        ("reactor_turns", "Turns.", &counters.turn_count),
        ("reactor_busy_turns", "Turns that found something to do.", &counters.busy_turn_count),
        ("reactor_sleeps", "Times that the CPU went to sleep.", &counters.sleep_count),
        ("reactor_messages", "Messages received.", &counters.message_count),
        ("reactor_timers", "Timers fired.", &counters.timer_count),
        ("reactor_slow", "Messages, timers and parts of polls that held the CPU too long.", &counters.slow_count),
    ] {
        add(name, help, Value::Counter(counter.value()));
    }
    for (name, help, counter) in [
        ("reactor_busy_seconds", "Time in turns that found something to do.", &counters.busy_ns),
        ("reactor_idle_seconds", "Time in turns that found nothing to do; sleep not counted.", &counters.idle_ns),
        ("reactor_sleep_seconds", "Time asleep, counted when the sleep ends.", &counters.sleep_ns),
    ] {
        add(name, help, Value::CounterSeconds { ns: counter.value() });
    }
    let longest_ns = counters.longest_turn_ns.value();
    add(
        "reactor_longest_turn_seconds",
        "The longest turn so far, sleep not counted.",
        Value::GaugeSeconds { ns: longest_ns },
    );
    // Only turns that found something to do have their lengths recorded.
    let lengths = Histogram::of_turns(&counters.turn_lengths, counters.busy_ns.value());
    add("reactor_turn_seconds", "Lengths of turns that found something to do.", Value::Histogram(lengths));
    add(
        "reactor_limbo_entries",
        "Unlinked objects of this CPU that wait for their grace period.",
        Value::Gauge(counters.limbo_len.value()),
    );
    add("reactor_stalls", "Times that the CPU was found not to turn.", Value::Counter(stall_count));
    add("reactor_stalled", "Whether the CPU does not turn now.", Value::Gauge(u64::from(is_stalled)));
    samples.push(mode_sample(label, place.switch.mode()));
}

fn mode_sample(label: String, mode: PollMode) -> Sample {
    let mut labels = vec![("cpu", label), ("mode", Word::of(mode).name().to_owned())];
    if let Some((spin_us, pause_us)) = times_us(mode) {
        labels.push(("spin_us", spin_us.to_string()));
        labels.push(("pause_us", pause_us.to_string()));
    }
    sample("reactor_poll_mode_info", "What the CPU does when there is nothing to do.", &labels, Value::Gauge(1))
}
