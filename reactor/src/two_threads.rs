//! The ring and the doorbell between two real threads, above all for ThreadSanitizer: the values are plain memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use crate::doorbell;
use crate::full::Full;
use crate::primitive::{AtomicU32, AtomicU64};
use crate::ring::{Producer, ring};

const COUNT: u64 = 20_000;

/// More than a word, so that half of one could be seen.
type Value = [u64; 5];

fn push_all(producer: &mut Producer<Box<Value>>, mut after_each: impl FnMut()) {
    for number in 0..COUNT {
        let mut value = Box::new([number; 5]);
        while let Err(Full(back)) = producer.push(value) {
            value = back;
            after_each();
            thread::yield_now();
        }
        after_each();
    }
}

#[test]
fn a_ring_hands_over_every_value_whole_and_in_order() {
    for capacity in [1, 2, 7, 64] {
        let (mut producer, mut consumer) = ring::<Box<Value>>(capacity);
        let sender = thread::spawn(move || push_all(&mut producer, || {}));
        for expected in 0..COUNT {
            let value = loop {
                match consumer.pop() {
                    Some(value) => break value,
                    None => {
                        consumer.tell();
                        thread::yield_now();
                    }
                }
            };
            assert_eq!(*value, [expected; 5]);
        }
        sender.join().unwrap();
        assert!(consumer.pop().is_none());
    }
}

#[test]
fn what_nobody_read_is_dropped_once_whichever_end_goes_first() {
    struct Counted(Arc<AtomicU64>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for consumer_goes_first in [false, true] {
        let dropped = Arc::new(AtomicU64::new(0));
        let (mut producer, mut consumer) = ring::<Counted>(4);
        let mut made = VecDeque::from_iter((0..6).map(|_| Counted(Arc::clone(&dropped))));
        let mut push = |count: usize| (0..count).for_each(|_| drop(producer.push(made.pop_front().unwrap())));
        push(3);
        drop(consumer.pop());
        consumer.tell();
        push(2);
        if consumer_goes_first {
            drop(consumer);
            assert_eq!(dropped.load(Ordering::Relaxed), 5);
            push(1);
            drop(producer);
        } else {
            drop(producer);
            drop(consumer);
            drop(made);
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 6);
    }
}

/// A receiver that sleeps whenever the ring is empty, and is woken by the doorbell alone: a wake-up that is lost hangs.
#[test]
fn a_doorbell_wakes_whoever_waits_for_a_ring() {
    let (mut producer, mut consumer) = ring::<Box<Value>>(8);
    let asleep = Arc::new(AtomicU32::new(0));
    let (receiver_sleeps, sender_looks) = (Arc::clone(&asleep), asleep);
    let receiver = thread::spawn(move || {
        let (mut expected, mut sleep_count) = (0, 0_u64);
        while expected < COUNT {
            while let Some(value) = consumer.pop() {
                assert_eq!(*value, [expected; 5]);
                expected += 1;
            }
            consumer.tell();
            doorbell::announce(&receiver_sleeps);
            doorbell::before_last_look();
            if consumer.is_empty() && expected < COUNT {
                sleep_count += 1;
                // Parking may end early: only the word says that the sleep is over.
                while receiver_sleeps.load(Ordering::Relaxed) != 0 {
                    thread::park();
                }
            }
            doorbell::withdraw(&receiver_sleeps);
        }
        sleep_count
    });
    let thread = receiver.thread().clone();
    let mut ring_count = 0_u64;
    push_all(&mut producer, || {
        doorbell::after_news();
        if doorbell::take(&sender_looks) {
            ring_count += 1;
            thread.unpark();
        }
    });
    let sleep_count = receiver.join().unwrap();
    assert!(sleep_count > 0 && ring_count > 0, "{sleep_count} sleeps, {ring_count} rings: the test shows nothing");
}
