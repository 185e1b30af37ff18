//! Snapshots that are replaced while others read them.

use std::sync::Arc;

use loom::thread;

use super::cast::{Hand, Object, mesh};
use super::{Tally, check};
use crate::domain::Guard;
use crate::published::Published;

#[test]
fn a_snapshot_is_whole_when_it_is_read() {
    let renewed = Tally::default();
    let seen = renewed.clone();
    check(move || {
        let mesh = mesh::<()>(1);
        let snapshot = Arc::new(Published::new(mesh.domain(), Object::new(1)));
        let (domain, shared, seen) = (mesh.domain().clone(), Arc::clone(&snapshot), seen.clone());
        let reader = thread::spawn(move || {
            if shared.load(Guard::new(&domain)).read() == 2 {
                seen.count();
            }
        });
        drop(snapshot.replace(Object::new(2)));
        reader.join().unwrap();
    });
    renewed.assert_some("a snapshot that was replaced before it was read");
}

#[test]
fn what_another_thread_published_is_whole_when_it_is_replaced() {
    check(|| {
        let mesh = mesh::<()>(1);
        let snapshot = Arc::new(Published::new(mesh.domain(), Object::new(1)));
        let shared = Arc::clone(&snapshot);
        let replace = |snapshot: &Published<Object>| snapshot.replace(Object::new(2)).into_object_of_nobody().reclaim();
        let other = thread::spawn(move || replace(&shared));
        let grave = replace(&snapshot);
        drop((grave, other.join().unwrap()));
    });
}

#[test]
fn a_replaced_snapshot_is_reclaimed_only_after_its_readers() {
    let reclaimed = Tally::default();
    let seen = reclaimed.clone();
    check(move || {
        let mut mesh = mesh(2);
        let snapshot = Arc::new(Published::new(mesh.domain(), Object::new(1)));
        let mut reader = Hand::new(&mut mesh, 0);
        let mut owner = Hand::new(&mut mesh, 1);
        let shared = Arc::clone(&snapshot);
        let reading = thread::spawn(move || {
            for _ in 0..3 {
                reader.quiet();
                reader.turn(|turn, _| shared.load(turn.guard()).read());
            }
            reader
        });
        owner.advance();
        owner.retire(snapshot.replace(Object::new(2)));
        for _ in 0..2 {
            owner.quiet();
            owner.advance();
        }
        owner.reap_beside(reading, &seen);
    });
    reclaimed.assert_some("a snapshot that was reclaimed");
}
