//! What ends a thread's sleep.

#[cfg(not(loom))]
pub(crate) use eventfd::Signal;
#[cfg(loom)]
pub(crate) use modelled::Signal;

#[cfg(not(loom))]
mod eventfd {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    /// An eventfd, or nothing where nobody really sleeps.
    #[derive(Debug)]
    pub(crate) struct Signal(Option<File>);

    impl Signal {
        pub(crate) fn new(eventfd: Option<OwnedFd>) -> Self {
            Self(eventfd.map(File::from))
        }

        /// From here on it is raised.
        pub(crate) fn raise(&self) {
            if let Some(mut eventfd) = self.0.as_ref() {
                // EAGAIN, the only failure, means that it was raised 2^64 - 2 times before.
                let _ = eventfd.write(&1u64.to_ne_bytes());
            }
        }

        /// Takes it back.
        pub(crate) fn clear(&self) {
            if let Some(mut eventfd) = self.0.as_ref() {
                // EAGAIN: it was not raised.
                let _ = eventfd.read(&mut [0; 8]);
            }
        }

        pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            self.0.as_ref().map(AsFd::as_fd)
        }
    }
}

#[cfg(loom)]
mod modelled {
    use std::os::fd::{BorrowedFd, OwnedFd};

    use std::sync::PoisonError;

    use loom::sync::{Condvar, Mutex, MutexGuard};

    /// The same for the model checker, which knows who waits for what: a thread that nobody will wake ends the model.
    #[derive(Debug)]
    pub(crate) struct Signal {
        is_raised: Mutex<bool>,
        raised: Condvar,
    }

    impl Signal {
        pub(crate) fn new(_eventfd: Option<OwnedFd>) -> Self {
            Self { is_raised: Mutex::new(false), raised: Condvar::new() }
        }

        pub(crate) fn raise(&self) {
            *self.lock() = true;
            self.raised.notify_one();
        }

        pub(crate) fn clear(&self) {
            *self.lock() = false;
        }

        pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        /// Sleeps until it is raised, and takes it back.
        #[cfg(test)]
        pub(crate) fn wait(&self) {
            let mut is_raised = self.lock();
            while !*is_raised {
                is_raised = self.raised.wait(is_raised).unwrap_or_else(PoisonError::into_inner);
            }
            *is_raised = false;
        }

        fn lock(&self) -> MutexGuard<'_, bool> {
            self.is_raised.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
