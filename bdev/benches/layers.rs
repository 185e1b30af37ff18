//! What each layer, the gate and the meter cost an operation, all over the null device, whose writes are next to nothing.
//!
//! ```text
//! cargo bench -p bdev --bench layers                      # ns
//! cargo bench -p bdev --bench layers -- --instructions    # counted by callgrind, which does not mind neighbours
//! ```

mod drive;
#[path = "../../reactor/benches/measure/mod.rs"]
mod measure;

use std::process::Command;
use std::sync::Arc;

use bdev::{Delay, Device, Fault, Gate, Latencies, Limits, Memory, Null, OperationKind, Partition, Rates, Throttle};
use drive::{Drive, Places};
use measure::{as_float, per_operation, print};
use reactor::Clock;

const WRITE: OperationKind = OperationKind::Write { force_unit_access: false };

const LEN: usize = 4096;

/// Its name, and how it is made.
type Subject = (&'static str, fn() -> Drive);

/// What stands over the null device. The first is what all others are set beside.
const SUBJECTS: &[Subject] = &[
    ("null", || over(|null| null)),
    ("partition", || over(|null| Arc::new(Partition::new("part", null, 8, 1 << 20).expect("a partition")))),
    ("delay of 0", || over(|null| delay(null, 0))),
    ("delay of 10 us, 320 under way", || over(|null| delay(null, 10)).at_depth(320)),
    ("fault without rules", || over(|null| Arc::new(Fault::new("fault", null, 1)))),
    ("gate without limits", || gate(Limits::default())),
    ("gate, device's operations limited", || gate(Limits { device: operations(), ..Limits::default() })),
    ("gate, device's operations and bytes limited", || gate(Limits { device: all(), ..Limits::default() })),
    ("gate, device's and hosts' all limited", || gate(Limits { device: all(), host: all(), ..Limits::default() })),
    ("meter", || over(|null| null).metered()),
    ("gate without limits, and meter", || gate(Limits::default()).metered()),
    ("partition, delay of 0, gate, meter", || {
        let part = Partition::new("part", base(), 8, 1 << 20).expect("a partition");
        gate_before(&*delay(Arc::new(part), 0), Limits::default()).metered()
    }),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => times(),
        ["--instructions"] => instructions(),
        ["--run", subject, count] => run(subject, count),
        _ => panic!("nothing, or --instructions"),
    }
}

fn times() {
    const COUNT: u64 = 1_000_000;
    let clock = Clock::start();
    let mut null_ns = None;
    for (what, make) in SUBJECTS {
        let mut drive = make();
        let ns = per_operation(clock, COUNT, || drive.run(WRITE, COUNT));
        print(what, ns, null_ns.map(|null_ns| ("null", null_ns)));
        null_ns = null_ns.or(Some(ns));
    }
    let memory = Arc::new(Memory::new("memory", 512, 1 << 17, false).expect("a memory device"));
    let part = Partition::new("part", Arc::clone(&memory) as Arc<dyn Device>, 8, 1 << 16).expect("a partition");
    for (what, device) in [("memory", &*memory as &dyn Device), ("partition of memory", &part)] {
        let mut drive = Drive::new(device, LEN, Places::InOrder);
        print(&format!("read in place, {what}"), per_operation(clock, COUNT, || drive.run_in_place(COUNT)), None);
    }
}

/// Those of twice as many operations less those of once as many, so that setting up does not count.
fn instructions() {
    const COUNT: u64 = 20_000;
    let mut of_null = None;
    for (what, _) in SUBJECTS {
        let own = counted(what, 2 * COUNT) - counted(what, COUNT);
        let each = as_float(own) / as_float(COUNT);
        let of_null = *of_null.get_or_insert(each);
        println!("{what:<58} {each:>9.1} instructions   {:>+7.1}", each - of_null);
    }
}

fn counted(what: &str, count: u64) -> u64 {
    let program = std::env::current_exe().expect("a path");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = valgrind.args(["--run", what, &count.to_string()]).output().expect("valgrind (Debian: valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.split("Collected : ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    collected.unwrap_or_else(|| panic!("callgrind counted nothing: {said}"))
}

fn run(subject: &str, count: &str) {
    let (_, make) = SUBJECTS.iter().find(|(what, _)| *what == subject).expect("one of the subjects");
    make().run(WRITE, count.parse().expect("a number"));
}

fn base() -> Arc<dyn Device> {
    Arc::new(Null::new("null", 512, 1 << 24).expect("a null device"))
}

fn over(layer: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>) -> Drive {
    Drive::new(&*layer(base()), LEN, Places::InOrder)
}

fn delay(base: Arc<dyn Device>, us: u64) -> Arc<dyn Device> {
    let latencies = Latencies { read_us: us, read_p99_us: us, write_us: us, write_p99_us: us };
    Arc::new(Delay::new("delay", base, latencies, 1).expect("a delay"))
}

fn gate(limits: Limits) -> Drive {
    gate_before(&*base(), limits)
}

fn gate_before(device: &dyn Device, limits: Limits) -> Drive {
    let throttle = Arc::new(Throttle::default());
    throttle.set(limits);
    let channel = device.open_channel().expect("a channel");
    let gate = Gate::new(channel, throttle, device.geometry().block_len);
    Drive::through(Box::new(gate), device.geometry(), LEN, Places::InOrder)
}

/// So high that they never bite.
fn operations() -> Rates {
    Rates { operations: 1 << 40, ..Rates::default() }
}

fn all() -> Rates {
    let most = 1 << 40;
    let bytes = most << 12;
    Rates { operations: most, reads: most, writes: most, bytes, read_bytes: bytes, write_bytes: bytes }
}
