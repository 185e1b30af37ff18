//! The contract over two providers in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reactor::{Clock, SharedArena};

use super::{SharedOptions, SharedProvider};
use crate::verbs::contract::{self, MEMORY_LEN, Rig};

/// A directory of its own for each rig, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("quiesce-shared-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct SharedRig {
    scratch: Scratch,
    clock: Clock,
    next_port: u16,
}

impl Rig for SharedRig {
    type Provider = SharedProvider;

    fn machines(&mut self) -> [SharedProvider; 2] {
        [0, 1].map(|_| {
            let options = SharedOptions {
                directory: Some(self.scratch.0.clone()),
                disconnect_timeout_ns: 50_000_000,
                timewait_ns: 5_000_000,
                ..SharedOptions::default()
            };
            SharedProvider::new(options).unwrap()
        })
    }

    fn memory(&mut self, side: usize) -> Arc<SharedArena> {
        Arc::new(SharedArena::new(&format!("side {side}"), MEMORY_LEN, false).unwrap())
    }

    fn address(&mut self) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.next_port))
    }

    fn step(&mut self) -> u64 {
        std::thread::yield_now();
        self.clock.now_ns()
    }
}

#[test]
fn the_contract() {
    let clock = Clock::start();
    contract::run(|case| {
        // Shown where a case fails.
        println!("{case}");
        SharedRig { scratch: Scratch::new(), clock, next_port: 4420 }
    });
}

mod doorbells;
mod hostile;
mod memory;
mod places;
mod wire;
