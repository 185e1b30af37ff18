//! Readers of a table against unlinking, retiring and reaping.

use std::sync::Arc;

use loom::thread;

use super::cast::{Hand, mesh, table_with_object};
use super::{Tally, check};

#[test]
fn an_object_is_reclaimed_only_after_its_readers() {
    let (found, reclaimed) = (Tally::default(), Tally::default());
    let seen = (found.clone(), reclaimed.clone());
    check(move || {
        let mut mesh = mesh(2);
        let table = table_with_object(&mesh);
        let mut reader = Hand::new(&mut mesh, 0);
        let mut owner = Hand::new(&mut mesh, 1);
        let (shared, found) = (Arc::clone(&table), seen.0.clone());
        let reading = thread::spawn(move || {
            for _ in 0..3 {
                reader.quiet();
                if reader.look(&shared).is_some() {
                    found.count();
                }
            }
            reader
        });
        // The reader may be one step ahead of the owner when the object goes.
        owner.advance();
        assert!(owner.unlink(&table));
        for _ in 0..2 {
            owner.quiet();
            owner.advance();
        }
        owner.reap_beside(reading, &seen.1);
    });
    found.assert_some("a reader that found the object");
    reclaimed.assert_some("an object that was reclaimed");
}

#[test]
fn whoever_reaps_has_seen_all_that_happened_before_the_step() {
    let reclaimed = Tally::default();
    let seen = reclaimed.clone();
    check(move || {
        let mut mesh = mesh(2);
        let table = table_with_object(&mesh);
        let mut reader = Hand::new(&mut mesh, 0);
        let mut owner = Hand::new(&mut mesh, 1);
        owner.advance();
        reader.quiet();
        let found = reader.find(&table);
        assert!(owner.unlink(&table));
        owner.quiet();
        owner.advance();
        owner.quiet();
        // One step is missing, and only the reader holds it up. Three threads: what the owner learns of the reading, it learns by the epoch.
        let reading = thread::spawn(move || {
            found.read();
            reader.go_offline();
            reader
        });
        let domain = mesh.domain().clone();
        let advancer = thread::spawn(move || domain.advance());
        let mut grave = owner.reap();
        if grave.is_none() {
            thread::yield_now();
            grave = owner.reap();
        }
        if grave.is_some() {
            seen.count();
        }
        drop(reading.join().unwrap());
        advancer.join().unwrap();
        drop(grave);
    });
    reclaimed.assert_some("an object that was reclaimed");
}
