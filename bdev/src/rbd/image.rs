//! An open image: one handle of librbd, used by every channel of its device.
//!
//! # Invariants of the unsafe code
//! 1. `io` and `image` are handles that nothing has closed: that is done by [`close`] alone, once, when the last [`Image`] that could reach them has
//!    gone. Every operation under way keeps the image (a channel's eras), so that none is cut off by the close; librbd waits for those too.
//! 2. librbd takes one handle from many threads at a time.
//! 3. Texts and out parameters live through the call that they are given to; the library keeps none of them.
//! 4. Data of an operation stays where it is until the operation's callback was called: who submits has promised that, and memory of a
//!    [`Segment`](reactor::Segment) is never unmapped.
//! 5. A watch's argument is a strong count of [`Changed`], which goes back after the call that ends the watch: from then on the library calls it no more.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::RbdOptions;
use super::cluster::Cluster;
use super::completion::Slot;
use super::library::{Ceph, c_string, check};
use super::request::Call;
use crate::device::BdevError;

/// RBD_LOCK_MODE_EXCLUSIVE.
const EXCLUSIVE: c_int = 0;
/// Owners that a lock of this mode can have, and one more.
const OWNER_COUNT_MAX: usize = 2;

/// What its target may do with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// Everything: the image is not fenced.
    Open,
    /// Nothing: another may be writing it.
    Standby,
    /// Everything, since it holds the image's exclusive lock.
    Holder,
    /// Nothing: it was locked out of the cluster when another took the lock, or cannot reach it. Only a new connection helps.
    Lost,
}

impl Standing {
    const ALL: [Self; 4] = [Self::Open, Self::Standby, Self::Holder, Self::Lost];

    /// Whether operations are begun.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Open | Self::Holder)
    }
}

/// Whether the image's description has changed since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Changed(AtomicBool);

/// See the module.
#[derive(Debug)]
pub(super) struct Image {
    cluster: Arc<Cluster>,
    io: *mut c_void,
    image: *mut c_void,
    watch: Option<u64>,
    changed: Arc<Changed>,
    standing: AtomicU8,
    /// What it is called in errors and in the log.
    path: String,
    device: String,
}

// SAFETY: invariant 2.
unsafe impl Send for Image {}
// SAFETY: invariant 2.
unsafe impl Sync for Image {}

impl Image {
    /// Opens it. Takes as long as the cluster does.
    pub(super) fn open(device: &str, cluster: Arc<Cluster>, options: &RbdOptions) -> Result<Self, BdevError> {
        let ceph = Arc::clone(cluster.ceph());
        let path = options.path();
        let failed = |call, hint| {
            let object = path.clone();
            move |source| BdevError::Ceph { device: device.to_owned(), call, object, source, hint }
        };
        let pool = c_string(device, "pool", &options.pool)?;
        let name = c_string(device, "image", &options.image)?;
        let snapshot = options.snapshot.as_deref().map(|text| c_string(device, "snapshot", text)).transpose()?;
        let namespace = options.namespace.as_deref().map(|text| c_string(device, "namespace", text)).transpose()?;
        let mut io = ptr::null_mut();
        // SAFETY: invariant 3, and the cluster's invariant 1.
        let made = unsafe { (ceph.rados_ioctx_create)(cluster.as_ptr(), pool.as_ptr(), &raw mut io) };
        check(made).map_err(failed("rados_ioctx_create", Some("is there such a pool?")))?;
        if let Some(namespace) = namespace {
            // SAFETY: invariants 1 and 3.
            unsafe { (ceph.rados_ioctx_set_namespace)(io, namespace.as_ptr()) };
        }
        let mut image = ptr::null_mut();
        let snapshot = snapshot.as_deref().map_or(ptr::null(), CStr::as_ptr);
        // A snapshot is read-only whichever way it is opened; opened like this its image is still watched, and the size stays true.
        let open = if options.read_only { ceph.rbd_open_read_only } else { ceph.rbd_open };
        // SAFETY: invariants 1 and 3.
        let opened = unsafe { open(io, name.as_ptr(), &raw mut image, snapshot) };
        if let Err(source) = check(opened) {
            // SAFETY: invariant 1: nothing was made of it.
            unsafe { (ceph.rados_ioctx_destroy)(io) };
            return Err(failed("rbd_open", Some("is there such an image, or snapshot?"))(source));
        }
        let standing = if options.fenced { Standing::Standby } else { Standing::Open };
        let mut opened = Self {
            cluster,
            io,
            image,
            watch: None,
            changed: Arc::default(),
            standing: AtomicU8::new(standing as u8),
            path,
            device: device.to_owned(),
        };
        opened.watch();
        Ok(opened)
    }

    /// Has the library say when the image changes. Without it, sizes are seen when somebody asks.
    fn watch(&mut self) {
        let argument = Arc::into_raw(Arc::clone(&self.changed)).cast_mut().cast();
        let mut handle = 0;
        // SAFETY: invariants 1, 3 and 5.
        let watched = unsafe { (self.ceph().rbd_update_watch)(self.image, &raw mut handle, on_update, argument) };
        match check(watched) {
            Ok(()) => self.watch = Some(handle),
            Err(error) => {
                // SAFETY: invariant 5: the library did not take it.
                drop(unsafe { Arc::from_raw(argument.cast_const().cast::<Changed>()) });
                tracing::warn!(device = self.device, image = self.path, %error, "not told of its changes");
            }
        }
    }

    /// Whether it has changed since this was asked.
    pub(super) fn take_changed(&self) -> bool {
        // The look that follows asks the library, which has locks of its own.
        self.changed.0.swap(false, Ordering::Relaxed)
    }

    /// Bytes.
    pub(super) fn len(&self) -> Result<u64, BdevError> {
        let mut len = 0;
        // SAFETY: invariants 1 and 3.
        let told = unsafe { (self.ceph().rbd_get_size)(self.image, &raw mut len) };
        check(told).map(|()| len).map_err(self.failed("rbd_get_size", None))
    }

    /// Bytes that lie together in one object.
    pub(super) fn stripe_unit(&self) -> Result<u64, BdevError> {
        let mut len = 0;
        // SAFETY: invariants 1 and 3.
        let told = unsafe { (self.ceph().rbd_get_stripe_unit)(self.image, &raw mut len) };
        check(told).map(|()| len).map_err(self.failed("rbd_get_stripe_unit", None))
    }

    /// It has so many bytes from now on.
    pub(super) fn resize(&self, len: u64) -> Result<(), BdevError> {
        // SAFETY: invariant 1.
        let resized = unsafe { (self.ceph().rbd_resize)(self.image, len) };
        check(resized).map_err(self.failed("rbd_resize", None))
    }

    pub(super) fn standing(&self) -> Standing {
        // Whoever sees Holder sees the lock taken: it is with the cluster by then, not in this memory.
        Standing::ALL[usize::from(self.standing.load(Ordering::Relaxed))]
    }

    /// Nothing more is begun on it.
    pub(super) fn lose(&self) {
        if self.standing.swap(Standing::Lost as u8, Ordering::Relaxed) != Standing::Lost as u8 {
            tracing::error!(
                device = self.device,
                image = self.path,
                "another machine has taken the image, and the cluster has locked this one out: hosts are sent to their other paths"
            );
        }
    }

    /// Whether the cluster agrees that this client holds the lock. Asks it.
    pub(super) fn holds_lock(&self) -> io::Result<bool> {
        let mut is_owner = 0;
        // SAFETY: invariants 1 and 3.
        let told = unsafe { (self.ceph().rbd_is_exclusive_lock_owner)(self.image, &raw mut is_owner) };
        check(told).map(|()| is_owner != 0)
    }

    /// Takes the image's exclusive lock, which from then on is given to nobody who asks. `EROFS`: another has it.
    pub(super) fn acquire(&self) -> io::Result<()> {
        // SAFETY: invariant 1.
        check(unsafe { (self.ceph().rbd_lock_acquire)(self.image, EXCLUSIVE) })?;
        self.standing.store(Standing::Holder as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the lock back: operations that are with the library end first.
    pub(super) fn release(&self) -> io::Result<()> {
        self.standing.store(Standing::Standby as u8, Ordering::Relaxed);
        // SAFETY: invariant 1.
        check(unsafe { (self.ceph().rbd_lock_release)(self.image) })
    }

    /// Who holds the lock, as [`Self::break_lock`] wants it.
    pub(super) fn lock_owner(&self) -> io::Result<Option<std::ffi::CString>> {
        let (mut mode, mut owners, mut count) = (0, [ptr::null_mut(); OWNER_COUNT_MAX], OWNER_COUNT_MAX);
        let ceph = self.ceph();
        // SAFETY: invariants 1 and 3: as many places as `count` says.
        let listed =
            unsafe { (ceph.rbd_lock_get_owners)(self.image, &raw mut mode, owners.as_mut_ptr(), &raw mut count) };
        match check(listed) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => other?,
        }
        // SAFETY: the library has put `count` texts there.
        let owner = (count > 0).then(|| unsafe { CStr::from_ptr(owners[0]) }.to_owned());
        // SAFETY: they go back once, and were copied.
        unsafe { (ceph.rbd_lock_get_owners_cleanup)(owners.as_mut_ptr(), count) };
        Ok(owner)
    }

    /// Takes the lock from `owner`, and has the cluster lock that client out before.
    pub(super) fn break_lock(&self, owner: &CStr) -> io::Result<()> {
        // SAFETY: invariants 1 and 3.
        check(unsafe { (self.ceph().rbd_lock_break)(self.image, EXCLUSIVE, owner.as_ptr()) })
    }

    /// Begins a call, which `slot` hears of once, unless it is refused: then by the errno that is returned, negated.
    pub(super) fn begin(&self, call: Call, slot: &Arc<Slot>) -> Result<(), i64> {
        let ceph = self.ceph();
        slot.with_completion(ceph, |completion| match call {
            // SAFETY: invariants 1 and 4.
            Call::Read { offset, into } => unsafe {
                (ceph.rbd_aio_read)(self.image, offset, into.len(), into.as_ptr().cast(), completion)
            },
            // SAFETY: invariants 1 and 4.
            Call::Write { offset, from } => unsafe {
                (ceph.rbd_aio_write)(self.image, offset, from.len(), from.as_ptr().cast(), completion)
            },
            Call::WriteZeroes { offset, len } => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                // SAFETY: invariant 1.
                unsafe { (ceph.rbd_aio_write_zeroes)(self.image, offset, len, completion, 0, 0) }
            }
            // SAFETY: invariant 1.
            Call::Flush => unsafe { (ceph.rbd_aio_flush)(self.image, completion) },
        })
    }

    pub(super) fn failed(&self, call: &'static str, hint: Option<&'static str>) -> impl Fn(io::Error) -> BdevError {
        move |source| BdevError::Ceph { device: self.device.clone(), call, object: self.path.clone(), source, hint }
    }

    fn ceph(&self) -> &Arc<Ceph> {
        self.cluster.ceph()
    }
}

impl Drop for Image {
    /// Closing waits for the cluster, and this may be a polling CPU or a thread of the library's own: so a thread does it that is there for nothing else.
    fn drop(&mut self) {
        let handles = Handles {
            cluster: Arc::clone(&self.cluster),
            io: self.io,
            image: self.image,
            watch: self.watch.map(|watch| (watch, Arc::as_ptr(&self.changed))),
        };
        let closer = std::thread::Builder::new().name("rbd-close".to_owned()).spawn(move || close(&handles));
        match closer {
            Ok(thread) => super::closing::add(self.path.clone(), thread),
            Err(error) => {
                tracing::error!(device = self.device, image = self.path, %error, "no thread to close it: it stays open");
            }
        }
    }
}

/// What is left of an image to be closed.
struct Handles {
    cluster: Arc<Cluster>,
    io: *mut c_void,
    image: *mut c_void,
    /// And the argument that it was made with.
    watch: Option<(u64, *const Changed)>,
}

// SAFETY: invariant 2.
unsafe impl Send for Handles {}

fn close(handles: &Handles) {
    let ceph = handles.cluster.ceph();
    if let Some((watch, argument)) = handles.watch {
        // SAFETY: invariant 1.
        unsafe { (ceph.rbd_update_unwatch)(handles.image, watch) };
        // SAFETY: invariant 5.
        drop(unsafe { Arc::from_raw(argument) });
    }
    // SAFETY: invariant 1.
    unsafe { (ceph.rbd_close)(handles.image) };
    // SAFETY: invariant 1.
    unsafe { (ceph.rados_ioctx_destroy)(handles.io) };
}

/// A thread of the library: the image's description has changed.
unsafe extern "C" fn on_update(argument: *mut c_void) {
    // SAFETY: invariant 5.
    let changed = unsafe { &*argument.cast_const().cast::<Changed>() };
    changed.0.store(true, Ordering::Relaxed);
}
