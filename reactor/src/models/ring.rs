//! The ring alone: order, room that is used again, and values that are dropped once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::{Tally, check};
use crate::full::Full;
use crate::ring::ring;

#[test]
fn what_is_pushed_is_popped_in_order_through_room_used_again() {
    for capacity in [1, 2] {
        check(move || {
            let (mut producer, mut consumer) = ring::<u64>(capacity);
            let sender = thread::spawn(move || {
                for value in 0..3 {
                    let mut waiting = value;
                    while let Err(Full(back)) = producer.push(waiting) {
                        waiting = back;
                        thread::yield_now();
                    }
                }
            });
            let mut received = 0;
            while received < 3 {
                match consumer.pop() {
                    Some(value) => {
                        assert_eq!(value, received, "lost, doubled or overtaken");
                        received += 1;
                        consumer.tell();
                    }
                    None => thread::yield_now(),
                }
            }
            assert_eq!(consumer.pop(), None);
            sender.join().unwrap();
        });
    }
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_value_is_dropped_once_whichever_end_goes_first() {
    let late = Tally::default();
    let seen = late.clone();
    check(move || {
        let drop_count = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2);
        let counted = Arc::clone(&drop_count);
        let sender = thread::spawn(move || {
            // What does not fit is handed back, and dropped here.
            (0..3).filter(|_| producer.push(Dropped(Arc::clone(&counted))).is_ok()).count()
        });
        let popped_count = usize::from(consumer.pop().is_some());
        drop(consumer);
        let pushed_count = sender.join().unwrap();
        assert_eq!(drop_count.load(Ordering::Relaxed), 3);
        if pushed_count > popped_count {
            seen.count();
        }
    });
    late.assert_some("a value that nobody popped");
}
