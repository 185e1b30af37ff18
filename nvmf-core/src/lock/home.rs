//! The locks of the devices that have their home on this CPU, in the order in which they were asked for.

use super::{LockName, Span};
use crate::limits::LOCK_COUNT_MAX;
use crate::namespace::DeviceIndex;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Home {
    locks: Vec<Lock>,
}

#[derive(Clone, Copy, Debug)]
struct Lock {
    name: LockName,
    device: DeviceIndex,
    span: Span,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Behind others.
    Waiting,
    /// So many CPUs have not answered.
    Fencing { cpus_left: u16 },
    /// Its asker has it.
    Granted,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To every CPU.
    Fence { lock: LockName, device: DeviceIndex, span: Span },
    /// To the asker.
    Grant { lock: LockName, device: DeviceIndex },
    /// To every CPU.
    Lift { lock: LockName },
}

impl Home {
    /// A lock is asked for. `cpu_count` CPUs will be told of it when its turn comes.
    pub(crate) fn ask(
        &mut self,
        lock: LockName,
        device: DeviceIndex,
        span: Span,
        cpu_count: u16,
        orders: &mut Vec<Order>,
    ) {
        self.locks.push(Lock { name: lock, device, span, phase: Phase::Waiting });
        self.start(cpu_count, orders);
    }

    /// One CPU more has nothing on these blocks any more. `false`: there is no such lock that waits for one.
    pub(crate) fn fenced(&mut self, lock: LockName, orders: &mut Vec<Order>) -> bool {
        let Some(place) = self.locks.iter_mut().find(|other| other.name == lock) else { return false };
        match place.phase {
            Phase::Fencing { cpus_left: 1 } => {
                place.phase = Phase::Granted;
                orders.push(Order::Grant { lock, device: place.device });
                true
            }
            Phase::Fencing { cpus_left } => {
                place.phase = Phase::Fencing { cpus_left: cpus_left - 1 };
                true
            }
            Phase::Waiting | Phase::Granted => false,
        }
    }

    /// Its asker is done with it. `false`: it does not have it.
    pub(crate) fn unlock(&mut self, lock: LockName, cpu_count: u16, orders: &mut Vec<Order>) -> bool {
        let is_it = |other: &Lock| other.name == lock && other.phase == Phase::Granted;
        let Some(index) = self.locks.iter().position(is_it) else { return false };
        self.locks.remove(index);
        orders.push(Order::Lift { lock });
        self.start(cpu_count, orders);
        true
    }

    /// Locks that are asked for or given.
    pub(crate) fn len(&self) -> usize {
        self.locks.len()
    }

    /// Begins those that nothing earlier is in the way of. Only so many are under way at a time, since every command looks at each.
    fn start(&mut self, cpu_count: u16, orders: &mut Vec<Order>) {
        let mut started = self.locks.iter().filter(|lock| lock.phase != Phase::Waiting).count();
        for index in 0..self.locks.len() {
            if started >= LOCK_COUNT_MAX {
                return;
            }
            let Lock { name, device, span, phase } = self.locks[index];
            let is_behind = |earlier: &Lock| earlier.device == device && earlier.span.overlaps(span);
            if phase != Phase::Waiting || self.locks[..index].iter().any(is_behind) {
                continue;
            }
            started += 1;
            self.locks[index].phase = Phase::Fencing { cpus_left: cpu_count };
            orders.push(Order::Fence { lock: name, device, span });
        }
    }
}
