//! All metrics, from `declared.toml`: the only place where they are named. HELP lines and the reference for people are made of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use serde::Deserialize;

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    /// What each label means: Markdown.
    labels: BTreeMap<String, String>,
    /// By name.
    #[serde(rename = "metric")]
    metrics: Vec<Metric>,
}

/// One metric.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metric {
    /// As it is exposed, its unit among it.
    pub(crate) name: String,
    /// Prometheus' type.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// What it is.
    pub(crate) about: String,
    /// The labels that its lines may have, but for `le`.
    #[serde(default)]
    pub(crate) labels: Vec<String>,
}

/// Prometheus' types.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// That it can be read is tested.
static DECLARED: LazyLock<Declared> = LazyLock::new(|| {
    toml::from_str(include_str!("declared.toml")).unwrap_or_else(|error| unreachable!("declared.toml: {error}"))
});

/// The metric of this name.
pub(crate) fn find(name: &str) -> Option<&'static Metric> {
    let metrics = &DECLARED.metrics;
    metrics.binary_search_by(|metric| metric.name.as_str().cmp(name)).ok().and_then(|at| metrics.get(at))
}

/// The reference, for people.
#[must_use]
pub fn to_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Made of `tools/src/metrics/declared.toml`. `[metrics] listen` says where Prometheus fetches them ([CONFIGURATION](CONFIGURATION.md#metrics)); `deploy/` has a dashboard and alert \
         rules. Counters begin at zero with the target. Histograms have fixed bounds in seconds, at most twenty. Names of hosts, controllers and devices are bounded: [LIMITS](LIMITS.md).\n",
    );
    let mut group = "";
    for metric in &DECLARED.metrics {
        let own = metric.group();
        if own != group {
            group = own;
            // A text takes all that is written to it.
            let _ =
                write!(text, "\n## `nvmf_{group}_…`\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n");
        }
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.about);
    }
    text.push_str("\n## Labels\n\n| label | what it is |\n|---|---|\n");
    for (label, about) in &DECLARED.labels {
        let _ = writeln!(text, "| `{label}` | {about} |");
    }
    text
}

impl Metric {
    /// The first word of its name.
    fn group(&self) -> &str {
        self.name.split('_').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let names: Vec<_> = DECLARED.metrics.iter().map(|metric| &metric.name).collect();
        assert!(names.is_sorted_by(|one, two| one < two), "by name, each once");
        for metric in &DECLARED.metrics {
            let Metric { name, kind, about, labels } = metric;
            assert!(name.starts_with("nvmf_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(about.ends_with('.') || about.ends_with('`'), "{name}: a sentence");
            assert!(!about.contains("RDMA transport:"), "{name}: made of its name");
            assert!(labels.iter().all(|label| DECLARED.labels.contains_key(label)), "{name}: {labels:?}");
            assert_eq!(find(name).map(|found| &found.name), Some(name));
        }
        let is_used = |label: &String| DECLARED.metrics.iter().any(|metric| metric.labels.contains(label));
        assert!(DECLARED.labels.keys().all(is_used), "a label that no metric has");
    }

    /// The reference in the repository is what is made of the declarations.
    #[test]
    fn the_reference_of_metrics_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
        let made = to_markdown();
        if std::env::var_os("QUIESCE_UPDATE_DOCS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let is_same = fs::read_to_string(&path).is_ok_and(|written| written == made);
        assert!(
            is_same,
            "docs/METRICS.md is not what declared.toml makes: QUIESCE_UPDATE_DOCS=1 cargo test -p tools metrics"
        );
    }
}
