//! The rbd device: an image of a Ceph cluster, through librbd, which is loaded when it is needed.
//!
//! | part | what it is |
//! |---|---|
//! | [`channel`] | one CPU's way into an image |
//! | [`request`] | one operation's calls, and what their results mean |
//! | [`completion`] | the way from the library's threads back to the CPU |
//! | [`image`] | an open image, and its lock |
//! | [`cluster`], [`library`] | a connection; the functions that are called |
//! | [`closing`], [`exit`] | threads that close, which takes time; what the end of the process does about them |
//!
//! An image that several targets serve is *fenced*: a target begins operations only while it holds the image's exclusive lock, which is given to nobody who
//! asks. Whoever takes it from a holder that does not let go has the cluster lock that client out first ([`Rbd::acquire_lock`]): what the former holder has
//! still under way then fails at the storage daemons, however late it comes.

mod channel;

mod request;

mod image;

mod completion;

mod cluster;

mod library;

mod exit;

mod closing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use cluster::{Cluster, ClusterOptions};
use image::Image;
pub use image::Standing;
pub use library::Ceph;

use crate::channel::Channel;
use crate::device::{BdevError, Deallocation, Device, Geometry, News, Preferred};
use crate::extent;
use crate::size::Size;

/// Bytes that Ceph's storage daemons write at a time, at least: less is read and written back.
const ALLOCATION_LEN: u64 = 4096;
/// Bytes whose deallocation is worth while: librbd's own granularity [librbd, `rbd_discard_granularity_bytes`].
const DEALLOCATION_LEN: u64 = 64 << 10;
/// How long an image that was let go of has until it is opened again all the same.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How often a lock is taken from one owner after the other.
const BREAK_COUNT_MAX: u32 = 4;

/// Which image, and how it is used.
#[derive(Clone, Debug)]
pub struct RbdOptions {
    /// Its pool.
    pub pool: String,
    /// Its namespace in the pool.
    pub namespace: Option<String>,
    /// Its name.
    pub image: String,
    /// A snapshot of it, which takes no writes.
    pub snapshot: Option<String>,
    /// Bytes of a block: 512 or 4096.
    pub block_len: u32,
    /// Refuses writes. The image is not watched: its size stays what it was.
    pub read_only: bool,
    /// Operations are begun only while this device holds the image's exclusive lock.
    pub fenced: bool,
    /// Operations that each channel has with the library at a time: 1 to 4096.
    pub queue_depth: u32,
}

impl RbdOptions {
    /// An image, written by whoever opens it.
    #[must_use]
    pub fn new(pool: &str, image: &str) -> Self {
        Self {
            pool: pool.to_owned(),
            namespace: None,
            image: image.to_owned(),
            snapshot: None,
            block_len: 512,
            read_only: false,
            fenced: false,
            queue_depth: 128,
        }
    }

    /// As Ceph's commands write it.
    #[must_use]
    pub fn path(&self) -> String {
        let namespace = self.namespace.iter().map(|namespace| format!("{namespace}/")).collect::<String>();
        let snapshot = self.snapshot.iter().map(|snapshot| format!("@{snapshot}")).collect::<String>();
        format!("{}/{namespace}{}{snapshot}", self.pool, self.image)
    }
}

/// How a device comes to its cluster.
#[derive(Clone, Debug)]
pub enum Connection {
    /// By a connection of its own.
    Own(Arc<Ceph>, ClusterOptions),
    /// By one that is there, and that others use too.
    Shared(Arc<Cluster>),
}

/// An image of a Ceph cluster.
#[derive(Debug)]
pub struct Rbd {
    name: String,
    geometry: Geometry,
    options: RbdOptions,
    connection: Connection,
    shared: Arc<Shared>,
    /// One change of the lock at a time.
    changing: Mutex<()>,
}

/// What the channels use, for as long as one lives.
#[derive(Debug)]
struct Shared {
    ceph: Arc<Ceph>,
    size: Size,
    is_fenced: bool,
    /// Number of `image`, raised after it was replaced: channels look at this alone.
    era: AtomicU64,
    image: Mutex<(u64, Arc<Image>)>,
}

impl Shared {
    fn era(&self) -> u64 {
        self.era.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Arc<Image>)> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> (u64, Arc<Image>) {
        self.lock().clone()
    }

    /// For a polling CPU. `None`: somebody has it just now.
    fn try_current(&self) -> Option<(u64, Arc<Image>)> {
        self.image.try_lock().ok().map(|image| image.clone())
    }

    fn replace(&self, image: Image) {
        let mut current = self.lock();
        *current = (current.0 + 1, Arc::new(image));
        self.era.store(current.0, Ordering::Relaxed);
    }
}

impl Rbd {
    /// Opens an image. A fenced one is served at once if nobody else holds its lock. Takes as long as the cluster does.
    ///
    /// # Errors
    /// If the description is refused, or the cluster refuses.
    pub fn open(name: &str, connection: Connection, options: RbdOptions) -> Result<Self, BdevError> {
        check_options(name, &connection, &options)?;
        // One that is just being closed may still hold its lock.
        if !closing::wait(Some(&options.path()), CLOSE_PATIENCE) {
            tracing::warn!(
                device = name,
                image = options.path(),
                "it was used before, and its cluster has not closed it yet"
            );
        }
        let image = open_image(name, &connection, &options)?;
        let len = image.len()?;
        let block_len = u64::from(options.block_len);
        if !len.is_multiple_of(block_len) {
            return Err(BdevError::Field {
                device: name.to_owned(),
                field: "size",
                value: format!("{len} bytes"),
                allowed: "a multiple of the block size: resize the image, or set the block size to 512",
            });
        }
        let is_read_only = options.read_only || options.snapshot.is_some();
        let geometry = Geometry {
            // Writes may be in librbd's cache, where the settings ask for one.
            volatile_write_cache: !is_read_only,
            read_only: is_read_only,
            deallocation: if is_read_only { Deallocation::Unsupported } else { Deallocation::Zeroes },
            preferred: preferred(block_len, image.stripe_unit()?),
            ..extent::geometry(name, options.block_len, len / block_len)?
        };
        let shared = Shared {
            ceph: Arc::clone(match &connection {
                Connection::Own(ceph, _) => ceph,
                Connection::Shared(cluster) => cluster.ceph(),
            }),
            size: Size::new(geometry.block_count),
            is_fenced: options.fenced,
            era: AtomicU64::new(0),
            image: Mutex::new((0, Arc::new(image))),
        };
        let device = Self {
            name: name.to_owned(),
            geometry,
            options,
            connection,
            shared: Arc::new(shared),
            changing: Mutex::new(()),
        };
        if device.options.fenced {
            device.take_if_free()?;
        }
        Ok(device)
    }

    /// Which image.
    #[must_use]
    pub fn options(&self) -> &RbdOptions {
        &self.options
    }

    /// How it is reached.
    #[must_use]
    pub fn cluster_options(&self) -> &ClusterOptions {
        match &self.connection {
            Connection::Own(_, options) => options,
            Connection::Shared(cluster) => cluster.options(),
        }
    }

    /// What this device may do with the image, as far as it knows.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.current().1.standing()
    }

    /// Whether the image's description has changed since this was asked: [`Device::rescan`] looks at it.
    #[must_use]
    pub fn take_changed(&self) -> bool {
        self.shared.current().1.take_changed()
    }

    /// Asks the cluster whether the lock is still held, where it should be, and what the image may be used for then.
    pub fn check_standing(&self) -> Standing {
        let image = self.shared.current().1;
        if image.standing() == Standing::Holder {
            match image.holds_lock() {
                Ok(true) => {}
                Ok(false) => image.lose(),
                Err(error) if error.raw_os_error() == Some(request::BLOCKLISTED) => image.lose(),
                // Who does not answer has not said that it is gone: what is begun waits, as on any image.
                Err(error) => tracing::debug!(device = self.name, %error, "the lock cannot be looked at"),
            }
        }
        image.standing()
    }

    /// Takes the image's exclusive lock, from whoever holds it. A holder is locked out of the cluster first: nothing of what it has under way is
    /// written any more. Operations are begun here from then on. Takes as long as the cluster does.
    ///
    /// # Errors
    /// If the image is not fenced, or the cluster refuses.
    pub fn acquire_lock(&self) -> Result<(), BdevError> {
        let _one = self.change_lock()?;
        let (_, current) = self.shared.current();
        match self.check_standing() {
            Standing::Holder => return Ok(()),
            Standing::Lost => {
                let image = open_image(&self.name, &self.connection, &self.options)?;
                take(&image)?;
                self.shared.replace(image);
            }
            Standing::Standby | Standing::Open => take(&current)?,
        }
        self.rescan()?;
        tracing::info!(device = self.name, image = self.options.path(), "holds the image's lock");
        Ok(())
    }

    /// Begins no more operations, and gives the lock back when those under way have ended.
    ///
    /// # Errors
    /// If the image is not fenced, or the cluster refuses.
    pub fn release_lock(&self) -> Result<(), BdevError> {
        let _one = self.change_lock()?;
        let (_, image) = self.shared.current();
        if image.standing() == Standing::Holder {
            image.release().map_err(image.failed("rbd_lock_release", None))?;
        }
        Ok(())
    }

    fn change_lock(&self) -> Result<MutexGuard<'_, ()>, BdevError> {
        if !self.options.fenced {
            return Err(BdevError::Field {
                device: self.name.clone(),
                field: "fenced",
                value: "false".to_owned(),
                allowed: "true, for a device whose lock is taken and given back: it is said when the device is made",
            });
        }
        Ok(self.changing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_if_free(&self) -> Result<(), BdevError> {
        let (_, image) = self.shared.current();
        let owner = image.lock_owner().map_err(image.failed("rbd_lock_get_owners", Some(NEEDS_LOCK)))?;
        if let Some(owner) = owner {
            let (owner, path) = (owner.to_string_lossy().into_owned(), self.options.path());
            tracing::warn!(device = self.name, image = path, owner, "another holds the image's lock: stands by");
            return Ok(());
        }
        match image.acquire() {
            // Another was faster.
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => Ok(()),
            other => other.map_err(image.failed("rbd_lock_acquire", Some(NEEDS_LOCK))),
        }
    }
}

const NEEDS_LOCK: &str = "has the image the feature? `rbd feature enable POOL/IMAGE exclusive-lock`";

/// Takes the lock of `image` from whoever has it.
fn take(image: &Image) -> Result<(), BdevError> {
    for _ in 0..BREAK_COUNT_MAX {
        let owner = image.lock_owner().map_err(image.failed("rbd_lock_get_owners", Some(NEEDS_LOCK)))?;
        if let Some(owner) = owner {
            match image.break_lock(&owner) {
                // It has gone, or another was faster: looked at again.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBUSY)) => continue,
                other => other.map_err(
                    image.failed("rbd_lock_break", Some("may the user add to the blocklist? `mon 'profile rbd'`")),
                )?,
            }
        }
        match image.acquire() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EBUSY)) => {}
            other => return other.map_err(image.failed("rbd_lock_acquire", Some(NEEDS_LOCK))),
        }
    }
    let source = std::io::Error::from_raw_os_error(libc::EBUSY);
    Err(image.failed("rbd_lock_acquire", Some("others take the lock at the same time: one of them has it"))(source))
}

fn open_image(name: &str, connection: &Connection, options: &RbdOptions) -> Result<Image, BdevError> {
    let cluster = match connection {
        Connection::Shared(cluster) => Arc::clone(cluster),
        Connection::Own(ceph, cluster) => {
            let mut cluster = cluster.clone();
            if options.fenced {
                // Not to be left to a configuration file: without it, the lock would be taken from a client that goes on writing.
                cluster.settings.push(("rbd_blocklist_on_break_lock".to_owned(), "true".to_owned()));
                // With any other time librbd 16.2 cannot take the lock at all (EINVAL): this is Ceph's own default.
                cluster.settings.push(("rbd_blocklist_expire_seconds".to_owned(), "0".to_owned()));
            }
            Cluster::connect(name, ceph, cluster)?
        }
    };
    Image::open(name, cluster, options)
}

fn check_options(name: &str, connection: &Connection, options: &RbdOptions) -> Result<(), BdevError> {
    let refuse =
        |field, value: String, allowed| Err(BdevError::Field { device: name.to_owned(), field, value, allowed });
    // Also refuses block lengths, before anything is asked of the cluster.
    extent::geometry(name, options.block_len, 1)?;
    if !(1..=4096).contains(&options.queue_depth) {
        return refuse("queue depth", options.queue_depth.to_string(), "1 to 4096");
    }
    if options.pool.is_empty() || options.image.is_empty() {
        return refuse("image", options.path(), "a pool and an image, neither of them empty");
    }
    if options.fenced && (options.read_only || options.snapshot.is_some()) {
        return refuse("fenced", "true".to_owned(), "false for what takes no writes: it has no lock");
    }
    if options.fenced && matches!(connection, Connection::Shared(_)) {
        let allowed = "false, or a connection of its own: a client that the lock is taken from is locked out with all that it has open";
        return refuse("fenced", "true".to_owned(), allowed);
    }
    Ok(())
}

fn preferred(block_len: u64, stripe_unit: u64) -> Preferred {
    let blocks = |len: u64| u32::try_from(len / block_len).unwrap_or(1).max(1);
    let write = blocks(ALLOCATION_LEN);
    let (boundary, write_optimal) = match stripe_unit {
        len if len.is_multiple_of(ALLOCATION_LEN) && len > 0 => (blocks(len), blocks(len)),
        _ => (0, write),
    };
    Preferred { boundary, write, write_optimal, deallocate: blocks(DEALLOCATION_LEN) }
}

impl Device for Rbd {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "Ceph Rbd Disk"
    }

    fn geometry(&self) -> Geometry {
        Geometry { block_count: self.shared.size.now(), ..self.geometry }
    }

    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        let (_, image) = self.shared.current();
        let block_len = u64::from(self.geometry.block_len);
        // What others have made it in the meantime counts too.
        self.shared.size.grow(&self.name, image.len()? / block_len)?;
        if block_count > self.shared.size.now() {
            image.resize(block_count.saturating_mul(block_len))?;
        }
        self.shared.size.grow(&self.name, block_count)
    }

    fn rescan(&self) -> Result<(), BdevError> {
        let (_, image) = self.shared.current();
        self.shared.size.grow(&self.name, image.len()? / u64::from(self.geometry.block_len))
    }

    fn news(&self) -> Option<News> {
        if !self.take_changed() {
            return None;
        }
        let (_, image) = self.shared.current();
        let block_count = image.len().ok()? / u64::from(self.geometry.block_len);
        News::of_size(self.shared.size.now(), block_count)
    }

    fn as_rbd(&self) -> Option<&Rbd> {
        Some(self)
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        let channel = channel::RbdChannel::new(Arc::clone(&self.shared), self.geometry, self.options.queue_depth);
        let channel = channel.map_err(self.shared.current().1.failed("eventfd for a channel", None))?;
        Ok(Box::new(channel))
    }
}

/// Waits until images that were let go of are closed, but not longer than `patience`: for the end of a process. Returns whether they are.
pub fn wait_until_closed(patience: Duration) -> bool {
    closing::wait(None, patience)
}
