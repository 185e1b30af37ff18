//! `nvmf-ctl target …`, `placement …` and `log …`: the target as a whole.

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, bytes, cell, count, facts, items, number, table, time};
use super::client::Client;
use super::trouble::Trouble;
use super::words::said;
use crate::poll_mode::Word;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Version, process, CPUs, transport.
    Info,
    /// Polling CPUs since the start: what they did, how long their turns took.
    Reactors,
    /// Limits of the transport.
    Transport,
    /// What a CPU does when there is nothing to do: shows it, or switches it.
    PollMode {
        /// The mode.
        #[arg(value_parser = modes())]
        mode: Option<String>,
        /// Of this CPU only.
        #[arg(long, requires = "mode", value_name = "NUMBER")]
        cpu: Option<u32>,
        /// adaptive: how long it polls without pause first.
        #[arg(long, requires = "mode", value_name = "MICROSECONDS")]
        spin_us: Option<u64>,
        /// adaptive: how long it then polls with pauses before it sleeps.
        #[arg(long, requires = "mode", value_name = "MICROSECONDS")]
        pause_us: Option<u64>,
    },
    /// What holds a CPU so long that the log tells of it: shows the limits, or changes what is given.
    TurnLimits {
        /// Of one message, timer or part of a poll.
        #[arg(long, value_name = "MICROSECONDS")]
        turn_limit_us: Option<u64>,
        /// Of a CPU that is awake and does not turn.
        #[arg(long, value_name = "MILLISECONDS")]
        stall_limit_ms: Option<u64>,
    },
    /// All methods of the socket, for `nvmf-ctl rpc`.
    Methods,
}

fn modes() -> clap::builder::PossibleValuesParser {
    Word::ALL.map(Word::name).into()
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::Info => info(client),
            Self::Reactors => {
                let result = client.call("framework_get_reactors", &Value::Null)?;
                let text = reactors(&result);
                Ok(Answer::new(result, text))
            }
            Self::Transport => {
                let result = client.call("nvmf_get_transports", &Value::Null)?;
                let text = items(&result).iter().map(transport).collect::<Vec<_>>().join("\n\n");
                Ok(Answer::new(result, text))
            }
            Self::PollMode { mode: None, .. } => {
                let result = client.call("framework_get_reactors", &Value::Null)?;
                let text = poll_modes(&result);
                Ok(Answer::new(result, text))
            }
            Self::PollMode { mode, cpu, spin_us, pause_us } => {
                let parameters = json!({ "mode": mode, "lcore": cpu, "spin_us": spin_us, "pause_us": pause_us });
                let result = client.call("framework_set_poll_mode", &said(parameters))?;
                let text = poll_modes(&client.call("framework_get_reactors", &Value::Null)?);
                Ok(Answer::new(result, text))
            }
            Self::TurnLimits { turn_limit_us, stall_limit_ms } => {
                let parameters = json!({ "turn_limit_us": turn_limit_us, "stall_limit_ms": stall_limit_ms });
                let result = client.call("framework_monitor_turns", &said(parameters))?;
                let text = facts(vec![
                    ("one turn's part", format!("{} µs", cell(&result["turn_limit_us"]))),
                    ("no turn", format!("{} ms", cell(&result["stall_limit_ms"]))),
                ]);
                Ok(Answer::new(result, text))
            }
            Self::Methods => {
                let result = client.call("rpc_get_methods", &Value::Null)?;
                let text = items(&result).iter().map(cell).collect::<Vec<_>>().join("\n");
                Ok(Answer::new(result, text))
            }
        }
    }
}

/// Three methods in one: as an object by their names.
fn info(client: &mut Client) -> Result<Answer, Trouble> {
    let mut ask = |method| client.call(method, &Value::Null);
    let version = ask("spdk_get_version")?;
    let framework = ask("framework_get_reactors")?;
    let transports = ask("nvmf_get_transports")?;
    let subsystems = ask("nvmf_get_subsystems")?;
    let devices = ask("bdev_get_bdevs")?;
    let cpus: Vec<String> = items(&framework["reactors"]).iter().map(|reactor| cell(&reactor["lcore"])).collect();
    let modes: Vec<String> = items(&framework["reactors"]).iter().map(mode).collect();
    let namespaces: usize = items(&subsystems).iter().map(|subsystem| items(&subsystem["namespaces"]).len()).sum();
    let text = facts(vec![
        ("version", cell(&version["version"])),
        ("process", cell(&framework["pid"])),
        ("polling CPUs", cpus.join(", ")),
        ("poll mode", same(&modes)),
        ("transport", items(&transports).iter().map(|one| cell(&one["trtype"])).collect::<Vec<_>>().join(", ")),
        ("devices", items(&devices).len().to_string()),
        ("subsystems", items(&subsystems).len().to_string()),
        ("namespaces", namespaces.to_string()),
    ]);
    let json = json!({
        "spdk_get_version": version,
        "framework_get_reactors": framework,
        "nvmf_get_transports": transports,
    });
    Ok(Answer::new(json, text))
}

/// One word where all have the same.
fn same(words: &[String]) -> String {
    match words {
        [first, rest @ ..] if rest.iter().all(|word| word == first) => first.clone(),
        words => words.join(", "),
    }
}

fn mode(reactor: &Value) -> String {
    cell(&reactor["poll_mode"]["mode"])
}

fn poll_modes(result: &Value) -> String {
    let rows = items(&result["reactors"]).iter().map(|reactor| {
        let times = &reactor["poll_mode"];
        vec![
            cell(&reactor["lcore"]),
            cell(&reactor["pinned"]),
            mode(reactor),
            cell(&times["spin_us"]),
            cell(&times["pause_us"]),
        ]
    });
    table(&[">CPU", "PINNED", "MODE", ">SPIN µs", ">PAUSE µs"], rows.collect(), "no CPU polls")
}

fn reactors(result: &Value) -> String {
    let rows = items(&result["reactors"]).iter().map(|reactor| {
        let of = |field: &str| number(&reactor[field]);
        let all = (of("busy") + of("idle") + of("sleep")).max(1);
        let share = |field: &str| {
            format!("{}.{} %", of(field) / all.div_ceil(100).max(1), of(field) / all.div_ceil(1000).max(1) % 10)
        };
        let turn = &reactor["turn_ns"];
        vec![
            cell(&reactor["lcore"]),
            mode(reactor),
            cell(&reactor["activity"]),
            share("busy"),
            share("sleep"),
            count(of("busy_turns")),
            time(number(&turn["p50"])),
            time(number(&turn["p99"])),
            time(number(&turn["max"])),
            count(of("messages")),
            count(of("slow")),
        ]
    });
    let headings = [
        ">CPU",
        "MODE",
        "DOES",
        ">BUSY",
        ">ASLEEP",
        ">BUSY TURNS",
        ">TURN p50",
        ">TURN p99",
        ">LONGEST",
        ">MESSAGES",
        ">SLOW",
    ];
    table(&headings, rows.collect(), "no CPU polls")
}

fn transport(transport: &Value) -> String {
    let of = |field: &str| cell(&transport[field]);
    facts(vec![
        ("transport", of("trtype")),
        ("I/O queue entries", of("max_queue_depth")),
        ("admin queue entries", of("max_aq_depth")),
        ("I/O queues of a controller", of("max_io_qpairs_per_ctrlr")),
        ("data in a capsule", bytes(number(&transport["in_capsule_data_size"]))),
        ("data of a command", bytes(number(&transport["max_io_size"]))),
        ("shared receives", of("max_srq_depth")),
    ])
}

#[derive(Debug, Subcommand)]
pub(super) enum PlacementCommand {
    /// Lists the rules; the first that fits a connection decides.
    List,
    /// Replaces all rules; none is given: every CPU is for everybody.
    Set {
        /// WHO=CPUS: listener:IP:PORT=0,1 or host:IP=2 or any=3.
        #[arg(value_parser = rule)]
        rules: Vec<Value>,
    },
}

/// A rule as the target has it.
fn rule(text: &str) -> Result<Value, String> {
    let wrong = || "not WHO=CPUS, such as listener:10.0.0.1:4420=0,1 or host:10.0.0.7=2 or any=3".to_owned();
    let (who, cpus) = text.rsplit_once('=').ok_or_else(wrong)?;
    let cpus: Vec<u64> = cpus.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    match who.split_once(':') {
        Some(("listener", address)) => Ok(json!({ "listener": address, "cpus": cpus })),
        Some(("host", address)) => Ok(json!({ "host": address, "cpus": cpus })),
        None if who == "any" => Ok(json!({ "cpus": cpus })),
        Some(_) | None => Err(wrong()),
    }
}

impl PlacementCommand {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List => {
                let result = client.call("nvmf_get_placement", &Value::Null)?;
                let text = rules(&result);
                Ok(Answer::new(result, text))
            }
            Self::Set { rules: asked } => {
                let result = client.call("nvmf_set_placement", &json!({ "rules": asked }))?;
                let text = rules(&client.call("nvmf_get_placement", &Value::Null)?);
                Ok(Answer::new(result, text))
            }
        }
    }
}

fn rules(result: &Value) -> String {
    let rows = items(result).iter().map(|rule| {
        let who = match (&rule["listener"], &rule["host"]) {
            (Value::Null, Value::Null) => "any".to_owned(),
            (Value::Null, host) => cell(host),
            (listener, _) => cell(listener),
        };
        vec![cell(&rule["policy"]), who, cell(&rule["cpus"])]
    });
    table(&["POLICY", "WHO", "CPUS"], rows.collect(), "no rules: every CPU is for everybody")
}

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Shows what the log shows, or changes it.
    Level {
        /// error, warn, info, debug, trace, or a filter such as info,bdev=debug.
        level: Option<String>,
    },
}

impl LogCommand {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let Self::Level { level } = self;
        let result = match level {
            None => client.call("log_get_level", &Value::Null)?,
            Some(level) => client.call("log_set_level", &json!({ "level": level }))?,
        };
        let text = level.as_ref().map_or_else(|| cell(&result), |level| format!("the log shows {level}"));
        Ok(Answer::new(result, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        for (text, value) in [
            ("any=3", json!({ "cpus": [3] })),
            ("host:fd00::7=0,1", json!({ "host": "fd00::7", "cpus": [0, 1] })),
            ("listener:[::1]:4420=2", json!({ "listener": "[::1]:4420", "cpus": [2] })),
        ] {
            assert_eq!(rule(text), Ok(value));
        }
        for text in ["", "any", "host=1", "any=", "any=a", "disk:1=1"] {
            assert!(rule(text).unwrap_err().contains("WHO=CPUS"), "{text}");
        }
    }

    #[test]
    fn reactors_have_shares_of_their_time() {
        let result = json!({ "reactors": [{
            "lcore": 2, "poll_mode": { "mode": "adaptive", "spin_us": 100, "pause_us": 900 }, "pinned": true, "activity": "polls",
            "busy": 125_000, "idle": 375_000, "sleep": 500_000, "busy_turns": 1500, "turn_ns": { "p50": 800, "p99": 9000, "max": 2_000_000 },
            "messages": 7, "slow": 0,
        }] });
        assert_eq!(
            reactors(&result),
            "CPU  MODE      DOES     BUSY  ASLEEP  BUSY TURNS  TURN p50  TURN p99  LONGEST  MESSAGES  SLOW\n\
             \x20 2  adaptive  polls  12.5 %  50.0 %       1.5 k    800 ns      9 µs     2 ms         7     0"
        );
        assert_eq!(
            poll_modes(&result),
            "CPU  PINNED  MODE      SPIN µs  PAUSE µs\n  2  yes     adaptive      100       900"
        );
    }
}
