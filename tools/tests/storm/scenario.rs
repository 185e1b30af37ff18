//! The storm itself: a population of hosts, and what happens to them, drawn from a seed.

use std::time::{Duration, Instant};

use super::ledger::{Holdings, life_count, total};
use super::party::{Party, Role};
use super::random::Random;
use crate::processes::{Target, now, pause, signal, wait_for};

/// Memory for the guests' blocks; each guest has its own, since nobody knows when a killed one's last writes take effect.
const MEMORY: &str = "1";
const NULL: &str = "2";
const FILE: &str = "3";
/// 64 MiB in blocks of 512 bytes, of which a guest uses at most this many: 4 queue pairs, 8 deep, 3 at once, 4 KiB, and as much again.
const MEMORY_BLOCKS: u64 = 64 << 11;
const GUEST_BLOCKS: u64 = 4 * 8 * 3 * 8 * 2;

const GUESTS_MAX: usize = 3;

/// How long a storm may take.
fn limit() -> Duration {
    Duration::from_secs(if is_long() { 1_200 } else { 240 })
}

/// Longer than the impatient hosts' keep-alive of a second.
const LONG_STOP: Duration = Duration::from_millis(1600);

/// How many queue pair lives: both numbers are said in the tests' headers.
fn life_goal() -> u64 {
    if is_long() { 10_000 } else { 800 }
}

pub(crate) fn is_long() -> bool {
    std::env::var_os("QUIESCE_TEST_LONG").is_some()
}

/// What memory may grow by between a tenth of the storm and its end. Freed memory stays in AddressSanitizer's quarantine for a while, and has its notes beside it.
fn slack_kib() -> u64 {
    if std::env::var_os("ASAN_OPTIONS").is_some() { 160 << 10 } else { 4 << 10 }
}

/// One storm.
pub(crate) struct Storm {
    pub(crate) name: &'static str,
    pub(crate) reactor_count: u16,
    pub(crate) shared_receives: bool,
}

impl Storm {
    pub(crate) fn rage(&self) {
        let seed = match std::env::var("QUIESCE_STORM_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => u64::from(std::process::id()) << 16 | u64::from(self.reactor_count),
        };
        println!("storm {}: QUIESCE_STORM_SEED={seed}", self.name);
        let target = Target::start_with(self.name, |configuration| {
            let reactors = format!("reactors = {}\ndata_memory = \"4MiB\"\nqueue_pairs = 128", self.reactor_count);
            let receives = if self.shared_receives { "\n[transport]\nshared_receives = 1024\n" } else { "" };
            configuration.replace("cpus = [0]", &reactors) + receives
        });
        let baseline = target.gauges_at_rest(Duration::from_secs(10));
        let goal = life_goal();
        let mut weather = Weather::new(target, seed);

        weather.until(|lives, _| lives >= goal / 10);
        weather.clear(&baseline);
        let before = Holdings::of(&weather.target);
        weather.until(|lives, _| lives >= goal / 2);
        weather.stop_target_for_long();
        weather.until(|lives, deeds| lives >= goal && deeds.are_all_done());
        weather.clear(&baseline);
        let after = Holdings::of(&weather.target);

        let target = weather.target;
        let counts = format!("{} lives, {:?}, {before:?} and then {after:?}", life_count(&target), weather.deeds);
        println!("storm {}: {counts}, most in limbo {}", self.name, total(&target, "nvmf_rdma_limbo_max"));
        after.assert_flat(&before, slack_kib(), &counts);
        // CPUs that sleep empty their limbos a little later.
        let is_empty = || total(&target, "nvmf_limbo_entries") == 0;
        assert!(wait_for(Duration::from_secs(10), is_empty), "limbo is not empty: {counts}");
        assert_expected(&target.log());
        target.ends_clean();
        assert_expected(&target.log());
    }
}

/// What was done to hosts and target.
#[derive(Debug, Default)]
struct Deeds {
    started: u64,
    concluded: u64,
    killed: u64,
    stopped: u64,
    killed_stopped: u64,
    target_stopped: u64,
}

impl Deeds {
    /// A storm without one of these would not show what it is for.
    fn are_all_done(&self) -> bool {
        let Self { started, concluded, killed, stopped, killed_stopped, target_stopped } = *self;
        [started, concluded, killed, stopped, killed_stopped, target_stopped].iter().all(|&n| n > 0)
    }
}

struct Weather {
    target: Target,
    random: Random,
    parties: Vec<Party>,
    deeds: Deeds,
    begin: Instant,
}

impl Weather {
    fn new(target: Target, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { target, random, parties: Vec::new(), deeds: Deeds::default(), begin: now() }
    }

    /// Goes on until so many queue pairs have lived and died, and so much was done to their owners.
    fn until(&mut self, is_enough: impl Fn(u64, &Deeds) -> bool) {
        loop {
            let lives = life_count(&self.target);
            if is_enough(lives, &self.deeds) {
                return;
            }
            assert!(now() - self.begin < limit(), "{lives} lives after {:?}: {:?}", limit(), self.deeds);
            for _ in 0..4 {
                self.populate();
                self.strike();
                pause(Duration::from_millis(self.random.between(5, 60)));
                self.tend();
            }
            assert!(self.target.is_alive(), "the target has died:\n{}", self.target.log());
        }
    }

    /// The sky clears: whoever is left ends by itself, loaders are killed, and nothing is left.
    fn clear(&mut self, baseline: &[(String, f64)]) {
        for party in self.parties.drain(..) {
            if party.role == Role::Loader {
                party.kill();
            } else {
                party.conclude();
                self.deeds.concluded += 1;
            }
        }
        self.target.gauges_return_to(baseline, Duration::from_secs(20));
    }

    fn populate(&mut self) {
        while self.count(Role::Guest) < GUESTS_MAX {
            // Three of four are patient; the others may lose connections to a stop, and go on.
            let is_patient = self.random.between(0, 3) > 0;
            let arguments = self.guest(is_patient);
            self.start(Role::Guest, &arguments);
            if let (false, Some(guest)) = (is_patient, self.parties.last_mut()) {
                guest.excuse();
            }
        }
        if self.count(Role::Loader) == 0 {
            self.start(Role::Loader, &format!("--nsid {NULL} -w randrw -o 16k -q 8 -P 2 -t 600"));
        }
        if self.count(Role::Verifier) == 0 {
            let count = self.random.between(50, 300);
            self.start(Role::Verifier, &format!("--nsid {FILE} --verify -w randwrite -o 4k -q 8 -n {count}"));
        }
    }

    fn count(&self, role: Role) -> usize {
        self.parties.iter().filter(|party| party.role == role).count()
    }

    fn start(&mut self, role: Role, arguments: &str) {
        self.deeds.started += 1;
        let cpu = self.random.between(0, 1);
        self.parties.push(Party::start(&self.target, self.deeds.started, role, cpu, arguments));
    }

    fn guest(&mut self, is_patient: bool) -> String {
        let random = &mut self.random;
        let (pairs, depth, at_once) = (random.between(1, 4), random.between(1, 8), random.between(1, 3));
        let verified = random.between(0, pairs * depth);
        let end = random.pick(&["quiet", "abrupt", "early", "mixed", "mixed"]);
        let (lives, seed) = (random.between(3, 60), random.next() >> 1);
        let first_block = self.deeds.started * GUEST_BLOCKS % (MEMORY_BLOCKS - GUEST_BLOCKS);
        let patience = if is_patient { "" } else { "--keep-alive 1000 --continue-on-error" };
        format!(
            "--nsid {MEMORY} connect {patience} -P {pairs} -q {depth} -j {at_once} -n {lives} --end {end} --verify {verified} \
             --first-block {first_block} --seed {seed}"
        )
    }

    /// Something happens to somebody.
    fn strike(&mut self) {
        let at = usize::try_from(self.random.next()).unwrap() % self.parties.len();
        let party = &mut self.parties[at];
        match self.random.between(0, 11) {
            0..=2 if party.role != Role::Verifier => {
                self.deeds.killed += 1;
                self.deeds.killed_stopped += u64::from(party.stopped_until.is_some());
                self.parties.swap_remove(at).kill();
            }
            3..=6 if party.stopped_until.is_none() && !party.has_ended() => {
                self.deeds.stopped += 1;
                let time = self.random.between(5, 600);
                party.stop(now() + Duration::from_millis(time));
            }
            7 => {
                self.deeds.target_stopped += 1;
                self.target.signal(signal::STOP);
                pause(Duration::from_millis(self.random.between(1, 250)));
                self.target.signal(signal::CONT);
            }
            _ => {}
        }
    }

    /// Those whose time has come go on; those that have ended are looked at.
    fn tend(&mut self) {
        let now = now();
        let mut at = 0;
        while let Some(party) = self.parties.get_mut(at) {
            if party.has_ended() {
                self.parties.swap_remove(at).conclude();
                self.deeds.concluded += 1;
                continue;
            }
            if party.stopped_until.is_some_and(|until| until <= now) {
                party.go_on();
            }
            at += 1;
        }
    }

    /// Longer than some hosts are patient: they may lose their connections, and say so.
    fn stop_target_for_long(&mut self) {
        self.populate();
        pause(Duration::from_millis(100));
        self.parties.iter_mut().for_each(Party::excuse);
        self.deeds.target_stopped += 1;
        self.target.signal(signal::STOP);
        pause(LONG_STOP);
        self.target.signal(signal::CONT);
    }
}

/// Nothing in the log but what a storm brings.
fn assert_expected(log: &str) {
    /// A process that is stopped, and more threads than CPUs, take CPUs away.
    const EXPECTED: [&str; 3] = ["a CPU was held too long", "a CPU does not turn", "ring between two CPUs is full"];
    let is_expected = |line: &&str| EXPECTED.iter().any(|words| line.contains(words));
    let is_news = |line: &&str| {
        [" WARN ", " ERROR ", "panicked", "Sanitizer"].iter().any(|word| line.contains(word)) && !is_expected(line)
    };
    let news: Vec<_> = log.lines().filter(is_news).collect();
    assert!(news.is_empty(), "{news:#?}\n{log}");
}
