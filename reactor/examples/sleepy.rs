//! A reactor that polls without pause, and then sleeps when there is nothing to do: what it costs, and how fast it wakes.

#![expect(clippy::disallowed_methods, reason = "the main thread plays the outside world, which takes its time")]

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use reactor::{Clock, Cpu, PollMode, Program, Progress, ReactorOptions, Rest, RuntimeBuilder, RuntimeError, Turn};

const RING_CAPACITY: usize = 64;
const WATCHED: Duration = Duration::from_millis(500);
/// Longer than an adaptive reactor stays awake.
const PAUSE: Duration = Duration::from_millis(5);
const WAKE_COUNT: usize = 100;
const ALARM_NS: u64 = 50_000_000;

enum Message {
    /// Posted at this time.
    Hello(u64),
    /// To be told by an alarm.
    Alarm,
    Leave,
}

/// Tells how long what it gets was under way.
struct Sleepy {
    late_ns: mpsc::Sender<u64>,
}

impl Program for Sleepy {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, message: Message) {
        match message {
            Message::Hello(posted_ns) => self.tell(turn.now_ns().saturating_sub(posted_ns)),
            // The token is what comes back: here the time at which it should.
            Message::Alarm => {
                let deadline_ns = turn.now_ns() + ALARM_NS;
                turn.arm(deadline_ns, deadline_ns);
            }
            Message::Leave => turn.leave(),
        }
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message>, deadline_ns: u64) {
        self.tell(turn.now_ns() - deadline_ns);
    }

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, Message>) -> Progress {
        Progress::Idle
    }

    /// It polls nothing that messages and timers would not tell it of: it may sleep whenever it is idle.
    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Message>) -> Rest {
        Rest::Sleep
    }
}

impl Sleepy {
    fn tell(&self, late_ns: u64) {
        // The main thread waits for it, unless it has panicked.
        let _ = self.late_ns.send(late_ns);
    }
}

fn main() -> Result<(), RuntimeError> {
    let options = ReactorOptions { poll_mode: PollMode::Busy, ..ReactorOptions::sleeping() };
    let mut builder = RuntimeBuilder::new(&[options], RING_CAPACITY)?;
    let (postbox, counters) = (builder.postbox(Cpu(0)), builder.counters(Cpu(0)));
    let (switch, clock) = (builder.poll_switch(Cpu(0)), builder.clock());
    let (late_ns, answers) = mpsc::channel();
    builder.spawn(Cpu(0), "sleepy", move || Sleepy { late_ns })?;
    let runtime = builder.start();

    println!("Idle, poll mode busy:     {}", cpu_use(&clock));
    switch.set(PollMode::ADAPTIVE);
    thread::sleep(PAUSE);
    println!("Idle, poll mode adaptive: {}", cpu_use(&clock));

    let mut lates_us: Vec<u64> = (0..WAKE_COUNT)
        .map(|_| {
            thread::sleep(PAUSE);
            assert!(postbox.post(Message::Hello(clock.now_ns())).is_ok());
            answers.recv().unwrap_or_default() / 1000
        })
        .collect();
    lates_us.sort_unstable();
    let (median, worst) = (lates_us[WAKE_COUNT / 2], lates_us[WAKE_COUNT - 1]);
    println!(
        "{WAKE_COUNT} messages to it while it slept: half of them were there within {median} us, all within {worst} us."
    );

    assert!(postbox.post(Message::Alarm).is_ok());
    println!("An alarm that it set before it slept came {} us late.", answers.recv().unwrap_or_default() / 1000);

    assert!(postbox.post(Message::Leave).is_ok());
    runtime.join();
    println!("It made {} turns and slept {} times.", counters.turn_count.value(), counters.sleep_count.value());
    Ok(())
}

/// How much of a CPU this process uses while one looks.
fn cpu_use(clock: &Clock) -> String {
    let begin_ns = clock.now_ns();
    let Some(used_before_ns) = used_ns() else { return "this kernel does not say (no schedstat)".to_owned() };
    thread::sleep(WATCHED);
    let used_ns = used_ns().unwrap_or(used_before_ns) - used_before_ns;
    let per_mille = used_ns * 1000 / (clock.now_ns() - begin_ns);
    format!("{}.{} % of a CPU", per_mille / 10, per_mille % 10)
}

/// Time that the threads of this process have run.
fn used_ns() -> Option<u64> {
    let threads = fs::read_dir("/proc/self/task").ok()?.flatten();
    let used = threads.map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    used.map(|text| text?.split_whitespace().next()?.parse::<u64>().ok()).sum()
}
