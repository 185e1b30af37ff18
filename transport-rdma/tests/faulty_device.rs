//! The target on a device that goes, breaks, keeps events to itself, loses flushes and fails calls: every end is bounded, or safe and visible.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test program, which shares its rig with another")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failure is a panic here, and numbers are small"
)]

#[path = "target/gate.rs"]
mod gate;
#[path = "target/nvme.rs"]
mod nvme;
#[path = "target/raw_host.rs"]
mod raw_host;
#[path = "target/rig.rs"]
mod rig;

use raw_host::{End, SUBSYSTEM, Session};
use rig::{Layout, Rig, address};
use transport_rdma::soft::in_process::{Calls, EventKinds, InjectedEvent};
use transport_rdma::verbs::{AddressUser, PortId};

/// Every drain, and what a device that is well takes for the rest.
const BOUND_NS: u64 = 6_000_000_000;

fn session(io_count: u32, end: End) -> Session {
    let (address, nqn) = (address(), SUBSYSTEM);
    Session { depth: 8, io_count, end, request: None, keep_alive_ms: 1000, address, nqn, may_be_refused: true }
}

fn layout(seed: u64) -> Layout {
    let mut layout = Layout::new(seed);
    layout.shared_receive_count = if seed & 1 == 0 { 0 } else { 24 };
    layout.fabric.raises_last_wqe = seed & 2 == 0;
    layout.fabric.sweeps_on_destroy = seed & 4 != 0;
    layout.fabric.delay_max = [0, 3, 12][(seed % 3) as usize];
    layout
}

fn patient(host_count: usize) -> Vec<Vec<Session>> {
    vec![vec![session(u32::MAX, End::Wait)]; host_count]
}

/// Some moment of set-up or I/O.
fn some_moment(rig: &mut Rig, seed: u64) {
    rig.steps(60 * seed + 7_000 * (seed % 3));
}

/// How long it takes until nothing of any connection is left, but for what `stays`.
fn settle_ns(rig: &mut Rig) -> u64 {
    let begin_ns = rig.simulation.now_ns();
    rig.settle();
    rig.simulation.now_ns() - begin_ns
}

#[test]
fn a_device_that_is_removed_ends_everything_at_once_and_the_target_stays() {
    let mut cut_count = 0;
    for seed in 0..48 {
        let mut rig = Rig::new(&layout(seed), patient(2));
        some_moment(&mut rig, seed);
        let machine = rig.machine;
        rig.fabric.change_for(machine, |options| options.device.is_removed_silently = seed % 8 == 7);
        rig.fabric.remove_device(machine);
        rig.steps(3_000);
        let took_ns = settle_ns(&mut rig);
        // No drain's deadline is waited for.
        assert!(took_ns < 1_000_000_000, "seed {seed}: {took_ns} ns");
        assert_eq!(rig.count("rdma_device_removed"), 1, "seed {seed}");
        assert_eq!(rig.count("rdma_connections_quarantined_live"), 0, "seed {seed}: EIO counts as success");
        let ended = rig.count("rdma_returned") + rig.count("rdma_cut");
        assert_eq!(ended, rig.count("rdma_disconnects"), "seed {seed}: each queue pair ends once");
        cut_count += rig.count("rdma_cut");
        // The control plane and the CPUs go on.
        let accepted = rig.count("rdma_connections_accepted");
        rig.steps(20_000);
        assert_eq!(rig.count("rdma_connections_accepted"), accepted, "seed {seed}: none is accepted any more");
        rig.shut_down();
    }
    assert!(cut_count > 40, "{cut_count}");
}

#[test]
fn a_completion_queue_that_breaks_ends_its_cpus_connections_and_no_others() {
    let mut moved_count = 0;
    for seed in 0..24 {
        let mut layout = layout(seed);
        layout.fabric.is_strict = false;
        let sessions = vec![vec![session(u32::MAX, End::Wait); 3], vec![session(u32::MAX, End::Wait); 3]];
        let mut rig = Rig::new(&layout, sessions);
        let hosts = rig.hosts.clone();
        let serving = rig.simulation.run_until(400_000, || hosts.iter().all(|host| host.borrow().is_serving));
        assert!(serving, "seed {seed}");
        let broken = PortId((seed % 2) as u32);
        let machine = rig.machine;
        rig.fabric.break_port(machine, broken);
        // Hosts that lose a queue end their session, and come again.
        for _ in 0..300 {
            rig.steps(200);
            rig.simulation.advance(1_000_000);
        }
        assert_eq!(rig.count("rdma_completion_queue_broken"), 1, "seed {seed}");
        assert_eq!(rig.labelled_both("rdma_queue_pairs_live", "cpu", &broken.0.to_string()), 0, "seed {seed}");
        let other = (1 - broken.0).to_string();
        let alive = rig.labelled_both("rdma_queue_pairs_live", "cpu", &other);
        moved_count += u64::from(alive >= 2);
        rig.shut_down();
    }
    assert!(moved_count > 12, "the CPU that is left takes what comes: {moved_count}");
}

#[test]
fn whichever_event_never_comes_every_end_is_bounded() {
    let kinds = [
        EventKinds::ESTABLISHED,
        EventKinds::REJECTED,
        EventKinds::DISCONNECTED,
        EventKinds::TIMEWAIT_EXIT,
        EventKinds::LAST_WQE_REACHED,
        EventKinds::QUEUE_PAIR_FATAL,
        EventKinds::ESTABLISHED | EventKinds::DISCONNECTED | EventKinds::LAST_WQE_REACHED | EventKinds::TIMEWAIT_EXIT,
    ];
    for (number, kind) in (0..).zip(kinds) {
        for seed in 0..8 {
            let mut layout = layout(seed + 16 * number);
            layout.shared_receive_count = if seed % 2 == 0 { 0 } else { 24 };
            layout.fabric.raises_last_wqe = true;
            let ends = [End::Quietly, End::Abruptly, End::AfterTurns(40 * seed as u32), End::ShortCapsule];
            let sessions = ends.iter().map(|end| session(10, *end)).collect();
            let mut rig = Rig::new(&layout, vec![sessions]);
            let machine = rig.machine;
            rig.fabric.change_for(machine, |options| options.manager.withholds = kind);
            rig.run_hosts(4_000_000);
            let took_ns = settle_ns(&mut rig);
            // Where a disconnect is lost the missing keep-alive tells.
            assert!(took_ns < BOUND_NS + 3_000_000_000, "{kind:?} seed {seed}: {took_ns} ns");
            assert_eq!(rig.count("rdma_connections_quarantined_live"), 0);
            rig.shut_down();
        }
    }
}

#[test]
fn flushes_that_never_come_end_in_a_cut_at_the_deadline() {
    let mut cut_count = 0;
    for seed in 0..16 {
        let mut layout = layout(seed);
        layout.fabric.is_strict = false;
        let mut rig = Rig::new(&layout, vec![vec![session(12, End::Abruptly), session(12, End::Quietly)]]);
        let machine = rig.machine;
        rig.fabric.change_for(machine, |options| {
            options.device.completions.drops_flush_one_in = 1 + (seed % 3) as u32;
        });
        rig.run_hosts(4_000_000);
        let took_ns = settle_ns(&mut rig);
        assert!(took_ns < BOUND_NS, "seed {seed}: {took_ns} ns");
        cut_count += rig.count("rdma_cut");
        rig.shut_down();
    }
    assert!(cut_count > 16, "{cut_count}");
}

/// Of a call that never ends: nothing is used again, the gauge names it, others are served, and once it ends so does everything.
#[test]
fn a_call_that_does_not_end_is_kept_and_named() {
    let calls = [
        (EventKinds::QUEUE_PAIR_CREATED, "creation of a queue pair"),
        (EventKinds::QUEUE_PAIR_DESTROYED, "destruction of a queue pair"),
        (EventKinds::CONNECTION_DESTROYED, "destruction of a connection"),
    ];
    for (kind, waits_for) in calls {
        for seed in 0..4 {
            let mut rig = Rig::new(&layout(seed), vec![vec![session(8, End::AfterTurns(150)); 2]]);
            let machine = rig.machine;
            rig.fabric.change_for(machine, |options| options.manager.withholds = kind);
            for _ in 0..1_000 {
                rig.steps(100);
                rig.simulation.advance(20_000_000);
            }
            let overdue = rig.labelled("rdma_connections_overdue_live", waits_for);
            assert!(overdue > 0, "{kind:?} seed {seed}: {:#?}", rig.nonzero());
            assert_eq!(overdue, rig.count("rdma_connections_overdue_live"), "{kind:?} seed {seed}: and nothing else");
            rig.fabric.change_for(machine, |options| options.manager.withholds = EventKinds::empty());
            rig.run_hosts(4_000_000);
            rig.settle();
            assert_eq!(rig.count("rdma_connections_overdue_live"), 0, "{kind:?} seed {seed}");
            rig.shut_down();
        }
    }
}

/// The n-th call of each kind that set-up makes, for every n that it makes.
#[test]
fn each_step_of_set_up_can_fail() {
    let kinds = [
        (Calls::CREATE_QUEUE_PAIR, 4),
        (Calls::ACCEPT, 4),
        (Calls::POST_RECEIVE, 30),
        (Calls::POST_SHARED_RECEIVE, 30),
        (Calls::POST_SEND, 12),
    ];
    for (kind, count) in kinds {
        for nth in 0..count {
            let seed = nth * 4 + u64::from(kind == Calls::POST_SHARED_RECEIVE);
            let mut layout = layout(seed);
            layout.fabric.is_strict = false;
            let mut rig = Rig::new(&layout, vec![vec![session(6, End::AfterTurns(2_000)); 2]]);
            let machine = rig.machine;
            rig.fabric.fail_call(machine, kind, nth);
            rig.run_hosts(8_000_000);
            let took_ns = settle_ns(&mut rig);
            assert!(took_ns < BOUND_NS, "{kind:?} {nth}: {took_ns} ns");
            assert_eq!(rig.count("rdma_connections_quarantined_live"), 0);
            let ended = rig.count("rdma_returned") + rig.count("rdma_cut");
            assert_eq!(ended, rig.count("rdma_disconnects"), "{kind:?} {nth}: each queue pair ends once");
            rig.shut_down();
        }
    }
}

#[test]
fn what_cannot_be_destroyed_is_kept_and_does_not_keep_the_target() {
    for seed in 0..12 {
        let mut rig = Rig::new(&layout(seed), vec![vec![session(10, End::Abruptly), session(10, End::Quietly)]]);
        let machine = rig.machine;
        rig.fabric.fail_call(machine, Calls::DESTROY_QUEUE_PAIR, seed % 3);
        rig.run_hosts(4_000_000);
        for _ in 0..700 {
            rig.steps(200);
            rig.simulation.advance(10_000_000);
        }
        assert_eq!(rig.count("rdma_connections_quarantined_live"), 1, "seed {seed}");
        assert_eq!(rig.count("rdma_connections_live"), 1, "seed {seed}: {:#?}", rig.nonzero());
        rig.shut_down();
    }
}

#[test]
fn an_address_that_changes_ends_its_connections_and_is_listened_on_anew() {
    for seed in 0..12 {
        let mut rig = Rig::new(&layout(seed), vec![vec![session(u32::MAX, End::Wait); 2]]);
        let host = rig.hosts[0].clone();
        assert!(rig.simulation.run_until(400_000, || host.borrow().is_serving), "seed {seed}");
        let machine = rig.machine;
        for listener in rig.fabric.listeners(machine) {
            rig.fabric.inject(machine, InjectedEvent::AddressChanged(AddressUser::Listener(listener)));
        }
        rig.steps(4_000);
        assert_eq!(rig.count("rdma_address_changes"), 1, "seed {seed}");
        assert_eq!(
            rig.labelled("rdma_disconnects", "address_changed"),
            0,
            "seed {seed}: a listener's ends no connection"
        );
        for connection in rig.fabric.connections(machine) {
            rig.fabric.inject(machine, InjectedEvent::AddressChanged(AddressUser::Connection(connection)));
        }
        let again = rig.simulation.run_until(800_000, || host.borrow().sessions_established >= 3);
        assert!(again, "seed {seed}: it comes again, to the same address: {:#?}", rig.nonzero());
        rig.steps(2_000);
        assert!(rig.labelled("rdma_disconnects", "address_changed") >= 1, "seed {seed}: {:#?}", rig.nonzero());
        rig.shut_down();
    }
}
