//! The messages of [`crate::lock`], and where commands are let in to their blocks.
//!
//! What is to be said is put down here and sent at the end of the walk, when the commands of this turn have begun.

use reactor::{Cpu, Turn};

use super::PollGroup;
use super::buffers::RequestName;
use crate::lock::{LockName, Order, Span};
use crate::message::{Letter, Message};
use crate::namespace::DeviceIndex;
use crate::qpair::request::{Fusion, Hold, RequestEvent, RequestState};

impl PollGroup {
    /// Lets a command in to its blocks, or holds it back for a lock of somebody else: then it is begun again later.
    pub(super) fn enter(&mut self, (handle, slot): RequestName, device: DeviceIndex, span: Option<Span>) -> bool {
        let Some(qpair) = self.qpairs.look_mut(handle) else { return false };
        let request = qpair.request(slot);
        if let Some(claim) = request.claim.take() {
            if span.is_some_and(|span| self.gate.is_on(&claim, device, span)) {
                request.claim = Some(claim);
                return true;
            }
            // Its namespace is another by now.
            self.gate.give(claim);
        }
        let Some(span) = span else { return true };
        if !request.fusion.has_lock() && self.gate.is_fenced(device, span) {
            qpair.must_advance(slot, RequestEvent::Park);
            self.gate.hold((handle, slot), device, span);
            self.counters.park_count.add(1);
            return false;
        }
        request.claim = Some(self.gate.claim(device, span));
        true
    }

    /// Asks for the lock on a pair's blocks, for its first command.
    pub(super) fn ask_lock(&mut self, (handle, slot): RequestName, device: DeviceIndex, span: Span) {
        self.lock_number = self.lock_number.wrapping_add(1);
        self.locks_asked += 1;
        let lock = LockName { cpu: self.cpu, qpair: handle, slot, number: self.lock_number };
        self.post(self.home(device), Letter::Lock { lock, device, span });
    }

    /// A lock that was granted is of no use any more.
    pub(super) fn unlock(&mut self, lock: LockName, device: DeviceIndex) {
        self.post(self.home(device), Letter::Unlock { lock });
    }

    /// At the home of a device: a lock is wanted.
    pub(super) fn lock_asked(&mut self, lock: LockName, device: DeviceIndex, span: Span) {
        let mut orders = Vec::new();
        self.home.ask(lock, device, span, self.directory.cpu_count(), &mut orders);
        self.obey_home(orders);
    }

    /// At the home: a CPU has nothing on these blocks any more.
    pub(super) fn lock_fenced(&mut self, lock: LockName) {
        let mut orders = Vec::new();
        if !self.home.fenced(lock, &mut orders) {
            tracing::error!(?lock, "a fence was answered that nobody waits for");
        }
        self.obey_home(orders);
    }

    /// At the home: its asker is done.
    pub(super) fn lock_returned(&mut self, lock: LockName) {
        let mut orders = Vec::new();
        if !self.home.unlock(lock, self.directory.cpu_count(), &mut orders) {
            tracing::error!(?lock, "a lock was given back that nobody has");
        }
        self.obey_home(orders);
    }

    /// On every CPU: a lock is about to be granted.
    pub(super) fn lock_comes(&mut self, lock: LockName, device: DeviceIndex, span: Span) {
        self.gate.fence(lock, device, span);
    }

    /// On every CPU: it is gone.
    pub(super) fn lock_goes(&mut self, lock: LockName) {
        let (qpairs, batch) = (&mut self.qpairs, &mut self.io_batch);
        self.gate.lift(lock, |(handle, slot), claim| {
            // One that was aborted or drained was forgotten.
            if let Some(qpair) = qpairs.look_mut(handle) {
                qpair.must_advance(slot, RequestEvent::Unpark);
                qpair.request(slot).claim = Some(claim);
                batch.push((handle, slot));
            }
        });
    }

    /// On the asker's CPU: the pair has its lock. If its qpair drains, or is gone, the lock goes back.
    pub(super) fn lock_granted(&mut self, lock: LockName, device: DeviceIndex) {
        self.locks_asked -= 1;
        let name = (lock.qpair, lock.slot);
        let Some(qpair) = self.qpairs.look_mut(lock.qpair) else { return self.unlock(lock, device) };
        let request = qpair.request(lock.slot);
        if request.state != RequestState::WaitingLock {
            return self.unlock(lock, device);
        }
        if let Fusion::First { hold, .. } = &mut request.fusion {
            *hold = Hold::Has { lock, device };
        }
        qpair.must_advance(lock.slot, RequestEvent::Unpark);
        self.io_batch.push(name);
    }

    /// The end of the walk: fences that nothing is in the way of any more are answered, and everything is sent.
    pub(super) fn send_lock_letters<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) {
        if self.gate.fence_count() > 0 {
            let (letters, cpu_count) = (&mut self.lock_letters, self.directory.cpu_count());
            self.gate.answer(|lock, device| letters.push((home_of(device, cpu_count), Letter::Fenced { lock })));
        }
        for (cpu, letter) in self.lock_letters.drain(..) {
            turn.send(cpu, Message(letter).into());
        }
    }

    fn obey_home(&mut self, orders: Vec<Order>) {
        let cpus = || (0..self.directory.cpu_count()).map(Cpu);
        for order in orders {
            match order {
                Order::Fence { lock, device, span } => {
                    let letters = cpus().map(|cpu| (cpu, Letter::Fence { lock, device, span }));
                    self.lock_letters.extend(letters);
                }
                Order::Grant { lock, device } => self.lock_letters.push((lock.cpu, Letter::Granted { lock, device })),
                Order::Lift { lock } => self.lock_letters.extend(cpus().map(|cpu| (cpu, Letter::Lift { lock }))),
            }
        }
    }

    fn post(&mut self, cpu: Cpu, letter: Letter) {
        self.lock_letters.push((cpu, letter));
    }

    fn home(&self, device: DeviceIndex) -> Cpu {
        home_of(device, self.directory.cpu_count())
    }
}

/// The polling CPU that grants a device's locks.
fn home_of(device: DeviceIndex, cpu_count: u16) -> Cpu {
    Cpu(device.0 % cpu_count.max(1))
}
