//! Reservations through the whole walk: two hosts, two polling CPUs, and a control plane whose answers can be late.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

mod reservations {
    mod kept;
}

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{
    Conn, Connect, HOST_ID, HOST_NQN, NQN, OP_READ, OP_WRITE, Options, World, command, io, keyed, namespace,
};
use nvmf_core::host::{self, DataPointer, ReservationReport};
use nvmf_core::spec::{NamespaceSpec, Persistence};
use nvmf_core::status::Status;
use nvmf_core::wire::SglDescriptor;
use nvmf_core::wire::reservation::{AcquireAction, RegisterAction, ReleaseAction, ReservationType};
use nvmf_core::{DisconnectReason, RemoteBuffer};
use reactor::Cpu;

const CONTROL: Cpu = Cpu(2);
const OTHER_ID: [u8; 16] = [9; 16];
const OTHER_NQN: &str = "nqn.2024-01.example:second";
const REPORT_AT: usize = 0x8000;
const REPORT_LEN: u32 = 4096;

/// A host: its admin queue, and I/O queues on both CPUs.
struct Host {
    admin: Conn,
    io: [Conn; 2],
}

fn connect(world: &mut World, cpu: u16, id: [u8; 16], nqn: &str) -> Host {
    let who = Connect { host_id: id, host_nqn: nqn.into(), nqn: NQN.into(), ..Connect::new(0, 32) };
    let admin = world.open(cpu, 0, 32);
    let response = world.execute_connect(admin, &who);
    assert_eq!(response.status(), Status::SUCCESS);
    let controller_id = u16::try_from(response.result.get() & 0xFFFF).unwrap();
    world.enable(admin);
    let mut queue = |cpu: u16| {
        let io = world.open(cpu, cpu + 1, 16);
        let connect = Connect { controller_id, in_capsule: true, qid: cpu + 1, depth: 16, ..who.clone() };
        assert_eq!(world.execute_connect(io, &connect).status(), Status::SUCCESS);
        io
    };
    let io = [queue(0), queue(1)];
    Host { admin, io }
}

fn hosts() -> (World, Host, Host, Arc<TestDevice>) {
    hosts_of(None)
}

/// With a place for what is to outlive the target.
fn hosts_of(persistence: Option<Persistence>) -> (World, Host, Host, Arc<TestDevice>) {
    let device = Arc::new(TestDevice::new("disk", 64));
    let spec = NamespaceSpec { persistence, ..namespace(1, Arc::clone(&device) as _) };
    let mut world = World::new(Options::new(vec![spec]));
    let first = connect(&mut world, 0, HOST_ID, HOST_NQN);
    let second = connect(&mut world, 1, OTHER_ID, OTHER_NQN);
    (world, first, second, device)
}

fn in_capsule() -> DataPointer {
    DataPointer::InCapsule { offset: 0, len: 16 }
}

fn register(world: &mut World, conn: Conn, key: u64) -> Status {
    let entry = host::reservation_register(1, 1, RegisterAction::Register, false, None, in_capsule());
    world.execute(conn, entry, &host::keys(0, key)).status()
}

fn acquire(world: &mut World, conn: Conn, key: u64, kind: ReservationType) -> Status {
    let entry = host::reservation_acquire(2, 1, AcquireAction::Acquire, kind, in_capsule());
    world.execute(conn, entry, &host::keys(key, 0)).status()
}

fn preempt_entry(command_id: u16, action: AcquireAction, kind: ReservationType) -> [u8; 64] {
    host::reservation_acquire(command_id, 1, action, kind, in_capsule())
}

fn release(world: &mut World, conn: Conn, key: u64, action: ReleaseAction, kind: ReservationType) -> Status {
    let entry = host::reservation_release(3, 1, action, kind, in_capsule());
    world.execute(conn, entry, &host::keys(key, 0)).status()
}

fn report(world: &mut World, conn: Conn) -> ReservationReport {
    world.host_write(conn.cpu, REPORT_AT, &[0xEE; REPORT_LEN as usize]);
    let buffer = RemoteBuffer { address: REPORT_AT as u64, len: REPORT_LEN, key: 1 };
    let entry = host::reservation_report(4, 1, DataPointer::Keyed { buffer, invalidate: false });
    assert_eq!(world.execute(conn, entry, &[]).status(), Status::SUCCESS);
    let bytes = world.host_read(conn.cpu, REPORT_AT, REPORT_LEN as usize);
    let report = ReservationReport::parse(&bytes).unwrap();
    let end = 64 + 64 * usize::from(report.registrant_count);
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "zeroes behind what there is");
    report
}

fn write_entry(command_id: u16) -> [u8; 64] {
    io(OP_WRITE, command_id, 0, 1, keyed(0, 512))
}

fn write(world: &mut World, conn: Conn) -> Status {
    world.execute(conn, write_entry(5), &[]).status()
}

fn read(world: &mut World, conn: Conn) -> Status {
    world.execute(conn, io(OP_READ, 6, 0, 1, keyed(0, 512)), &[]).status()
}

#[test]
fn a_reservation_keeps_the_other_host_out_on_every_cpu() {
    let (mut world, first, second, _) = hosts();
    assert_eq!(acquire(&mut world, first.io[0], 7, ReservationType::WriteExclusive), Status::RESERVATION_CONFLICT);
    assert_eq!(register(&mut world, first.io[0], 7), Status::SUCCESS);
    assert_eq!(register(&mut world, second.io[1], 8), Status::SUCCESS);
    assert_eq!(acquire(&mut world, first.io[1], 7, ReservationType::WriteExclusive), Status::SUCCESS);
    for cpu in [0, 1] {
        assert_eq!(write(&mut world, first.io[cpu]), Status::SUCCESS);
        assert_eq!(read(&mut world, second.io[cpu]), Status::SUCCESS);
        assert_eq!(write(&mut world, second.io[cpu]), Status::RESERVATION_CONFLICT);
    }
    let told = report(&mut world, second.io[0]);
    assert_eq!((told.generation, told.kind), (2, Some(ReservationType::WriteExclusive)));
    let told: Vec<_> =
        told.registrants.iter().map(|r| (r.host_id, r.key.get(), r.status, r.controller_id.get())).collect();
    assert_eq!(told, [(HOST_ID, 7, 1, 0xFFFF), (OTHER_ID, 8, 0, 0xFFFF)]);
    assert_eq!(
        release(&mut world, first.io[0], 7, ReleaseAction::Release, ReservationType::ExclusiveAccess),
        Status::INVALID_FIELD
    );
    assert_eq!(
        release(&mut world, first.io[0], 7, ReleaseAction::Release, ReservationType::WriteExclusive),
        Status::SUCCESS
    );
    assert_eq!(write(&mut world, second.io[0]), Status::SUCCESS);
    world.shut_down();
}

#[test]
fn whoever_comes_later_and_whoever_comes_again_is_known_by_its_identifier() {
    let (mut world, first, second, _) = hosts();
    assert_eq!(register(&mut world, first.io[0], 7), Status::SUCCESS);
    assert_eq!(acquire(&mut world, first.io[0], 7, ReservationType::ExclusiveAccessRegistrants), Status::SUCCESS);
    assert_eq!(read(&mut world, second.io[0]), Status::RESERVATION_CONFLICT);
    // A second controller of the first host, made after the reservation.
    let again = connect(&mut world, 1, HOST_ID, HOST_NQN);
    assert_eq!(write(&mut world, again.io[0]), Status::SUCCESS);
    let third = connect(&mut world, 0, [3; 16], "nqn.2024-01.example:third");
    assert_eq!(read(&mut world, third.io[1]), Status::RESERVATION_CONFLICT);
    assert_eq!(register(&mut world, third.io[1], 1), Status::SUCCESS);
    assert_eq!(write(&mut world, third.io[0]), Status::SUCCESS, "registered later");
    // All of the holder's controllers go: it holds the reservation still.
    for conn in [first.admin, again.admin] {
        world.disconnect(conn, DisconnectReason::Host);
    }
    world.run(300);
    assert_eq!(read(&mut world, second.io[0]), Status::RESERVATION_CONFLICT);
    let back = connect(&mut world, 0, HOST_ID, HOST_NQN);
    assert_eq!(write(&mut world, back.io[1]), Status::SUCCESS);
    world.shut_down();
}

#[test]
fn an_acquire_is_not_answered_before_every_cpu_has_looked() {
    let (mut world, first, second, _) = hosts();
    assert_eq!(register(&mut world, first.io[0], 7), Status::SUCCESS);
    let entry = host::reservation_acquire(2, 1, AcquireAction::Acquire, ReservationType::ExclusiveAccess, in_capsule());
    let before = world.responses(first.io[0]).len();
    world.send(first.io[0], entry, &host::keys(7, 0));
    // The second CPU does not turn: whatever it lets in next it might let in by the old state.
    for _ in 0..50 {
        world.sim.step_cpu(Cpu(0));
        world.sim.step_cpu(CONTROL);
    }
    assert_eq!(world.responses(first.io[0]).len(), before, "a CPU has not looked");
    let at = world.responses(second.io[1]).len();
    world.send(second.io[1], write_entry(5), &[]);
    for _ in 0..50 {
        world.sim.step_cpu(Cpu(1));
        world.sim.step_cpu(CONTROL);
        world.sim.step_cpu(Cpu(0));
    }
    assert_eq!(world.responses(first.io[0]).last().unwrap().status(), Status::SUCCESS);
    assert_eq!(world.responses(second.io[1])[at].status(), Status::RESERVATION_CONFLICT);
    world.shut_down();
}

/// Two writes of the second host are under way, one of them on each CPU, and the first host preempts.
fn under_way(action: AcquireAction) -> (World, Host, Host, Arc<TestDevice>, usize) {
    let (mut world, first, second, device) = hosts();
    assert_eq!(register(&mut world, first.io[0], 7), Status::SUCCESS);
    assert_eq!(register(&mut world, second.io[0], 8), Status::SUCCESS);
    assert_eq!(acquire(&mut world, second.io[0], 8, ReservationType::WriteExclusive), Status::SUCCESS);
    device.state.lock().unwrap().hold = true;
    for conn in second.io {
        world.send(conn, write_entry(0x50), &[]);
    }
    world.run(100);
    let at = world.responses(first.io[0]).len();
    world.send(first.io[0], preempt_entry(9, action, ReservationType::WriteExclusive), &host::keys(7, 8));
    world.run(300);
    (world, first, second, device, at)
}

#[test]
fn preempt_and_abort_waits_for_what_a_device_has() {
    let (mut world, first, second, device, at) = under_way(AcquireAction::PreemptAndAbort);
    assert_eq!(world.responses(first.io[0]).len(), at, "the device may still write");
    // The others do not wait with it.
    assert_eq!(report(&mut world, first.io[1]).kind, Some(ReservationType::WriteExclusive));
    let ended: Vec<usize> = second.io.iter().map(|conn| world.responses(*conn).len()).collect();
    device.state.lock().unwrap().hold = false;
    world.run(300);
    assert_eq!(world.responses(first.io[0])[at].status(), Status::SUCCESS);
    for (conn, before) in second.io.iter().zip(ended) {
        assert_eq!(world.responses(*conn).len(), before + 1);
        assert_eq!(write(&mut world, *conn), Status::RESERVATION_CONFLICT);
    }
    assert_eq!(write(&mut world, first.io[1]), Status::SUCCESS);
    world.shut_down();
}

#[test]
fn preempt_alone_waits_for_nobody() {
    let (mut world, first, _, device, at) = under_way(AcquireAction::Preempt);
    assert_eq!(world.responses(first.io[0])[at].status(), Status::SUCCESS);
    device.state.lock().unwrap().hold = false;
    world.shut_down();
}

#[test]
fn preempt_and_abort_waits_for_a_host_whose_connection_broke() {
    let (mut world, first, second, device, at) = under_way(AcquireAction::PreemptAndAbort);
    for conn in second.io {
        world.disconnect(conn, DisconnectReason::TransportError);
    }
    world.run(300);
    assert_eq!(world.responses(first.io[0]).len(), at, "its writes are with the device all the same");
    device.state.lock().unwrap().hold = false;
    world.run(300);
    assert_eq!(world.responses(first.io[0])[at].status(), Status::SUCCESS);
    world.shut_down();
}

#[test]
fn what_is_being_pulled_is_aborted_when_it_is_there() {
    let (mut world, first, second, device) = hosts();
    assert_eq!(register(&mut world, first.io[0], 7), Status::SUCCESS);
    assert_eq!(register(&mut world, second.io[0], 8), Status::SUCCESS);
    world.wire(1).hold_pulls = true;
    let seen = device.state.lock().unwrap().seen.len();
    let at = world.responses(second.io[1]).len();
    world.send(second.io[1], write_entry(0x50), &[]);
    world.run(50);
    let before = world.responses(first.io[0]).len();
    let entry = preempt_entry(9, AcquireAction::PreemptAndAbort, ReservationType::ExclusiveAccess);
    world.send(first.io[0], entry, &host::keys(7, 8));
    world.run(200);
    assert_eq!(world.responses(first.io[0]).len(), before);
    world.wire(1).hold_pulls = false;
    world.run(200);
    assert_eq!(world.responses(second.io[1])[at].status(), Status::ABORTED_PREEMPT);
    assert_eq!(world.responses(first.io[0])[before].status(), Status::SUCCESS);
    assert_eq!(device.state.lock().unwrap().seen.len(), seen, "the device never saw it");
    world.shut_down();
}

#[test]
fn a_host_that_asked_and_left_leaves_nothing_behind() {
    let (mut world, first, second, _) = hosts();
    world.control.borrow_mut().hold = true;
    let entry = host::reservation_register(1, 1, RegisterAction::Register, false, None, in_capsule());
    world.send(first.io[0], entry, &host::keys(0, 7));
    world.run(50);
    world.disconnect(first.io[0], DisconnectReason::TransportError);
    world.run(50);
    assert!(world.is_closed(first.io[0]), "it waits for no ruling");
    world.control.borrow_mut().hold = false;
    world.run(50);
    assert_eq!(report(&mut world, second.io[0]).registrant_count, 1, "it has registered all the same");
    world.shut_down();
}

#[test]
fn notifications_go_to_the_others_unless_masked() {
    let (mut world, first, second, _) = hosts();
    assert_eq!(register(&mut world, first.io[0], 7), Status::SUCCESS);
    assert_eq!(register(&mut world, second.io[0], 8), Status::SUCCESS);
    let kind = ReservationType::WriteExclusiveRegistrants;
    assert_eq!(acquire(&mut world, first.io[0], 7, kind), Status::SUCCESS);
    world.send(second.admin, host::async_event_request(0x77), &[]);
    world.run(20);
    let at = world.responses(second.admin).len();
    assert_eq!(release(&mut world, first.io[0], 7, ReleaseAction::Release, kind), Status::SUCCESS);
    world.run(50);
    let event = world.responses(second.admin)[at];
    assert_eq!((event.command_id.get(), event.result.get()), (0x77, 0x80_0006), "I/O command set, log page 80h");
    let log = |world: &mut World, conn: Conn| {
        let entry = command(0x02, 0x10, 0, keyed(0, 64), [0x80 | 15 << 16, 0, 0, 0]);
        assert_eq!(world.execute(conn, entry.to_bytes(), &[]).status(), Status::SUCCESS);
        let page = world.host_read(conn.cpu, 0, 64);
        (page[0], page[8], page[9], page[12])
    };
    assert_eq!(log(&mut world, second.admin), (1, 2, 0, 1), "released, on namespace 1");
    assert_eq!(log(&mut world, second.admin), (0, 0, 0, 0));
    assert_eq!(log(&mut world, first.admin), (0, 0, 0, 0), "whoever did it knows");
    // Masked: bit 2 is Reservation Released.
    let mask = |world: &mut World, value: u32| {
        let entry = command(0x09, 0x11, 1, SglDescriptor::NO_DATA, [0x82, value, 0, 0]);
        world.execute(second.admin, entry.to_bytes(), &[]).status()
    };
    assert_eq!(mask(&mut world, 1), Status::INVALID_FIELD);
    assert_eq!(mask(&mut world, 0b100), Status::SUCCESS);
    let entry = command(0x0A, 0x12, 1, SglDescriptor::NO_DATA, [0x82, 0, 0, 0]);
    assert_eq!(world.execute(first.admin, entry.to_bytes(), &[]).result.get(), 0b100);
    assert_eq!(acquire(&mut world, first.io[0], 7, kind), Status::SUCCESS);
    assert_eq!(release(&mut world, first.io[0], 7, ReleaseAction::Release, kind), Status::SUCCESS);
    assert_eq!(release(&mut world, first.io[0], 7, ReleaseAction::Clear, kind), Status::SUCCESS);
    world.run(50);
    assert_eq!(log(&mut world, second.admin), (2, 3, 0, 1), "preempted, and nothing before it");
    world.shut_down();
}
