//! Quiescent-state reclamation: the epoch and who has seen it.

use std::marker::PhantomData;
use std::sync::Arc;

/// A set of participants (the mesh's reactors, and a fixed number of registered [`Reader`]s) and one global epoch.
#[derive(Clone)]
pub struct Domain {
    _inner: Arc<()>,
}

impl Domain {
    /// How many values wait in limbos of all CPUs, and the largest age of one, in epoch steps.
    #[must_use]
    pub fn limbo_len(&self) -> u64 {
        todo!()
    }

    /// Registers a thread that is no reactor. `None` when all places are taken.
    #[must_use]
    pub fn register_reader(&self) -> Option<Reader> {
        todo!()
    }
}

/// Proof that its holder is inside a turn (or inside [`Reader::read`]) of one domain.
#[derive(Clone, Copy)]
pub struct Guard<'t> {
    _turn: PhantomData<fn(&'t ()) -> &'t ()>,
    _not_send: PhantomData<*const ()>,
}

/// A participant that is no reactor: online only while it reads.
pub struct Reader {
    _todo: (),
}

impl Reader {
    /// Goes online, reads, goes offline.
    pub fn read<R>(&mut self, read: impl for<'t> FnOnce(Guard<'t>) -> R) -> R {
        let _ = read;
        todo!()
    }
}
