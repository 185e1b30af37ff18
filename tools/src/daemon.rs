//! The command line of `nvmf-tgt`: from arguments to a running target.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use transport_rdma::soft::shared::prepare_runtime_directory;

use crate::config::{Config, ReactorSection};
use crate::spdk_file::SpdkFile;
use crate::target::{self, Signals, Start};
use crate::{log, machine};

/// What the socket is called where no configuration names one.
const SOCKET_NAME: &str = "nvmf-tgt.sock";

/// Serves block devices to NVMe over Fabrics hosts, over RDMA or the software fabric.
///
/// What it serves stands in a configuration file, ours (--config) or SPDK's (--spdk-config), or is asked for by JSON-RPC once it runs: without a file it starts with
/// nothing and listens on nvmf-tgt.sock in its runtime directory (/run/quiesce for root).
///
/// SIGTERM and SIGINT drain and end it (exit status 0); a second one ends it at once (1). SIGHUP has it read its configuration file again and do what has changed. What
/// keeps it from starting is said on standard error (1).
#[derive(Debug, Parser)]
#[command(name = "nvmf-tgt", version)]
pub struct Arguments {
    /// The configuration file (TOML); docs/CONFIGURATION.md describes it, examples/demo.toml is one.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A configuration file of SPDK's (JSON): its calls are performed before the target is ready.
    #[arg(long, alias = "json", value_name = "FILE")]
    spdk_config: Option<PathBuf>,

    /// CPUs that poll, in the place of the configuration's: 0,2,3.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Option<Vec<usize>>,

    /// The socket of JSON-RPC, in the place of the configuration's.
    #[arg(short, long, value_name = "PATH")]
    rpc_socket: Option<PathBuf>,

    /// Where metrics are served, in the place of the configuration's: 127.0.0.1:9420.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,

    /// Only checks the configuration: nothing is opened or started.
    #[arg(long)]
    check: bool,
}

/// Does what the arguments say.
///
/// # Errors
/// What keeps the target from starting, or is wrong with its configuration.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (start, ignored) = start(arguments)?;
    if arguments.check {
        for file in [&arguments.config, &arguments.spdk_config].into_iter().flatten() {
            println!("{}: ok", file.display());
        }
        return Ok(());
    }
    // Before the first thread: threads inherit what is blocked.
    let signals = Signals::block().context("signals")?;
    let log = log::start(&start.config.log);
    if !ignored.is_empty() {
        tracing::info!("of SPDK's file these calls ask for nothing here: {}", ignored.join(", "));
    }
    target::run(start, signals, log)
}

/// And calls of SPDK's file that are left out.
fn start(arguments: &Arguments) -> Result<(Start, Vec<String>)> {
    let cpus_allowed = machine::cpus_allowed();
    let mut config = match &arguments.config {
        Some(file) => Config::load(file, &cpus_allowed)?,
        None => without_file(&cpus_allowed)?,
    };
    if let Some(cpus) = &arguments.cpus {
        let distinct: BTreeSet<&usize> = cpus.iter().collect();
        if let Some(cpu) = cpus.iter().find(|cpu| !cpus_allowed.contains(cpu)) {
            anyhow::bail!("--cpus: {cpu}: this process may use {cpus_allowed:?}");
        }
        anyhow::ensure!(distinct.len() == cpus.len(), "--cpus: each CPU once");
        config.target.reactors = ReactorSection::Pinned(cpus.clone());
    }
    if let Some(socket) = &arguments.rpc_socket {
        config.rpc = Some(socket.clone());
    }
    if arguments.metrics.is_some() {
        config.metrics = arguments.metrics;
    }
    let mut first = Vec::new();
    let (mut listened, mut ignored) = (Vec::new(), Vec::new());
    if let Some(file) = &arguments.spdk_config {
        let file = SpdkFile::load(file)?;
        listened = file.prepare(&mut config);
        (first, ignored) = (file.steps, file.ignored);
    }
    Ok((Start { config, file: arguments.config.clone(), first, listened }, ignored))
}

/// A target that serves nothing yet, and can be told to.
fn without_file(cpus_allowed: &[usize]) -> Result<Config> {
    let directory =
        prepare_runtime_directory(None).context("the runtime directory (QUIESCE_RUNTIME_DIR names another)")?;
    let socket = directory.join(SOCKET_NAME);
    let text = format!("[rpc]\nsocket = {:?}\n", socket.to_string_lossy());
    Ok(Config::parse(Path::new("(no configuration file)"), &text, cpus_allowed)?)
}
