//! Rules that say which polling CPUs a connection may go to. Among those it goes to the one with the least to do.

use std::net::{IpAddr, SocketAddr};

/// Whose connections a rule is for. What is asked here is known when the connection is requested; the host's NQN comes later, with Connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Everybody's that no earlier rule was for.
    Any,
    /// Those that came by this address of ours.
    Listener(SocketAddr),
    /// Those of the host at this address.
    Host(IpAddr),
}

/// One rule. The first whose origin fits a connection decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementRule {
    /// Whose.
    pub origin: Origin,
    /// Polling CPUs, by their places in the mesh. A connection that finds no room on any of them is rejected: other CPUs are not for it.
    pub cpus: Vec<u16>,
}

/// What decided where a queue pair went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// No rule, or one for everybody.
    LeastLoaded,
    /// A rule for its listener.
    Listener,
    /// A rule for its host.
    Host,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LeastLoaded, Self::Listener, Self::Host];

    /// As it is written in configuration and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeastLoaded => "least_loaded",
            Self::Listener => "listener",
            Self::Host => "host",
        }
    }
}

impl PlacementRule {
    /// The policy that it stands for.
    #[must_use]
    pub fn policy(&self) -> Policy {
        match self.origin {
            Origin::Any => Policy::LeastLoaded,
            Origin::Listener(_) => Policy::Listener,
            Origin::Host(_) => Policy::Host,
        }
    }

    /// Whether it is for a connection by this address of ours from that one of its host's.
    pub(super) fn is_for(&self, listener: SocketAddr, peer: SocketAddr) -> bool {
        match self.origin {
            Origin::Any => true,
            Origin::Listener(address) => address == listener,
            Origin::Host(address) => address == peer.ip(),
        }
    }
}

/// Why rules were not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A rule without CPUs would reject all that it is for.
    #[error("rule {rule}: cpus is empty, and should name at least one polling CPU")]
    NoCpus {
        /// Which, from 1.
        rule: usize,
    },
    /// There is no such polling CPU.
    #[error("rule {rule}: cpus names the polling CPU at place {cpu}, and there are {cpu_count}")]
    NoSuchCpu {
        /// Which, from 1.
        rule: usize,
        /// What was named.
        cpu: u16,
        /// How many there are.
        cpu_count: usize,
    },
    /// Too many rules.
    #[error("{count} rules are given, and there may be {RULE_COUNT_MAX}")]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

/// Rules of a target. They are looked at one after another, once for each connection.
pub const RULE_COUNT_MAX: usize = 256;

/// Checks what was written.
pub(super) fn check(rules: &[PlacementRule], cpu_count: usize) -> Result<(), PlacementError> {
    if rules.len() > RULE_COUNT_MAX {
        return Err(PlacementError::TooMany { count: rules.len() });
    }
    for (rule, number) in rules.iter().zip(1..) {
        if rule.cpus.is_empty() {
            return Err(PlacementError::NoCpus { rule: number });
        }
        if let Some(cpu) = rule.cpus.iter().find(|cpu| usize::from(**cpu) >= cpu_count) {
            return Err(PlacementError::NoSuchCpu { rule: number, cpu: *cpu, cpu_count });
        }
    }
    Ok(())
}
