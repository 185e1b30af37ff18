//! Reactors on real threads: start, wake-ups, reclamation, leaving.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use reactor::{
    Clock, Cpu, Grace, Limbo, Program, Progress, Published, ReactorOptions, Rest, RuntimeBuilder, RuntimeError, Turn,
    Unlinked,
};

/// The machine may be busy: a lost wake-up takes for ever, a late one some ms.
const LONG: Duration = Duration::from_secs(10);

enum Message {
    /// To be answered through the channel.
    Ping,
    /// To be passed on to the sleeper by the CPU that gets it.
    Forward,
    Leave,
}

/// Answers on a channel whatever wakes it, with its time; sleeps otherwise.
struct Sleeper {
    answers: mpsc::Sender<(&'static str, u64)>,
    socket: UnixStream,
    alarm_ns: u64,
}

impl Program for Sleeper {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, from: Option<Cpu>, message: Message) {
        match message {
            Message::Ping => {
                let what = if from.is_some() { "message" } else { "posted" };
                self.answers.send((what, turn.now_ns())).unwrap();
            }
            Message::Forward => self.alarm_ns = turn.now_ns() + 20_000_000,
            Message::Leave => turn.leave(),
        }
        if self.alarm_ns > 0 {
            turn.arm(self.alarm_ns, 1);
            self.alarm_ns = 0;
        }
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Message>, _token: u64) {
        self.answers.send(("alarm", turn.now_ns())).unwrap();
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
        match self.socket.read_exact(&mut [0]) {
            Ok(()) => {
                self.answers.send(("socket", turn.now_ns())).unwrap();
                Progress::Busy
            }
            Err(_) => Progress::Idle,
        }
    }

    fn rest<'t>(&mut self, _turn: &mut Turn<'t, Message>) -> Rest {
        Rest::Sleep
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}

/// Passes pings on.
struct Forwarder;

impl Program for Forwarder {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, message: Message) {
        match message {
            Message::Ping => {}
            Message::Forward => turn.send(Cpu(turn.cpu_count() - 1), Message::Ping),
            Message::Leave => turn.leave(),
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, Message>) -> Progress {
        Progress::Idle
    }
}

#[test]
fn a_sleeping_reactor_wakes_for_everything_that_should_wake_it() {
    let placements = [ReactorOptions::yielding(), ReactorOptions::sleeping(), ReactorOptions::sleeping()];
    let mut builder = RuntimeBuilder::new(&placements, 4).unwrap();
    let (answers, answered) = mpsc::channel();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let postboxes: Vec<_> = (0..3).map(|cpu| builder.postbox(Cpu(cpu))).collect();
    let counters = builder.counters(Cpu(2));
    builder.spawn(Cpu(0), "polls", || Forwarder).unwrap();
    builder.spawn(Cpu(1), "sleeps", || Forwarder).unwrap();
    builder.spawn(Cpu(2), "control", move || Sleeper { answers, socket: theirs, alarm_ns: 0 }).unwrap();
    let runtime = builder.start();
    let next = || answered.recv_timeout(LONG).expect("a wake-up was lost");

    for _ in 0..200 {
        assert!(postboxes[2].post(Message::Ping).is_ok());
        assert_eq!(next().0, "posted");
        assert!(postboxes[0].post(Message::Forward).is_ok());
        assert_eq!(next().0, "message", "from a CPU that polls");
        assert!(postboxes[1].post(Message::Forward).is_ok());
        assert_eq!(next().0, "message", "from a CPU that sleeps itself");
        ours.write_all(b"x").unwrap();
        assert_eq!(next().0, "socket");
    }
    // Told to set its alarm, it sleeps until then.
    assert!(postboxes[2].post(Message::Ping).is_ok());
    let (_, told_ns) = next();
    assert!(postboxes[2].post(Message::Forward).is_ok());
    let (what, fired_ns) = next();
    assert_eq!(what, "alarm");
    assert!(fired_ns - told_ns >= 20_000_000, "{told_ns} to {fired_ns}");
    // Asleep it makes no turns.
    let before = counters.turn_count.value();
    pause(50);
    assert!(
        counters.turn_count.value() - before <= 2,
        "{} turns in 50 ms of sleep",
        counters.turn_count.value() - before
    );

    for postbox in &postboxes {
        assert!(postbox.post(Message::Leave).is_ok());
    }
    runtime.join();
    assert!(postboxes[0].post(Message::Ping).is_err());
}

/// A value with a mark that its drop wipes out.
struct Marked(u64);
const MARK: u64 = 0x5EED_5EED_5EED_5EED;

impl Drop for Marked {
    fn drop(&mut self) {
        // A reader that comes late would see this, or whatever the allocator puts there.
        self.0 = 0;
    }
}

/// CPU 0 replaces the value all the time, the others look at it; all leave when CPU 0 has reclaimed enough.
struct Reclaiming {
    value: Arc<Published<Marked>>,
    limbo: Limbo<Unlinked<Marked>>,
    reaped_count: u64,
    looks: Arc<AtomicU64>,
}

impl Program for Reclaiming {
    type Message = ();

    fn receive<'t>(&mut self, turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {
        turn.leave();
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        let seen = self.value.load(turn.guard());
        assert_eq!(seen.0, MARK);
        if turn.cpu() == Cpu(0) {
            while let Some(reaped) = self.limbo.reap(turn) {
                drop(reaped.into_object());
                self.reaped_count += 1;
            }
            if self.reaped_count < 300 {
                if self.limbo.len() < self.limbo.capacity() {
                    let old = self.value.replace(Box::new(Marked(MARK)));
                    self.limbo.retire(turn, old).unwrap();
                }
            } else if self.reaped_count < u64::MAX / 2 && self.limbo.is_empty() {
                self.reaped_count = u64::MAX / 2;
                (0..turn.cpu_count()).for_each(|cpu| turn.send(Cpu(cpu), ()));
            }
        }
        assert_eq!(seen.0, MARK);
        self.looks.fetch_add(1, Ordering::Relaxed);
        Progress::Idle
    }
}

#[test]
fn three_reactors_and_a_reader_reclaim_and_leave() {
    let placements = [ReactorOptions::yielding(), ReactorOptions::yielding(), ReactorOptions::sleeping()];
    let mut builder = RuntimeBuilder::new(&placements, 4).unwrap();
    let domain = builder.domain().clone();
    let value = Arc::new(Published::new(&domain, Box::new(Marked(MARK))));
    let looks = Arc::new(AtomicU64::new(0));
    for cpu in (0..3).map(Cpu) {
        let (value, looks) = (Arc::clone(&value), Arc::clone(&looks));
        let limbo = move || Limbo::new(Grace::Readers, 8);
        builder.spawn(cpu, "reclaims", move || Reclaiming { value, limbo: limbo(), reaped_count: 0, looks }).unwrap();
    }
    let counters = builder.counters(Cpu(0));
    let runtime = builder.start();
    let mut reader = domain.register_reader().unwrap();
    while counters.turn_count.value() == 0 || domain.limbo_len() > 0 {
        let mark = reader.read(|guard| value.load(guard).0);
        assert_eq!(mark, MARK);
        std::thread::yield_now();
    }
    runtime.join();
    assert_eq!((domain.limbo_len(), counters.limbo_len.value()), (0, 0));
    assert!(domain.epoch() > 2 && looks.load(Ordering::Relaxed) > 300);
}

/// Panics in its first turn, or idles for ever.
struct Faulty {
    panics: bool,
}

impl Program for Faulty {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, _turn: &mut Turn<'t, ()>) -> Progress {
        assert!(!self.panics, "on purpose");
        Progress::Idle
    }
}

#[test]
#[should_panic(expected = "on purpose")]
fn a_panic_ends_the_whole_mesh_also_the_sleepers() {
    let placements = [ReactorOptions::yielding(), ReactorOptions::yielding(), ReactorOptions::sleeping()];
    let mut builder = RuntimeBuilder::new(&placements, 4).unwrap();
    for cpu in (0..3).map(Cpu) {
        builder.spawn(cpu, "faulty", move || Faulty { panics: cpu == Cpu(1) }).unwrap();
    }
    builder.start().join();
}

#[test]
fn a_builder_that_is_dropped_ends_its_threads() {
    let made = Arc::new(());
    let mut builder: RuntimeBuilder<()> = RuntimeBuilder::new(&[ReactorOptions::yielding()], 4).unwrap();
    let held = Arc::clone(&made);
    let make = move || {
        let _held = &held;
        Faulty { panics: true }
    };
    builder.spawn(Cpu(0), "early", make).unwrap();
    drop(builder);
    for _ in 0..1_000 {
        if Arc::strong_count(&made) == 1 {
            return;
        }
        pause(5);
    }
    panic!("the thread is still there");
}

/// Tells where it runs, and leaves.
struct Where(mpsc::Sender<Vec<usize>>);

impl Program for Where {
    type Message = ();

    fn receive<'t>(&mut self, _turn: &mut Turn<'t, ()>, _from: Option<Cpu>, (): ()) {}

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, ()>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, ()>) -> Progress {
        let allowed = core_affinity::get_core_ids().unwrap().into_iter().map(|core| core.id).collect();
        self.0.send(allowed).unwrap();
        turn.leave();
        Progress::Idle
    }
}

#[test]
fn a_pinned_reactor_is_where_it_was_put_and_an_impossible_place_is_an_error() {
    let first = core_affinity::get_core_ids().unwrap()[0].id;
    let mut builder = RuntimeBuilder::new(&[ReactorOptions::pinned(first)], 4).unwrap();
    let (tell, told) = mpsc::channel();
    builder.spawn(Cpu(0), "pinned", move || Where(tell)).unwrap();
    builder.start().join();
    assert_eq!(told.recv().unwrap(), [first]);

    let placements = [ReactorOptions::yielding(), ReactorOptions::pinned(5000)];
    let error = RuntimeBuilder::<()>::new(&placements, 4).err().unwrap();
    assert!(matches!(error, RuntimeError::NoSuchCpu { os_cpu: 5000, .. }), "{error}");
}

/// Without asking the operating system for the time.
fn pause(ms: u64) {
    let clock = Clock::start();
    let end_ns = clock.now_ns() + ms * 1_000_000;
    while clock.now_ns() < end_ns {
        std::thread::yield_now();
    }
}
