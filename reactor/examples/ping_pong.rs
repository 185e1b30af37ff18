//! Two CPUs send one message to and fro for a second; then one tells how long a way took.
//!
//! On a machine with two CPUs each reactor has one for itself. On one CPU they take turns, and the figures are the scheduler's.

use reactor::{Cpu, PollMode, Program, Progress, ReactorOptions, RuntimeBuilder, RuntimeError, Turn};

const RING_CAPACITY: usize = 64;
const MEASURED_NS: u64 = 1_000_000_000;
/// Until caches and clock frequency are what they will be.
const WARM_UP_NS: u64 = 100_000_000;
const ROUND_COUNT_MAX: usize = 4_000_000;

const ASKING: Cpu = Cpu(0);
const ANSWERING: Cpu = Cpu(1);

enum Message {
    Ping,
    Pong,
    Leave,
}

/// Sends a ping whenever a pong has come, and notes how long it was away.
struct Asking {
    sent_ns: Option<u64>,
    round_trips_ns: Vec<u64>,
}

impl Program for Asking {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, message: Message) {
        let (Message::Pong, Some(sent_ns)) = (message, self.sent_ns) else { return };
        let now_ns = turn.now_ns();
        if now_ns > WARM_UP_NS {
            self.round_trips_ns.push(now_ns - sent_ns);
        }
        if now_ns < WARM_UP_NS + MEASURED_NS && self.round_trips_ns.len() < ROUND_COUNT_MAX {
            self.ask(turn);
        } else {
            self.report(turn.cpu_count());
            turn.send(ANSWERING, Message::Leave);
            turn.leave();
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
        if self.sent_ns.is_none() {
            self.ask(turn);
        }
        Progress::Idle
    }
}

impl Asking {
    fn ask(&mut self, turn: &mut Turn<'_, Message>) {
        self.sent_ns = Some(turn.now_ns());
        turn.send(ANSWERING, Message::Ping);
    }

    fn report(&mut self, cpu_count: u16) {
        let times = &mut self.round_trips_ns;
        times.sort_unstable();
        let one_way_ns = |share: usize| times.get(times.len() * share / 1000).map_or(0, |ns| ns / 2);
        println!("{} round trips between {cpu_count} reactors in one second.", times.len());
        println!("One way: half of them within {} ns, 99 % within {} ns.", one_way_ns(500), one_way_ns(990));
    }
}

/// Sends back what comes.
struct Answering;

impl Program for Answering {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, message: Message) {
        match message {
            Message::Ping => turn.send(ASKING, Message::Pong),
            Message::Pong => {}
            Message::Leave => turn.leave(),
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, Message>) -> Progress {
        Progress::Idle
    }
}

fn main() -> Result<(), RuntimeError> {
    let reactors = match reactor::os_cpus_allowed() {
        &[one, other, ..] => {
            println!("Each reactor polls a CPU of its own: {one} and {other}.");
            [one, other].map(|os_cpu| ReactorOptions { poll_mode: PollMode::Busy, ..ReactorOptions::pinned(os_cpu) })
        }
        _ => {
            println!("There is one CPU only: the reactors give it to each other.");
            [ReactorOptions::yielding(); 2]
        }
    };
    let mut builder = RuntimeBuilder::new(&reactors, RING_CAPACITY)?;
    // Made on its own thread, so that its memory is near its CPU.
    let asking = || Asking { sent_ns: None, round_trips_ns: Vec::with_capacity(ROUND_COUNT_MAX) };
    builder.spawn(ASKING, "asking", asking)?;
    builder.spawn(ANSWERING, "answering", || Answering)?;
    builder.start().join();
    Ok(())
}
