//! The command line: names and meanings that users of `spdk_nvme_perf` and fio know.

mod connect;
mod reservation;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nvmf_core::limits::CONTROLLER_ID_MAX;
use nvmf_core::wire::{ANY_STATIC_CONTROLLER_ID, DYNAMIC_CONTROLLER_ID};

use crate::address::TransportAddress;
use crate::cpus;
use crate::identity;
use crate::proof::Proof;

pub(crate) use connect::{Connect, End};
pub(crate) use reservation::Reservation;
#[cfg(test)]
pub(crate) use reservation::Rotate;

/// Loads, measures and verifies an NVMe over Fabrics target.
#[derive(Debug, Parser)]
#[command(name = "nvmf-perf", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  nvmf-perf -r 'trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:NQN' -q 32 -o 4k -w randread -t 10 -c 1
  nvmf-perf -r '…' --nsid 1 -q 32 -o 4k -w randwrite -n 16384 --verify
  nvmf-perf -r '…' digest --nsid 3
  nvmf-perf -r '…' --io-depth 16 durability --log /elsewhere/log --round 1
  nvmf-perf -r '…' connect -P 4 -j 2 -n 1000 --end mixed
  nvmf-perf -r '…' --nsid 1 --host-nqn NQN reservation register --new-key 7 --persist true
  nvmf-perf -r '…' --nsid 1 --host-nqn NQN reservation acquire --key 7 --type write-exclusive
  nvmf-perf -r '…' --nsid 1 reservation report
  nvmf-perf -r 'traddr:127.0.0.1 trsvcid:4420' discover";

/// What is done instead of a load.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Connects and disconnects whole associations, over and over, and measures how long that takes.
    Connect(Connect),
    /// Reads a namespace whole, in order, and prints its SHA-256.
    Digest,
    /// For power cuts: checks that all is there that a log names as durable, then writes with flushes and FUA, logging what is durable, until it is
    /// stopped or the power is. The namespaces are overwritten; they are zeroes at first.
    Durability {
        /// Where it is logged: where the cut does not reach
        #[arg(long, value_name = "FILE")]
        log: PathBuf,
        /// Counts the rounds, from 1
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        round: u32,
        /// Writes nothing
        #[arg(long)]
        check_only: bool,
    },
    /// Prints the discovery log: the subsystems that the target offers at this address.
    Discover {
        /// Asks the discovery services that it refers to as well
        #[arg(long)]
        follow: bool,
    },
    /// Prints the controller and its namespaces.
    Identify,
    /// Registers, acquires, releases and reports reservations of one namespace, which go by --host-id or --host-nqn.
    Reservation {
        /// What is done
        #[command(subcommand)]
        action: Reservation,
    },
}

/// What every job needs.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the target is: 'trtype:RDMA adrfam:IPv4 traddr:ADDRESS trsvcid:PORT subnqn:NQN', and hostaddr:ADDRESS where the RDMA device is not the route's choice
    #[arg(short = 'r', long = "transport", global = true, value_name = "ADDRESS")]
    pub(crate) transport: Option<TransportAddress>,
    /// Which RDMA to use: a device (ibv), the software fabric between processes of this machine (soft), or a device if one reaches the target (auto)
    #[arg(long, global = true, value_enum, default_value_t = ProviderName::Auto)]
    pub(crate) provider: ProviderName,
    /// CPUs to poll on: a list (1 or 0,2-3) or a mask (0x6) [default: the last that is allowed]
    #[arg(short = 'c', long, global = true, value_name = "CPUS", value_parser = parse_cpus)]
    pub(crate) cpus: Option<Cpus>,
    /// Namespaces, also several [default: all]
    #[arg(long, global = true, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) nsid: Vec<u32>,
    /// Host NQN [default: one derived from the process id]
    #[arg(long, global = true, value_name = "NQN")]
    pub(crate) host_nqn: Option<String>,
    /// Host identifier, which reservations go by [default: the UUID in --host-nqn, or one derived from it]
    #[arg(long, global = true, value_name = "UUID", value_parser = parse_host_id)]
    pub(crate) host_id: Option<HostId>,
    #[command(flatten)]
    pub(crate) proof: Proof,
    /// Which controller to ask for: a static one by its id, or "any" of them, or a "new" one that is made
    #[arg(long, global = true, value_name = "ID", value_parser = parse_controller_id, default_value = "new")]
    pub(crate) controller_id: u16,
    /// Keep-alive timeout in ms; 0: none
    #[arg(long, global = true, value_name = "MS", default_value_t = 10_000)]
    pub(crate) keep_alive: u32,
    /// How long connecting may take, in s
    #[arg(long, global = true, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..3600))]
    pub(crate) connect_timeout: u32,
    /// How long a command may take, in s
    #[arg(long, global = true, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..3600))]
    pub(crate) command_timeout: u32,
    /// Does not show a progress bar (there is none where the standard error output is no terminal)
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Writes the result as JSON to a file, or with - to the standard output instead of the table
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<String>,
}

/// What a load is like.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Commands outstanding on each queue pair
    #[arg(short = 'q', long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1023))]
    pub(crate) io_depth: u16,
    /// Bytes of each I/O: 4096, 4k, 128KiB, 1M
    #[arg(short = 'o', long, default_value = "4k", value_parser = parse_size)]
    pub(crate) io_size: usize,
    /// What the I/Os are
    #[arg(short = 'w', long, value_enum, default_value_t = Pattern::Randread)]
    pub(crate) workload: Pattern,
    /// Reads among the I/Os of rw and randrw [default: 50]
    #[arg(short = 'M', long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) read_percent: Option<u8>,
    /// Seconds to measure [default: 10 where --count is not given]
    #[arg(short = 't', long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) time: Option<f64>,
    /// I/Os to make, of all CPUs together
    #[arg(short = 'n', long, conflicts_with = "time", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Queue pairs of each CPU
    #[arg(short = 'P', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) queue_pairs: u16,
    /// Seconds of load before measuring begins
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse_seconds)]
    pub(crate) warmup: f64,
    /// Writes a pattern, reads it back and compares: -n blocks of I/O, or the whole namespace, or over and over for -t
    #[arg(long)]
    pub(crate) verify: bool,
    /// Sends the data of small writes within the command
    #[arg(long)]
    pub(crate) in_capsule: bool,
    /// Goes on after commands that failed, and counts them
    #[arg(long)]
    pub(crate) continue_on_error: bool,
    /// Decides what is random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Which RDMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderName {
    Auto,
    Soft,
    Ibv,
}

/// fio's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    Read,
    Write,
    Randread,
    Randwrite,
    Rw,
    Randrw,
    /// Write Uncorrectable: reads of the blocks fail until they are written
    Uncorrectable,
}

impl Pattern {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Randread => "randread",
            Self::Randwrite => "randwrite",
            Self::Rw => "rw",
            Self::Randrw => "randrw",
            Self::Uncorrectable => "uncorrectable",
        }
    }

    pub(crate) fn is_random(self) -> bool {
        matches!(self, Self::Randread | Self::Randwrite | Self::Randrw)
    }

    pub(crate) fn is_mixed(self) -> bool {
        matches!(self, Self::Rw | Self::Randrw)
    }
}

/// A list that clap does not take for several values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub Vec<usize>);

/// The same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostId(pub [u8; 16]);

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    cpus::parse(text).map(Cpus)
}

fn parse_host_id(text: &str) -> Result<HostId, String> {
    let id = identity::uuid(text).filter(|id| *id != [0; 16]);
    id.map(HostId).ok_or_else(|| "a host identifier is a UUID, not zero".to_owned())
}

/// CNTLID of the admin queue's Connect [NVMe over Fabrics 1.1, 3.3].
fn parse_controller_id(text: &str) -> Result<u16, String> {
    match text {
        "new" => Ok(DYNAMIC_CONTROLLER_ID),
        "any" => Ok(ANY_STATIC_CONTROLLER_ID),
        _ => {
            let id = text.parse().ok().filter(|id| *id <= CONTROLLER_ID_MAX);
            id.ok_or_else(|| format!("a controller id is a number up to {CONTROLLER_ID_MAX}, or \"any\", or \"new\""))
        }
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        _ => return Err(format!("unknown unit {unit:?}; allowed are k (KiB) and m (MiB)")),
    };
    let number: usize = number.parse().map_err(|_| "a size looks like 4096, 4k or 128KiB".to_owned())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| (1..=8 << 20).contains(bytes));
    bytes.ok_or_else(|| "allowed are 1 byte to 8 MiB".to_owned())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.trim_end_matches('s').parse::<f64>().ok().filter(|s| (0.0..=31_536_000.0).contains(s));
    seconds.ok_or_else(|| "allowed are 0 to 31536000 seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Arguments {
        let address = "trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.x";
        let words = words.split(' ').filter(|word| !word.is_empty());
        Arguments::try_parse_from(["nvmf-perf", "-r", address].into_iter().chain(words)).unwrap()
    }

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_line_of_spdk_nvme_perf() {
        let arguments = parse("-q 128 -o 4096 -w randrw -M 70 -t 10 -c 0x6 -P 2");
        assert_eq!(arguments.load.io_depth, 128);
        assert_eq!(arguments.load.io_size, 4096);
        assert_eq!(arguments.load.workload, Pattern::Randrw);
        assert_eq!(arguments.load.read_percent, Some(70));
        assert_eq!(arguments.load.time, Some(10.0));
        assert_eq!(arguments.common.cpus, Some(Cpus(vec![1, 2])));
        assert_eq!(arguments.load.queue_pairs, 2);
        assert_eq!(arguments.common.transport.unwrap().subsystem_nqn, "nqn.x");
    }

    #[test]
    fn a_subcommand_takes_the_common_options_on_either_side() {
        let arguments = parse("--cpus 1 digest --nsid 3");
        assert_eq!(arguments.command, Some(Command::Digest));
        assert_eq!(arguments.common.nsid, [3]);
        assert_eq!(arguments.common.cpus, Some(Cpus(vec![1])));
        assert!(arguments.common.transport.is_some());
    }

    #[test]
    fn controller_ids() {
        assert_eq!(parse("").common.controller_id, 0xFFFF);
        assert_eq!(parse("--controller-id any").common.controller_id, 0xFFFE);
        assert_eq!(parse("identify --controller-id 12").common.controller_id, 12);
        for wrong in ["65520", "-1", "all", ""] {
            assert!(parse_controller_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("512", 512), ("4k", 4096), ("4K", 4096), ("128KiB", 131_072), ("1M", 1 << 20)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "k", "0", "4q", "16M", "-4k", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for words in ["-q 0", "-q 2000", "-w sideways", "-M 101", "-n 0", "--nsid 0", "-t 5 -n 5", "-c 3-1", "-t -1"] {
            let words: Vec<_> = std::iter::once("nvmf-perf").chain(words.split(' ')).collect();
            assert!(Arguments::try_parse_from(&words).is_err(), "{words:?}");
        }
    }
}
