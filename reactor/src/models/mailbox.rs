//! The mailbox: what finds the ring full waits, and stays in order.

use crossbeam_utils::CachePadded;
use loom::thread;

use super::{Tally, check};
use crate::bell::{Bell, Stage};
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::mailbox::{Bells, connect};

const MESSAGE_COUNT: u32 = 3;

#[test]
fn messages_come_in_order_and_none_is_lost_through_a_backlog() {
    let backlog = Tally::default();
    let seen = backlog.clone();
    check(move || {
        let bells: Bells = (0..2).map(|_| CachePadded::new(Bell::new(None))).collect();
        bells.iter().for_each(|bell| bell.enter(Stage::Live));
        let [(_, mut outbox), (mut inbox, _)] = <[_; 2]>::try_from(connect::<u32>(&bells, 1)).ok().unwrap();
        let counters = ReactorCounters::new(2);
        let seen = seen.clone();
        let sender = thread::spawn(move || {
            for message in 0..MESSAGE_COUNT {
                outbox.send(Cpu(1), message, &counters);
            }
            while outbox.backlog_len() > 0 {
                seen.count();
                outbox.flush();
                thread::yield_now();
            }
            outbox
        });
        let Some(ring) = &mut *inbox.rings[0] else { unreachable!() };
        let mut received = 0;
        while received < MESSAGE_COUNT {
            match ring.pop() {
                Some(message) => {
                    assert_eq!(message, received, "lost, doubled or overtaken");
                    received += 1;
                    ring.tell();
                }
                None => thread::yield_now(),
            }
        }
        drop(sender.join().unwrap());
    });
    backlog.assert_some("a message that had to wait");
}
