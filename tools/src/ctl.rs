//! `nvmf-ctl`: commands for people, over a target's JSON-RPC socket.
//!
//! Each noun has a file: its commands as clap reads them, and what each asks the target for. A command comes to an [`Answer`], which is shown as the target gave it (`--json`) or
//! as a table, or to a [`Trouble`], which is the exit status. Nothing here decides anything that the target could: names and values go to it as they were written, and its refusals
//! come back in its own words.

mod access;
mod controller;
mod device;
mod doctor;
mod key;
mod listener;
mod namespace;
mod subsystem;
mod target;
mod top;
mod trace;

pub mod answer;
mod client;
mod config;
mod trouble;
mod words;

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use serde_json::Value;

pub use answer::Answer;
pub use client::{Client, SOCKET_VARIABLE, places};
pub use trouble::Trouble;

/// Looks at and changes a running nvmf-tgt, over its JSON-RPC socket.
///
/// The socket is that of --socket, else of $QUIESCE_RPC_SOCKET, else the first nvmf-tgt.sock in $QUIESCE_RUNTIME_DIR, /run/quiesce, $XDG_RUNTIME_DIR/quiesce or this directory.
///
/// Exit status: 0 done; 1 the target refused; 2 wrong usage; 3 no target at the socket.
#[derive(Debug, Parser)]
#[command(name = "nvmf-ctl", version, propagate_version = false, max_term_width = 120)]
pub struct Arguments {
    /// The target's socket: rpc.socket of its configuration.
    #[arg(short, long, global = true, value_name = "PATH", env = SOCKET_VARIABLE, hide_env_values = true)]
    socket: Option<PathBuf>,

    /// Prints the target's result as JSON, unchanged. A list over all subsystems is an object by NQN.
    #[arg(short, long, global = true)]
    json: bool,

    /// How long to wait for an answer, in seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The target as a whole: version, CPUs, transport, poll mode.
    #[command(subcommand)]
    Target(target::Command),
    /// Subsystems: what hosts connect to.
    #[command(subcommand)]
    Subsystem(subsystem::Command),
    /// Namespaces: devices as hosts see them.
    #[command(subcommand, visible_alias = "ns")]
    Namespace(namespace::Command),
    /// Addresses that hosts reach subsystems at, and their ANA states.
    #[command(subcommand)]
    Listener(listener::Command),
    /// Who may connect, with which keys, and how much one host may take.
    #[command(subcommand)]
    Host(access::Command),
    /// Controllers: one for each connected host.
    #[command(subcommand)]
    Controller(controller::ControllerCommand),
    /// Queue pairs of controllers.
    #[command(subcommand)]
    Qpair(controller::QpairCommand),
    /// Block devices.
    #[command(subcommand)]
    Device(device::Command),
    /// Which CPUs new queue pairs go to.
    #[command(subcommand)]
    Placement(target::PlacementCommand),
    /// Where else the discovery log sends hosts.
    #[command(subcommand)]
    Referral(listener::ReferralCommand),
    /// Keys of hosts that have to authenticate (DH-HMAC-CHAP).
    #[command(subcommand)]
    Key(key::Command),
    /// All that the target is: written down, and its file read again.
    #[command(subcommand)]
    Config(config::Command),
    /// What the target's log shows.
    #[command(subcommand)]
    Log(target::LogCommand),
    /// What CPUs, namespaces, hosts and queue pairs do now.
    ///
    /// Rates are of the last interval. Latencies are those of the device below a namespace; reads out of a device's own memory take it no time, and have none. Busy is the share of time in
    /// turns that found something to do; a CPU that polls and finds nothing is in POLL%.
    Top(top::Top),
    /// What happened last to queue pairs and controllers, also to those that are gone: why did my host disconnect?
    ///
    /// Each CPU keeps the last thousand steps of connections and controllers, and apart from them the last thousand commands that failed; not each I/O.
    Trace(trace::Trace),
    /// Looks for what on this machine keeps a target from running, or from running well. Needs no target.
    ///
    /// Each finding has why it matters and the command that mends it. Exit status 1: there is a problem (warnings are none).
    Doctor(doctor::Doctor),
    /// Calls a method by its name, and prints its result.
    Rpc {
        /// The method, such as nvmf_get_subsystems; `nvmf-ctl target methods` lists them.
        method: String,
        /// Its parameters: a JSON object. `-` reads it from standard input.
        parameters: Option<String>,
    },
    /// Prints what makes a shell complete these commands.
    ///
    /// bash: nvmf-ctl completions bash > /etc/bash_completion.d/nvmf-ctl; zsh: … > a directory of $fpath, as _nvmf-ctl;
    /// fish: … > ~/.config/fish/completions/nvmf-ctl.fish
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The whole command line, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does what was asked for. What comes of it is printed, and is the exit status.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match arguments.perform() {
        Ok(answer) if answer == Answer::default() => ExitCode::SUCCESS,
        Ok(answer) => {
            let text = if arguments.json { format!("{:#}\n", answer.json) } else { format!("{}\n", answer.text) };
            let printed = print(&text);
            if answer.has_problem { ExitCode::FAILURE } else { printed }
        }
        Err(trouble) => {
            eprintln!("nvmf-ctl: {trouble}");
            trouble.exit_code()
        }
    }
}

/// Who reads may stop when it has seen enough (`nvmf-ctl … | head`).
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvmf-ctl: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn perform(&self) -> Result<Answer, Trouble> {
        match &self.command {
            Command::Target(command) => command.perform(&mut self.client()?),
            Command::Subsystem(command) => command.perform(&mut self.client()?),
            Command::Namespace(command) => command.perform(&mut self.client()?),
            Command::Listener(command) => command.perform(&mut self.client()?),
            Command::Host(command) => command.perform(&mut self.client()?),
            Command::Controller(command) => command.perform(&mut self.client()?),
            Command::Qpair(command) => command.perform(&mut self.client()?),
            Command::Device(command) => command.perform(&mut self.client()?),
            Command::Placement(command) => command.perform(&mut self.client()?),
            Command::Referral(command) => command.perform(&mut self.client()?),
            Command::Key(command) => command.perform(&mut self.client()?),
            Command::Config(command) => command.perform(&mut self.client()?),
            Command::Log(command) => command.perform(&mut self.client()?),
            Command::Top(top) => {
                top.perform(&mut self.client()?, self.json)?;
                Ok(Answer::default())
            }
            Command::Trace(trace) => trace.perform(&mut self.client()?),
            Command::Doctor(doctor) => doctor.perform(self.socket.as_deref()),
            Command::Rpc { method, parameters } => {
                let parameters = read_parameters(parameters.as_deref())?;
                let result = self.client()?.call(method, &parameters)?;
                let text = format!("{result:#}");
                Ok(Answer::new(result, text))
            }
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut command(), "nvmf-ctl", &mut script);
                let script = String::from_utf8_lossy(&script).into_owned();
                Ok(Answer::new(Value::String(script.clone()), script))
            }
        }
    }

    fn client(&self) -> Result<Client, Trouble> {
        Client::connect(self.socket.as_deref(), Duration::from_secs(self.timeout))
    }
}

/// A JSON object, or nothing.
fn read_parameters(text: Option<&str>) -> Result<Value, Trouble> {
    let text = match text {
        None => return Ok(Value::Null),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| {
                Trouble::Usage(format!("the parameters cannot be read from standard input: {error}"))
            })?;
            text
        }
        Some(text) => text.to_owned(),
    };
    let usage = |why: String| {
        Trouble::Usage(format!(
            "the parameters are {text:?}, and should be a JSON object such as '{{\"name\": \"disk\"}}': {why}"
        ))
    };
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(usage("this is something else".to_owned())),
        Err(error) => Err(usage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_shell_gets_completions_of_every_noun() {
        for shell in ["bash", "zsh", "fish"] {
            let arguments = Arguments::try_parse_from(["nvmf-ctl", "completions", shell]).unwrap();
            let script = arguments.perform().unwrap().text;
            for noun in command().get_subcommands() {
                assert!(script.contains(noun.get_name()), "{shell} has no {}", noun.get_name());
            }
        }
    }

    #[test]
    fn parameters_that_are_no_object_are_not_sent() {
        assert_eq!(read_parameters(None), Ok(Value::Null));
        assert_eq!(read_parameters(Some("{\"name\":\"a\"}")), Ok(serde_json::json!({ "name": "a" })));
        for text in ["name=a", "[1]", "{\"name\":}"] {
            let trouble = read_parameters(Some(text)).unwrap_err();
            assert!(matches!(&trouble, Trouble::Usage(why) if why.contains("a JSON object such as")), "{trouble}");
        }
    }
}
