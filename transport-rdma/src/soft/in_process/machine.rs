//! One machine as the fabric knows it: what its provider, its ports and its peers share, and what was asked of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use reactor::Choices;

use super::FabricOptions;
use super::bell::PortBell;
use super::cm::Letter;
use super::keys::Keys;
use super::ledger::{Ledger, Posted};
use super::options::{Calls, LastWqeMoment};
use super::orders::Order;
use super::stage::{self, Stage};
use crate::soft::nic::{Credit, Entry, Outstanding, QueuePairSerial};
use crate::verbs::{CompletionStatus, ConnectionId, PortId, RejectReason};

/// Names a machine of a fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub(super) usize);

/// One machine.
pub(super) struct Machine {
    pub(super) options: FabricOptions,
    pub(super) keys: Keys,
    /// Letters to its connection manager, each with how many looks it still takes.
    pub(super) mail: VecDeque<(u32, Letter)>,
    pub(super) is_alive: bool,
    /// It makes no look of its own.
    pub(super) is_stopped: bool,
    /// It stops when one of its copies is half way.
    pub(super) stops_in_copy: bool,
    /// Its device is gone.
    pub(super) is_removed: bool,
    /// It was gone: what was made of it is broken, and nothing is made before it was opened again.
    pub(super) is_lost: bool,
    pub(super) ports: Vec<PortRecord>,
    pub(super) queue_pairs: BTreeMap<QueuePairSerial, QueuePairRecord>,
    pub(super) connections: BTreeSet<ConnectionId>,
    /// What its provider is to do at its next look.
    pub(super) orders: VecDeque<Order>,
    /// The next requests are rejected for these reasons.
    pub(super) rejections: VecDeque<RejectReason>,
    /// So many flush completions are dropped.
    pub(super) flushes_to_drop: u32,
    /// Calls that fail, each after so many others of its kinds.
    pub(super) failing: Vec<(Calls, u64)>,
}

/// One port.
pub(super) struct PortRecord {
    pub(super) stage: Stage,
    pub(super) bell: Arc<PortBell>,
    pub(super) shared: Ledger,
    /// What the device says of its SRQ.
    pub(super) shared_outstanding: usize,
    /// Queue pairs that are being destroyed, for its CPU to do its part.
    pub(super) leaving: Vec<Leaving>,
    pub(super) is_gone: bool,
    /// Its device was removed: it leaves as soon as it has no queue pair.
    pub(super) is_leaving: bool,
    /// It has left.
    pub(super) has_left: bool,
}

/// What a port does for a queue pair that is being destroyed.
#[derive(Clone, Copy)]
pub(super) struct Leaving {
    pub(super) serial: QueuePairSerial,
    pub(super) number: u32,
    pub(super) is_swept: bool,
    pub(super) swallows: bool,
}

/// A queue pair, from its creation to the end of its destruction.
pub(super) struct QueuePairRecord {
    pub(super) number: u32,
    pub(super) port: PortId,
    pub(super) is_on_shared: bool,
    pub(super) sends: Ledger,
    pub(super) receives: Ledger,
    /// What the device says, while it is attached.
    pub(super) outstanding: Option<Outstanding>,
    /// Shared receives that it completed.
    pub(super) taken_shared_count: u64,
    /// Its failure was looked at.
    pub(super) has_failed: bool,
    pub(super) last_wqe: LastWqe,
}

/// Where a queue pair is with LAST_WQE_REACHED.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastWqe {
    /// Chosen when it is first needed.
    moment: Option<LastWqeMoment>,
    /// So many flushes may come before the event is fetched, if it is to come among them.
    gate: Option<u32>,
    /// It was fetched, or never comes.
    is_over: bool,
}

impl QueuePairRecord {
    pub(super) fn new(number: u32, port: PortId, is_on_shared: bool) -> Self {
        Self {
            number,
            port,
            is_on_shared,
            sends: Ledger::default(),
            receives: Ledger::default(),
            outstanding: None,
            taken_shared_count: 0,
            has_failed: false,
            last_wqe: LastWqe::default(),
        }
    }

    fn ledger(&mut self, credit: Credit) -> &mut Ledger {
        match credit {
            Credit::Send(_) => &mut self.sends,
            Credit::Receive | Credit::SharedReceive => &mut self.receives,
        }
    }
}

impl Machine {
    pub(super) fn new(options: FabricOptions) -> Self {
        Self {
            options,
            keys: Keys::new(),
            mail: VecDeque::new(),
            is_alive: true,
            is_stopped: false,
            stops_in_copy: false,
            is_removed: false,
            is_lost: false,
            ports: Vec::new(),
            queue_pairs: BTreeMap::new(),
            connections: BTreeSet::new(),
            orders: VecDeque::new(),
            rejections: VecDeque::new(),
            flushes_to_drop: 0,
            failing: Vec::new(),
        }
    }

    /// Whether it makes looks.
    pub(super) fn runs(&self) -> bool {
        self.is_alive && !self.is_stopped
    }

    /// Whether nothing leaves it, and nothing is copied by it: it is stopped or dead, and programs that run all the same do nothing.
    pub(super) fn is_mute(&self) -> bool {
        !self.runs()
    }

    /// Whether nothing but destroying may be asked of its device.
    pub(super) fn is_without_device(&self) -> bool {
        self.is_removed || self.is_lost
    }

    /// Whether its peers are told nothing any more.
    pub(super) fn is_silent(&self) -> bool {
        self.is_without_device() && self.options.device.is_removed_silently
    }

    /// What was made of the device that was removed is gone: its registrations, and the shared receives that were posted to its ports.
    pub(super) fn let_go_of_device(&mut self) {
        self.keys.release();
        for port in &mut self.ports {
            port.has_left = true;
            (port.shared, port.shared_outstanding) = (Ledger::default(), 0);
        }
    }

    /// Whether this call fails.
    pub(super) fn fails(&mut self, call: Calls, choices: &Choices) -> bool {
        let mut is_due = false;
        self.failing.retain_mut(|(kinds, remaining)| {
            if !kinds.contains(call) {
                return true;
            }
            if *remaining == 0 {
                is_due = true;
                return false;
            }
            *remaining -= 1;
            true
        });
        let faults = self.options.calls;
        let is_chosen = faults.kinds.contains(call) && choices.one_in(call.name(), faults.one_in);
        is_due || is_chosen || self.is_without_device()
    }

    pub(super) fn port(&mut self, port: PortId) -> &mut PortRecord {
        &mut self.ports[port.0 as usize]
    }

    // Completions on their way to the completion queue.

    /// Whether completions of this port go through its stage.
    pub(super) fn stages(&self, port: PortId) -> bool {
        let device = &self.options.device;
        let is_calm = device.completions.is_calm()
            && device.last_wqe.moment == LastWqeMoment::AtOnce
            && !device.last_wqe.only_if_consumed
            && self.flushes_to_drop == 0;
        !is_calm || !self.ports[port.0 as usize].stage.is_empty()
    }

    /// Completions have happened. Those that never come are given back: the device has left their requests.
    pub(super) fn stage(&mut self, port: PortId, entries: Vec<Entry>, choices: &Choices) -> Vec<Entry> {
        let faults = self.options.device.completions;
        if self.ports[port.0 as usize].stage.waiting().is_empty() && !entries.is_empty() {
            self.port(port).stage.begin(choices, &faults);
        }
        let mut dropped = Vec::new();
        for entry in entries {
            let record = self.queue_pairs.get_mut(&entry.serial);
            if let (Credit::SharedReceive, Some(record)) = (entry.credit, record) {
                record.taken_shared_count += 1;
            }
            if stage::is_flush(&entry) && self.drops_flush(choices) {
                let silent_count = match entry.credit {
                    Credit::Send(count) => count as usize - 1,
                    Credit::Receive | Credit::SharedReceive => 0,
                };
                if let Some(record) = self.queue_pairs.get_mut(&entry.serial) {
                    record.ledger(entry.credit).lose(entry.completion.id, silent_count);
                }
                dropped.push(entry);
            } else {
                self.port(port).stage.add(entry);
            }
        }
        self.close_gates(port, choices);
        dropped
    }

    fn drops_flush(&mut self, choices: &Choices) -> bool {
        if self.flushes_to_drop > 0 {
            self.flushes_to_drop -= 1;
            return true;
        }
        choices.one_in("flush dropped", self.options.device.completions.drops_flush_one_in)
    }

    /// One look.
    pub(super) fn release(&mut self, port: PortId, choices: &Choices) {
        let faults = self.options.device.completions;
        let Self { ports, queue_pairs, .. } = self;
        // Both closures look at the gates; one at a time.
        let queue_pairs = std::cell::RefCell::new(queue_pairs);
        let is_held = |entry: &Entry| is_held(&faults, &queue_pairs.borrow(), entry);
        let released = |entry: &Entry| {
            if let Some(record) = queue_pairs.borrow_mut().get_mut(&entry.serial)
                && let (Some(gate), true) = (&mut record.last_wqe.gate, stage::is_flush(entry))
            {
                *gate = gate.saturating_sub(1);
            }
        };
        ports[port.0 as usize].stage.release(choices, &faults, is_held, released);
    }

    /// Whether polling this port brings completions, sooner or later.
    pub(super) fn has_more(&self, port: PortId) -> bool {
        let record = &self.ports[port.0 as usize];
        let faults = self.options.device.completions;
        !record.leaving.is_empty() || record.stage.has_more(|entry| is_held(&faults, &self.queue_pairs, entry))
    }

    /// The program polled one.
    pub(super) fn complete(&mut self, port: PortId, entry: &Entry) -> bool {
        let id = entry.completion.id;
        if entry.credit == Credit::SharedReceive {
            return self.port(port).shared.complete_any(id);
        }
        // One that is polled after its queue pair's end is in no ledger any more.
        let Some(record) = self.queue_pairs.get_mut(&entry.serial) else { return true };
        let ended_count = if let Credit::Send(count) = entry.credit { count } else { 1 };
        record.ledger(entry.credit).complete(id, entry.completion.status == CompletionStatus::Success, ended_count)
    }

    pub(super) fn post(&mut self, serial: QueuePairSerial, is_send: bool, posted: Posted) {
        if let Some(record) = self.queue_pairs.get_mut(&serial) {
            if is_send { record.sends.post(posted) } else { record.receives.post(posted) }
        }
    }

    /// The port's completion queue is dead: what would have failed never comes, and stays in flight.
    pub(super) fn break_stage(&mut self, port: PortId) {
        self.port(port).stage.drop_failed();
    }

    // LAST_WQE_REACHED.

    fn moment(&mut self, serial: QueuePairSerial, choices: &Choices) -> LastWqeMoment {
        const CHOSEN: [LastWqeMoment; 5] = [
            LastWqeMoment::AtOnce,
            LastWqeMoment::Before,
            LastWqeMoment::Among,
            LastWqeMoment::After,
            LastWqeMoment::Never,
        ];
        let asked = self.options.device.last_wqe.moment;
        let Some(record) = self.queue_pairs.get_mut(&serial) else { return asked };
        *record.last_wqe.moment.get_or_insert_with(|| match asked {
            LastWqeMoment::Chosen => choices.one_of("moment of LAST_WQE_REACHED", &CHOSEN),
            LastWqeMoment::AtOnce
            | LastWqeMoment::Before
            | LastWqeMoment::Among
            | LastWqeMoment::After
            | LastWqeMoment::Never => asked,
        })
    }

    /// Queue pairs whose first flushes came just now, where the event is to come before or among them.
    fn close_gates(&mut self, port: PortId, choices: &Choices) {
        if !self.options.raises_last_wqe
            || self.options.is_iwarp
            || self.options.device.last_wqe.moment == LastWqeMoment::AtOnce
        {
            return;
        }
        let flushes = self.ports[port.0 as usize].stage.waiting().iter().filter(|entry| stage::is_flush(entry));
        let mut serials: Vec<QueuePairSerial> = flushes.map(|entry| entry.serial).collect();
        serials.sort_unstable();
        let counts = serials.chunk_by(|one, other| one == other).map(|of_one| (of_one[0], of_one.len()));
        for (serial, count) in counts.collect::<Vec<_>>() {
            let Some(record) = self.queue_pairs.get(&serial) else { continue };
            if !record.is_on_shared || record.last_wqe.is_over || record.last_wqe.gate.is_some() {
                continue;
            }
            let gate = match self.moment(serial, choices) {
                LastWqeMoment::Before => 0,
                LastWqeMoment::Among => {
                    choices.below("flushes before LAST_WQE_REACHED", u32::try_from(count).unwrap_or(u32::MAX) + 1)
                }
                LastWqeMoment::AtOnce | LastWqeMoment::After | LastWqeMoment::Never | LastWqeMoment::Chosen => continue,
            };
            if let Some(record) = self.queue_pairs.get_mut(&serial) {
                record.last_wqe.gate = Some(gate);
            }
        }
    }

    /// The device raises it. Whether it comes, once it is due; what the queue pair took from the SRQ is in the completion queue before it.
    pub(super) fn raise_last_wqe(&mut self, serial: QueuePairSerial, choices: &Choices) -> bool {
        let only_if_consumed = self.options.device.last_wqe.only_if_consumed;
        let never = self.moment(serial, choices) == LastWqeMoment::Never;
        let Some(record) = self.queue_pairs.get(&serial) else { return false };
        let port = record.port;
        if never || only_if_consumed && record.taken_shared_count == 0 {
            self.end_last_wqe(serial);
            return false;
        }
        let is_one = |entry: &Entry| entry.serial == serial && entry.credit == Credit::SharedReceive;
        self.port(port).stage.release_where(is_one);
        true
    }

    /// Whether its moment has come.
    pub(super) fn is_last_wqe_due(&self, serial: QueuePairSerial) -> bool {
        let Some(record) = self.queue_pairs.get(&serial) else { return true };
        let stage = &self.ports[record.port.0 as usize].stage;
        match record.last_wqe.moment {
            Some(LastWqeMoment::Among) => record.last_wqe.gate.unwrap_or(0) == 0,
            Some(LastWqeMoment::After) => !stage.has(serial),
            _ => true,
        }
    }

    /// It was fetched, or never comes: nothing is held back for it any more.
    pub(super) fn end_last_wqe(&mut self, serial: QueuePairSerial) {
        if let Some(record) = self.queue_pairs.get_mut(&serial) {
            record.last_wqe.gate = None;
            record.last_wqe.is_over = true;
        }
    }
}

fn is_held(
    faults: &super::options::CompletionFaults,
    queue_pairs: &BTreeMap<QueuePairSerial, QueuePairRecord>,
    entry: &Entry,
) -> bool {
    let gate = queue_pairs.get(&entry.serial).and_then(|record| record.last_wqe.gate);
    faults.holds.contains(stage::kind(entry)) || (gate == Some(0) && stage::is_flush(entry))
}
