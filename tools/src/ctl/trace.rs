//! `nvmf-ctl trace`: what happened last to queue pairs and controllers.

use serde_json::{Value, json};

use super::answer::{Answer, cell, items, number, table};
use super::client::Client;
use super::trouble::Trouble;
use super::words::said;

/// Which events are wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Trace {
    /// Of the controller with this id, and its queue pairs.
    #[arg(long, value_name = "ID")]
    cntlid: Option<u16>,
    /// Of queue pairs with this queue id.
    #[arg(long, value_name = "ID")]
    qid: Option<u16>,
    /// Of this host, by its NQN.
    #[arg(long, value_name = "NQN")]
    host: Option<String>,
    /// So many, the last.
    #[arg(short = 'n', long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    last: u32,
}

impl Trace {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let question = json!({ "cntlid": self.cntlid, "qid": self.qid, "hostnqn": self.host, "last": self.last });
        let result = client.call("trace_get_events", &said(question))?;
        // The same clock.
        let now_ns = number(&client.call("bdev_get_iostat", &Value::Null)?["ticks"]);
        let text = show(&result, now_ns);
        Ok(Answer::new(result, text))
    }
}

fn show(events: &Value, now_ns: u64) -> String {
    let rows = items(events).iter().map(|event| {
        let ago_ns = now_ns.saturating_sub(number(&event["at_ns"]));
        vec![
            format!("-{}.{:06}", ago_ns / 1_000_000_000, ago_ns / 1000 % 1_000_000),
            cell(&event["cpu"]),
            cell(&event["cntlid"]),
            cell(&event["qid"]),
            cell(&event["event"]),
            cell(&event["hostnqn"]),
        ]
    });
    let none = "nothing of that kind is known any more, or ever happened";
    table(&[">SECONDS", ">CPU", ">CNTLID", ">QID", "EVENT", "HOST"], rows.collect(), none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_by_how_long_ago_they_were() {
        let events =
            json!([{ "at_ns": 1_500_000_000, "cpu": "control", "cntlid": 1, "event": "connection 9.3: live" }]);
        assert_eq!(
            show(&events, 2_500_001_000),
            "  SECONDS      CPU  CNTLID  QID  EVENT                 HOST\n-1.000001  control       1    -  connection 9.3: live  -"
        );
    }
}
