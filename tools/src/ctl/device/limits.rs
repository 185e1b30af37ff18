//! `nvmf-ctl device limits`: what a device's users may do in a second.

use serde_json::{Value, json};

use super::super::answer::{Answer, facts, number};
use super::super::client::Client;
use super::super::trouble::Trouble;
use super::super::words::{mebibytes, said};

/// Those that are given are changed; with none they are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Limits {
    /// The device.
    name: String,
    /// Reads and writes together.
    #[arg(long, value_name = "PER SECOND")]
    iops: Option<u64>,
    /// Reads.
    #[arg(long, value_name = "PER SECOND")]
    read_iops: Option<u64>,
    /// Writes.
    #[arg(long, value_name = "PER SECOND")]
    write_iops: Option<u64>,
    /// Bytes read and written, such as 100MiB.
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    bandwidth: Option<u64>,
    /// Bytes read.
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    read_bandwidth: Option<u64>,
    /// Bytes written.
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    write_bandwidth: Option<u64>,
    /// The limits are each host's, not all hosts' together.
    #[arg(long)]
    each_host: bool,
    /// What was left unused for so long can be made up for at once.
    #[arg(long, value_name = "MILLISECONDS")]
    burst_ms: Option<u32>,
}

/// The limits as the target names them, and as people do.
const NAMES: [(&str, &str, bool); 6] = [
    ("rw_ios_per_sec", "operations", false),
    ("r_ios_per_sec", "reads", false),
    ("w_ios_per_sec", "writes", false),
    ("rw_mbytes_per_sec", "bandwidth", true),
    ("r_mbytes_per_sec", "read bandwidth", true),
    ("w_mbytes_per_sec", "write bandwidth", true),
];

impl Limits {
    pub(crate) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let given =
            [self.iops, self.read_iops, self.write_iops, self.bandwidth, self.read_bandwidth, self.write_bandwidth];
        let describe = |client: &mut Client| client.call("bdev_get_bdevs", &json!({ "name": self.name }));
        if given.iter().all(Option::is_none) && self.burst_ms.is_none() {
            if self.each_host {
                return Err(Trouble::Usage(
                    "--each-host says whose limits are changed, and none is given: add --iops or another".into(),
                ));
            }
            let limits = describe(client)?[0]["assigned_rate_limits"].take();
            let text = show(&limits);
            return Ok(Answer::new(limits, text));
        }
        let whose = if self.each_host { "host_" } else { "" };
        let mut parameters = json!({ "name": self.name, "burst_ms": self.burst_ms });
        for ((field, _, _), limit) in NAMES.iter().zip(given) {
            parameters[format!("{whose}{field}")] = json!(limit);
        }
        let result = client.call("bdev_set_qos_limit", &said(parameters))?;
        let text = show(&describe(client)?[0]["assigned_rate_limits"]);
        Ok(Answer::new(result, text))
    }
}

fn show(limits: &Value) -> String {
    let rows = NAMES.iter().map(|(field, name, is_size)| {
        let limit = |value: &Value| match number(value) {
            0 => "no limit".to_owned(),
            limit if *is_size => format!("{limit} MiB/s"),
            limit => format!("{limit}/s"),
        };
        let host = &limits[format!("host_{field}")];
        (*name, format!("{} for all, {} for each host", limit(&limits[*field]), limit(host)))
    });
    facts(rows.collect())
}

/// In one line: those that there are.
pub(crate) fn words(limits: &Value) -> String {
    let of = |whose: &str, note: &str| -> Vec<String> {
        let given =
            NAMES.iter().filter_map(|(field, name, is_size)| match number(&limits[format!("{whose}{field}")]) {
                0 => None,
                limit => Some(format!("{name} {limit}{}/s{note}", if *is_size { " MiB" } else { "" })),
            });
        given.collect()
    };
    let mut all = of("", "");
    all.extend(of("host_", " for each host"));
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_full_and_in_short() {
        let limits = json!({ "rw_ios_per_sec": 1000, "rw_mbytes_per_sec": 0, "host_r_mbytes_per_sec": 5 });
        assert_eq!(words(&limits), "operations 1000/s, read bandwidth 5 MiB/s for each host");
        assert!(
            show(&limits).starts_with("operations:       1000/s for all, no limit for each host\n"),
            "{}",
            show(&limits)
        );
        assert_eq!(words(&json!({})), "none");
    }
}
