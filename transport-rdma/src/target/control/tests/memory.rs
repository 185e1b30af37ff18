//! Memory of block devices that come while the target runs: what is asked of the provider, what CPUs are told, and what a failure at each step does.

use std::sync::Arc;

use bdev::Device;
use nvmf_core::target::MadeDevice;

use super::bench::{Bench, failure};
use crate::verbs::{DeviceId, Event, RegisteredMemory};

/// A device was made, and is handed in.
fn arrive(bench: &mut Bench, name: &'static str) {
    bench.run(move |control, turn| {
        let change = control.begin_device(turn, name, None).unwrap();
        let device: Arc<dyn Device> = Arc::new(bdev::Memory::new(name, 512, 8, false).unwrap());
        let channels = vec![device.open_channel().unwrap()];
        control.device_made(turn, change, Ok(MadeDevice { device, channels }));
    });
}

fn registered(bench: &mut Bench, is_done: bool) {
    let result = if is_done { Ok(RegisteredMemory { local_key: 9, remote_key: 0 }) } else { Err(failure()) };
    let ticket = bench.provider.last_ticket();
    bench.event(Event::Registered { ticket, result });
}

/// How often the CPU heard of memory, and whether of anything else, which is its channel.
fn heard(bench: &Bench) -> (usize, bool) {
    let heard = bench.take_heard();
    let of_memory = heard.iter().take_while(|name| *name == "memory").count();
    (of_memory, heard.len() > of_memory)
}

#[test]
fn a_cpu_has_the_key_before_it_has_the_channel() {
    let mut bench = Bench::new();
    arrive(&mut bench, "late");
    assert_eq!((bench.provider.take_calls(), heard(&bench)), (vec!["register".into()], (0, false)));
    registered(&mut bench, true);
    assert_eq!((bench.provider.take_calls(), heard(&bench)), (vec![], (1, true)));
    assert_eq!(bench.row("rdma_regions_registered"), 2);
}

#[test]
fn without_a_key_it_has_the_channel_all_the_same() {
    let mut bench = Bench::new();
    arrive(&mut bench, "late");
    registered(&mut bench, false);
    assert_eq!((heard(&bench), bench.row("rdma_regions_registered")), ((0, true), 1));
}

#[test]
fn two_at_a_time_are_told_apart() {
    let mut bench = Bench::new();
    arrive(&mut bench, "first");
    let first = bench.provider.last_ticket();
    arrive(&mut bench, "second");
    registered(&mut bench, true);
    assert_eq!(heard(&bench), (1, true));
    bench.event(Event::Registered { ticket: first, result: Ok(RegisteredMemory { local_key: 8, remote_key: 0 }) });
    assert_eq!((heard(&bench), bench.row("rdma_regions_registered")), ((1, true), 3));
    let missed = bench.missed_count();
    registered(&mut bench, true);
    assert_eq!((bench.missed_count(), heard(&bench)), (missed + 1, (0, false)), "once for each");
}

/// The device is back with all memory, that of the device which came meanwhile too.
#[test]
fn the_rdma_device_may_go_and_come_meanwhile() {
    let mut bench = Bench::new();
    arrive(&mut bench, "late");
    let ticket = bench.provider.last_ticket();
    bench.event(Event::DeviceRemoved(DeviceId::ONLY));
    assert_eq!(heard(&bench), (0, true), "that nothing returns");
    bench.provider.take_calls();
    bench.event(Event::Registered { ticket, result: Ok(RegisteredMemory { local_key: 9, remote_key: 0 }) });
    assert_eq!((bench.provider.take_calls(), heard(&bench)), (vec!["deregister".into()], (0, true)), "its channel");
    // One that comes while there is no device waits for nothing.
    arrive(&mut bench, "later");
    assert_eq!((bench.provider.take_calls(), heard(&bench)), (vec![], (0, true)));

    bench.event(Event::DeviceReleased(DeviceId::ONLY));
    let unlisten = bench.control.borrow().listeners.first().map(|listener| listener.id).unwrap();
    bench.event(Event::Unlistened { ticket: super::super::TicketKind::Unlisten.numbered(unlisten.0) });
    bench.advance(1_000_000_001);
    let ticket = bench.provider.last_ticket();
    bench.event(Event::DeviceReopened { ticket, result: Ok(()) });
    for _ in 0..3 {
        registered(&mut bench, true);
    }
    assert_eq!(bench.provider.take_calls(), ["reopen", "register", "register", "register"]);
    assert_eq!((bench.take_heard(), bench.row("rdma_regions_registered")), (vec!["refit".to_owned()], 3));
}

/// Null devices share their zeroes: one that goes leaves them to those that stay.
#[test]
fn memory_that_another_device_has_too_stays_registered() {
    let mut bench = Bench::new();
    // One that is made too late does not become a device, and is given back at once.
    let arrive = |bench: &mut Bench, name: &'static str, device: Arc<dyn Device>, is_whole: bool| {
        bench.run(move |control, turn| {
            let change = control.begin_device(turn, name, None).unwrap();
            if !is_whole {
                control.device_made(turn, change, Err("too late".into()));
            }
            let channels = vec![device.open_channel().unwrap()];
            control.device_made(turn, change, Ok(MadeDevice { device, channels }));
        });
    };
    let retire = |bench: &mut Bench| {
        bench.run(|control, turn| drop(control.next_retired(turn)));
        bench.provider.take_calls()
    };
    let null = |name| -> Arc<dyn Device> { Arc::new(bdev::Null::new(name, 512, 8).unwrap()) };
    arrive(&mut bench, "stays", null("stays"), true);
    registered(&mut bench, true);
    bench.provider.take_calls();
    arrive(&mut bench, "goes", null("goes"), false);
    assert_eq!(retire(&mut bench), Vec::<String>::new());

    arrive(&mut bench, "alone", Arc::new(bdev::Memory::new("alone", 512, 8, false).unwrap()), false);
    registered(&mut bench, true);
    assert_eq!(retire(&mut bench), ["register", "deregister"]);
}
