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

use crate::config::DeviceSection;
use crate::in_words;
use crate::opening::Means;

/// Does something about devices that takes time: called on a thread of its own.
pub type Work = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;

/// A device that is to be opened.
pub(super) struct Wanted {
    /// What it is.
    pub(super) section: DeviceSection,
    /// The device that it is made of.
    pub(super) base: Option<Arc<dyn Device>>,
    /// What it is opened with.
    pub(super) means: Means,
}

/// What it is told.
enum Order {
    Make { change: ChangeId, wanted: Box<Wanted> },
    Retire(RetiredDevice),
}

/// What has come to its end.
pub(super) enum Outcome {
    /// A device that was made, or why not.
    Made { change: ChangeId, section: Box<DeviceSection>, result: Result<MadeDevice, String> },
    /// Something that was done, or why not. `change` is none where nobody waits for it.
    Worked { change: Option<ChangeId>, device: Option<String>, result: Result<(), String> },
}

/// The thread, as the control plane reaches it. It ends when this is dropped.
pub(super) struct DeviceWorker {
    orders: Sender<Order>,
    outcomes: Receiver<Outcome>,
    /// For the threads of single works.
    done: Sender<Outcome>,
    rings: UnixStream,
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
        let (to_thread, rings_of_thread) = (done.clone(), rings.try_clone()?);
        let work = move || work(cpu_count, &theirs, &to_thread, &rings_of_thread);
        std::thread::Builder::new().name("devices".to_owned()).spawn(work)?;
        Ok(Self { orders, outcomes, done, rings, bell })
    }

    /// Has something done on a thread of its own, so that a cluster that does not answer keeps nobody but who asked. The outcome comes later; `device` may
    /// have another size by then.
    pub(super) fn work(&self, change: Option<ChangeId>, device: Option<String>, work: Work) {
        let done = self.done.clone();
        let spawned = self.rings.try_clone().and_then(|mut rings| {
            let device = device.clone();
            std::thread::Builder::new().name("device-work".to_owned()).spawn(move || {
                let result = work().map_err(|error| in_words(&error));
                if done.send(Outcome::Worked { change, device, result }).is_ok() {
                    // A full pair is read soon.
                    let _ = rings.write(&[1]);
                }
            })
        });
        if let Err(error) = spawned {
            let result = Err(format!("no thread to do it: {error}"));
            let _ = self.done.send(Outcome::Worked { change, device, result });
            let _ = (&self.rings).write(&[1]);
        }
    }

    /// Has a device opened. The outcome comes later.
    pub(super) fn make(&self, change: ChangeId, wanted: Wanted) {
        self.order(Order::Make { change, wanted: Box::new(wanted) });
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
            Order::Make { change, wanted } => {
                let Wanted { section, base, means } = *wanted;
                let result = make(cpu_count, &section, base, &means).map_err(|error| in_words(&error));
                if done.send(Outcome::Made { change, section: Box::new(section), result }).is_err() {
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

fn make(
    cpu_count: u16,
    section: &DeviceSection,
    base: Option<Arc<dyn Device>>,
    means: &Means,
) -> anyhow::Result<MadeDevice> {
    let device = means.open(section, base)?;
    let channels = (0..cpu_count).map(|_| device.open_channel()).collect::<Result<Vec<_>, _>>()?;
    Ok(MadeDevice { device, channels })
}
