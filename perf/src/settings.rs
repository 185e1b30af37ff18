//! What is to be done, checked: arguments become this, and workloads read it.

use std::path::PathBuf;
use std::time::Duration;

use transport_rdma::host::HostAuthentication;

use crate::arguments::{Arguments, Command, Load, Pattern, Reservation};
use crate::reservation;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Job {
    /// Measures.
    Load(Extent),
    /// Writes and reads back.
    Verify(Extent),
    /// Writes until the power is cut, and checks afterwards.
    Durability(DurabilityJob),
    /// Reads a namespace whole.
    Digest,
    /// Prints the discovery log.
    Discover,
    /// Prints controller and namespaces.
    Identify,
    /// Reservations of one namespace.
    Reservation(Reservation),
}

/// What a power cut interrupts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DurabilityJob {
    /// Where it is written what is durable.
    pub(crate) log: PathBuf,
    /// Greater than that of every earlier round.
    pub(crate) round: u64,
    /// Writes nothing.
    pub(crate) check_only: bool,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// So long.
    Time(Duration),
    /// So many I/Os, of all CPUs together.
    Count(u64),
    /// Each block of the namespace once (verification).
    Once,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) job: Job,
    pub(crate) nsids: Vec<u32>,
    pub(crate) pattern: Pattern,
    pub(crate) read_percent: u8,
    pub(crate) io_len: usize,
    pub(crate) io_depth: u16,
    pub(crate) queue_count_per_cpu: u16,
    pub(crate) cpu_count: u16,
    pub(crate) warmup: Duration,
    pub(crate) continue_on_error: bool,
    pub(crate) seed: u64,
    /// What the host proves itself with.
    pub(crate) authentication: Option<HostAuthentication>,
}

/// A digest's reads: long and deep enough that the fabric does not wait for the hash.
const DIGEST_IO_LEN: usize = 128 * 1024;
const DIGEST_DEPTH: u16 = 8;

impl Settings {
    /// Checks what clap cannot.
    pub(crate) fn new(arguments: &Arguments, cpu_count: u16) -> Result<Self, String> {
        let load = &arguments.load;
        let job = match &arguments.command {
            Some(Command::Digest) => Job::Digest,
            Some(Command::Durability { log, round, check_only }) => {
                Job::Durability(DurabilityJob { log: log.clone(), round: u64::from(*round), check_only: *check_only })
            }
            Some(Command::Discover { .. }) => Job::Discover,
            Some(Command::Identify) => Job::Identify,
            Some(Command::Reservation { action }) => Job::Reservation(action.clone()),
            Some(Command::Connect(_)) => return Err("connect is no job of a load".to_owned()),
            None if load.verify => Job::Verify(extent(load, Extent::Once)),
            None => Job::Load(extent(load, Extent::Time(Duration::from_secs(10)))),
        };
        if load.read_percent.is_some() && !load.workload.is_mixed() {
            return Err(format!("--read-percent goes with rw and randrw, not with {}", load.workload.name()));
        }
        if load.verify && load.workload != Pattern::Write && load.workload != Pattern::Randwrite {
            return Err(format!(
                "--verify writes and then reads back: it goes with write and randwrite, not with {}",
                load.workload.name()
            ));
        }
        if job == Job::Digest && arguments.common.nsid.len() != 1 {
            return Err("digest reads one namespace: name it with --nsid".to_owned());
        }
        if job == Job::Digest && cpu_count > 1 {
            return Err("digest reads in order, on one CPU: name one with --cpus".to_owned());
        }
        if matches!(job, Job::Durability(_)) && cpu_count > 1 {
            return Err("durability is one log of one CPU: name one with --cpus".to_owned());
        }
        if matches!(job, Job::Reservation(_)) && (arguments.common.nsid.len() != 1 || cpu_count > 1) {
            return Err("reservation is for one namespace (--nsid), on one CPU (--cpus)".to_owned());
        }
        let read_percent = match load.workload {
            Pattern::Read | Pattern::Randread => 100,
            Pattern::Write | Pattern::Randwrite | Pattern::Uncorrectable => 0,
            Pattern::Rw | Pattern::Randrw => load.read_percent.unwrap_or(50),
        };
        let (io_len, io_depth, queue_count_per_cpu) = match job {
            Job::Load(_) | Job::Verify(_) | Job::Durability(_) => (load.io_size, load.io_depth, load.queue_pairs),
            Job::Digest => (DIGEST_IO_LEN, DIGEST_DEPTH, 1),
            Job::Discover | Job::Identify => (4096, 1, 0),
            Job::Reservation(_) => (reservation::DATA_LEN, 1, 1),
        };
        Ok(Self {
            job,
            nsids: arguments.common.nsid.clone(),
            pattern: load.workload,
            read_percent,
            io_len,
            io_depth,
            queue_count_per_cpu,
            cpu_count,
            warmup: Duration::from_secs_f64(load.warmup),
            continue_on_error: load.continue_on_error,
            seed: load.seed,
            authentication: arguments.common.proof.authentication()?,
        })
    }

    /// Commands that one CPU has outstanding at most.
    pub(crate) fn slot_count(&self) -> usize {
        usize::from(self.io_depth) * usize::from(self.queue_count_per_cpu)
    }

    /// One CPU's share of `count`.
    pub(crate) fn share(&self, count: u64, cpu: u16) -> u64 {
        let cpus = u64::from(self.cpu_count);
        count / cpus + u64::from(u64::from(cpu) < count % cpus)
    }
}

fn extent(load: &Load, otherwise: Extent) -> Extent {
    match (load.time, load.count) {
        (Some(seconds), _) => Extent::Time(Duration::from_secs_f64(seconds)),
        (None, Some(count)) => Extent::Count(count),
        (None, None) => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn settings(words: &str) -> Result<Settings, String> {
        let words = words.split(' ').filter(|word| !word.is_empty());
        Settings::new(&Arguments::try_parse_from(["nvmf-perf"].into_iter().chain(words)).unwrap(), 3)
    }

    #[test]
    fn defaults_follow_the_job() {
        assert_eq!(settings("").unwrap().job, Job::Load(Extent::Time(Duration::from_secs(10))));
        assert_eq!(settings("--verify -w write").unwrap().job, Job::Verify(Extent::Once));
        assert_eq!(settings("--verify -w write -n 5").unwrap().job, Job::Verify(Extent::Count(5)));
        assert_eq!(settings("-w randrw").unwrap().read_percent, 50);
        assert_eq!(settings("identify").unwrap().queue_count_per_cpu, 0);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(settings("-w read -M 50").unwrap_err().contains("--read-percent"));
        assert!(settings("--verify -w randread").unwrap_err().contains("randread"));
        assert!(settings("digest --nsid 1").unwrap_err().contains("--cpus"));
    }

    #[test]
    fn shares_add_up() {
        let settings = settings("").unwrap();
        assert_eq!((0..3).map(|cpu| settings.share(11, cpu)).collect::<Vec<_>>(), [4, 4, 3]);
    }
}
