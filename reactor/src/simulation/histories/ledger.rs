//! What the model knows: which object is where, who may still see it, and what is on its way.

use std::collections::{BTreeMap, VecDeque};

use crate::cpu::Cpu;
use crate::limbo::Grace;

/// Events that are kept for a failure's report.
const EVENT_COUNT_MAX: usize = 40;

pub(super) struct Ledger {
    objects: Vec<Fate>,
    /// By object: how many readers hold it, and how many messages that name it are on their way.
    held: BTreeMap<u64, u32>,
    named: BTreeMap<u64, u32>,
    /// By sender and receiver.
    sent: BTreeMap<(u16, u16), u64>,
    received: BTreeMap<(u16, u16), u64>,
    violation: Option<String>,
    events: VecDeque<String>,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Linked,
    Retired,
    Reaped,
}

/// How much happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) reaped_count: u64,
    pub(super) message_count: u64,
    /// Values that found their limbo full.
    pub(super) limbo_full_count: u64,
    pub(super) held_count: u64,
    pub(super) ring_full_count: u64,
    pub(super) sleep_count: u64,
}

impl Totals {
    fn all(&self) -> [u64; 6] {
        let Self { reaped_count, message_count, limbo_full_count, held_count, ring_full_count, sleep_count } = *self;
        [reaped_count, message_count, limbo_full_count, held_count, ring_full_count, sleep_count]
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.reaped_count += more.reaped_count;
        self.message_count += more.message_count;
        self.limbo_full_count += more.limbo_full_count;
        self.held_count += more.held_count;
        self.ring_full_count += more.ring_full_count;
        self.sleep_count += more.sleep_count;
    }

    pub(super) fn all_above(&self, least: u64) -> bool {
        self.all().iter().all(|count| *count > least)
    }
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            objects: Vec::new(),
            held: BTreeMap::new(),
            named: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            violation: None,
            events: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// A new object's number.
    pub(super) fn make(&mut self) -> u64 {
        self.objects.push(Fate::Linked);
        self.objects.len() as u64 - 1
    }

    pub(super) fn retire(&mut self, cpu: Cpu, number: u64, grace: Grace) {
        self.event(format!("cpu {} retired {number} for {grace:?}", cpu.0));
        self.become_next(number, Fate::Linked, Fate::Retired);
    }

    /// Whether nobody can still come by it.
    pub(super) fn reap(&mut self, cpu: Cpu, number: u64) -> bool {
        self.event(format!("cpu {} reaped {number}", cpu.0));
        self.become_next(number, Fate::Retired, Fate::Reaped);
        self.totals.reaped_count += 1;
        let is_held = self.held.contains_key(&number);
        if is_held {
            self.violate(format!("object {number} was given back while a reader held it"));
        }
        let is_named = self.named.contains_key(&number);
        if is_named {
            self.violate(format!("object {number} was given back while a message named it"));
        }
        !is_held && !is_named
    }

    pub(super) fn limbo_full(&mut self) {
        self.totals.limbo_full_count += 1;
    }

    /// What is looked at has not been given back.
    pub(super) fn look(&mut self, who: &str, number: u64) {
        if self.fate(number) == Fate::Reaped {
            self.violate(format!("{who} came by object {number}, which was given back"));
        }
    }

    /// A reader holds these from now on.
    pub(super) fn hold(&mut self, numbers: &[u64]) {
        self.event(format!("a reader holds {numbers:?}"));
        for number in numbers {
            self.look("a reader", *number);
            *self.held.entry(*number).or_default() += 1;
            self.totals.held_count += 1;
        }
    }

    pub(super) fn release(&mut self, numbers: &[u64]) {
        self.event(format!("the reader releases {numbers:?}"));
        numbers.iter().for_each(|number| take_one(&mut self.held, *number));
    }

    /// A message's number among those of its pair.
    pub(super) fn send(&mut self, from: Cpu, to: Cpu, named: Option<u64>) -> u64 {
        self.event(format!("cpu {} tells cpu {} of {named:?}", from.0, to.0));
        if let Some(object) = named {
            *self.named.entry(object).or_default() += 1;
        }
        let sent = self.sent.entry((from.0, to.0)).or_default();
        *sent += 1;
        *sent - 1
    }

    pub(super) fn receive(&mut self, from: Cpu, to: Cpu, number: u64, named: Option<u64>) {
        self.event(format!("cpu {} hears of {named:?} from cpu {}", to.0, from.0));
        self.totals.message_count += 1;
        let expected = self.received.entry((from.0, to.0)).or_default();
        if number != *expected {
            let what = format!("message {number} from cpu {} to cpu {} is out of order: {expected}", from.0, to.0);
            self.violate(what);
        }
        *self.received.entry((from.0, to.0)).or_default() += 1;
        if let Some(object) = named {
            self.look("a message", object);
            take_one(&mut self.named, object);
        }
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// All have left: everything was received and everything given back, but for the value that is still published.
    pub(super) fn verdict_at_the_end(&self) -> Result<(), String> {
        self.verdict()?;
        if self.sent != self.received || !self.named.is_empty() {
            return Err(format!("messages were lost: sent {:?}, received {:?}", self.sent, self.received));
        }
        let kept = self.objects.iter().filter(|fate| **fate != Fate::Reaped).count();
        if kept == 1 { Ok(()) } else { Err(format!("{} objects were not given back", kept - 1)) }
    }

    pub(super) fn last_events(&self) -> Vec<String> {
        self.events.iter().cloned().collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.clone()
    }

    fn fate(&self, number: u64) -> Fate {
        self.objects[usize::try_from(number).unwrap()]
    }

    fn become_next(&mut self, number: u64, before: Fate, after: Fate) {
        let fate = self.fate(number);
        if fate != before {
            self.violate(format!("object {number} is {fate:?} and becomes {after:?}"));
        }
        self.objects[usize::try_from(number).unwrap()] = after;
    }

    /// The first one counts.
    fn violate(&mut self, what: String) {
        self.event(what.clone());
        self.violation.get_or_insert(what);
    }

    fn event(&mut self, event: String) {
        if self.events.len() == EVENT_COUNT_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn take_one(counts: &mut BTreeMap<u64, u32>, number: u64) {
    let count = counts.get_mut(&number).unwrap();
    *count -= 1;
    if *count == 0 {
        counts.remove(&number);
    }
}
