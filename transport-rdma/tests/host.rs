//! The host side against the target side, over the in-process fabric, with every step drawn from a seed.
#![allow(clippy::unwrap_used, dead_code, reason = "tests, which share their world with others")]

mod seeds;
#[path = "host/workload.rs"]
mod workload;
#[path = "host/world.rs"]
mod world;

use nvmf_core::wire::DISCOVERY_NQN;
use transport_rdma::host::{HostFailure, HostOptions, Message};
use transport_rdma::soft::in_process::{FabricOptions, TicketKinds};

use crate::seeds::seeds;
use crate::workload::{SharedNotes, VerifyAll};
use crate::world::{BLOCK_LEN, Host, NQN, Target, World, options};

/// What ended, and how.
fn end_host(world: &mut World, host: &mut Host) {
    world.run(host, "the host's end", |_, host| host.has_left());
    assert_eq!(host.live(), [], "the host left something behind");
    world.settle(host);
}

/// Connects, verifies and lets go; everything is as before then.
fn verify(seed: u64, options: HostOptions, blocks_per_io: u32) {
    let mut world = World::new(seed);
    verify_in(&mut world, options, blocks_per_io);
    world.end(&mut idle_host(seed));
}

fn verify_in(world: &mut World, options: HostOptions, blocks_per_io: u32) {
    let notes: Vec<SharedNotes> = (0..options.cpu_count).map(|_| SharedNotes::default()).collect();
    let nsid = |cpu: u16| if cpu.is_multiple_of(2) { 1 } else { 5 };
    let workload = |cpu: u16| VerifyAll::new(notes[usize::from(cpu)].clone(), nsid(cpu), blocks_per_io, 3, 40);
    let mut host = world.host(options, workload);
    end_host(world, &mut host);
    for notes in notes {
        let notes = notes.borrow();
        assert_eq!(notes.failure, None);
        assert!(notes.is_done);
        assert_eq!((notes.verified_count, notes.ended_count), (40, 80));
        let attached = notes.attached.as_ref().unwrap();
        let nsids: Vec<_> = attached.namespaces.iter().map(|namespace| namespace.nsid).collect();
        assert_eq!(nsids, [1, 5]);
        assert_eq!(attached.namespaces[0].block_len, BLOCK_LEN);
    }
}

/// A host that has left: where only the target is to be stepped.
fn idle_host(seed: u64) -> Host {
    let mut world = World::new(seed);
    let mut host = world.host(options(), |_| VerifyAll::new(SharedNotes::default(), 1, 1, 0, 1));
    world.target = None;
    host.shut_down();
    world.run(&mut host, "the idle host's end", |_, host| host.has_left());
    host
}

#[test]
fn what_was_written_is_read_back() {
    for seed in seeds(0..16) {
        let mut options = options();
        options.cpu_count = 1 + u16::try_from(seed % 3).unwrap();
        verify(seed, options, 1 + u32::try_from(seed % 8).unwrap());
    }
}

#[test]
fn small_writes_go_in_the_capsule() {
    for seed in seeds(0..8) {
        let mut options = options();
        options.in_capsule_data = true;
        // 8 blocks fill the capsule, 9 do not fit.
        verify(seed, options, 7 + u32::try_from(seed % 3).unwrap());
    }
}

#[test]
fn a_queue_of_one_command_works() {
    for seed in seeds(0..4) {
        let mut options = options();
        (options.queue_depth, options.queue_count_per_cpu) = (1, 1);
        verify(seed, options, 2);
    }
}

#[test]
fn a_hundred_hosts_one_after_the_other_leave_nothing() {
    let mut world = World::new(77);
    for _ in 0..100 {
        verify_in(&mut world, options(), 1);
    }
    world.end(&mut idle_host(77));
}

/// One association after the other, of which every second is ended in its midst, at any step; after each the target is as before the first.
#[test]
fn a_host_that_stays_has_one_association_after_the_other() {
    let mut interrupted_count = 0;
    for seed in 0..12 {
        let mut world = World::new(seed);
        let notes: Vec<SharedNotes> = (0..2).map(|_| SharedNotes::default()).collect();
        let options = HostOptions { stays: true, cpu_count: 2, ..options() };
        let workload = |cpu: u16| VerifyAll::new(notes[usize::from(cpu)].clone(), [1, 5][usize::from(cpu)], 2, 3, 20);
        let mut host = world.host(options, workload);
        for life in 1..=10 {
            host.post(Message::connect());
            if (seed + life) % 2 == 0 {
                for _ in 0..(seed * 3331 + life * 7919) % 3000 {
                    world.step(&mut host);
                }
                host.post(Message::disconnect());
            }
            let is_apart = |notes: &SharedNotes| notes.borrow().apart_count == life;
            world.run(&mut host, "the association's end", |_, _| notes.iter().all(is_apart));
            world.settle(&mut host);
            for notes in &notes {
                if let Some(failure) = notes.borrow_mut().failure.take() {
                    assert_eq!(failure, HostFailure::Stopped, "seed {seed} life {life}");
                    interrupted_count += 1;
                }
            }
        }
        host.shut_down();
        end_host(&mut world, &mut host);
        world.end(&mut idle_host(seed));
    }
    assert!((30..120).contains(&interrupted_count), "of 120: {interrupted_count}");
}

/// Starts endless I/O, runs `cause` in its midst, and gives what the workload was told.
fn interrupted(seed: u64, fabric: FabricOptions, cause: impl FnOnce(&mut World, &Host)) -> Option<HostFailure> {
    let mut world = World::with(seed, fabric, if seed.is_multiple_of(2) { 0 } else { 128 });
    let notes = SharedNotes::default();
    let mut host = world.host(options(), |_| VerifyAll::new(notes.clone(), 1, 4, 0, 30).endless());
    // Not always at the same place: in the midst of connecting, too.
    let wanted = seed * 7 % 200;
    let mut steps = 0_u64;
    world.run(&mut host, "some I/O", |_, _| {
        steps += 1;
        if seed.is_multiple_of(4) { steps > 50 * wanted } else { notes.borrow().ended_count >= wanted }
    });
    cause(&mut world, &host);
    world.run(&mut host, "the host's end", |_, host| host.has_left());
    assert_eq!(host.live(), []);
    // A target that is not told of the host's end notices that it keeps nothing alive: at the end of the second interval, if commands came in the first.
    for _ in 0..2 {
        if let Some(target) = &mut world.target {
            target.mesh.advance(60_000_000_000);
        }
        for _ in 0..1000 {
            world.step(&mut host);
        }
    }
    if world.target.as_ref().is_some_and(|target| !target.has_left()) {
        world.run(&mut host, "the host's end at the target", |world, _| {
            world.target.as_ref().is_some_and(|target| target.has_left() || target.is_as_before())
        });
    }
    let failure = notes.borrow().failure.clone();
    if world.target.as_ref().is_some_and(|target| !target.has_left()) {
        world.end(&mut host);
    }
    failure
}

#[test]
fn a_host_that_stops_in_the_midst() {
    for seed in seeds(0..16) {
        let failure = interrupted(seed, FabricOptions::default(), |_, host| host.shut_down());
        assert_eq!(failure, Some(HostFailure::Stopped), "seed {seed}");
    }
}

#[test]
fn a_target_that_shuts_down_in_the_midst() {
    for seed in seeds(0..16) {
        let failure = interrupted(seed, FabricOptions::default(), |world, _| {
            world.target.as_ref().unwrap().begin_shutdown();
        });
        assert!(failure.is_some(), "seed {seed}");
    }
}

#[test]
fn a_target_that_dies_in_the_midst() {
    for seed in seeds(0..16) {
        let failure = interrupted(seed, FabricOptions::default(), |world, _| world.target = None);
        assert!(failure.is_some(), "seed {seed}");
    }
}

#[test]
fn drivers_that_sweep_and_never_tell() {
    for seed in seeds(0..12) {
        let fabric = FabricOptions { sweeps_on_destroy: true, loses_disconnected: true, ..FabricOptions::default() };
        let failure = interrupted(seed, fabric, |_, host| host.shut_down());
        assert_eq!(failure, Some(HostFailure::Stopped), "seed {seed}");
    }
}

/// What comes of connecting with these options.
fn refused(options: HostOptions) -> HostFailure {
    let mut world = World::new(5);
    let notes = SharedNotes::default();
    let mut host = world.host(options, |_| VerifyAll::new(notes.clone(), 1, 1, 0, 1));
    end_host(&mut world, &mut host);
    world.end(&mut host);
    let failure = notes.borrow().failure.clone();
    failure.expect("it was refused")
}

#[test]
fn nobody_listens() {
    let mut options = options();
    options.address.set_port(4421);
    let failure = refused(options);
    assert!(matches!(failure, HostFailure::Unreachable { .. }), "{failure:?}");
    assert!(failure.to_string().contains("127.0.0.1:4421"), "{failure}");
}

#[test]
fn no_such_subsystem() {
    let mut options = options();
    options.subsystem_nqn = "nqn.2026-11.io.quiesce:another".to_owned();
    let failure = refused(options);
    assert!(matches!(failure, HostFailure::Controller { qid: 0, .. }), "{failure:?}");
}

#[test]
fn deeper_than_the_controller_allows() {
    let mut options = options();
    options.queue_depth = 32;
    let failure = refused(options);
    assert!(matches!(failure, HostFailure::Limit { wanted: 32, allowed: 31, .. }), "{failure:?}");
}

#[test]
fn a_target_that_never_answers_is_given_up() {
    let mut world = World::new(9);
    let notes = SharedNotes::default();
    let mut options = options();
    options.attach_timeout_ms = 2;
    let mut host = world.host(options, |_| VerifyAll::new(notes.clone(), 1, 1, 0, 1));
    // It is there, and is never run.
    let target = world.target.take();
    world.run(&mut host, "the host's end", |_, host| host.has_left());
    drop(target);
    let failure = notes.borrow().failure.clone().unwrap();
    assert!(matches!(failure, HostFailure::TimedOut { .. }), "{failure:?}");
}

#[test]
fn the_discovery_log_names_the_subsystem() {
    for seed in seeds(0..4) {
        let mut world = World::new(seed);
        let notes = SharedNotes::default();
        let mut options = options();
        options.subsystem_nqn = DISCOVERY_NQN.to_owned();
        options.queue_count_per_cpu = 0;
        let mut host = world.host(options, |_| VerifyAll::new(notes.clone(), 1, 1, 0, 1));
        end_host(&mut world, &mut host);
        world.end(&mut host);
        let notes = notes.borrow();
        assert_eq!(notes.failure, None);
        let found = notes.discovered.as_ref().unwrap();
        assert!(found.iter().any(|entry| entry.subsystem_nqn.as_str() == NQN), "{found:?}");
    }
}

#[test]
fn a_host_that_is_done_has_its_controller_shut_down() {
    for seed in 0..4 {
        let sends = |shutdown_timeout_ms| {
            let mut world = World::new(seed);
            let notes = SharedNotes::default();
            let options = HostOptions { shutdown_timeout_ms, ..options() };
            let mut host = world.host(options, |_| VerifyAll::new(notes.clone(), 1, 1, 0, 4));
            end_host(&mut world, &mut host);
            assert_eq!(notes.borrow().failure, None);
            world.end(&mut idle_host(seed));
            host.sends_posted()
        };
        // CC is read and written, and CSTS read until it says so.
        let (told, silent) = (sends(50), sends(0));
        assert!((silent + 3..silent + 20).contains(&told), "seed {seed}: {told} sends, and {silent} without");
    }
}

#[test]
fn a_target_that_ends_alone() {
    let world = World::new(3);
    world.end(&mut idle_host(3));
    let _ = Target::has_left;
}

/// A target that is stopped in the midst of a copy holds the destroy calls up: the host leaves all the same, and in time.
#[test]
fn what_never_comes_back_does_not_keep_the_host() {
    for never in [TicketKinds::DESTROY_QUEUE_PAIR, TicketKinds::DESTROY_CONNECTION, TicketKinds::DEREGISTER] {
        let mut world = World::new(6);
        let notes = SharedNotes::default();
        let mut host = world.host(options(), |_| VerifyAll::new(notes.clone(), 1, 4, 0, 30).endless());
        world.run(&mut host, "some I/O", |_, _| notes.borrow().ended_count > 10);
        world.fabric.change(|options| options.never_ending = never);
        host.shut_down();
        for _ in 0..50_000 {
            world.step(&mut host);
        }
        assert!(!host.has_left(), "{never:?} was not waited for");
        host.mesh.advance(1_900_000_000);
        for _ in 0..5_000 {
            world.step(&mut host);
        }
        assert!(!host.has_left(), "too early");
        host.mesh.advance(150_000_000);
        world.run(&mut host, "the host's end", |_, host| host.has_left());
    }
}

/// A workload that submits nothing.
struct Quiet(SharedNotes);

impl transport_rdma::host::Workload for Quiet {
    fn ready(&mut self, start: transport_rdma::host::Start<'_>) {
        self.0.borrow_mut().attached = Some(start.attached.clone());
    }

    fn poll<Q: transport_rdma::verbs::Port>(
        &mut self,
        _now_ns: u64,
        _io: &mut transport_rdma::host::IoQueues<'_, Q>,
    ) -> reactor::Progress {
        reactor::Progress::Idle
    }

    fn completed(&mut self, _now_ns: u64, _ended: &[transport_rdma::host::Ended]) {}

    fn is_done(&self) -> bool {
        false
    }

    fn failed(&mut self, failure: &HostFailure) {
        self.0.borrow_mut().failure = Some(failure.clone());
    }
}

/// A keep-alive whose answer takes longer than the time to the next one is not the last.
#[test]
fn keep_alives_go_on_after_a_late_one() {
    const HALF_NS: u64 = 25_000_000;
    let mut world = World::new(3);
    let notes = SharedNotes::default();
    let mut options = options();
    options.queue_count_per_cpu = 0;
    options.keep_alive_ms = 50;
    let mut host = world.host(options, |_| Quiet(notes.clone()));
    world.run(&mut host, "attaching", |_, _| notes.borrow().attached.is_some());
    let attached_count = host.sends_posted();
    let pass_alone = |host: &mut Host| {
        host.mesh.advance(HALF_NS);
        for _ in 0..100 {
            host.mesh.step();
        }
        host.sends_posted() - attached_count
    };
    assert_eq!(pass_alone(&mut host), 1);
    assert_eq!(pass_alone(&mut host), 1, "the first is out: no second one");
    for _ in 0..5000 {
        world.step(&mut host);
    }
    assert_eq!(pass_alone(&mut host), 2);
    host.shut_down();
    end_host(&mut world, &mut host);
    assert_eq!(notes.borrow().failure, Some(HostFailure::Stopped));
    world.end(&mut idle_host(3));
}
