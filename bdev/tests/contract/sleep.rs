//! A CPU that sleeps is woken.

use std::collections::VecDeque;

use bdev::{Channel, Completion};
use reactor::Rest;

use crate::driver::{Driver, FLUSH, READ, WRITE, WRITE_FORCED, memory};
use crate::subject::subjects;

/// Sleeps as a CPU does that has nothing to poll for. Gives up after 10 s.
fn sleep_on(channel: &dyn Channel) {
    let fd = channel
        .wake_descriptor()
        .expect("a channel that lets its CPU sleep with operations outstanding has a descriptor");
    let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which is the channel's.
    let count = unsafe { libc::poll(&raw mut watched, 1, 10_000) };
    assert_eq!(count, 1, "a completion ends the sleep");
}

#[test]
fn completions_end_the_sleep_of_their_cpu() {
    for subject in subjects() {
        let block_len = subject.block_len();
        let mut driver = Driver::new(&*subject.device);
        let data = memory(8 * block_len);
        let is_readable = |channel: &dyn Channel| {
            channel.wake_descriptor().is_some_and(|fd| {
                let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // SAFETY: one descriptor, which is the channel's.
                unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
            })
        };
        for round in 0..200_u64 {
            // The ring for a completion that was found awake may come late. It ends one sleep, not every one from then on.
            let mut is_disturbed = || {
                assert_eq!(driver.channel.arm(), Rest::Sleep, "nothing is outstanding");
                let is_disturbed = is_readable(&*driver.channel);
                driver.channel.disarm();
                is_disturbed
            };
            assert!(!is_disturbed() || !is_disturbed(), "{} round {round}", subject.name);

            let kind = [READ, WRITE, WRITE_FORCED, FLUSH][round as usize % 4];
            let (count, data) = if kind == FLUSH { (0, None) } else { (8, Some(data)) };
            let operation = driver.operation(kind, round % 4 * 8, count, data);
            let token = operation.token;
            let mut waiting = VecDeque::from([operation]);
            driver.channel.submit(driver.now_ns, &mut waiting);
            assert!(waiting.is_empty());
            let mut completions = Vec::new();
            while completions.is_empty() {
                // Some rounds find it before they sleep, some sleep first.
                if round % 3 == 0 {
                    std::thread::yield_now();
                }
                match driver.channel.arm() {
                    Rest::Poll => {}
                    Rest::Sleep => sleep_on(&*driver.channel),
                    Rest::SleepUntil(ns) => {
                        assert!(subject.waits() && ns > driver.now_ns, "{}", subject.name);
                        driver.now_ns = ns;
                    }
                }
                driver.channel.disarm();
                driver.channel.poll(driver.now_ns, &mut completions);
            }
            assert_eq!(completions, [Completion { token, result: Ok(()) }]);
        }
    }
}
