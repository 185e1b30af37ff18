//! A device that was removed comes back: what is asked of it, in which order, and what a failure at each step does.

use super::bench::{Bench, failure};
use crate::verbs::{DeviceId, Event, RegisteredMemory};

const SECOND_NS: u64 = 1_000_000_001;

/// Removed, with nothing connected, and let go of.
fn awaited() -> Bench {
    let mut bench = Bench::new();
    bench.event(Event::DeviceRemoved(DeviceId::ONLY));
    assert_eq!(
        (bench.provider.take_calls(), bench.take_heard()),
        (vec!["unlisten".into()], vec!["nothing-returns".into()])
    );
    bench.event(Event::DeviceReleased(DeviceId::ONLY));
    bench.advance(SECOND_NS);
    assert_eq!(bench.provider.take_calls(), Vec::<String>::new(), "its listener is there still");
    let ticket = bench.provider.last_ticket();
    bench.event(Event::Unlistened { ticket });
    bench.advance(SECOND_NS);
    assert_eq!(bench.provider.take_calls(), ["reopen"]);
    bench.advance(SECOND_NS);
    assert_eq!(bench.provider.take_calls(), Vec::<String>::new(), "one question at a time");
    bench
}

fn reopened(bench: &mut Bench, is_there: bool) {
    let result = if is_there { Ok(()) } else { Err(failure()) };
    let ticket = bench.provider.last_ticket();
    bench.event(Event::DeviceReopened { ticket, result });
}

fn registered(bench: &mut Bench, is_done: bool) {
    let result = if is_done { Ok(RegisteredMemory { local_key: 9, remote_key: 0 }) } else { Err(failure()) };
    let ticket = bench.provider.last_ticket();
    bench.event(Event::Registered { ticket, result });
}

#[test]
fn it_is_looked_for_until_it_is_there_then_fitted_out() {
    let mut bench = awaited();
    for _ in 0..3 {
        reopened(&mut bench, false);
        assert!(bench.provider.take_calls().is_empty());
        bench.advance(SECOND_NS);
        assert_eq!(bench.provider.take_calls(), ["reopen"]);
    }
    reopened(&mut bench, true);
    assert_eq!(bench.provider.take_calls(), ["register"]);
    assert_eq!((bench.row("rdma_device_removed"), bench.row("rdma_device_returns")), (1, 0));
    registered(&mut bench, true);
    assert_eq!(bench.take_heard(), ["refit"]);
    assert_eq!((bench.row("rdma_device_removed"), bench.row("rdma_device_returns")), (0, 1));
    assert_eq!(bench.row("rdma_listeners_renewed_live"), 0, "no subsystem is offered at the bench's address");
    bench.event(super::bench::request());
    assert_eq!(bench.provider.take_calls(), ["reject"], "nor is it listened on");
}

#[test]
fn what_fails_is_tried_again_from_there() {
    let mut bench = awaited();
    reopened(&mut bench, true);
    registered(&mut bench, false);
    assert_eq!(bench.provider.take_calls(), ["register"]);
    bench.advance(SECOND_NS);
    assert_eq!(bench.provider.take_calls(), ["register"]);
    registered(&mut bench, true);
    assert_eq!((bench.take_heard(), bench.row("rdma_device_removed")), (vec!["refit".into()], 0));
}

#[test]
fn it_may_go_while_it_is_fitted_out() {
    let mut bench = awaited();
    reopened(&mut bench, true);
    bench.event(Event::DeviceRemoved(DeviceId::ONLY));
    assert!(bench.take_heard().is_empty(), "its CPUs have nothing of it");
    // Of memory that the device knew for a moment.
    registered(&mut bench, true);
    assert_eq!(bench.provider.take_calls(), ["register", "deregister"]);
    bench.event(Event::DeviceReleased(DeviceId::ONLY));
    bench.advance(SECOND_NS);
    assert_eq!(bench.provider.take_calls(), ["reopen"]);
    reopened(&mut bench, true);
    registered(&mut bench, true);
    assert_eq!((bench.take_heard(), bench.row("rdma_device_returns")), (vec!["refit".into()], 1));
}

#[test]
fn a_target_that_ends_looks_for_nothing() {
    let mut bench = awaited();
    bench.shut_down();
    reopened(&mut bench, false);
    bench.advance(SECOND_NS);
    assert_eq!(bench.provider.take_calls(), Vec::<String>::new());
}
