//! A target on two devices: each of its CPUs serves both, and one may go and come back while the other goes on.
#![allow(clippy::unwrap_used, dead_code, reason = "tests, which share their world with others")]

mod seeds;
#[path = "host/workload.rs"]
mod workload;
#[path = "host/world.rs"]
mod world;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use reactor::{Cpu, Simulation};
use transport_rdma::host::HostOptions;
use transport_rdma::soft::in_process::{FabricOptions, InProcessProvider, MachineId};
use transport_rdma::target::{self, TargetOptions};
use transport_rdma::verbs::{DeviceId, Several};

use crate::seeds::seeds;
use crate::workload::{SharedNotes, VerifyAll};
use crate::world::{Host, TargetControl, Told, World, options, spec};

type P = Several<InProcessProvider>;

const CPU_COUNT: u16 = 2;

fn address(device: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4420 + u16::from(device)))
}

/// The target, and the fabric that its devices are on.
struct Rig {
    world: World,
    devices: [MachineId; 2],
    mesh: Simulation<target::Message<P>>,
    stop: Rc<Cell<bool>>,
    told: Told,
    coin: u64,
}

impl Rig {
    fn new(seed: u64, shared_receive_count: u32) -> Self {
        let mut fabric_options = FabricOptions { is_strict: false, ..FabricOptions::default() };
        fabric_options.forbids_destroy_with_work = false;
        fabric_options.device.is_removed_silently = seed.is_multiple_of(3);
        let mut world = World::with(seed, fabric_options, 0);
        // This file's takes its place.
        world.target = None;
        let machines = vec![world.fabric.machine(), world.fabric.machine()];
        let devices = [machines[0].id(), machines[1].id()];
        let route = |address: SocketAddr| Some(DeviceId(u8::try_from(address.port() - 4420).unwrap()));
        let provider = Several::new(machines, Box::new(route)).unwrap();
        let mut mesh = Simulation::new(seed, CPU_COUNT + 1);
        let options = TargetOptions {
            cpu_count: CPU_COUNT,
            queue_pair_count_max: 16,
            data_memory_len: 1 << 20,
            huge_pages: false,
            shared_receive_count,
            device_count: 2,
            host_queue_pair_count_max: 16,
            nodes: Vec::new(),
            placement: Vec::new(),
        };
        let listeners = vec![address(0), address(1)];
        let (control, cpus) = target::build_several(provider, mesh.domain(), spec(listeners), options).unwrap();
        for (cpu, program) in (0..).zip(cpus) {
            mesh.install(Cpu(cpu), program);
        }
        let (stop, told) = (Rc::default(), Told::default());
        mesh.install(Cpu(CPU_COUNT), TargetControl { control, stop: Rc::clone(&stop), told: Rc::clone(&told) });
        Self { world, devices, mesh, stop, told, coin: seed }
    }

    fn host(&self, device: u8, notes: &SharedNotes, is_endless: bool) -> Host {
        let options = HostOptions { address: address(device), ..options() };
        let nsid = if device == 0 { 1 } else { 5 };
        self.world.host(options, |_| {
            let workload = VerifyAll::new(notes.clone(), nsid, 9, 3, 40);
            if is_endless { workload.endless() } else { workload }
        })
    }

    fn run(&mut self, hosts: &mut [&mut Host], what: &str, mut done: impl FnMut(&Self, &[&mut Host]) -> bool) {
        for _ in 0..3_000_000 {
            if done(self, hosts) {
                return;
            }
            self.coin = self.coin.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            let count = hosts.len() as u64 + 1;
            match hosts.get_mut(((self.coin >> 33) % count) as usize) {
                Some(host) => {
                    host.mesh.step();
                }
                None => {
                    self.mesh.step();
                }
            }
        }
        panic!("{what} did not happen; target {:?}", self.told.borrow());
    }

    fn count(&self, name: &str) -> u64 {
        self.told.borrow().iter().filter(|(of, _)| of.split(' ').next() == Some(name)).map(|(_, value)| value).sum()
    }
}

#[test]
fn a_host_on_each_and_one_device_goes_and_comes_back() {
    for seed in seeds(0..6) {
        let mut rig = Rig::new(seed, if seed.is_multiple_of(2) { 0 } else { 64 });
        let gone = u8::try_from(seed / 2 % 2).unwrap();
        let (lost, stays) = (SharedNotes::default(), SharedNotes::default());
        let mut victim = rig.host(gone, &lost, true);
        let mut other = rig.host(1 - gone, &stays, false);
        let moment = 40 + seed * 17;
        rig.run(&mut [&mut victim, &mut other], "I/O through both", |_, _| {
            lost.borrow().ended_count > moment && stays.borrow().ended_count > 2
        });
        let device = rig.devices[usize::from(gone)];
        rig.world.fabric.remove_device(device);
        rig.run(&mut [&mut victim, &mut other], "both hosts' ends", |_, hosts| {
            hosts.iter().all(|host| host.has_left())
        });
        assert!(lost.borrow().failure.is_some(), "seed {seed}");
        let notes = stays.borrow();
        assert!(notes.is_done && notes.failure.is_none(), "seed {seed}: the other host was disturbed: {notes:?}");
        assert_eq!((notes.verified_count, notes.ended_count), (40, 80));
        drop(notes);
        assert_eq!(rig.count("rdma_device_removed"), 1);
        // Nobody comes by the device that is away, and the other one takes more.
        let late = SharedNotes::default();
        let mut host = rig.host(1 - gone, &late, false);
        rig.run(&mut [&mut host], "another host's end", |_, hosts| hosts[0].has_left());
        assert!(late.borrow().is_done && late.borrow().failure.is_none(), "seed {seed}");
        rig.world.fabric.restore_device(device);
        rig.mesh.advance(1_100_000_000);
        rig.run(&mut [], "the return of the device", |rig, _| rig.count("rdma_device_removed") == 0);
        rig.run(&mut [], "both listeners", |rig, _| rig.count("rdma_provider_listeners_live") == 2);
        let again = SharedNotes::default();
        let mut host = rig.host(gone, &again, false);
        rig.run(&mut [&mut host], "the host's end on the device that is back", |_, hosts| hosts[0].has_left());
        let notes = again.borrow();
        assert!(notes.is_done && notes.failure.is_none(), "seed {seed}: {notes:?}");
        drop(notes);
        rig.run(&mut [], "nothing left of any host", |rig, _| rig.count("rdma_connections_live") == 0);
        rig.stop.set(true);
        rig.run(&mut [], "the target's end", |rig, _| (0..=CPU_COUNT).all(|cpu| rig.mesh.has_left(Cpu(cpu))));
        assert_eq!(rig.count("rdma_connections_quarantined_live"), 0);
    }
}
