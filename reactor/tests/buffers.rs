//! Buffers that are lent to other CPUs: whatever way they took, they come home whole.

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reactor::{Arena, Buffer, Cpu, Home, Pool, Program, Progress, ReactorOptions, RuntimeBuilder, Simulation, Turn};

const CPU_COUNT: u16 = 3;
const BUFFER_LEN: usize = 256;
/// Of each of a CPU's two pools.
const BUFFER_COUNT: usize = 8;

enum Message {
    /// To be looked at, and passed on as many times.
    Lent(Buffer, u64),
    /// One that comes home.
    Home(Buffer),
    /// Everybody's buffers are home.
    Leave,
}

impl From<Buffer> for Message {
    fn from(buffer: Buffer) -> Self {
        Self::Home(buffer)
    }
}

/// What all CPUs of one mesh did.
#[derive(Default)]
struct Tally {
    lent_count: AtomicU64,
    home_count: AtomicU64,
    /// CPUs that have lent enough, and have all of their buffers back.
    whole_count: AtomicU64,
}

/// Lends its buffers to random CPUs, itself included.
struct Lender {
    pools: [Pool; 2],
    left_to_lend: u64,
    is_whole: bool,
    tally: Arc<Tally>,
}

impl Lender {
    fn new(cpu: Cpu, lend_count: u64, tally: &Arc<Tally>) -> Self {
        let pool = |pool| {
            let memory = Arena::new(BUFFER_LEN * BUFFER_COUNT, false).unwrap().segment();
            Pool::new(Home { cpu, pool }, memory.part(0, BUFFER_LEN * BUFFER_COUNT), BUFFER_LEN)
        };
        let pools = [pool(0), pool(1)];
        Self { pools, left_to_lend: lend_count, is_whole: false, tally: Arc::clone(tally) }
    }

    fn taken(&self) -> usize {
        self.pools.iter().map(Pool::taken).sum()
    }
}

/// What a lent buffer's bytes are: different for each of all buffers.
fn bytes_of(home: Home, buffer: &Buffer) -> [u8; BUFFER_LEN] {
    let number = buffer.segment().address() / BUFFER_LEN as u64;
    std::array::from_fn(|at| u8::try_from((number + at as u64 + u64::from(home.cpu.0 * 2 + home.pool)) % 251).unwrap())
}

fn check(buffer: &Buffer) {
    let mut bytes = [0; BUFFER_LEN];
    buffer.segment().read(0, &mut bytes);
    assert_eq!(bytes, bytes_of(buffer.home(), buffer), "somebody else wrote into {buffer:?}");
}

fn any_cpu(turn: &mut Turn<'_, Message>) -> Cpu {
    Cpu(u16::try_from(turn.random() % u64::from(CPU_COUNT)).unwrap())
}

impl Program for Lender {
    type Message = Message;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, _from: Option<Cpu>, message: Message) {
        match message {
            Message::Lent(buffer, 0) => {
                check(&buffer);
                // Another pool's, or another CPU's: sent. This pool's: given.
                self.pools[0].give_or_send(turn, buffer);
            }
            Message::Lent(buffer, hop_count) => {
                check(&buffer);
                let to = any_cpu(turn);
                turn.send(to, Message::Lent(buffer, hop_count - 1));
            }
            Message::Home(buffer) => {
                check(&buffer);
                assert_eq!(buffer.home().cpu, turn.cpu());
                self.tally.home_count.fetch_add(1, Ordering::Relaxed);
                self.pools[usize::from(buffer.home().pool)].give(buffer);
            }
            Message::Leave => turn.leave(),
        }
    }

    fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
        let which = usize::try_from(turn.random() % 2).unwrap();
        if self.left_to_lend > 0
            && let Some(buffer) = self.pools[which].take()
        {
            self.left_to_lend -= 1;
            self.tally.lent_count.fetch_add(1, Ordering::Relaxed);
            buffer.segment().write(0, &bytes_of(buffer.home(), &buffer));
            let (to, hop_count) = (any_cpu(turn), turn.random() % 4);
            turn.send(to, Message::Lent(buffer, hop_count));
            return Progress::Busy;
        }
        if self.left_to_lend == 0 && self.taken() == 0 && !self.is_whole {
            self.is_whole = true;
            // The last one knows that no buffer is under way: nobody has anything for anybody.
            if self.tally.whole_count.fetch_add(1, Ordering::AcqRel) + 1 == u64::from(CPU_COUNT) {
                (0..CPU_COUNT).for_each(|cpu| turn.send(Cpu(cpu), Message::Leave));
            }
        }
        Progress::Idle
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!((self.left_to_lend, self.taken()), (0, 0), "buffers that never came home");
        }
    }
}

fn check_tally(tally: &Tally, lend_count: u64) {
    let lent_count = tally.lent_count.load(Ordering::Relaxed);
    let home_count = tally.home_count.load(Ordering::Relaxed);
    assert_eq!(lent_count, u64::from(CPU_COUNT) * lend_count);
    // One in six ends where it began, in the pool that gives it back without a message.
    assert!(home_count > lent_count / 2 && home_count < lent_count, "{home_count} of {lent_count} by message");
}

#[test]
fn lent_buffers_come_home_in_the_simulation() {
    const LEND_COUNT: u64 = 100;
    for seed in 0..100 {
        let tally = Arc::default();
        let mut simulation = Simulation::with_ring_capacity(seed, CPU_COUNT, 2);
        for cpu in (0..CPU_COUNT).map(Cpu) {
            simulation.install(cpu, Lender::new(cpu, LEND_COUNT, &tally));
        }
        assert!(simulation.run_until_left(200_000), "seed {seed}");
        check_tally(&tally, LEND_COUNT);
    }
}

#[test]
fn lent_buffers_come_home_on_threads() {
    const LEND_COUNT: u64 = 20_000;
    let reactors = [ReactorOptions::yielding(); CPU_COUNT as usize];
    let mut builder = RuntimeBuilder::new(&reactors, 4).unwrap();
    let tally = Arc::default();
    for cpu in (0..CPU_COUNT).map(Cpu) {
        let tally = Arc::clone(&tally);
        builder.spawn(cpu, "lends", move || Lender::new(cpu, LEND_COUNT, &tally)).unwrap();
    }
    builder.start().join();
    check_tally(&tally, LEND_COUNT);
}
