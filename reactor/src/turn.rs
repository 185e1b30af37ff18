//! One turn of one CPU: what a program may use while it runs.

use crate::domain::Guard;
use crate::program::Cpu;
use crate::timer::TimerId;

/// What a program may use during one turn. `'t` is the turn's lifetime, `M` the mesh's message.
pub struct Turn<'t, M> {
    _todo: std::marker::PhantomData<(&'t (), M)>,
}

impl<'t, M> Turn<'t, M> {
    /// This CPU's place in the mesh.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        todo!()
    }

    /// How many reactors the mesh has, the control plane included.
    #[must_use]
    pub fn cpu_count(&self) -> u16 {
        todo!()
    }

    /// The turn's time: read once per turn. Monotonic ns, zero at the runtime's start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        todo!()
    }

    /// A token that proves that this CPU is inside its turn. `Copy`, and independent of borrows of the turn itself.
    #[must_use]
    pub fn guard(&self) -> Guard<'t> {
        todo!()
    }

    /// The next number of this CPU's seeded random sequence.
    pub fn random(&mut self) -> u64 {
        todo!()
    }

    /// Sends `message` to another CPU, or to this one (it is then received in a later turn). Never fails: what finds the
    /// ring full waits, in order, in this CPU's backlog and is counted for the pair. A program keeps backlogs bounded by
    /// having at most one message of each kind outstanding per object.
    pub fn send(&mut self, to: Cpu, message: M) {
        let _ = (to, message);
        todo!()
    }

    /// Arms a one-shot timer: [`crate::Program::fire`] is called with `token` in the first turn at or after `deadline_ns`.
    pub fn arm(&mut self, deadline_ns: u64, token: u64) -> TimerId {
        let _ = (deadline_ns, token);
        todo!()
    }

    /// Takes a timer back. False if it has fired or was cancelled before.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        let _ = timer;
        todo!()
    }

    /// This CPU's program is done: after this turn, once the backlog is empty and no [`crate::Limbo`] of this CPU holds anything, the
    /// reactor goes offline for good and its thread ends. Messages sent to it later are our bug and abort.
    pub fn leave(&mut self) {
        todo!()
    }
}
