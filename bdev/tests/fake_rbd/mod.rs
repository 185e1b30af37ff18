//! A librbd for tests, made from `librbd.c` beside this: images in memory, whose operations end late, in any order, and with errors where that is asked for.
#![allow(clippy::unwrap_used, dead_code, reason = "tests, each of which uses some of it")]

use std::ffi::{CString, c_char, c_int};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use bdev::{Ceph, ClusterOptions, Connection, Rbd, RbdOptions};
use libloading::os::unix::Library;

/// What [`FakeRbd::count`] counts.
#[derive(Clone, Copy)]
pub(crate) enum Counted {
    OpenHandles = 0,
    Flushes = 1,
    Watches = 2,
    Zeroings = 3,
}

/// The library, and what it can be told.
pub(crate) struct FakeRbd {
    pub(crate) ceph: Arc<Ceph>,
    library: Library,
}

impl FakeRbd {
    /// Compiled once in a process.
    pub(crate) fn load() -> &'static Self {
        static LIBRARY: OnceLock<FakeRbd> = OnceLock::new();
        LIBRARY.get_or_init(|| {
            let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
            let made = directory.join(format!("librbd-{}.so", std::process::id()));
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_rbd/librbd.c");
            let options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-fvisibility=hidden", "-o"];
            let status = Command::new("cc").args(options).arg(&made).arg(source).status().expect("a C compiler");
            assert!(status.success());
            let path = made.to_str().unwrap();
            let ceph = Ceph::load_from("test", path, path).unwrap();
            // SAFETY: it has no initialiser.
            let library = unsafe { Library::new(&made) }.unwrap();
            std::fs::remove_file(&made).unwrap();
            FakeRbd { ceph, library }
        })
    }

    /// A connection to a cluster where an image of `len` bytes is there as soon as it is opened.
    pub(crate) fn connection(&self, len: u64) -> Connection {
        let settings = vec![("fake_size".to_owned(), len.to_string())];
        Connection::Own(Arc::clone(&self.ceph), ClusterOptions { settings, ..ClusterOptions::default() })
    }

    /// A device on an image of its own in `pool`.
    pub(crate) fn device(&self, image: &str, block_len: u32, block_count: u64) -> Rbd {
        let options = RbdOptions { block_len, ..RbdOptions::new("pool", image) };
        Rbd::open("ceph", self.connection(u64::from(block_len) * block_count), options).unwrap()
    }

    /// Operations on an image wait, until they do not.
    pub(crate) fn hold(&self, image: &str, held: bool) {
        let image = name(image);
        // SAFETY: the function is of this type.
        let hold = unsafe { self.library.get::<unsafe extern "C" fn(*const c_char, c_int)>(b"fake_hold\0") }.unwrap();
        // SAFETY: the name lives through the call.
        unsafe { hold(image.as_ptr(), held.into()) };
    }

    /// So many operations to come end with an error.
    pub(crate) fn fail(&self, image: &str, errno: i32, count: i32) {
        self.call_with_numbers("fake_fail\0", image, errno, count);
    }

    /// So many calls to come are refused.
    pub(crate) fn refuse(&self, image: &str, errno: i32, count: i32) {
        self.call_with_numbers("fake_refuse\0", image, errno, count);
    }

    fn call_with_numbers(&self, function: &str, image: &str, errno: i32, count: i32) {
        type Numbers = unsafe extern "C" fn(*const c_char, c_int, c_int);
        let image = name(image);
        // SAFETY: the function is of this type.
        let call = unsafe { self.library.get::<Numbers>(function.as_bytes()) }.unwrap();
        // SAFETY: the name lives through the call.
        unsafe { call(image.as_ptr(), errno, count) };
    }

    /// Somebody else resizes an image.
    pub(crate) fn resize(&self, image: &str, len: u64) {
        let image = name(image);
        // SAFETY: the function is of this type.
        let resize = unsafe { self.library.get::<unsafe extern "C" fn(*const c_char, u64)>(b"fake_resize\0") }.unwrap();
        // SAFETY: the name lives through the call.
        unsafe { resize(image.as_ptr(), len) };
    }

    pub(crate) fn count(&self, image: &str, what: Counted) -> i32 {
        type Count = unsafe extern "C" fn(*const c_char, c_int) -> c_int;
        let image = name(image);
        // SAFETY: the function is of this type.
        let count = unsafe { self.library.get::<Count>(b"fake_count\0") }.unwrap();
        // SAFETY: the name lives through the call.
        unsafe { count(image.as_ptr(), what as c_int) }
    }
}

/// As the library knows it.
fn name(image: &str) -> CString {
    CString::new(format!("pool/{image}")).unwrap()
}
