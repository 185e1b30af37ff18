//! Samples as Prometheus text: families by name, their lines by labels.
//!
//! Whole numbers go through the crates `metrics` and `metrics-exporter-prometheus`. Two kinds of number they have no way to be told: a counter that
//! is a fraction (seconds), and a histogram whose buckets were counted elsewhere (theirs wants each observation). Those families are
//! written here.

use std::collections::BTreeMap;
use std::fmt::Write;

use metrics::Label;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::sample::{Histogram, Sample, Value};

/// The text of all samples.
pub(super) fn render(samples: &[Sample]) -> String {
    let mut families = exported(samples);
    families.extend(written(samples));
    families.sort_by(|one, two| family_name(one).cmp(family_name(two)));
    families.join("\n\n") + "\n"
}

/// Whole numbers.
fn exported(samples: &[Sample]) -> Vec<String> {
    // A recorder for each fetch: what is gone leaves nothing behind, and no handle is kept.
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for sample in samples {
            let labels: Vec<Label> =
                sample.labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
            match sample.value {
                Value::Counter(value) => {
                    let name = sample.full_name();
                    metrics::describe_counter!(name.clone(), sample.help.to_string());
                    metrics::counter!(name, labels).absolute(value);
                }
                Value::Gauge(value) => gauge(sample, labels, as_float(value)),
                Value::GaugeSeconds { ns } => gauge(sample, labels, as_float(ns) / 1e9),
                Value::CounterSeconds { .. } | Value::Histogram(_) => {}
            }
        }
    });
    // The exporter gives families and lines in a hash map's order.
    let text = recorder.handle().render();
    text.split("\n\n")
        .filter(|family| !family.trim().is_empty())
        .map(|family| {
            let mut lines: Vec<&str> = family.trim_matches('\n').lines().collect();
            let head = lines.iter().take_while(|line| line.starts_with('#')).count();
            lines[head..].sort_by_key(|line| natural(line));
            lines.join("\n")
        })
        .collect()
}

fn gauge(sample: &Sample, labels: Vec<Label>, value: f64) {
    let name = sample.full_name();
    metrics::describe_gauge!(name.clone(), sample.help.to_string());
    metrics::gauge!(name, labels).set(value);
}

/// Seconds that are counted, and histograms.
fn written(samples: &[Sample]) -> Vec<String> {
    let mut families: BTreeMap<String, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        if matches!(sample.value, Value::CounterSeconds { .. } | Value::Histogram(_)) {
            families.entry(sample.full_name()).or_default().push(sample);
        }
    }
    families.into_iter().map(|(name, samples)| write_family(&name, samples)).collect()
}

fn write_family(name: &str, mut samples: Vec<&Sample>) -> String {
    samples.sort_by_key(|sample| natural(&labels_of(sample, None)));
    let mut text = String::new();
    for (at, sample) in samples.iter().enumerate() {
        match &sample.value {
            Value::Histogram(histogram) => {
                if at == 0 {
                    head(&mut text, name, &sample.help, "histogram");
                }
                write_histogram(&mut text, name, sample, histogram);
            }
            Value::CounterSeconds { ns } => {
                if at == 0 {
                    head(&mut text, name, &sample.help, "counter");
                }
                line(&mut text, name, &labels_of(sample, None), &seconds(*ns));
            }
            // `written` has chosen the two above.
            Value::Counter(_) | Value::Gauge(_) | Value::GaugeSeconds { .. } => {}
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Buckets are cumulative, and the last has everything: Prometheus' text format.
fn write_histogram(text: &mut String, name: &str, sample: &Sample, histogram: &Histogram) {
    let bucket = format!("{name}_bucket");
    let mut count = 0;
    for (longest_ns, in_bucket) in &histogram.buckets {
        count += in_bucket;
        line(text, &bucket, &labels_of(sample, Some(&seconds(*longest_ns))), &count.to_string());
    }
    count += histogram.beyond;
    line(text, &bucket, &labels_of(sample, Some("+Inf")), &count.to_string());
    line(text, &format!("{name}_sum"), &labels_of(sample, None), &seconds(histogram.sum_ns));
    line(text, &format!("{name}_count"), &labels_of(sample, None), &count.to_string());
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    let _ = writeln!(text, "{name}{labels} {value}");
}

fn labels_of(sample: &Sample, le: Option<&str>) -> String {
    let own = sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    let all: Vec<String> = own.chain(le.map(|le| format!("le=\"{le}\""))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Exact, and as short as it can be.
fn seconds(ns: u64) -> String {
    let (whole, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus' numbers are floating point")]
fn as_float(value: u64) -> f64 {
    value as f64
}

fn family_name(family: &str) -> &str {
    family.lines().next().and_then(|line| line.split(' ').nth(2)).unwrap_or(family)
}

/// Text with its numbers widened, so that CPU 10 comes after CPU 9.
fn natural(text: &str) -> String {
    let mut widened = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            if !digits.is_empty() {
                widened.push_str(&format!("{digits:0>20}"));
                digits.clear();
            }
            widened.push(c);
        }
    }
    widened
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::samples;
    use super::*;

    #[test]
    fn families_and_lines_have_help_type_and_a_fixed_order() {
        let expected = "\
# HELP nvmf_busy_seconds_total Busy.
# TYPE nvmf_busy_seconds_total counter
nvmf_busy_seconds_total{cpu=\"9\"} 0.00000005
nvmf_busy_seconds_total{cpu=\"10\"} 18446744073.709551615

# HELP nvmf_commands_total Commands fetched.
# TYPE nvmf_commands_total counter
nvmf_commands_total{cpu=\"9\",kind=\"read\"} 18446744073709551615
nvmf_commands_total{cpu=\"10\",kind=\"read\"} 7

# HELP nvmf_longest_seconds Longest.
# TYPE nvmf_longest_seconds gauge
nvmf_longest_seconds 1.5

# HELP nvmf_qpairs Qpairs.
# TYPE nvmf_qpairs gauge
nvmf_qpairs 3

# HELP nvmf_turn_seconds Turns.
# TYPE nvmf_turn_seconds histogram
nvmf_turn_seconds_bucket{cpu=\"0\",le=\"0.000000063\"} 2
nvmf_turn_seconds_bucket{cpu=\"0\",le=\"0.001\"} 2
nvmf_turn_seconds_bucket{cpu=\"0\",le=\"+Inf\"} 7
nvmf_turn_seconds_sum{cpu=\"0\"} 12
nvmf_turn_seconds_count{cpu=\"0\"} 7
";
        for _ in 0..20 {
            assert_eq!(render(&samples()), expected);
        }
    }

    #[test]
    fn what_a_label_must_not_have_is_escaped() {
        let labels = vec![("name", "a\"b\\c\nd".to_owned())];
        let sample = Sample { name: "x".into(), help: "X.".into(), labels, value: Value::CounterSeconds { ns: 0 } };
        assert!(render(&[sample]).ends_with("\nnvmf_x_total{name=\"a\\\"b\\\\c\\nd\"} 0\n"));
    }
}
