//! A port of the fabric: the software NIC, and between it and its program what real devices do with completions and calls.
//!
//! Calm, it adds nothing but the ledgers: completions stay in the NIC's own queue until they are polled. With faults each poll moves them through the port's
//! [`super::stage`]. A machine that is stopped or dead makes no look: its ports find nothing.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use reactor::Rest;

use super::bell::PortBell;
use super::ledger::Posted;
use super::link::{InProcessWire, Link, lock};
use super::machine::{Leaving, Machine, MachineId};
use super::options::Calls;
use super::world::World;
use crate::soft::nic::{Credit, Nic, QueuePair, QueuePairSerial};
use crate::verbs::{Completion, LocalSegment, Port, PortId, PostError, QueuePairName, SendRequest};

/// The port of [`super::InProcessProvider`].
pub struct InProcessPort {
    nic: Nic<InProcessWire>,
    world: Arc<Mutex<World>>,
    machine: MachineId,
    id: PortId,
    bell: Arc<PortBell>,
    /// By slot.
    attached: Vec<Option<QueuePairSerial>>,
}

impl InProcessPort {
    pub(super) fn new(
        nic: Nic<InProcessWire>,
        world: Arc<Mutex<World>>,
        machine: MachineId,
        id: PortId,
        bell: Arc<PortBell>,
    ) -> Self {
        Self { nic, world, machine, id, bell, attached: Vec::new() }
    }

    /// Whether something has rung for the port since it was armed: what a descriptor would show.
    #[must_use]
    pub fn has_rung(&self) -> bool {
        self.bell.has_rung()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// With its machine, and choices.
    fn with<T>(&self, of: impl FnOnce(&mut Machine, &reactor::Choices) -> T) -> T {
        let mut world = self.world();
        let choices = world.choices.clone();
        of(world.machine(self.machine), &choices)
    }

    fn fails(&self, call: Calls) -> bool {
        self.with(|machine, choices| machine.port(self.id).has_left || machine.fails(call, choices))
    }

    /// Whether its device was removed and nothing is left to do with it.
    fn has_left(&self) -> bool {
        let has_queue_pair = self.attached.iter().any(Option::is_some);
        self.with(|machine, _| {
            let port = machine.port(self.id);
            port.has_left |= port.is_leaving && !has_queue_pair && port.leaving.is_empty();
            port.has_left
        })
    }

    /// A request was posted.
    fn note(&self, name: QueuePairName, is_send: bool, posted: Posted) {
        let serial = self.attached.get(name.index as usize).copied().flatten();
        let outstanding = self.nic.outstanding(name.index);
        self.with(|machine, _| {
            let Some(serial) = serial else { return };
            machine.post(serial, is_send, posted);
            if let Some(record) = machine.queue_pairs.get_mut(&serial) {
                record.outstanding = outstanding;
            }
        });
    }

    /// What the device says of every queue, for [`super::Fabric::audit`].
    fn note_outstanding(&self) {
        let mut world = self.world();
        let machine = world.machine(self.machine);
        machine.port(self.id).shared_outstanding = self.nic.shared_outstanding();
        for (slot, serial) in (0..).zip(&self.attached) {
            if let Some(record) = serial.and_then(|serial| machine.queue_pairs.get_mut(&serial)) {
                record.outstanding = self.nic.outstanding(slot);
            }
        }
    }

    /// All that happened goes to the stage.
    fn stage(&mut self) {
        let mut entries = Vec::new();
        while let Some(entry) = self.nic.take_completion() {
            entries.push(entry);
        }
        let dropped = self.with(|machine, choices| machine.stage(self.id, entries, choices));
        for entry in dropped {
            self.nic.credit(&entry);
        }
    }

    /// Whether queue pairs are being destroyed, and what that brings comes after what a poll sees.
    fn leaves_late(&self) -> bool {
        self.with(|machine, choices| {
            !machine.port(self.id).leaving.is_empty() && choices.one_in("a destroy call ends behind a poll", 2)
        })
    }

    /// This CPU's part in the destruction of queue pairs: nothing of them is on its way once it is done.
    fn let_leave(&mut self) {
        let leaving = self.with(|machine, _| std::mem::take(&mut machine.port(self.id).leaving));
        if leaving.is_empty() {
            return;
        }
        self.stage();
        for Leaving { serial, number, is_swept, swallows } in leaving {
            let swallowed = if swallows { self.nic.swallow_shared_receive() } else { None };
            let swept = self.with(|machine, _| {
                let port = machine.port(self.id);
                if let Some(id) = swallowed {
                    port.shared.lose_for_good(id);
                }
                if !is_swept {
                    port.stage.release_where(|entry| entry.serial == serial);
                    return Vec::new();
                }
                let swept = port.stage.sweep(|entry| entry.completion.number == number);
                for entry in swept.iter().filter(|entry| entry.credit == Credit::SharedReceive) {
                    port.shared.lose_for_good(entry.completion.id);
                }
                swept
            });
            for entry in swept {
                self.nic.credit(&entry);
            }
        }
    }

    /// Queue pairs that failed since the last look give a shared receive back, where that is chosen.
    fn flush_shared_receives(&mut self) {
        let one_in = self.with(|machine, _| machine.options.device.flushes_shared_receive_one_in);
        if one_in == 0 {
            return;
        }
        for (slot, serial) in (0..).zip(&self.attached) {
            let Some(serial) = serial.filter(|_| self.nic.has_failed_on_shared(slot)) else { continue };
            let flushes = self.with(|machine, choices| {
                let record = machine.queue_pairs.get_mut(&serial);
                let is_new = record.is_some_and(|record| !std::mem::replace(&mut record.has_failed, true));
                is_new && choices.one_in("shared receive flushed", one_in)
            });
            if flushes {
                self.nic.flush_shared_receive(slot);
            }
        }
    }

    fn give(&mut self, limit: usize, completions: &mut Vec<Completion>) -> usize {
        let mut count = 0;
        while count < limit {
            let staged = self.with(|machine, _| machine.port(self.id).stage.take());
            let Some(entry) = staged.or_else(|| self.nic.take_completion()) else { break };
            self.nic.credit(&entry);
            let mut world = self.world();
            if !world.machine(self.machine).complete(self.id, &entry) {
                world.note_stray(self.machine, entry.completion);
            }
            drop(world);
            completions.push(entry.completion);
            count += 1;
        }
        count
    }
}

impl Port for InProcessPort {
    type QueuePair = Box<QueuePair<Link>>;

    fn attach(&mut self, queue_pair: Self::QueuePair) -> QueuePairName {
        let serial = queue_pair.serial();
        let name = self.nic.attach(queue_pair);
        let slot = name.index as usize;
        self.attached.resize(self.attached.len().max(slot + 1), None);
        self.attached[slot] = Some(serial);
        name
    }

    fn detach(&mut self, name: QueuePairName) -> Option<Self::QueuePair> {
        let queue_pair = self.nic.detach(name)?;
        self.attached[name.index as usize] = None;
        let serial = queue_pair.serial();
        self.with(|machine, _| {
            if let Some(record) = machine.queue_pairs.get_mut(&serial) {
                record.outstanding = None;
            }
        });
        Some(queue_pair)
    }

    fn post_receive(&mut self, name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        if self.fails(Calls::POST_RECEIVE) {
            return Err(PostError::WrongState);
        }
        self.nic.post_receive(name, id, segments)?;
        self.note(name, false, Posted::receive(id, segments));
        Ok(())
    }

    fn post_shared_receive(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        if self.fails(Calls::POST_SHARED_RECEIVE) {
            return Err(PostError::WrongState);
        }
        self.nic.post_shared_receive(id, segments)?;
        let outstanding = self.nic.shared_outstanding();
        self.with(|machine, _| {
            let port = machine.port(self.id);
            port.shared.post(Posted::receive(id, segments));
            port.shared_outstanding = outstanding;
        });
        Ok(())
    }

    fn post_send(&mut self, name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        if self.fails(Calls::POST_SEND) {
            return Err(PostError::WrongState);
        }
        self.nic.post_send(name, request)?;
        self.note(name, true, Posted::send(request));
        Ok(())
    }

    fn ring(&mut self) {
        self.nic.ring();
    }

    fn poll(&mut self, now_ns: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        if !self.with(|machine, _| machine.runs()) || self.has_left() {
            return 0;
        }
        // A destroy call goes on beside this poll: what it brings is seen by it, or by the next, when the call may have come back.
        let leaves_late = self.leaves_late();
        if !leaves_late {
            self.let_leave();
        }
        self.nic.turn(now_ns);
        self.flush_shared_receives();
        if self.with(|machine, _| machine.stages(self.id)) {
            self.stage();
            let has_overrun = self.with(|machine, choices| {
                machine.release(self.id, choices);
                machine.port(self.id).stage.take_overrun()
            });
            if has_overrun {
                self.nic.overrun();
            }
        }
        let count = self.give(limit, completions);
        if leaves_late {
            self.let_leave();
        }
        self.note_outstanding();
        count
    }

    fn arm(&mut self, now_ns: u64) -> Rest {
        if self.has_left() {
            return Rest::Sleep;
        }
        let rest = self.nic.arm(now_ns);
        let has_more = self.with(|machine, _| machine.has_more(self.id));
        if has_more { Rest::Poll } else { rest }
    }

    fn disarm(&mut self) {
        self.nic.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.nic.wake_descriptor()
    }
}

impl Drop for InProcessPort {
    fn drop(&mut self) {
        let live = self.with(|machine, _| {
            let port = machine.port(self.id);
            port.is_gone = true;
            port.leaving.clear();
            let is_checked = machine.is_alive && machine.options.forbids_port_before_queue_pairs;
            let mut of_it = machine.queue_pairs.values().filter(|record| record.port == self.id);
            of_it.next().filter(|_| is_checked).map(|record| record.number)
        });
        // What fails already is not to be hidden by this.
        if let (Some(number), false) = (live, std::thread::panicking()) {
            panic!("port {} of {:?} ends before its queue pair number {number:#x}", self.id.0, self.machine);
        }
    }
}
