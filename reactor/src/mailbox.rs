//! Messages between CPUs.

use crate::limbo::Full;

/// The way into one reactor for threads that are no reactors (signal handling, the verbs worker). Clonable, many-to-one.
pub struct Postbox<M> {
    _todo: std::marker::PhantomData<M>,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Self {
        todo!()
    }
}

impl<M: Send + 'static> Postbox<M> {
    /// Posts one message and wakes the reactor if it sleeps.
    ///
    /// # Errors
    /// [`Full`] hands it back.
    pub fn post(&self, message: M) -> Result<(), Full<M>> {
        Err(Full(message))
    }

    /// Only the wake-up.
    #[must_use]
    pub fn wake(&self) -> Wake {
        todo!()
    }
}

/// Ends a reactor's sleep, from any thread. Costs a fence and a load where it does not sleep.
#[derive(Clone)]
pub struct Wake {
    _todo: (),
}

impl Wake {
    /// Wakes the reactor if it sleeps.
    pub fn wake(&self) {
        todo!()
    }
}
