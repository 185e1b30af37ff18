//! The contract over many seeds, and what is this fabric's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use reactor::SharedArena;

use super::random::Random;
use super::{Fabric, FabricOptions, InProcessProvider};
use crate::verbs::contract::{self, MEMORY_LEN, Rig};

struct SeededRig {
    fabric: Fabric,
    arenas: [Arc<SharedArena>; 2],
    now_ns: u64,
    step_ns: u64,
    next_port: u16,
}

impl SeededRig {
    /// Every option that a case must not depend on is drawn from the seed.
    fn new(seed: u64, arenas: &[Arc<SharedArena>; 2]) -> Self {
        let mut random = Random::new(seed);
        let options = FabricOptions {
            delay_max: random.up_to(6),
            ring_message_count: 1 + random.up_to(20),
            splits_copies: random.coin(),
            raises_last_wqe: random.coin(),
            sweeps_on_destroy: random.coin(),
            ..FabricOptions::default()
        };
        let fabric = Fabric::with_options(seed, options);
        Self { fabric, arenas: arenas.clone(), now_ns: 0, step_ns: 10_000, next_port: 4420 }
    }
}

impl Rig for SeededRig {
    type Provider = InProcessProvider;

    fn machines(&mut self) -> [InProcessProvider; 2] {
        [self.fabric.machine(), self.fabric.machine()]
    }

    fn memory(&mut self, side: usize) -> Arc<SharedArena> {
        Arc::clone(&self.arenas[side])
    }

    fn address(&mut self) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), self.next_port))
    }

    fn step(&mut self) -> u64 {
        self.now_ns += self.step_ns;
        self.now_ns
    }
}

fn arenas() -> [Arc<SharedArena>; 2] {
    ["first", "second"].map(|name| Arc::new(SharedArena::new(name, MEMORY_LEN, false).unwrap()))
}

#[test]
fn the_contract_over_many_seeds() {
    let arenas = arenas();
    for seed in 0..60 {
        contract::run(|case| {
            // Shown where a case fails.
            println!("seed {seed}: {case}");
            SeededRig::new(seed, &arenas)
        });
    }
}
