//! The contract over two providers of this machine's devices.
//!
//! Where there is none, the test says on standard error that it was not run. `QUIESCE_IBV_ADDRESSES` names the two machines' addresses (one for both will do);
//! `QUIESCE_IBV_CASE` runs those cases only whose names contain it.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use reactor::{Clock, SharedArena};

use super::{IbvOptions, IbvProvider, device_names};
use crate::verbs::CompletionStatus as Status;
use crate::verbs::contract::{self, MEMORY_LEN, Rig};

/// 67 ms for each try: a peer that is gone is given up within a second.
const ACK_TIMEOUT_EXPONENT: u8 = 14;
/// Between two looks: what other threads, and a simulated processor's kernel, need to get on.
const STEP: Duration = Duration::from_micros(20);

struct IbvRig {
    machines: [IpAddr; 2],
    clock: Clock,
}

impl Rig for IbvRig {
    type Provider = IbvProvider;

    /// A tenth of a second.
    const FLUSH_TURNS: usize = 2000;
    const IS_DEVICE: bool = true;

    /// Soft-RoCE has one word for what is wrong with local memory, and another for what it tells the peer of it.
    fn may_be(seen: Status, meant: Status) -> bool {
        let word = match meant {
            Status::LocalLengthError | Status::LocalProtectionError => Status::LocalQpOperationError,
            Status::RemoteInvalidRequest => Status::RemoteOperationError,
            meant => meant,
        };
        seen == meant || seen == word
    }

    fn machines(&mut self) -> [IbvProvider; 2] {
        self.machines.map(|address| {
            IbvProvider::open(IbvOptions {
                listened: vec![SocketAddr::new(address, 0)],
                source: Some(address),
                ack_timeout_exponent: Some(ACK_TIMEOUT_EXPONENT),
                ..IbvOptions::default()
            })
            .unwrap()
        })
    }

    fn memory(&mut self, side: usize) -> Arc<SharedArena> {
        Arc::new(SharedArena::new(&format!("side {side}"), MEMORY_LEN, false).unwrap())
    }

    fn address(&mut self) -> SocketAddr {
        static NEXT_PORT: AtomicU16 = AtomicU16::new(14420);
        SocketAddr::new(self.machines[1], NEXT_PORT.fetch_add(1, Ordering::Relaxed))
    }

    fn note(&mut self, text: &str) {
        say(format_args!("{text}"));
    }

    fn step(&mut self) -> u64 {
        std::thread::park_timeout(STEP);
        self.clock.now_ns()
    }
}

/// Not captured by the test harness: what did not run is not to look as if it had.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "ibv contract: {text}");
}

fn addresses() -> Result<[IpAddr; 2], String> {
    let devices = device_names().map_err(|error| format!("no RDMA device ({error})"))?;
    if devices.is_empty() {
        return Err("no RDMA device".to_owned());
    }
    let words = std::env::var("QUIESCE_IBV_ADDRESSES")
        .map_err(|_| format!("QUIESCE_IBV_ADDRESSES=ADDRESS,ADDRESS is not set; devices: {}", devices.join(", ")))?;
    let addresses: Vec<IpAddr> = words.split(',').map(|word| word.trim().parse().unwrap()).collect();
    match *addresses {
        [one] => Ok([one, one]),
        [first, second] => Ok([first, second]),
        _ => panic!("QUIESCE_IBV_ADDRESSES is {words:?}: one address or two"),
    }
}

#[test]
fn the_contract() {
    let machines = match addresses() {
        Ok(machines) => machines,
        Err(why) => return say(format_args!("not run: {why}")),
    };
    let only = std::env::var("QUIESCE_IBV_CASE").unwrap_or_default();
    let clock = Clock::start();
    let mut failed = Vec::new();
    for (name, case) in contract::cases::<IbvRig>() {
        if !name.contains(&only) {
            continue;
        }
        let start_ns = clock.now_ns();
        let ended = std::panic::catch_unwind(|| case(IbvRig { machines, clock }));
        let ms = (clock.now_ns() - start_ns) / 1_000_000;
        say(format_args!("{name}: {} ({ms} ms)", if ended.is_ok() { "passed" } else { "FAILED" }));
        if ended.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
