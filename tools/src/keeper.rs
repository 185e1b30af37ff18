//! Keeps reservations through a loss of power: a thread that reads and writes files, since the control plane waits for nothing.
//!
//! The control plane hands over what is to be written or read, and is woken when that is done, or cannot be. Orders are carried out one after the other,
//! as they came: what is read is the last that was written.

mod directory;
mod file;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nvmf_core::ChangeId;
use nvmf_core::reservation::ReservationRecord;
use nvmf_core::target::{ReservationRead, ReservationWrite, WriteId};

pub use directory::{StateDirectory, StateError};
pub use file::{KeepError, open, replace};

/// What became of an order.
#[derive(Debug)]
pub enum Outcome {
    /// It is on stable storage, or why not.
    Written(WriteId, Result<(), String>),
    /// What was found for this change, or why nothing can be kept there.
    Read(ChangeId, Result<ReservationRecord, String>),
}

enum Order {
    Write(ReservationWrite),
    Read(ReservationRead),
}

/// See the module.
pub struct Keeper {
    state: Option<StateDirectory>,
    orders: Sender<Order>,
    outcomes: Receiver<Outcome>,
    /// A byte for each outcome.
    bell: UnixStream,
}

impl Keeper {
    /// Starts the thread. It ends with this value. `state`: where namespaces without a file of their own have theirs.
    ///
    /// # Errors
    /// If the system refuses a thread or a pair of sockets.
    pub fn start(state: Option<StateDirectory>) -> std::io::Result<Self> {
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let (orders, taken) = channel::<Order>();
        let (told, outcomes) = channel();
        thread::Builder::new().name("keeper".into()).spawn(move || {
            let mut ring = ring;
            for order in taken {
                // Nobody listens any more when the control plane is gone.
                if told.send(carry_out(&order)).is_err() || ring.write_all(&[1]).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { state, orders, outcomes, bell })
    }

    /// Becomes readable when there is an outcome.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Where namespaces without a file of their own have theirs.
    #[must_use]
    pub fn state(&self) -> Option<&StateDirectory> {
        self.state.as_ref()
    }

    /// Has this written.
    pub fn keep(&self, write: ReservationWrite) {
        self.order(Order::Write(write));
    }

    /// Has this read, and looks whether it could be written.
    pub fn find(&self, read: ReservationRead) {
        self.order(Order::Read(read));
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!(
                "the thread that keeps reservations has ended: commands that change them and additions of namespaces are not answered"
            );
        }
    }

    /// What has become of orders, each once.
    pub fn outcomes(&mut self) -> impl Iterator<Item = Outcome> + '_ {
        let mut bytes = [0; 64];
        // Emptied: the outcomes themselves are in the channel.
        while matches!(self.bell.read(&mut bytes), Ok(1..)) {}
        self.outcomes.try_iter()
    }
}

fn carry_out(order: &Order) -> Outcome {
    match order {
        Order::Write(write) => {
            let outcome = file::write(Path::new(&*write.file), write.uuid, &write.record);
            Outcome::Written(write.id, outcome.map_err(|error| error.to_string()))
        }
        Order::Read(read) => {
            let outcome = file::open(Path::new(&*read.file), read.uuid);
            Outcome::Read(read.id, outcome.map_err(|error| format!("ptpl_file: {error}")))
        }
    }
}
