//! The target side end to end, in the simulation: hosts made of verbs alone, many seeds, every way to end.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test program, which shares its parts with another")]
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
use transport_rdma::binding::{RejectStatus, RequestData};
use transport_rdma::soft::in_process::{
    CallFaults, Calls, CompletionFaults, DeviceFaults, EventKinds, LastWqeFaults, LastWqeMoment, Reuse, TicketKinds,
};

fn session(io_count: u32, end: End) -> Session {
    Session {
        depth: 8,
        io_count,
        end,
        request: None,
        keep_alive_ms: 1000,
        address: address(),
        nqn: SUBSYSTEM,
        may_be_refused: false,
    }
}

/// splitmix64: tests draw from the seed too.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *seed;
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// A session that ends in any way, at any moment.
fn any_session(seed: &mut u64) -> Session {
    let end = match draw(seed) % 8 {
        0 => End::Quietly,
        1 | 2 => End::Abruptly,
        3 => End::Overrun,
        4 => End::ShortCapsule,
        5 => End::WrongKey,
        _ => End::AfterTurns((draw(seed) % 200) as u32),
    };
    Session { depth: 2 + (draw(seed) % 15) as u16, ..session((draw(seed) % 40) as u32, end) }
}

/// Every combination of what devices do differently.
fn layout(seed: u64) -> Layout {
    let mut layout = Layout::new(seed);
    layout.shared_receive_count = if seed & 1 == 0 { 0 } else { 24 };
    layout.fabric.raises_last_wqe = seed & 2 == 0;
    layout.fabric.sweeps_on_destroy = seed & 4 != 0;
    layout.fabric.loses_disconnected = seed & 8 != 0;
    layout.fabric.loses_established = seed & 32 != 0;
    // Where the end of a drain can be proven it is waited for.
    layout.fabric.forbids_destroy_with_work = seed & 1 == 0 || seed & 2 == 0;
    layout.fabric.delay_max = [0, 3, 12][(seed % 3) as usize];
    layout.fabric.forbids_port_before_queue_pairs = true;
    if seed & 64 != 0 {
        layout.device = device(seed);
        layout.manager.twice = EventKinds::all();
    }
    // Transfers in parts, and a send queue that is short of room.
    if seed & 16 != 0 {
        layout.fabric.attributes.transfer_len_max = 1024;
        layout.fabric.attributes.work_request_count_max = 24;
        layout.fabric.attributes.inline_len_max = 0;
    }
    layout
}

/// One that does everything otherwise that devices may, short of losing completions.
fn device(seed: u64) -> DeviceFaults {
    let moments = [LastWqeMoment::AtOnce, LastWqeMoment::Before, LastWqeMoment::Among, LastWqeMoment::After];
    DeviceFaults {
        completions: CompletionFaults {
            looks_max: [0, 2, 9][(seed % 3) as usize],
            is_split: seed & 16 == 0,
            is_mixed: true,
            ..CompletionFaults::default()
        },
        last_wqe: LastWqeFaults {
            moment: moments[(seed / 3 % 4) as usize],
            fatal_first_one_in: 4,
            ..LastWqeFaults::default()
        },
        flushes_shared_receive_one_in: 3,
        swallows_shared_receive_one_in: 3,
        numbers: Reuse::AtOnce,
        keys: Reuse::AtOnce,
        ..DeviceFaults::default()
    }
}

#[test]
fn a_host_connects_writes_reads_back_and_leaves() {
    for seed in (0..32).chain(64..80) {
        let mut rig = Rig::new(&layout(seed), vec![vec![session(60, End::Quietly)]]);
        rig.run_hosts(400_000);
        assert!(rig.hosts[0].borrow().io_count >= 120, "seed {seed}");
        rig.settle();
        let provable = seed & 1 == 0 || seed & 2 == 0;
        assert!(!provable || rig.count("rdma_cut") == 0, "seed {seed}: {:#?}", rig.nonzero());
        // Longer than every deadline: no timer was left behind.
        rig.simulation.advance(20_000_000_000);
        rig.steps(200);
        assert_eq!(rig.count("rdma_stale_handles"), 0, "seed {seed}");
        rig.shut_down();
    }
}

#[test]
fn whatever_hosts_do_nothing_is_left_over() {
    for seed in 0..96 {
        let mut draws = seed;
        let sessions = (0..2).map(|_| (0..4).map(|_| any_session(&mut draws)).collect()).collect();
        let mut rig = Rig::new(&layout(seed), sessions);
        rig.run_hosts(4_000_000);
        rig.settle();
        assert_eq!(rig.count("rdma_connections_quarantined_live"), 0);
        let ended = rig.count("rdma_returned") + rig.count("rdma_cut");
        assert_eq!(ended, rig.count("rdma_disconnects"), "seed {seed}: each queue pair ends once");
        if seed & 1 != 0 {
            assert_eq!(
                rig.count("rdma_shared_receives_posted"),
                48,
                "seed {seed}: no receive is lost, even where the device sweeps"
            );
        }
        rig.shut_down();
    }
}

#[test]
fn a_hundred_connections_leave_every_gauge_where_it_was() {
    for shared_receive_count in [0, 24] {
        let mut layout = Layout::new(7);
        layout.shared_receive_count = shared_receive_count;
        let mut rig = Rig::new(&layout, vec![vec![session(1, End::Quietly); 50]]);
        rig.run_hosts(4_000_000);
        rig.settle();
        assert_eq!(rig.count("rdma_connections_accepted"), 100);
        assert_eq!(rig.count("rdma_shared_receives_posted"), 2 * u64::from(shared_receive_count));
        assert_eq!(rig.simulation.domain().limbo_len(), 0);
        rig.shut_down();
    }
}

#[test]
fn each_broken_request_is_refused_with_its_status() {
    let good = RequestData { queue_id: 0, receive_queue_size: 8, send_queue_size_zero_based: 7, controller_id: 0 };
    let bytes = |data: RequestData| data.to_bytes().to_vec();
    let mut other_format = bytes(good);
    other_format[0] = 1;
    let cases = [
        (vec![], 4, RejectStatus::InvalidLength),
        (bytes(good)[..31].to_vec(), 4, RejectStatus::InvalidLength),
        (other_format, 4, RejectStatus::InvalidRecordFormat),
        (bytes(RequestData { queue_id: 5, ..good }), 4, RejectStatus::InvalidQueueId),
        (bytes(RequestData { send_queue_size_zero_based: 0, ..good }), 4, RejectStatus::InvalidSendQueueSize),
        (bytes(RequestData { send_queue_size_zero_based: 32, ..good }), 4, RejectStatus::InvalidSendQueueSize),
        (
            bytes(RequestData { queue_id: 1, send_queue_size_zero_based: 16, ..good }),
            4,
            RejectStatus::InvalidSendQueueSize,
        ),
        (bytes(RequestData { send_queue_size_zero_based: u16::MAX, ..good }), 4, RejectStatus::InvalidSendQueueSize),
        (bytes(RequestData { receive_queue_size: 0, ..good }), 4, RejectStatus::InvalidReceiveQueueSize),
        (bytes(good), 0, RejectStatus::InvalidInboundReadDepth),
    ];
    let sessions = cases
        .iter()
        .map(|(data, reads, _)| Session { request: Some((data.clone(), *reads)), ..session(0, End::Quietly) });
    let mut rig = Rig::new(&Layout::new(3), vec![sessions.collect()]);
    rig.run_hosts(400_000);
    let expected: Vec<_> = cases.iter().map(|(_, _, status)| status.number()).collect();
    assert_eq!(rig.hosts[0].borrow().rejects, expected);
    rig.settle();
    assert_eq!(rig.labelled("rdma_connections_rejected", "invalid_send_queue_size"), 4);
    rig.shut_down();
}

#[test]
fn hosts_that_break_the_protocol_are_thrown_out_and_the_others_stay() {
    let cases = [(End::Overrun, "protocol"), (End::ShortCapsule, "protocol"), (End::WrongKey, "transport_error")];
    for (end, reason) in cases {
        for shared_receive_count in [0, 32] {
            let mut layout = Layout::new(11);
            // So that too many commands come at once.
            layout.fabric.delay_max = 0;
            layout.shared_receive_count = shared_receive_count;
            let good = session(400, End::Quietly);
            let mut rig = Rig::new(&layout, vec![vec![session(5, end); 3], vec![good]]);
            rig.run_hosts(4_000_000);
            assert_eq!(rig.hosts[1].borrow().io_count, 800);
            rig.settle();
            // The host sees it too, and its DISCONNECT may be seen first.
            let thrown_out = rig.labelled("rdma_disconnects", reason);
            assert!((1..=3).contains(&thrown_out), "{end:?}: {:#?}", rig.nonzero());
            rig.shut_down();
        }
    }
}

#[test]
fn shutdown_ends_whoever_is_there() {
    for seed in 0..24 {
        let mut layout = layout(seed);
        // A host that nobody tells would wait for ever.
        layout.fabric.loses_disconnected = false;
        let mut rig = Rig::new(&layout, vec![vec![session(10_000, End::Wait)], vec![session(3, End::Wait)]]);
        rig.steps(20 * (seed * seed) + 5_000 * (seed % 3));
        rig.shut_down();
        let left_over: Vec<_> =
            rig.desk.rows.borrow().iter().filter(|row| row.0.ends_with("_live") && row.2 > 0).cloned().collect();
        assert!(left_over.is_empty(), "seed {seed}: {left_over:?}");
    }
}

#[test]
fn no_room_is_a_reject_not_a_stall() {
    let mut layout = Layout::new(5);
    layout.cpu_count = 1;
    layout.queue_pair_count_max = 3;
    let mut rig = Rig::new(&layout, vec![vec![session(2_000, End::Quietly); 4], vec![session(2_000, End::Quietly); 4]]);
    rig.run_hosts(8_000_000);
    rig.settle();
    assert!(rig.labelled("rdma_connections_rejected", "no_resources") > 0);
    assert!(rig.hosts.iter().any(|host| host.borrow().io_count >= 4_000));
    rig.shut_down();
}

#[test]
fn a_destroy_that_never_ends_keeps_its_own_and_nothing_else() {
    let mut layout = Layout::new(9);
    layout.fabric.never_ending = TicketKinds::empty();
    let mut rig = Rig::new(&layout, vec![vec![session(20, End::Quietly); 2], vec![session(50_000, End::Wait)]]);
    let first = rig.hosts[0].clone();
    assert!(rig.simulation.run_until(400_000, || first.borrow().is_serving));
    rig.fabric.change(|options| options.never_ending = TicketKinds::DESTROY_QUEUE_PAIR);
    let ended =
        |rig: &mut Rig| rig.labelled("rdma_disconnects", "host") + rig.labelled("rdma_disconnects", "peer_gone");
    for _ in 0..4_000 {
        rig.steps(100);
        rig.simulation.advance(100_000);
    }
    assert_eq!(ended(&mut rig), 2, "{:#?}", rig.nonzero());
    assert_eq!(rig.count("rdma_queue_pairs_live"), 4, "two serve, two wait for their destruction");
    assert_eq!(rig.count("rdma_limbo_live"), 0);
    let before = rig.hosts[1].borrow().io_count;
    rig.steps(20_000);
    assert!(rig.hosts[1].borrow().io_count > before, "the other host is served");
}

/// Posts, set-ups and accepts that fail, and flushes that never come: each ends its own connection, in time, and nothing is left over.
#[test]
fn what_a_device_fails_to_do_ends_its_connection_and_nothing_more() {
    let posts = Calls::POST_SEND | Calls::POST_RECEIVE | Calls::POST_SHARED_RECEIVE;
    let cases = [(posts, 60, 0), (Calls::CREATE_QUEUE_PAIR | Calls::ACCEPT, 4, 0), (Calls::empty(), 0, 5)];
    for seed in 0..18 {
        let (kinds, one_in, drops_flush_one_in) = cases[(seed % 3) as usize];
        let mut draws = seed;
        let sessions = (0..2).map(|_| (0..3).map(|_| any_session(&mut draws)).collect()).collect();
        let mut layout = layout(seed);
        layout.calls = CallFaults { kinds, one_in };
        layout.device.completions.drops_flush_one_in = drops_flush_one_in;
        // What was dropped is outstanding, and a host that nobody tells would wait for ever.
        layout.fabric.forbids_destroy_with_work = false;
        layout.fabric.loses_disconnected = false;
        let mut rig = Rig::new(&layout, sessions);
        rig.run_hosts(4_000_000);
        rig.settle();
        rig.shut_down();
    }
}
