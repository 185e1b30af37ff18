//! The host on a device that goes, breaks, keeps events to itself, loses flushes and fails calls: its workload is told, and it leaves in time.
#![allow(clippy::unwrap_used, dead_code, reason = "tests, which share their world with others")]

mod seeds;
#[path = "host/workload.rs"]
mod workload;
#[path = "host/world.rs"]
mod world;

use transport_rdma::host::{HostFailure, HostOptions, Message};
use transport_rdma::soft::in_process::{Calls, EventKinds, FabricOptions, InjectedEvent};
use transport_rdma::verbs::{AddressUser, PortId};

use crate::seeds::seeds;
use crate::workload::{SharedNotes, VerifyAll};
use crate::world::{Host, World, options};

/// What a run came to.
struct Outcome {
    failure: Option<HostFailure>,
    /// From the fault to the host's end.
    took_ns: u64,
    live: Vec<(String, u64)>,
}

/// Longer than any end may take: attaching, the drain, and what the control plane waits beyond it.
fn bound_ns() -> u64 {
    let options = options();
    (options.attach_timeout_ms + options.command_timeout_ms + options.drain_timeout_ms) * 1_000_000 + 2_100_000_000
}

fn lenient() -> FabricOptions {
    FabricOptions { is_strict: false, ..FabricOptions::default() }
}

/// A host with endless I/O; `cause` comes at some moment of set-up or I/O.
fn run(seed: u64, options: HostOptions, cause: impl FnOnce(&mut World, &mut Host)) -> Outcome {
    let mut world = World::with(seed, lenient(), if seed.is_multiple_of(2) { 0 } else { 128 });
    let notes = SharedNotes::default();
    let mut host = world.host(options, |_| VerifyAll::new(notes.clone(), 1, 4, 0, 30).endless());
    for _ in 0..seed * 137 % 6_000 {
        world.step(&mut host);
    }
    cause(&mut world, &mut host);
    let begin_ns = host.mesh.now_ns();
    leave(&mut world, &mut host);
    let took_ns = host.mesh.now_ns() - begin_ns;
    let outcome = Outcome { failure: notes.borrow().failure.clone(), took_ns, live: host.live() };
    // The target notices sooner or later, and has nothing of it left then.
    for _ in 0..20 {
        let Some(target) = &mut world.target else { break };
        if target.is_as_before() {
            break;
        }
        target.mesh.advance(5_000_000_000);
        for _ in 0..2_000 {
            world.step(&mut host);
        }
    }
    assert!(world.target.as_ref().unwrap().is_as_before(), "seed {seed}: the target keeps something");
    outcome
}

/// Steps until the host has left; where nothing moves time does.
fn leave(world: &mut World, host: &mut Host) {
    for _ in 0..400 {
        for _ in 0..2_000 {
            if host.has_left() {
                return;
            }
            world.step(host);
        }
        host.mesh.advance(20_000_000);
    }
    panic!("the host does not leave: {:?}", host.live());
}

#[test]
fn a_device_that_is_removed_ends_everything_at_once() {
    for seed in seeds(0..40) {
        let outcome = run(seed, options(), |world, host| {
            world.fabric.change_for(host.machine, |options| options.device.is_removed_silently = seed % 4 == 3);
            world.fabric.remove_device(host.machine);
        });
        // Errors of calls that were on their way may come first.
        assert!(outcome.failure.is_some(), "seed {seed}");
        assert_eq!(outcome.live, [], "seed {seed}: EIO counts as success");
        assert!(outcome.took_ns < 40_000_000, "seed {seed}: no drain is waited for: {} ns", outcome.took_ns);
    }
}

#[test]
fn a_removed_device_is_named_and_so_is_the_way_out() {
    let mut named_count = 0;
    for seed in 0..12 {
        let outcome = run(seed, options(), |world, host| {
            world.fabric.inject(host.machine, InjectedEvent::DeviceRemoved);
        });
        if let Some(failure @ HostFailure::DeviceGone { .. }) = outcome.failure {
            named_count += 1;
            assert!(failure.to_string().contains("start it again"), "{failure}");
        }
    }
    assert!(named_count > 8, "{named_count}");
}

#[test]
fn a_completion_queue_that_breaks_ends_everything_at_once() {
    for seed in seeds(0..24) {
        let outcome = run(seed, options(), |world, host| world.fabric.break_port(host.machine, PortId(0)));
        assert!(outcome.failure.is_some(), "seed {seed}");
        assert_eq!(outcome.live, [], "seed {seed}");
        assert!(outcome.took_ns < 40_000_000, "seed {seed}: {} ns", outcome.took_ns);
    }
}

#[test]
fn a_host_that_stays_leaves_when_its_device_goes_while_it_is_apart() {
    for seed in seeds(0..8) {
        let mut world = World::with(seed, lenient(), 0);
        let notes = SharedNotes::default();
        let options = HostOptions { stays: true, ..options() };
        let mut host = world.host(options, |_| VerifyAll::new(notes.clone(), 1, 4, 0, 30));
        if seed % 2 == 0 {
            host.post(Message::connect());
            world.run(&mut host, "the association's end", |_, _| notes.borrow().apart_count == 1);
        }
        world.fabric.remove_device(host.machine);
        leave(&mut world, &mut host);
        assert_eq!(host.live(), []);
    }
}

#[test]
fn an_address_that_changes_is_a_connection_that_is_lost() {
    let mut lost_count = 0;
    for seed in 0..24 {
        let outcome = run(seed, options(), |world, host| {
            for connection in world.fabric.connections(host.machine) {
                let of = AddressUser::Connection(connection);
                world.fabric.inject(host.machine, InjectedEvent::AddressChanged(of));
            }
            if world.fabric.connections(host.machine).is_empty() {
                host.shut_down();
            }
        });
        assert_eq!(outcome.live, [], "seed {seed}");
        lost_count += u64::from(matches!(outcome.failure, Some(HostFailure::Disconnected { .. })));
    }
    assert!(lost_count > 16, "{lost_count}");
}

/// Each kind of event, from the start or from some moment on.
#[test]
fn whichever_event_never_comes_the_host_leaves_in_time() {
    let kinds: Vec<_> = EventKinds::all().iter().collect();
    for nth in seeds(0..kinds.len() as u64) {
        let kind = kinds[usize::try_from(nth).unwrap()];
        for seed in 0..3 {
            let outcome = run(seed * 29, options(), |world, host| {
                world.fabric.change_for(host.machine, |options| options.manager.withholds = kind);
                // What does not end for want of the event is ended.
                for _ in 0..8_000 {
                    world.step(host);
                }
                host.shut_down();
            });
            assert!(outcome.failure.is_some(), "{kind:?} seed {seed}");
            assert!(outcome.took_ns < bound_ns(), "{kind:?} seed {seed}: {} ns", outcome.took_ns);
        }
    }
}

#[test]
fn flushes_that_never_come_cost_the_drains_deadline_and_no_more() {
    let drain_ns = options().drain_timeout_ms * 1_000_000;
    for seed in seeds(20..36) {
        let outcome = run(seed, options(), |world, host| {
            world.fabric.change_for(host.machine, |options| options.device.completions.drops_flush_one_in = 2);
            host.shut_down();
        });
        assert_eq!(outcome.live, [], "seed {seed}");
        assert!(outcome.took_ns < drain_ns + 40_000_000, "seed {seed}: {} ns", outcome.took_ns);
    }
}

/// The n-th call of each kind that set-up makes.
#[test]
fn each_step_of_set_up_can_fail() {
    let kinds = [
        (Calls::REGISTER, 2),
        (Calls::RESOLVE, 3),
        (Calls::CREATE_QUEUE_PAIR, 3),
        (Calls::CONNECT, 3),
        (Calls::POST_RECEIVE, 12),
        (Calls::POST_SEND, 8),
    ];
    for (kind, count) in kinds {
        for nth in 0..count {
            // Before anything was done.
            let outcome = run(0, options(), |world, host| {
                world.fabric.fail_call(host.machine, kind, nth);
            });
            let failure = outcome.failure.unwrap_or_else(|| panic!("{kind:?} {nth}: the workload was not told"));
            assert_ne!(failure, HostFailure::Stopped, "{kind:?} {nth}");
            assert_eq!(outcome.live, [], "{kind:?} {nth}: {failure}");
            assert!(outcome.took_ns < bound_ns(), "{kind:?} {nth}: {} ns", outcome.took_ns);
        }
    }
}

/// Its connection is kept, since it cannot be destroyed before its queue pair: the host leaves when it has waited for that long enough.
#[test]
fn what_cannot_be_destroyed_does_not_keep_the_host() {
    for seed in seeds(20..23) {
        let outcome = run(seed, options(), |world, host| {
            world.fabric.fail_call(host.machine, Calls::DESTROY_QUEUE_PAIR, seed % 3);
            host.shut_down();
        });
        assert!(outcome.took_ns < bound_ns(), "seed {seed}: {} ns", outcome.took_ns);
        let connections = outcome.live.iter().find(|(name, _)| name == "connections_live");
        assert_eq!(connections.map(|(_, count)| *count), Some(1), "seed {seed}: {:?}", outcome.live);
    }
}
