//! Ceph's libraries, loaded when the first image is opened: nothing of Ceph is needed to build or to start.
//!
//! # Invariants of the unsafe code
//! 1. The functions have the signatures of `librbd.h` and `librados.h`, version 16.2; both libraries keep their interfaces within a major version of their
//!    name (`librbd.so.1`, `librados.so.2`).
//! 2. A library is never unloaded: its threads run as long as the process, and copies of its functions' addresses are everywhere.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::device::BdevError;

/// Where they are found by name.
const LIBRBD: &str = "librbd.so.1";
const LIBRADOS: &str = "librados.so.2";

/// Called by a thread of the library when an operation has ended.
pub(super) type OnCompletion = unsafe extern "C" fn(completion: *mut c_void, argument: *mut c_void);
/// Called by a thread of the library when an image's description has changed.
pub(super) type OnUpdate = unsafe extern "C" fn(argument: *mut c_void);

/// Where the functions are looked up.
struct Opened {
    librbd: &'static Library,
    librados: &'static Library,
}

macro_rules! functions {
    ($($library:ident $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used, by their own names.
        #[derive(Debug)]
        pub struct Ceph {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Ceph {
            fn find(opened: &Opened) -> Result<Self, libloading::Error> {
                // SAFETY: invariant 1.
                Ok(Self { $($name: *unsafe { opened.$library.get(concat!(stringify!($name), "\0").as_bytes()) }?,)* })
            }
        }
    };
}

functions! {
    librados rados_create(*mut *mut c_void, *const c_char) -> c_int;
    librados rados_conf_read_file(*mut c_void, *const c_char) -> c_int;
    librados rados_conf_set(*mut c_void, *const c_char, *const c_char) -> c_int;
    librados rados_connect(*mut c_void) -> c_int;
    librados rados_shutdown(*mut c_void);
    librados rados_ioctx_create(*mut c_void, *const c_char, *mut *mut c_void) -> c_int;
    librados rados_ioctx_set_namespace(*mut c_void, *const c_char);
    librados rados_ioctx_destroy(*mut c_void);
    librbd rbd_open(*mut c_void, *const c_char, *mut *mut c_void, *const c_char) -> c_int;
    librbd rbd_open_read_only(*mut c_void, *const c_char, *mut *mut c_void, *const c_char) -> c_int;
    librbd rbd_close(*mut c_void) -> c_int;
    librbd rbd_get_size(*mut c_void, *mut u64) -> c_int;
    librbd rbd_get_stripe_unit(*mut c_void, *mut u64) -> c_int;
    librbd rbd_resize(*mut c_void, u64) -> c_int;
    librbd rbd_update_watch(*mut c_void, *mut u64, OnUpdate, *mut c_void) -> c_int;
    librbd rbd_update_unwatch(*mut c_void, u64) -> c_int;
    librbd rbd_aio_create_completion(*mut c_void, OnCompletion, *mut *mut c_void) -> c_int;
    librbd rbd_aio_get_return_value(*mut c_void) -> isize;
    librbd rbd_aio_release(*mut c_void);
    librbd rbd_aio_read(*mut c_void, u64, usize, *mut c_char, *mut c_void) -> c_int;
    librbd rbd_aio_write(*mut c_void, u64, usize, *const c_char, *mut c_void) -> c_int;
    librbd rbd_aio_write_zeroes(*mut c_void, u64, usize, *mut c_void, c_int, c_int) -> c_int;
    librbd rbd_aio_flush(*mut c_void, *mut c_void) -> c_int;
    librbd rbd_is_exclusive_lock_owner(*mut c_void, *mut c_int) -> c_int;
    librbd rbd_lock_acquire(*mut c_void, c_int) -> c_int;
    librbd rbd_lock_release(*mut c_void) -> c_int;
    librbd rbd_lock_get_owners(*mut c_void, *mut c_int, *mut *mut c_char, *mut usize) -> c_int;
    librbd rbd_lock_get_owners_cleanup(*mut *mut c_char, usize);
    librbd rbd_lock_break(*mut c_void, c_int, *const c_char) -> c_int;
}

impl Ceph {
    /// Loads the libraries. A second time costs nothing: the loader counts.
    ///
    /// # Errors
    /// If one is not there, or is older than Ceph 16. `device` is named in it.
    pub fn load(device: &str) -> Result<Arc<Self>, BdevError> {
        Self::load_from(device, LIBRBD, LIBRADOS)
    }

    /// The same, of other files: for tests.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_from(device: &str, librbd: &str, librados: &str) -> Result<Arc<Self>, BdevError> {
        let refused = |library: &str, package| {
            let library = library.to_owned();
            move |error: libloading::Error| BdevError::Library {
                device: device.to_owned(),
                library,
                reason: error.to_string(),
                package,
            }
        };
        let open = |name: &str| {
            // SAFETY: the initialisers of Ceph's libraries ask for nothing that a process has not.
            let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
            // Invariant 2.
            library.map(|library| &*Box::leak(Box::new(library)))
        };
        let opened = Opened {
            librados: open(librados).map_err(refused(librados, "librados2"))?,
            librbd: open(librbd).map_err(refused(librbd, "librbd1"))?,
        };
        super::exit::register();
        Ok(Arc::new(Self::find(&opened).map_err(refused(librbd, "librbd1 of Ceph 16 or later"))?))
    }
}

/// What a call came to: it says errors as negated numbers.
pub(super) fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// `text` for a call. A text with a zero in it names nothing.
pub(super) fn c_string(device: &str, field: &'static str, text: &str) -> Result<CString, BdevError> {
    CString::new(text).map_err(|_| BdevError::Field {
        device: device.to_owned(),
        field,
        value: format!("{text:?}"),
        allowed: "a text without a zero byte",
    })
}
