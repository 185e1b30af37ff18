//! Objects that are linked, found and taken out by different threads.

use std::sync::Arc;

use loom::thread;

use super::cast::{Object, mesh, table_with_object};
use super::{Tally, check};
use crate::domain::Guard;
use crate::table::Table;

#[test]
fn an_object_is_whole_when_it_is_found() {
    let found = Tally::default();
    let seen = found.clone();
    check(move || {
        let mesh = mesh::<()>(1);
        let table = Arc::new(Table::<Object>::new(mesh.domain(), 1));
        let (domain, shared, seen) = (mesh.domain().clone(), Arc::clone(&table), seen.clone());
        let reader = thread::spawn(move || {
            if let Some(object) = shared.look(Guard::new(&domain), 0) {
                assert_eq!(object.read(), 7);
                seen.count();
            }
        });
        table.link(0, Object::new(7));
        reader.join().unwrap();
    });
    found.assert_some("an object that was found");
}

#[test]
fn what_another_thread_linked_is_whole_when_it_is_taken_out() {
    let taken = Tally::default();
    let seen = taken.clone();
    check(move || {
        let mesh = mesh::<()>(1);
        let table = Arc::new(Table::new(mesh.domain(), 1));
        let shared = Arc::clone(&table);
        let maker = thread::spawn(move || shared.link(0, Object::new(7)));
        let grave = table.unlink(0).map(|unlinked| unlinked.into_object_of_nobody().reclaim());
        if grave.is_some() {
            seen.count();
        }
        maker.join().unwrap();
        drop(grave);
    });
    taken.assert_some("an object that was taken out");
}

#[test]
fn an_object_comes_out_once() {
    check(|| {
        let mesh = mesh::<()>(1);
        let table = table_with_object(&mesh);
        let shared = Arc::clone(&table);
        let other = thread::spawn(move || shared.unlink(0).is_some());
        let here = table.unlink(0).is_some();
        let there = other.join().unwrap();
        assert!(here != there, "taken out by both, or by neither");
    });
}
