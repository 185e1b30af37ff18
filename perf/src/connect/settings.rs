//! What is to be done, checked: the arguments of `connect` become this.

use std::time::Duration;

use transport_rdma::host::HostAuthentication;

use crate::address::TransportAddress;
use crate::arguments::{Common, Connect, End, HostId};
use crate::fabric::Chosen;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// So long.
    Time(Duration),
    /// So many associations, of all lines together.
    Lives(u64),
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) address: TransportAddress,
    pub(crate) fabric: Chosen,
    /// The operating system's CPUs: lines take them in turn.
    pub(crate) cpus: Vec<usize>,
    /// `None`: the controller's first.
    pub(crate) nsid: Option<u32>,
    pub(crate) host_nqn: Option<String>,
    pub(crate) host_id: Option<HostId>,
    /// CNTLID that is asked for.
    pub(crate) controller_id: u16,
    pub(crate) keep_alive_ms: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) queue_count: u16,
    pub(crate) io_depth: u16,
    pub(crate) io_len: usize,
    pub(crate) line_count: u16,
    pub(crate) extent: Extent,
    pub(crate) end: End,
    pub(crate) rate_per_s: Option<f64>,
    /// I/Os that each association writes and reads back.
    pub(crate) verified_count: usize,
    pub(crate) first_block: u64,
    pub(crate) continue_on_error: bool,
    pub(crate) seed: u64,
    /// What each host proves itself with.
    pub(crate) authentication: Option<HostAuthentication>,
}

impl Settings {
    /// Checks what clap cannot.
    pub(crate) fn new(
        common: &Common,
        connect: &Connect,
        address: TransportAddress,
        cpus: Vec<usize>,
        fabric: Chosen,
    ) -> Result<Self, String> {
        if common.nsid.len() > 1 {
            return Err("connect uses one namespace: name it with --nsid".to_owned());
        }
        let slot_count = usize::from(connect.queue_pairs) * usize::from(connect.io_depth);
        let verified_count = usize::try_from(connect.verify).unwrap_or(usize::MAX);
        if verified_count > slot_count {
            return Err(format!(
                "--verify is {verified_count}: allowed is at most --queue-pairs times --io-depth, which is {slot_count}"
            ));
        }
        if connect.end == End::Abrupt && slot_count == 0 {
            return Err("--end abrupt needs I/O queues for its commands: --queue-pairs is 0".to_owned());
        }
        let extent = match (connect.lives, connect.time) {
            (Some(lives), _) => Extent::Lives(lives),
            (None, time) => Extent::Time(Duration::from_secs_f64(time.unwrap_or(10.0))),
        };
        Ok(Self {
            address,
            fabric,
            cpus,
            nsid: common.nsid.first().copied(),
            host_nqn: common.host_nqn.clone(),
            host_id: common.host_id,
            controller_id: common.controller_id,
            keep_alive_ms: common.keep_alive,
            connect_timeout: Duration::from_secs(common.connect_timeout.into()),
            command_timeout: Duration::from_secs(common.command_timeout.into()),
            queue_count: connect.queue_pairs,
            io_depth: connect.io_depth,
            io_len: connect.io_size,
            line_count: connect.at_once,
            extent,
            end: connect.end,
            rate_per_s: connect.rate,
            verified_count,
            first_block: connect.first_block,
            continue_on_error: connect.continue_on_error,
            seed: connect.seed,
            authentication: common.proof.authentication()?,
        })
    }

    /// Commands that an association has outstanding at most.
    pub(crate) fn slot_count(&self) -> usize {
        usize::from(self.queue_count) * usize::from(self.io_depth)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn settings(words: &str) -> Result<Settings, String> {
        let line = format!("nvmf-perf -r traddr:127.0.0.1_subnqn:nqn.x connect {words}");
        let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('_', " "));
        let arguments = Arguments::try_parse_from(words).unwrap();
        let Some(Command::Connect(connect)) = &arguments.command else { panic!("{arguments:?}") };
        Settings::new(&arguments.common, connect, arguments.common.transport.clone().unwrap(), vec![0], Chosen::Soft)
    }

    #[test]
    fn defaults() {
        let settings = settings("").unwrap();
        assert_eq!(settings.extent, Extent::Time(Duration::from_secs(10)));
        assert_eq!((settings.queue_count, settings.line_count, settings.verified_count), (1, 1, 0));
        assert_eq!(settings.end, End::Quiet);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(settings("-P 2 -q 4 --verify 8").is_ok());
        assert!(settings("-P 2 -q 4 --verify 9").unwrap_err().contains("--verify is 9"));
        assert!(settings("-P 0 --end abrupt").unwrap_err().contains("--queue-pairs"));
        assert!(settings("--nsid 1,2").unwrap_err().contains("--nsid"));
    }
}
