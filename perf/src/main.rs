//! `nvmf-perf`: the host side of an NVMe over Fabrics target: load, latency, verification.
//!
//! | part | what it is |
//! |---|---|
//! | `arguments`, `address`, `cpus`, `identity` | the command line |
//! | `fabric` | RDMA device or software fabric |
//! | `proof` | secrets |
//! | `settings` | what is to be done, checked |
//! | `run` | starts the mesh, watches it, collects |
//! | `connect` | associations that come and go |
//! | `discover` | discovery services that refer to each other |
//! | `workload`: `load`, `verify`, `durability`, `digest`, `identify`, `reservation` | what a polling CPU does |
//! | `plan`, `pattern`, `random` | which blocks, and what is in them |
//! | `outcome`, `report`, `news` | what it came to, and what the controller told meanwhile |
//!
//! Exit status: 0 done and good; 1 an error, a failed command or a mismatch; 2 a wrong command line; 130 interrupted.

mod arguments;
mod run;
mod settings;
mod signal;

mod connect;
mod discover;

mod workload;

mod digest;
mod durability;
mod identify;
mod load;
mod reservation;
mod verify;

mod proof;

mod pattern;
mod plan;
mod random;

mod news;
mod report;

mod address;
mod cpus;
mod fabric;
mod identity;
mod outcome;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use nvmf_core::wire::DISCOVERY_NQN;

use crate::address::TransportAddress;
use crate::arguments::{Arguments, Command};
use crate::report::Report;
use crate::settings::{Job, Settings};

/// What clap ends with too.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let plan = match plan(&arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("nvmf-perf: {error:#}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match perform(&arguments, &plan) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nvmf-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line comes to.
enum Plan {
    Run(RunPlan),
    Connect(Arc<connect::Settings>),
}

struct RunPlan {
    address: TransportAddress,
    cpus: Vec<usize>,
    settings: Arc<Settings>,
}

/// Checks what clap cannot. An error is one of the command line.
fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let address = arguments.common.transport.as_ref();
    let address = address.context("no target: name one with -r 'traddr:ADDRESS trsvcid:PORT subnqn:NQN'")?;
    let cpus = run::choose_cpus(&arguments.common)?;
    if let Some(Command::Connect(connect)) = &arguments.command {
        check_subsystem(address)?;
        let fabric = fabric::choose(arguments.common.provider, address)?;
        let settings = connect::Settings::new(&arguments.common, connect, address.clone(), cpus, fabric);
        return Ok(Plan::Connect(Arc::new(settings.map_err(anyhow::Error::msg)?)));
    }
    let settings = Settings::new(arguments, u16::try_from(cpus.len())?).map_err(anyhow::Error::msg)?;
    let settings = Arc::new(settings);
    let mut address = address.clone();
    if settings.job == Job::Discover {
        address.subsystem_nqn = DISCOVERY_NQN.to_owned();
    } else {
        check_subsystem(&address)?;
    }
    if matches!(settings.job, Job::Discover | Job::Identify) && arguments.common.json.is_some() {
        bail!("--json goes with what is measured, verified, digested or reserved");
    }
    Ok(Plan::Run(RunPlan { address, cpus, settings }))
}

fn check_subsystem(address: &TransportAddress) -> anyhow::Result<()> {
    if address.subsystem_nqn == DISCOVERY_NQN {
        bail!("no subsystem is named: add subnqn:NQN to -r ('nvmf-perf -r … discover' lists what there is)");
    }
    Ok(())
}

fn perform(arguments: &Arguments, plan: &Plan) -> anyhow::Result<ExitCode> {
    signal::install().context("signals cannot be handled")?;
    // Before the run: what was measured is not to be lost for want of a directory.
    let json = arguments.common.json.as_deref().map(JsonOutput::open).transpose()?;
    let RunPlan { address, cpus, settings } = match plan {
        Plan::Run(plan) => plan,
        Plan::Connect(settings) => {
            let finished = connect::perform(settings, !arguments.common.no_progress)?;
            write(&finished.text, &finished.json, json)?;
            return Ok(finished.code);
        }
    };
    warn_of_shared_cpu(cpus);

    let outcomes = match run::run(arguments, address, settings, cpus)? {
        run::Result::Attached(attached) => {
            print(&report::identity(&attached))?;
            return Ok(ExitCode::SUCCESS);
        }
        run::Result::Discovered(found) => {
            print(&report::discovery_log(&found))?;
            if matches!(arguments.command, Some(Command::Discover { follow: true })) {
                return discover::follow(arguments, address, settings, cpus, &found);
            }
            return Ok(ExitCode::SUCCESS);
        }
        run::Result::Reservation(result) => {
            write(&result.to_text(), &result.to_json(), json)?;
            return match result.error() {
                Some(error) => bail!("{error}"),
                None if result.was_stopped => Ok(ExitCode::from(signal::EXIT_INTERRUPTED)),
                None => Ok(ExitCode::SUCCESS),
            };
        }
        run::Result::Outcomes(outcomes) => outcomes,
    };
    if let Some(refused) = outcomes.iter().find_map(|outcome| outcome.refused.as_ref()) {
        bail!("{refused}");
    }
    let report = Report::new(settings, address, cpus, outcomes);
    write(&report.to_text(), &report.to_json(), json)?;
    Ok(match (report.was_stopped(), report.is_good()) {
        (true, _) => ExitCode::from(signal::EXIT_INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) if arguments.load.continue_on_error && matches!(settings.job, Job::Load(_)) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// Where the result goes as JSON.
enum JsonOutput {
    Standard,
    File(std::fs::File, String),
}

impl JsonOutput {
    fn open(path: &str) -> anyhow::Result<Self> {
        if path == "-" {
            return Ok(Self::Standard);
        }
        let file = std::fs::File::create(path).with_context(|| format!("--json: cannot write {path}"))?;
        Ok(Self::File(file, path.to_owned()))
    }
}

fn write(text: &str, json: &str, to: Option<JsonOutput>) -> anyhow::Result<()> {
    let json = format!("{json}\n");
    match to {
        Some(JsonOutput::Standard) => print(&json),
        Some(JsonOutput::File(mut file, path)) => {
            print(text)?;
            file.write_all(json.as_bytes()).with_context(|| format!("--json: cannot write {path}"))
        }
        None => print(text),
    }
}

/// To the standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("the standard output"),
        _ => Ok(()),
    }
}

fn warn_of_shared_cpu(cpus: &[usize]) {
    if let Some((process, cpu)) = cpus::shared_with_target(cpus) {
        eprintln!("nvmf-perf: warning: the target (process {process}) polls on CPU {cpu} too: each gets half of it");
    }
}
