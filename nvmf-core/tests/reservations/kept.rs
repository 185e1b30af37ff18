//! Reservations that outlive a loss of power: what is kept, when it is read, and what is answered where it can't be.

use std::sync::Arc;

use bdev::Device;
use nvmf_core::ChangeError;
use nvmf_core::host;
use nvmf_core::reservation::{RegistrantRecord, ReservationRecord};
use nvmf_core::spec::Persistence;
use nvmf_core::status::Status;
use nvmf_core::target::{MadeDevice, NamespaceRequest};
use nvmf_core::wire::SglDescriptor;
use nvmf_core::wire::reservation::{AcquireAction, RegisterAction, ReservationType};

use crate::harness::device::TestDevice;
use crate::harness::{HOST_ID, NQN, World, command};
use crate::{hosts, hosts_of, in_capsule, register, report, write};

#[test]
fn without_a_place_to_keep_it_nothing_persists() {
    let (mut world, first, _, _) = hosts();
    let entry = host::reservation_register(1, 1, RegisterAction::Register, false, Some(true), in_capsule());
    assert_eq!(world.execute(first.io[0], entry, &host::keys(0, 7)).status(), Status::INVALID_FIELD);
    let entry = command(0x09, 0x11, 1, SglDescriptor::NO_DATA, [0x83, 1, 0, 0]);
    assert_eq!(world.execute(first.admin, entry.to_bytes(), &[]).status(), Status::INVALID_FIELD);
    assert_eq!(report(&mut world, first.io[0]).registrant_count, 0);
    world.shut_down();
}

/// The oldest write has ended so: what was to be written.
fn end_write(world: &mut World, outcome: Result<(), String>) -> ReservationRecord {
    let write = world.control.borrow_mut().writes.pop_front().expect("something is to be kept");
    assert_eq!(&*write.file, "there");
    world.control.borrow_mut().written.push((write.id, outcome));
    world.run(100);
    write.record
}

#[test]
fn what_is_answered_is_kept_and_outlives_the_target() {
    let kept = |record| Some(Persistence { file: "there".into(), record });
    let (mut world, first, second, _) = hosts_of(kept(ReservationRecord::default()));
    assert_eq!(register(&mut world, second.io[0], 8), Status::SUCCESS, "not yet persistent: not written");
    assert!(world.control.borrow().writes.is_empty());
    let at = world.responses(first.io[0]).len();
    let entry = host::reservation_register(1, 1, RegisterAction::Register, false, Some(true), in_capsule());
    world.send(first.io[0], entry, &host::keys(0, 7));
    world.run(200);
    assert_eq!(world.responses(first.io[0]).len(), at, "not answered before it is kept");
    // It cannot be: nothing has changed, and so a second attempt is as good as the first.
    end_write(&mut world, Err("no room".into()));
    assert_eq!(world.responses(first.io[0])[at].status(), Status::INTERNAL_ERROR);
    let told = report(&mut world, second.io[1]);
    assert_eq!((told.registrant_count, told.is_persistent), (1, false));
    world.send(first.io[0], entry, &host::keys(0, 7));
    world.run(200);
    end_write(&mut world, Ok(()));
    assert_eq!(world.responses(first.io[0])[at + 1].status(), Status::SUCCESS);
    // While it is being written the old state holds for everybody.
    let entry = host::reservation_acquire(2, 1, AcquireAction::Acquire, ReservationType::WriteExclusive, in_capsule());
    world.send(first.io[0], entry, &host::keys(7, 0));
    world.run(200);
    assert_eq!(write(&mut world, second.io[1]), Status::SUCCESS);
    let record = end_write(&mut world, Ok(()));
    assert_eq!(write(&mut world, second.io[1]), Status::RESERVATION_CONFLICT);
    world.shut_down();

    // The power is lost.
    let (mut world, first, second, _) = hosts_of(kept(record));
    assert_eq!(write(&mut world, second.io[0]), Status::RESERVATION_CONFLICT, "before anybody has said anything");
    assert_eq!(write(&mut world, first.io[1]), Status::SUCCESS);
    let told = report(&mut world, second.io[0]);
    assert_eq!((told.registrant_count, told.is_persistent), (2, true));
    assert_eq!(told.kind, Some(ReservationType::WriteExclusive));
    // Not to persist any more: that is kept too, and nothing else.
    let entry = command(0x09, 0x11, 1, SglDescriptor::NO_DATA, [0x83, 0, 0, 0]);
    world.send(first.admin, entry.to_bytes(), &[]);
    world.run(100);
    assert_eq!(end_write(&mut world, Ok(())), ReservationRecord::default());
    let entry = command(0x0A, 0x12, 1, SglDescriptor::NO_DATA, [0x83, 0, 0, 0]);
    assert_eq!(world.execute(first.admin, entry.to_bytes(), &[]).result.get(), 0);
    assert_eq!(write(&mut world, second.io[0]), Status::RESERVATION_CONFLICT, "until the next loss of power");
    world.shut_down();
}

fn request(nsid: u32, device: &str) -> NamespaceRequest {
    NamespaceRequest {
        nsid,
        device: device.into(),
        uuid: Some(uuid::Uuid::from_bytes([7; 16])),
        nguid: None,
        eui64: None,
        ana_group: None,
        is_auto_visible: true,
        persistence_file: Some("there".into()),
    }
}

/// Whoever reads has found this for the oldest addition.
fn end_read(world: &mut World, outcome: Result<ReservationRecord, String>) -> Option<String> {
    let change = world.change(move |target| {
        let read = target.next_reservation_read().expect("something is to be read");
        assert_eq!((&*read.file, read.uuid.as_bytes()), ("there", &[7; 16]));
        target.reservation_read(read.id, outcome);
        Ok(read.id)
    });
    let change = change.unwrap();
    world.finish(change);
    failure(world, change)
}

fn failure(world: &mut World, change: nvmf_core::ChangeId) -> Option<String> {
    let text = std::rc::Rc::new(std::cell::RefCell::new(None));
    let told = std::rc::Rc::clone(&text);
    let asked = world.change(move |target| {
        *told.borrow_mut() = target.take_failure(change);
        Ok(change)
    });
    assert_eq!(asked, Ok(change));
    text.take()
}

fn remove(world: &mut World) {
    let change = world.change(|target| target.remove_namespace(NQN, 1)).unwrap();
    world.finish(change);
}

#[test]
fn a_namespace_that_is_added_has_what_was_kept_of_it() {
    let (mut world, first, second, _) = hosts();
    remove(&mut world);
    let add = |world: &mut World| world.change(|target| target.add_namespace(NQN, &request(1, "disk"))).unwrap();
    let change = add(&mut world);
    world.run(100);
    assert!(!world.is_done(change), "it waits for whoever reads");
    assert_eq!(register(&mut world, first.io[0], 7), Status::INVALID_NAMESPACE);
    let free = world.change(move |target| {
        assert_eq!(target.free_nsid(NQN), Ok(2), "1 is spoken for");
        Ok(change)
    });
    assert_eq!(free, Ok(change));

    // What can't be read is no namespace without reservations: it is no namespace.
    assert_eq!(end_read(&mut world, Err("damaged".into())).as_deref(), Some("damaged"));
    assert_eq!(register(&mut world, first.io[0], 7), Status::INVALID_NAMESPACE);

    let record = ReservationRecord {
        is_persistent: true,
        generation: 3,
        reservation: Some((ReservationType::WriteExclusive, HOST_ID)),
        registrants: vec![RegistrantRecord { host_id: HOST_ID, key: 7 }],
    };
    add(&mut world);
    assert_eq!(end_read(&mut world, Ok(record.clone())), None);
    assert_eq!(write(&mut world, second.io[0]), Status::RESERVATION_CONFLICT);
    assert_eq!(write(&mut world, first.io[1]), Status::SUCCESS);
    assert_eq!(report(&mut world, second.io[1]).generation, 3);

    // It goes while a claim is being written: the claim finds no namespace, and the file is read after that write.
    let at = world.responses(second.io[0]).len();
    let entry = host::reservation_register(1, 1, RegisterAction::Register, false, None, in_capsule());
    world.send(second.io[0], entry, &host::keys(0, 8));
    world.run(100);
    remove(&mut world);
    assert_eq!(world.responses(second.io[0])[at].status(), Status::INVALID_NAMESPACE);
    let written = end_write(&mut world, Ok(()));
    assert_eq!(written.registrants.len(), 2);
    add(&mut world);
    assert_eq!(end_read(&mut world, Ok(written)), None);
    assert_eq!(report(&mut world, first.io[0]).registrant_count, 2);
    world.shut_down();
}

#[test]
fn a_file_is_one_namespaces() {
    let (mut world, _, _, _) =
        hosts_of(Some(Persistence { file: "there".into(), record: ReservationRecord::default() }));
    let change = world.change(|target| target.begin_device("other", None)).unwrap();
    let made = world.change(move |target| {
        let device: Arc<dyn Device> = Arc::new(TestDevice::new("other", 64));
        let channels = (0..2).map(|_| device.open_channel().unwrap()).collect();
        target.device_made(change, MadeDevice { device, channels }, |_, _| false);
        Ok(change)
    });
    world.finish(made.unwrap());
    let error = world.change(|target| target.add_namespace(NQN, &request(2, "other"))).unwrap_err();
    assert!(
        matches!(error, ChangeError::Spec(_)) && error.to_string().contains("persistence file is there"),
        "{error}"
    );
    // Two additions at once: both were taken, and the second finds the place taken.
    remove(&mut world);
    for (nsid, device) in [(1, "disk"), (2, "other")] {
        let uuid = Some(uuid::Uuid::from_bytes([7; 16]));
        let request = NamespaceRequest { uuid, ..request(nsid, device) };
        world.change(move |target| target.add_namespace(NQN, &request)).unwrap();
    }
    assert_eq!(end_read(&mut world, Ok(ReservationRecord::default())), None);
    let why = end_read(&mut world, Ok(ReservationRecord::default())).unwrap();
    assert!(why.contains("namespace 2"), "{why}");
    world.shut_down();
}
