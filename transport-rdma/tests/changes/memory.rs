//! Memory devices that come and go while a target runs: they are read out of their own memory, and every registration ends before the memory does.

use std::sync::Arc;

use bdev::Device;
use nvmf_core::target::{Amendment, NamespaceRequest};
use transport_rdma::soft::in_process::{CallFaults, Calls, TicketKinds};
use transport_rdma::target::Change;

use super::raw_host::{BLOCK_LEN, End, HOST_BLOCK_COUNT, SUBSYSTEM};
use super::rig::{Layout, Rig};
use super::session;

const REGIONS: &str = "rdma_regions_registered";
const AT_THE_PROVIDER: &str = "rdma_provider_regions_live";

fn late(name: &str) -> Arc<dyn Device> {
    Arc::new(bdev::Memory::new(name, BLOCK_LEN as u32, 4 * HOST_BLOCK_COUNT, false).unwrap())
}

fn delete(name: &str) -> Change {
    Change::Amend(Amendment::DeleteDevice { name: name.into() })
}

fn add_namespace(name: &str) -> Change {
    let namespace = NamespaceRequest {
        nsid: 1,
        device: name.into(),
        uuid: None,
        nguid: None,
        eui64: None,
        ana_group: None,
        is_auto_visible: true,
        persistence_file: None,
    };
    Change::Amend(Amendment::AddNamespace { nqn: SUBSYSTEM.into(), namespace })
}

fn remove_namespace() -> Change {
    Change::Amend(Amendment::RemoveNamespace { nqn: SUBSYSTEM.into(), nsid: 1 })
}

/// Rows are written every so many turns.
fn count(rig: &mut Rig, name: &str) -> u64 {
    rig.steps(3_000);
    rig.count(name)
}

/// One host, whose namespace is made of a device that was made before it turned for the first time.
fn rig(seed: u64, fails: bool) -> Rig {
    let mut layout = Layout::new(seed);
    layout.fabric.delay_max = [0, 3, 12][(seed % 3) as usize];
    layout.shared_receive_count = if seed & 1 == 0 { 0 } else { 24 };
    layout.fabric.sweeps_on_destroy = seed & 4 != 0;
    let mut rig = Rig::new(&layout, vec![vec![session(300, End::Quietly), session(300, End::Abruptly)]]);
    let removal = rig.change(remove_namespace()).unwrap();
    rig.finish_alone(removal);
    if fails {
        let faults = CallFaults { kinds: Calls::REGISTER, one_in: 1 };
        rig.fabric.change(|options| options.calls = faults);
    }
    let made = rig.make_device(late("late"));
    rig.finish_alone(made);
    rig.fabric.change(|options| options.calls = CallFaults::default());
    let addition = rig.change(add_namespace("late")).unwrap();
    rig.finish_alone(addition);
    rig
}

#[test]
fn a_late_memory_device_is_read_in_place_and_leaves_no_registration() {
    for seed in 0..24 {
        let mut rig = rig(seed, false);
        rig.run_hosts(400_000);
        let regions = count(&mut rig, REGIONS);
        assert!(rig.desk.in_place_count.get() > 100, "seed {seed}: {} reads in place", rig.desk.in_place_count.get());
        let at_the_provider = rig.count(AT_THE_PROVIDER);
        for round in 0..3 {
            let name = format!("more{round}");
            let made = rig.make_device(late(&name));
            rig.finish(made);
            assert_eq!(count(&mut rig, REGIONS), regions + 1, "seed {seed}");
            let deletion = rig.change(delete(&name)).unwrap();
            rig.finish(deletion);
            assert_eq!(count(&mut rig, REGIONS), regions, "seed {seed}");
            assert_eq!(rig.desk.retired.borrow().len(), round + 1, "seed {seed}: given back once");
        }
        assert_eq!(rig.count(AT_THE_PROVIDER), at_the_provider, "seed {seed}");
        // With its namespace, and what was there from the start as well.
        for name in ["late", "memory0"] {
            let deletion = rig.change(delete(name)).unwrap();
            rig.finish(deletion);
        }
        assert_eq!(count(&mut rig, REGIONS), regions - 2, "seed {seed}");
        assert_eq!((rig.count(AT_THE_PROVIDER), rig.desk.retired.borrow().len()), (at_the_provider - 2, 5));
        rig.settle();
        rig.shut_down();
        assert_eq!(rig.labelled(AT_THE_PROVIDER, "sim"), 0, "seed {seed}: {:#?}", rig.nonzero());
    }
}

#[test]
fn where_memory_cannot_be_registered_it_is_read_through_buffers() {
    let mut rig = rig(3, true);
    rig.run_hosts(400_000);
    let regions = count(&mut rig, REGIONS);
    assert_eq!(rig.desk.in_place_count.get(), 0);
    let deletion = rig.change(delete("late")).unwrap();
    rig.finish(deletion);
    assert_eq!((count(&mut rig, REGIONS), rig.desk.retired.borrow().len()), (regions, 1));
    rig.settle();
    rig.shut_down();
}

/// The memory is given back by nobody before the provider has said that nothing uses it.
#[test]
fn a_registration_that_does_not_end_keeps_the_memory() {
    let mut rig = rig(8, false);
    rig.run_hosts(400_000);
    rig.fabric.change(|options| options.never_ending = TicketKinds::DEREGISTER);
    let deletion = rig.change(delete("late")).unwrap();
    rig.finish(deletion);
    rig.steps(5_000);
    assert_eq!(rig.desk.retired.borrow().len(), 0);
}

#[test]
fn a_target_ends_with_a_device_on_its_way_in_or_out() {
    for seed in 0..60 {
        let mut rig = rig(seed, false);
        let _ = rig.make_device(late("more"));
        if seed & 1 == 0 {
            rig.steps(seed * 7);
            // Which no host uses.
            let _ = rig.change(delete("memory0")).unwrap();
        }
        rig.steps(seed * 5);
        rig.shut_down();
        assert_eq!(rig.labelled(AT_THE_PROVIDER, "sim"), 0, "seed {seed}: {:#?}", rig.nonzero());
    }
}
