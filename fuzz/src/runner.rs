//! The loop: replay the corpus, then make inputs until time is up, and keep those that show something new.

use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::corpus;
use crate::mutation::mutate;
use crate::random::Random;

/// What an entry function saw: any numbers, of which a new one makes an input worth keeping.
pub type Features = BTreeSet<u64>;

/// How often a failing input is made smaller before it is shown.
const SHRINK_COUNT_MAX: usize = 400;

/// Replays the corpus and makes inputs of it, for as long as the environment says.
///
/// # Panics
/// If the entry function does: with the input, made smaller, and how to see it again.
pub fn check(name: &str, corpus: impl AsRef<Path>, entry: impl Fn(&[u8]) -> Features) {
    let path = corpus.as_ref();
    if let Some(input) = variable("QUIESCE_FUZZ_INPUT") {
        entry(&corpus::parse(&input).expect("QUIESCE_FUZZ_INPUT is hexadecimal"));
        return;
    }
    let inputs = corpus::read(path);
    let seed = number("QUIESCE_FUZZ_SEED").unwrap_or(1);
    let default_s = if variable("QUIESCE_TEST_LONG").is_some() { 60 } else { 4 };
    let seconds = number("QUIESCE_FUZZ_SECONDS").unwrap_or(default_s);
    let mut run = Run { name, entry: &entry, seen: Features::new(), kept: Vec::new(), count: 0 };
    let corpus_len = inputs.len();
    for input in inputs {
        run.take(input);
    }
    let from_corpus = run.kept.len();
    run.explore(&mut Random::new(seed), Duration::from_secs(seconds));
    println!(
        "{name}: {corpus_len} inputs of the corpus, {} made in {seconds} s from seed {seed}: {} things seen, {} inputs kept",
        run.count - corpus_len,
        run.seen.len(),
        run.kept.len(),
    );
    if variable("QUIESCE_FUZZ_SAVE").is_some() {
        corpus::append(path, &run.kept[from_corpus..]).expect("the corpus can be written");
    }
}

struct Run<'a, F> {
    name: &'a str,
    entry: &'a F,
    seen: Features,
    /// Each showed something that none before it did.
    kept: Vec<Vec<u8>>,
    count: usize,
}

impl<F: Fn(&[u8]) -> Features> Run<'_, F> {
    fn take(&mut self, input: Vec<u8>) {
        self.count += 1;
        match panic::catch_unwind(AssertUnwindSafe(|| (self.entry)(&input))) {
            Ok(features) => {
                let before = self.seen.len();
                self.seen.extend(features);
                if self.seen.len() > before {
                    self.kept.push(input);
                }
            }
            Err(_) => self.show(input),
        }
    }

    // The clock only says when to stop: which inputs are made is the seed's.
    #[allow(clippy::disallowed_methods, reason = "a test's limit of real time")]
    fn explore(&mut self, random: &mut Random, limit: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            let pick = |random: &mut Random, kept: &[Vec<u8>]| match kept.len() {
                0 => Vec::new(),
                // The younger ones have been tried less often.
                len if random.below(3) == 0 => kept[len - 1 - random.below(len.min(16))].clone(),
                len => kept[random.below(len)].clone(),
            };
            let (one, other) = (pick(random, &self.kept), pick(random, &self.kept));
            self.take(mutate(&one, &other, random));
        }
    }

    /// An input that fails: makes it smaller as long as it does, and fails with it.
    fn show(&self, mut input: Vec<u8>) -> ! {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let fails = |input: &[u8]| panic::catch_unwind(AssertUnwindSafe(|| (self.entry)(input))).is_err();
        let (mut len, mut tries) = (input.len().next_power_of_two(), 0);
        while len > 0 && tries < SHRINK_COUNT_MAX {
            let mut at = 0;
            while at < input.len() && tries < SHRINK_COUNT_MAX {
                let mut less = input.clone();
                less.drain(at..(at + len).min(input.len()));
                tries += 1;
                if fails(&less) {
                    input = less;
                } else {
                    at += len;
                }
            }
            len /= 2;
        }
        panic::set_hook(loud);
        let text = corpus::text(&input);
        eprintln!("{}: this input fails; see it again with QUIESCE_FUZZ_INPUT={text}", self.name);
        (self.entry)(&input);
        panic!("{}: it failed before, and does not now: {text}", self.name);
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    let value = variable(name)?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}: a number")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::mutation;

    fn run(seed: u64, entry: impl Fn(&[u8]) -> Features) {
        let mut run = Run { name: "test", entry: &entry, seen: Features::new(), kept: Vec::new(), count: 0 };
        run.explore(&mut Random::new(seed), Duration::from_secs(20));
    }

    /// Three bytes in a row, one seen after the other: guidance finds what chance alone would not.
    fn secret(input: &[u8]) -> Features {
        let word = b"key";
        let matched = (1..=word.len()).rev().find(|len| input.windows(*len).any(|part| part == &word[..*len]));
        assert!(matched != Some(word.len()), "found");
        matched.into_iter().map(|len| len as u64).collect()
    }

    #[test]
    #[should_panic(expected = "found")]
    fn what_it_sees_leads_it_on() {
        run(1, secret);
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let sum = |seed| {
            let (sum, count) = (Cell::new(0_u64), Cell::new(0));
            let mut random = Random::new(seed);
            let mut input = Vec::new();
            while count.get() < 500 {
                input = mutate(&input, b"other", &mut random);
                assert!(input.len() <= mutation::LEN_MAX);
                sum.set(input.iter().fold(sum.get(), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))));
                count.set(count.get() + 1);
            }
            sum.get()
        };
        assert_eq!(sum(7), sum(7));
        assert_ne!(sum(7), sum(8));
    }

    #[test]
    fn a_corpus_is_text() {
        let input = vec![0, 1, 0xAB, 0xFF];
        assert_eq!(corpus::parse(&corpus::text(&input)), Some(input));
        assert_eq!((corpus::parse("0"), corpus::parse("0g")), (None, None));
    }
}
