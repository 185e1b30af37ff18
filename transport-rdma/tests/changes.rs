//! Addresses and subsystems that come and go under whole targets: connections in every stage, I/O that a device holds, storms of connects, shutdown.
#![allow(missing_docs, unreachable_pub, reason = "a test program")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failure is a panic here, and numbers are small"
)]

#[path = "changes/gate.rs"]
mod gate;
#[path = "changes/memory.rs"]
mod memory;
#[path = "changes/nvme.rs"]
mod nvme;
#[path = "changes/raw_host.rs"]
mod raw_host;
#[path = "changes/rig.rs"]
mod rig;
mod seeds;

use std::net::SocketAddr;

use nvmf_core::{ChangeError, ChangeId};
use raw_host::{End, SUBSYSTEM, Session};
use rig::{Layout, OTHER, Rig, address, subsystem};
use seeds::seeds;
use transport_rdma::soft::in_process::TicketKinds;
use transport_rdma::target::{Change, ControlError};

fn second_address() -> SocketAddr {
    "10.0.0.2:4420".parse().unwrap()
}

fn session(io_count: u32, end: End) -> Session {
    Session { depth: 8, io_count, end, address: address(), nqn: SUBSYSTEM, may_be_refused: true }
}

/// splitmix64.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *seed;
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// What devices do differently. Hosts are always told that they are disconnected: who waits to be thrown out has to hear of it.
fn layout(seed: u64) -> Layout {
    let mut layout = Layout::new(seed);
    layout.gate = true;
    layout.shared_receive_count = if seed & 1 == 0 { 0 } else { 24 };
    layout.fabric.raises_last_wqe = seed & 2 == 0;
    layout.fabric.sweeps_on_destroy = seed & 4 != 0;
    layout.fabric.loses_established = seed & 32 != 0;
    layout.fabric.forbids_destroy_with_work = seed & 1 == 0 || seed & 2 == 0;
    layout.fabric.delay_max = [0, 3, 12][(seed % 3) as usize];
    layout
}

fn add(nqn: &str, address: SocketAddr) -> Change {
    Change::AddListener { nqn: nqn.into(), address }
}

fn remove(nqn: &str, address: SocketAddr) -> Change {
    Change::RemoveListener { nqn: nqn.into(), address }
}

fn delete(nqn: &str) -> Change {
    Change::DeleteSubsystem { nqn: nqn.into() }
}

/// Takes a change that must be taken, and waits for its end.
fn make(rig: &mut Rig, change: Change) {
    let change = rig.change(change).unwrap();
    rig.finish(change);
}

/// A host that serves, whose I/O is held.
fn hold_io(rig: &mut Rig) {
    let host = rig.hosts[0].clone();
    assert!(rig.simulation.run_until(400_000, || host.borrow().io_count > 20));
    rig.shut_gate(true);
    rig.steps(2_000);
}

#[test]
fn removals_are_answered_while_a_device_holds_io() {
    for seed in seeds(0..48) {
        let mut rig = Rig::new(&layout(seed), vec![vec![session(100_000, End::Wait)]]);
        make(&mut rig, add(SUBSYSTEM, second_address()));
        hold_io(&mut rig);

        // The other subsystem is there still, so the address is listened on.
        make(&mut rig, remove(SUBSYSTEM, address()));
        rig.steps(1_000);
        // The host ends its other queue itself when it hears of the first.
        assert_ne!(rig.labelled("rdma_disconnects", "listener_removed"), 0, "seed {seed}: {:#?}", rig.nonzero());
        assert!(rig.count("rdma_draining_live") > 0, "seed {seed}: the device holds its I/O");
        assert_eq!(*rig.desk.listeners.borrow(), [address(), second_address()]);
        // Now it is not, while the first qpair, which came by it, still drains; then it is again.
        make(&mut rig, remove(OTHER, address()));
        make(&mut rig, remove(SUBSYSTEM, second_address()));
        rig.steps(1_000);
        assert_eq!(*rig.desk.listeners.borrow(), []);
        make(&mut rig, add(OTHER, address()));
        let twice = rig.change(add(OTHER, address())).unwrap_err();
        assert!(matches!(twice, ControlError::Change(ChangeError::ListenerThere { .. })), "{twice}");

        rig.shut_gate(false);
        rig.run_hosts(400_000);
        rig.settle();
        rig.shut_down();
    }
}

#[test]
fn who_never_said_what_it_connects_to_ends_with_the_address() {
    for seed in seeds(0..24) {
        let mut rig = Rig::new(&layout(seed), vec![vec![session(0, End::Silent); 3], vec![session(0, End::Silent)]]);
        let hosts = rig.hosts.clone();
        let all_up = || hosts.iter().all(|host| host.borrow().sessions_established == 1);
        assert!(rig.simulation.run_until(400_000, all_up));
        make(&mut rig, remove(SUBSYSTEM, address()));
        rig.steps(1_000);
        assert_eq!(rig.labelled("rdma_disconnects", "listener_removed"), 0, "another subsystem may be meant");
        // No time passes: they do not end for want of a Connect.
        make(&mut rig, remove(OTHER, address()));
        rig.run_hosts(20_000);
        assert!(hosts[0].borrow().unreachable >= 2, "seed {seed}: who comes later finds nobody");
        rig.settle();
        assert_eq!(rig.count("rdma_connections_accepted"), 2, "seed {seed}");
        assert_eq!(rig.labelled("rdma_disconnects", "listener_removed"), 2, "seed {seed}");
        rig.shut_down();
    }
}

#[test]
fn a_deletion_waits_for_held_io_and_others_are_served() {
    for seed in seeds(0..48) {
        let other = Session { nqn: OTHER, may_be_refused: false, ..session(0, End::Quietly) };
        let mut hosts = vec![vec![session(100_000, End::Wait), session(20, End::Quietly)]];
        hosts.push(vec![other; 4]);
        let mut rig = Rig::new(&layout(seed), hosts);
        hold_io(&mut rig);
        let deletion = rig.change(delete(SUBSYSTEM)).unwrap();
        for _ in 0..200 {
            rig.steps(100);
            rig.simulation.advance(50_000_000);
        }
        assert!(!rig.is_done(deletion), "seed {seed}: its I/O is held");
        assert_ne!(rig.labelled("rdma_disconnects", "subsystem_deleted"), 0, "seed {seed}: {:#?}", rig.nonzero());
        assert!(rig.hosts[1].borrow().is_done, "seed {seed}: the other subsystem is served: {:?}", rig.hosts);
        let left: Vec<_> = rig.desk.qpairs.borrow().iter().map(|(nqn, qpair)| (nqn.clone(), qpair.qid)).collect();
        assert_eq!(left, [(SUBSYSTEM.to_owned(), 1)], "seed {seed}: only the queue whose I/O is held is left");
        rig.shut_gate(false);
        rig.finish(deletion);
        // The same name again, with the same device: another subsystem.
        let device = rig.device.clone();
        make(&mut rig, Change::CreateSubsystem(Box::new(subsystem(SUBSYSTEM, Vec::new(), Some(&device)))));
        make(&mut rig, add(SUBSYSTEM, address()));
        rig.run_hosts(400_000);
        rig.settle();
        rig.shut_down();
    }
}

#[test]
fn changes_and_shutdown_meet_in_every_order() {
    for seed in seeds(0..96) {
        let mut random = seed;
        let mut rig = Rig::new(&layout(seed), vec![vec![session(100_000, End::Wait)], vec![session(50, End::Wait)]]);
        rig.steps(draw(&mut random) % 20_000);
        if seed % 3 == 0 {
            rig.shut_gate(true);
            rig.steps(draw(&mut random) % 2_000);
        }
        let mut taken = Vec::new();
        let orders = [remove(SUBSYSTEM, address()), remove(OTHER, address()), delete(SUBSYSTEM), delete(OTHER)];
        let shut_down_at = draw(&mut random) % 5;
        for (place, order) in (0..).zip(orders) {
            if place == shut_down_at {
                rig.desk.shut_down.set(true);
            }
            if rig.desk.is_drained.get() {
                break;
            }
            match rig.change(order) {
                Ok(change) => taken.push(change),
                Err(ControlError::Change(ChangeError::ShuttingDown)) => assert!(place >= shut_down_at),
                Err(other) => panic!("seed {seed}: {other}"),
            }
            rig.steps(draw(&mut random) % 300);
        }
        assert_eq!(taken.len() as u64, shut_down_at.min(4), "seed {seed}");
        rig.shut_gate(false);
        rig.shut_down();
        for change in taken {
            assert!(rig.is_done(change), "seed {seed}: {change:?}");
        }
        let left: Vec<_> =
            rig.desk.rows.borrow().iter().filter(|row| row.0.ends_with("_live") && row.2 > 0).cloned().collect();
        assert!(left.is_empty(), "seed {seed}: {left:?}");
    }
}

/// Nobody is connected and nothing is listened on, so that nothing but its own last snapshot is waited for.
#[test]
fn a_target_of_nothing_shuts_down() {
    for seed in seeds(0..64) {
        let mut rig = Rig::new(&layout(seed), vec![vec![]]);
        make(&mut rig, delete(SUBSYSTEM));
        make(&mut rig, delete(OTHER));
        rig.steps(seed * 10);
        rig.shut_down();
    }
}

/// Any change, of any of the two subsystems, at any of two addresses.
fn any_change(rig: &Rig, random: &mut u64) -> Change {
    let draw = draw(random);
    let nqn = if draw & 0x100 == 0 { SUBSYSTEM } else { OTHER };
    let at = if draw & 0x200 == 0 { address() } else { second_address() };
    match draw % 8 {
        0..=2 => remove(nqn, at),
        3 | 4 => add(nqn, at),
        5 => delete(nqn),
        6 if nqn == OTHER => Change::CreateSubsystem(Box::new(subsystem(OTHER, Vec::new(), None))),
        6 => Change::CreateSubsystem(Box::new(subsystem(SUBSYSTEM, Vec::new(), Some(&rig.device)))),
        _ => Change::AllowAnyHost { nqn: nqn.into(), is_allowed: true },
    }
}

#[test]
fn a_storm_of_connects_meets_a_storm_of_changes() {
    let (mut served, mut refused, mut ended, mut unreachable) = (0, 0, 0, 0);
    for seed in seeds(0..120) {
        let mut random = seed;
        let any_session = |random: &mut u64| {
            let word = draw(random);
            let end = match word % 4 {
                0 => End::AfterTurns((word >> 8) as u32 % 200),
                1 => End::Abruptly,
                _ => End::Quietly,
            };
            let at = if word & 0x10_0000 == 0 { address() } else { second_address() };
            Session { address: at, ..session((word >> 32) as u32 % 30, end) }
        };
        let hosts = (0..3).map(|_| (0..12).map(|_| any_session(&mut random)).collect()).collect();
        let mut rig = Rig::new(&layout(seed), hosts);
        let mut taken: Vec<ChangeId> = Vec::new();
        // The changes go on while there are hosts.
        for round in 0.. {
            let hosts = rig.hosts.clone();
            let is_done = || hosts.iter().all(|host| host.borrow().is_done);
            let steps = draw(&mut random) % 600;
            if rig.simulation.run_until(steps, is_done) || is_done() {
                break;
            }
            assert!(round < 4_000, "seed {seed}: hosts stalled: {:?}\n{:#?}", rig.hosts, rig.nonzero());
            rig.simulation.advance(1_000_000);
            if round % 7 == 0 {
                rig.shut_gate(draw(&mut random).is_multiple_of(4));
            }
            let change = any_change(&rig, &mut random);
            taken.extend(rig.change(change));
        }
        rig.shut_gate(false);
        rig.settle();
        for change in taken {
            assert!(rig.is_done(change), "seed {seed}: {change:?}");
        }
        for host in &rig.hosts {
            let host = host.borrow();
            served += host.io_count;
            refused += host.refused.len();
            unreachable += host.unreachable;
        }
        ended += rig.labelled("rdma_disconnects", "listener_removed");
        ended += rig.labelled("rdma_disconnects", "subsystem_deleted");
        rig.shut_down();
    }
    // The storms met: each of these happened, many times.
    assert!(
        served > 1_000 && refused > 100 && ended > 100 && unreachable > 100,
        "{served} {refused} {ended} {unreachable}"
    );
}

#[test]
fn a_listener_that_never_ends_keeps_its_own_answer_and_nothing_else() {
    let mut rig = Rig::new(&layout(8), vec![vec![session(20, End::Quietly)], vec![]]);
    rig.run_hosts(400_000);
    rig.fabric.change(|options| options.never_ending = TicketKinds::UNLISTEN);
    make(&mut rig, remove(SUBSYSTEM, address()));
    let removal = rig.change(remove(OTHER, address())).unwrap();
    rig.steps(5_000);
    assert!(!rig.is_done(removal));
    let again = rig.change(add(OTHER, address())).unwrap_err();
    assert!(matches!(again, ControlError::AddressEnds { .. }), "{again}");
    make(&mut rig, add(OTHER, second_address()));
    make(&mut rig, delete(SUBSYSTEM));
    rig.steps(200);
    assert_eq!(*rig.desk.listeners.borrow(), [second_address()]);
}
