//! Who is refused or thrown out, and that the others stay; room that is not there; shutdown with hosts in the house.

use super::ordinary::{any_session, expect, expect_served, roomy};
use crate::sim::failure::Failure;
use crate::sim::host::raw::{End, RawHost, Session};
use crate::sim::scenario::{Run, Scenario};
use crate::sim::world::Layout;
use transport_rdma::soft::in_process::TicketKinds;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "broken-requests-are-refused",
        about: "each connection request that is not as it should be is rejected with its status, and leaves nothing",
        entries: &["R7", "D1"],
        play: broken_requests_are_refused,
    },
    Scenario {
        name: "breakers-are-thrown-out",
        about: "hosts that break the protocol are thrown out for the right reason, and the others stay",
        entries: &["C9", "C12"],
        play: breakers_are_thrown_out,
    },
    Scenario {
        name: "no-room-is-a-reject",
        about: "connections that there is no room for are rejected, and those that there is room for are served",
        entries: &["D2", "R3"],
        play: no_room_is_a_reject,
    },
    Scenario {
        name: "shutdown-with-hosts",
        about: "the target is shut down at any moment, and ends whoever is there",
        entries: &["E1"],
        play: shutdown_with_hosts,
    },
    Scenario {
        name: "destroy-never-ends",
        about: "calls that destroy queue pairs never come back: they keep what is theirs, and nothing else",
        entries: &["B1", "R6"],
        play: destroy_never_ends,
    },
];

const LIMIT: u64 = 4_000_000;

/// A connection request's private data: record format, queue id, receives, sends (zero-based).
fn request(format: u16, qid: u16, receives: u16, sends_zero_based: u16) -> Vec<u8> {
    let words = [format, qid, receives, sends_zero_based, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(32, 0);
    bytes
}

fn broken_requests_are_refused(run: &mut Run) -> Result<(), Failure> {
    let good = || request(0, 0, 8, 7);
    // Private data, RDMA READs, and the status of NVMe/RDMA's rejections [NVMe RDMA Transport 1.0, figure 11].
    let cases: [(Vec<u8>, u8, u16); 10] = [
        (Vec::new(), 4, 1),
        (good()[..31].to_vec(), 4, 1),
        (request(1, 0, 8, 7), 4, 2),
        (request(0, 5, 8, 7), 4, 3),
        (request(0, 0, 8, 0), 4, 4),
        (request(0, 0, 8, 32), 4, 4),
        (request(0, 1, 8, 16), 4, 4),
        (request(0, 0, 8, u16::MAX), 4, 4),
        (request(0, 0, 0, 7), 4, 5),
        (good(), 0, 7),
    ];
    let layout = roomy(run);
    let mut world = run.world(&layout);
    let session = |(data, reads, _): &(Vec<u8>, u8, u16)| Session {
        request: Some((data.clone(), *reads)),
        ..Session::new(0, End::Quietly)
    };
    let host = RawHost::new(0, &world, cases.iter().map(session).collect());
    let observed = host.observed();
    world.add(host);
    world.reach("that the host is done", LIMIT, |_| observed.borrow().is_done)?;
    let expected: Vec<u16> = cases.iter().map(|(_, _, status)| *status).collect();
    let statuses = observed.borrow().reject_statuses();
    expect(statuses == expected, || format!("rejected with {statuses:?}, and should be with {expected:?}"))?;
    let counted = world.target.labelled("rdma_connections_rejected", "invalid_send_queue_size");
    expect(counted == 4, || format!("{counted} were counted as of a wrong send queue size"))?;
    run.finish(world)
}

fn breakers_are_thrown_out(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    // So that too many commands come at once.
    layout.fabric.delay_max = 0;
    let mut world = run.world(&layout);
    let ways = [(End::ShortCapsule, "protocol"), (End::Overrun, "protocol"), (End::WrongKey, "transport_error")];
    let (end, reason) = run.choices.one_of("how it breaks the protocol", &ways);
    let breaker = RawHost::new(0, &world, vec![Session::new(5, end); 3]);
    let good = RawHost::new(1, &world, vec![Session::new(400, End::Quietly).owed()]);
    let (breaker_observed, good_observed) = (breaker.observed(), good.observed());
    world.add(breaker);
    world.add(good);
    world
        .reach("that both are done", LIMIT, |_| breaker_observed.borrow().is_done && good_observed.borrow().is_done)?;
    expect_served(&good_observed)?;
    // The host sees it too, and its DISCONNECT may be seen first; so may the device's own word that the queue pair broke.
    let disconnects = |reason| world.target.labelled("rdma_disconnects", reason);
    let thrown_out = disconnects(reason) + if end == End::WrongKey { disconnects("peer_gone") } else { 0 };
    let may_be_first = end == End::Overrun || (end == End::WrongKey && disconnects("host") > 2);
    let is_seen = (1..=6).contains(&thrown_out) || (may_be_first && thrown_out == 0);
    expect(is_seen, || {
        let rows = world.target.rows();
        let seen: Vec<_> = rows.iter().filter(|row| row.0 == "rdma_disconnects" && row.2 > 0).collect();
        let host = breaker_observed.borrow();
        format!("{end:?} three times, and {thrown_out} disconnects for {reason}: {seen:?}, {host:?}")
    })?;
    run.finish(world)
}

fn no_room_is_a_reject(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    layout.cpu_count = 1;
    layout.queue_pair_count_max = 3;
    let mut world = run.world(&layout);
    let sessions = || vec![Session { keeps_alive: true, ..Session::new(100, End::Quietly) }; 4];
    let hosts = [RawHost::new(0, &world, sessions()), RawHost::new(1, &world, sessions())];
    let observed: Vec<_> = hosts.iter().map(RawHost::observed).collect();
    hosts.into_iter().for_each(|host| world.add(host));
    world.reach("that both are done", LIMIT, |_| observed.iter().all(|host| host.borrow().is_done))?;
    let count = |of: fn(&crate::sim::host::raw::Observed) -> u32| -> u32 {
        observed.iter().map(|host| of(&host.borrow())).sum()
    };
    let (served, ended) = (count(|host| host.sessions_as_planned), count(|host| host.sessions_ended));
    let refused = world.target.labelled("rdma_connections_rejected", "no_resources");
    expect(ended == 8 && served >= 1, || format!("of {ended} sessions {served} were served"))?;
    expect(served == ended || refused > 0, || "sessions came to nothing, and no connection was refused".to_owned())?;
    run.finish(world)
}

fn shutdown_with_hosts(run: &mut Run) -> Result<(), Failure> {
    let mut layout = Layout::chosen(&run.choices);
    // A host that nobody tells would wait for ever.
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let mut observed = Vec::new();
    for number in 0..run.choices.between("hosts", 1, 3) {
        let io_count = run.choices.one_of("commands", &[10_000, 3, 0]);
        let host = RawHost::new(number, &world, vec![Session { io_count, end: End::Wait, ..any_session(run) }]);
        observed.push(host.observed());
        world.add(host);
    }
    run.begin_window();
    world.steps(u64::from(run.choices.below("steps until it is shut down", 8_000)))?;
    world.shut_down()?;
    run.end_window();
    run.add_up(&world);
    world.reach("that all hosts have noticed", LIMIT, |_| observed.iter().all(|host| host.borrow().is_done))
}

fn destroy_never_ends(run: &mut Run) -> Result<(), Failure> {
    let mut layout = roomy(run);
    layout.fabric.loses_disconnected = false;
    let mut world = run.world(&layout);
    let leaving = RawHost::new(0, &world, vec![Session::new(20, End::Quietly).owed(); 2]);
    let staying = RawHost::new(1, &world, vec![Session::new(u32::MAX, End::Wait).owed()]);
    let (leaving_observed, staying_observed) = (leaving.observed(), staying.observed());
    world.add(leaving);
    world.add(staying);
    world.reach("that both are served", LIMIT, |_| {
        leaving_observed.borrow().is_serving && staying_observed.borrow().is_serving
    })?;
    run.begin_window();
    world.fabric.change(|options| options.never_ending = TicketKinds::DESTROY_QUEUE_PAIR);
    // Shorter than what tells the host that its session is over all the same.
    world.pass(2_000_000_000)?;
    run.end_window();
    let begun = world.target.count("rdma_disconnects");
    let live = world.target.count("rdma_queue_pairs_live");
    expect(begun == 2 && live == 4, || {
        format!("{begun} teardowns began, {live} queue pairs live: two serve, two wait")
    })?;
    expect(world.target.count("rdma_limbo_live") == 0, || "something is in limbo".to_owned())?;
    let before = staying_observed.borrow().io_count;
    world.steps(20_000)?;
    let after = staying_observed.borrow().io_count;
    expect(after > before, || "the other host is not served".to_owned())?;
    run.add_up(&world);
    Ok(())
}
