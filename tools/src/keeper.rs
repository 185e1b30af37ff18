//! Keeps reservations through a loss of power: a thread that writes files, since the control plane waits for nothing.
//!
//! The control plane hands over what is to be written and is woken when it is on stable storage, or cannot be. Writes are done one after the other, in
//! the order in which they were asked for.

mod file;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nvmf_core::target::{ReservationWrite, WriteId};

pub use file::{KeepError, read};

/// What became of a write.
pub type Outcome = (WriteId, Result<(), String>);

/// See the module.
pub struct Keeper {
    orders: Sender<ReservationWrite>,
    outcomes: Receiver<Outcome>,
    /// A byte for each outcome.
    bell: UnixStream,
}

impl Keeper {
    /// Starts the thread. It ends with this value.
    ///
    /// # Errors
    /// If the system refuses a thread or a pair of sockets.
    pub fn start() -> std::io::Result<Self> {
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let (orders, taken) = channel::<ReservationWrite>();
        let (told, outcomes) = channel();
        thread::Builder::new().name("keeper".into()).spawn(move || {
            let mut ring = ring;
            for write in taken {
                let outcome = file::write(Path::new(&*write.file), write.uuid, &write.record);
                let outcome = outcome.map_err(|error| error.to_string());
                // Nobody listens any more when the control plane is gone.
                if told.send((write.id, outcome)).is_err() || ring.write_all(&[1]).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, outcomes, bell })
    }

    /// Becomes readable when there is an outcome.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Has this written.
    pub fn keep(&self, write: ReservationWrite) {
        if self.orders.send(write).is_err() {
            tracing::error!(
                "the thread that keeps reservations has ended: the command that changes them is not answered"
            );
        }
    }

    /// What has become of writes, each once.
    pub fn outcomes(&mut self) -> impl Iterator<Item = Outcome> + '_ {
        let mut bytes = [0; 64];
        // Emptied: the outcomes themselves are in the channel.
        while matches!(self.bell.read(&mut bytes), Ok(1..)) {}
        self.outcomes.try_iter()
    }
}
