//! The command line of `nvmf-perf connect`.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{parse_seconds, parse_size};

/// What associations are like, and how they end.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Connect {
    /// I/O queue pairs of each association; that of the admin queue comes on top
    #[arg(short = 'P', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=1023))]
    pub(crate) queue_pairs: u16,
    /// Commands that each I/O queue takes; so many are outstanding when an association ends abruptly
    #[arg(short = 'q', long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1023))]
    pub(crate) io_depth: u16,
    /// Bytes of each I/O: 4096, 4k, 128KiB, 1M
    #[arg(short = 'o', long, default_value = "4k", value_parser = parse_size)]
    pub(crate) io_size: usize,
    /// Associations at a time, each with a connection to the target of its own
    #[arg(short = 'j', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) at_once: u16,
    /// Associations to make
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "time", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) lives: Option<u64>,
    /// Seconds to go on [default: 10 where --lives is not given]
    #[arg(short = 't', long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) time: Option<f64>,
    /// How associations end
    #[arg(long, value_enum, default_value_t = End::Quiet)]
    pub(crate) end: End,
    /// Associations begun per second, of all together [default: as fast as they go]
    #[arg(long, value_name = "PER_S", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// I/Os that each association writes, reads back and compares: overwrites blocks from --first-block on
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) verify: u32,
    /// The first block that may be overwritten
    #[arg(long, value_name = "LBA", default_value_t = 0)]
    pub(crate) first_block: u64,
    /// Goes on after associations that failed, and counts them
    #[arg(long)]
    pub(crate) continue_on_error: bool,
    /// Decides what is random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How associations end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    /// Disconnects when every command has ended
    Quiet,
    /// Disconnects with commands outstanding
    Abrupt,
    /// Disconnects while it still connects
    Early,
    /// Each of these, at random
    Mixed,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| "allowed are 0.001 to 1000000 per second".to_owned())
}
