//! Coming online and going offline, against unlinking and the epoch's steps.

use std::sync::Arc;

use loom::thread;

use super::cast::{Hand, mesh, table_with_object};
use super::{Tally, check};

#[test]
fn whoever_comes_online_is_waited_for_or_does_not_find_the_object() {
    let (found, reclaimed) = (Tally::default(), Tally::default());
    let seen = (found.clone(), reclaimed.clone());
    check(move || {
        let mut mesh = mesh(2);
        let table = table_with_object(&mesh);
        let mut reader = Hand::new(&mut mesh, 0);
        let mut owner = Hand::new(&mut mesh, 1);
        reader.go_offline();
        let (shared, found) = (Arc::clone(&table), seen.0.clone());
        let reading = thread::spawn(move || {
            reader.go_online();
            if reader.look(&shared).is_some() {
                found.count();
            }
            reader
        });
        assert!(owner.unlink(&table));
        for _ in 0..3 {
            owner.advance();
            owner.quiet();
        }
        owner.reap_beside(reading, &seen.1);
    });
    found.assert_some("a reader that found the object");
    reclaimed.assert_some("an object that was reclaimed");
}

#[test]
fn what_was_read_before_going_offline_happened_before_the_reclamation() {
    let reclaimed = Tally::default();
    let seen = reclaimed.clone();
    check(move || {
        let mut mesh = mesh(2);
        let table = table_with_object(&mesh);
        let mut reader = Hand::new(&mut mesh, 0);
        let mut owner = Hand::new(&mut mesh, 1);
        let shared = Arc::clone(&table);
        // One step ahead of the owner.
        owner.advance();
        reader.quiet();
        let reading = thread::spawn(move || {
            reader.look(&shared);
            reader.go_offline();
            reader.go_online();
            reader
        });
        assert!(owner.unlink(&table));
        for _ in 0..2 {
            owner.quiet();
            owner.advance();
        }
        owner.reap_beside(reading, &seen);
    });
    reclaimed.assert_some("an object that was reclaimed");
}

#[test]
fn what_was_read_before_dozing_happened_before_the_reclamation() {
    for falls_asleep in [false, true] {
        let reclaimed = Tally::default();
        let seen = reclaimed.clone();
        check(move || {
            let mut mesh = mesh(2);
            let table = table_with_object(&mesh);
            let mut reader = Hand::new(&mut mesh, 0);
            let mut owner = Hand::new(&mut mesh, 1);
            let shared = Arc::clone(&table);
            owner.advance();
            reader.quiet();
            let reading = thread::spawn(move || {
                reader.look(&shared);
                reader.quiet();
                reader.doze();
                if falls_asleep {
                    reader.fall_asleep();
                }
                reader
            });
            assert!(owner.unlink(&table));
            for _ in 0..2 {
                owner.quiet();
                owner.advance();
            }
            owner.reap_beside(reading, &seen);
        });
        reclaimed.assert_some("an object that was reclaimed");
    }
}

#[test]
fn the_stamp_of_whoever_just_came_online_is_not_over() {
    let waiting = Tally::default();
    let seen = waiting.clone();
    check(move || {
        let mut mesh = mesh(2);
        let table = table_with_object(&mesh);
        let mut owner = Hand::new(&mut mesh, 0);
        let mut reader = Hand::new(&mut mesh, 1);
        owner.go_offline();
        let shared = Arc::clone(&table);
        let unlinking = thread::spawn(move || {
            owner.go_online();
            assert!(owner.unlink(&shared));
            let grave = owner.reap();
            (owner, grave)
        });
        // The epoch runs on while nobody else is online.
        for _ in 0..3 {
            reader.advance();
            reader.quiet();
        }
        reader.look(&table);
        let (owner, grave) = unlinking.join().unwrap();
        if grave.is_none() {
            seen.count();
        }
        drop((owner, grave));
    });
    waiting.assert_some("an object that has to wait");
}
