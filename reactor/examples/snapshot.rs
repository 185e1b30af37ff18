//! Settings that are replaced a thousand times while two CPUs read them at each turn; each old snapshot is given back when nobody can still see it.
//!
//! The readers pay a pointer load for it, take no lock and count no references.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reactor::{
    Cpu, Full, Grace, Limbo, Program, Progress, Published, ReactorOptions, RuntimeBuilder, RuntimeError, Turn, Unlinked,
};

const RING_CAPACITY: usize = 64;
const REPLACEMENT_COUNT: u64 = 1000;
const REPLACEMENT_NS: u64 = 1_000_000;
/// Old snapshots that may wait at a time: a bound, at which replacing pauses.
const WAITING_COUNT_MAX: usize = 64;

const READERS: [Cpu; 2] = [Cpu(0), Cpu(1)];
const CONTROL: Cpu = Cpu(2);

/// Live ones: so that the example can show that none is left over.
static LIVE_COUNT: AtomicU64 = AtomicU64::new(0);

/// Never changed once it is published, so that its fields always fit together.
struct Settings {
    version: u64,
    doubled: u64,
    name: String,
}

impl Settings {
    fn new(version: u64) -> Box<Self> {
        LIVE_COUNT.fetch_add(1, Ordering::Relaxed);
        Box::new(Self { version, doubled: 2 * version, name: format!("settings {version}") })
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        LIVE_COUNT.fetch_sub(1, Ordering::Relaxed);
        // Whoever came too late would see this.
        self.doubled = u64::MAX;
    }
}

enum Message {
    Leave,
}

/// Looks at the settings in each turn, as a data path would for each command.
struct Reading {
    settings: Arc<Published<Settings>>,
    look_count: u64,
    version_count: u64,
    last_version: u64,
}

impl Program for Reading {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, Message::Leave: Message) {
        let (cpu, looks, versions) = (turn.cpu().0, self.look_count, self.version_count);
        println!("Reader {cpu} looked {looks} times and met {versions} versions, each whole.");
        turn.leave();
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
        // Lives until the end of this turn, whatever the control plane does meanwhile. `self.kept = settings` would not compile.
        let settings: &'t Settings = self.settings.load(turn.guard());
        assert!(settings.doubled == 2 * settings.version && settings.name.starts_with("settings"));
        self.look_count += 1;
        if settings.version != self.last_version {
            self.last_version = settings.version;
            self.version_count += 1;
        }
        Progress::Idle
    }
}

/// Replaces the settings every millisecond, and gives the old ones back.
struct Control {
    settings: Arc<Published<Settings>>,
    old: Limbo<Unlinked<Settings>>,
    next_version: u64,
    longest_queue: usize,
    reclaimed_count: u64,
}

impl Program for Control {
    type Message = Message;

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, Message>, _from: Option<Cpu>, Message::Leave: Message) {}

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message>, _token: u64) {
        // A full limbo is back-pressure: another try in a millisecond.
        if self.old.len() < self.old.capacity() {
            self.replace(turn);
        }
        if self.next_version <= REPLACEMENT_COUNT {
            turn.arm(turn.now_ns() + REPLACEMENT_NS, 0);
        }
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
        if self.next_version == 1 {
            self.replace(turn);
            turn.arm(turn.now_ns() + REPLACEMENT_NS, 0);
        }
        while let Some(reaped) = self.old.reap(turn) {
            // A `Box` again, since nobody else can see it any longer.
            let settings: Box<Settings> = reaped.into_object();
            drop(settings);
            self.reclaimed_count += 1;
        }
        if self.reclaimed_count == REPLACEMENT_COUNT {
            println!(
                "{} snapshots replaced and given back; at most {} waited.",
                self.reclaimed_count, self.longest_queue
            );
            self.reclaimed_count = 0;
            READERS.into_iter().for_each(|cpu| turn.send(cpu, Message::Leave));
            turn.leave();
        }
        Progress::Idle
    }
}

impl Control {
    fn replace(&mut self, turn: &mut Turn<'_, Message>) {
        let old = self.settings.replace(Settings::new(self.next_version));
        self.next_version += 1;
        match self.old.retire(turn, old) {
            Ok(()) => self.longest_queue = self.longest_queue.max(self.old.len()),
            Err(Full(_)) => unreachable!("there was room"),
        }
    }
}

fn main() -> Result<(), RuntimeError> {
    // Reads as fast as the machine lets it, and gives its CPU away in between: also more reactors than CPUs get along.
    let reactors = [ReactorOptions::yielding(); 3];
    let mut builder = RuntimeBuilder::new(&reactors, RING_CAPACITY)?;
    let settings = Arc::new(Published::new(builder.domain(), Settings::new(0)));
    for cpu in READERS {
        let settings = Arc::clone(&settings);
        let reading = || Reading { settings, look_count: 0, version_count: 0, last_version: 0 };
        builder.spawn(cpu, "reading", reading)?;
    }
    let old = move || Limbo::new(Grace::Readers, WAITING_COUNT_MAX);
    let control = move || Control { settings, old: old(), next_version: 1, longest_queue: 0, reclaimed_count: 0 };
    builder.spawn(CONTROL, "control", control)?;
    builder.start().join();
    println!("{} snapshot is left: the present one.", LIVE_COUNT.load(Ordering::Relaxed));
    Ok(())
}
