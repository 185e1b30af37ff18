//! A thread beside the control plane that opens and closes devices: either may take long, and nobody waits for it.
//!
//! Owns nothing but what it is working on. Orders are done one after the other, so that what was let go of is gone before it is opened again.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bdev::Device;
use nvmf_core::ChangeId;
use nvmf_core::target::{MadeDevice, RetiredDevice};

/// Opens a device: called on the thread.
pub type Recipe = Box<dyn FnOnce() -> anyhow::Result<Arc<dyn Device>> + Send>;

/// What it is told.
enum Order {
    Make { change: ChangeId, recipe: Recipe },
    Retire(RetiredDevice),
}

/// A device that was made, or why not.
pub(super) struct Outcome {
    pub(super) change: ChangeId,
    pub(super) result: Result<MadeDevice, String>,
}

/// The thread, as the control plane reaches it. It ends when this is dropped.
pub(super) struct DeviceWorker {
    orders: Sender<Order>,
    outcomes: Receiver<Outcome>,
    /// Readable when there is an outcome.
    bell: UnixStream,
}

impl DeviceWorker {
    /// Starts it. `cpu_count` polling CPUs, each of which gets a channel into every device.
    pub(super) fn new(cpu_count: u16) -> io::Result<Self> {
        let (bell, rings) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rings.set_nonblocking(true)?;
        let (orders, theirs) = channel();
        let (done, outcomes) = channel();
        let work = move || work(cpu_count, &theirs, &done, &rings);
        std::thread::Builder::new().name("devices".to_owned()).spawn(work)?;
        Ok(Self { orders, outcomes, bell })
    }

    /// Has a device opened. The outcome comes later.
    pub(super) fn make(&self, change: ChangeId, recipe: Recipe) {
        self.order(Order::Make { change, recipe });
    }

    /// Has a device that nothing uses closed.
    pub(super) fn retire(&self, device: RetiredDevice) {
        self.order(Order::Retire(device));
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that opens devices has ended");
        }
    }

    /// What has come to its end.
    pub(super) fn next_outcome(&mut self) -> Option<Outcome> {
        // WouldBlock is the ordinary end of this.
        let _ = self.bell.read(&mut [0; 64]);
        self.outcomes.try_recv().ok()
    }
}

impl AsRawFd for DeviceWorker {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

fn work(cpu_count: u16, orders: &Receiver<Order>, done: &Sender<Outcome>, mut rings: &UnixStream) {
    for order in orders {
        match order {
            Order::Make { change, recipe } => {
                let result = make(cpu_count, recipe).map_err(|error| format!("{error:#}"));
                if done.send(Outcome { change, result }).is_err() {
                    return;
                }
                // A full pair is read soon.
                let _ = rings.write(&[1]);
            }
            Order::Retire(RetiredDevice { device, channels }) => {
                drop(channels);
                device.retire();
                tracing::info!(device = device.name(), "device is gone");
            }
        }
    }
}

fn make(cpu_count: u16, recipe: Recipe) -> anyhow::Result<MadeDevice> {
    let device = recipe()?;
    let channels = (0..cpu_count).map(|_| device.open_channel()).collect::<Result<Vec<_>, _>>()?;
    Ok(MadeDevice { device, channels })
}
