//! A connection to a Ceph cluster.
//!
//! # Invariants of the unsafe code
//! 1. `rados` is a handle of `rados_create` that nothing has shut down: that is done by `Drop` alone, and whatever was made of it holds the [`Cluster`].
//! 2. librados takes one handle from many threads at a time.
//! 3. Texts and out parameters live through the call that they are given to.

use std::ffi::{CStr, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use super::library::{Ceph, c_string, check};
use crate::device::BdevError;

/// How a cluster is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Ceph's own configuration file. `None`: where Ceph looks for it, if it is there.
    pub config_file: Option<PathBuf>,
    /// Without `client.`. `None`: `admin`.
    pub user: Option<String>,
    /// The file with the user's key. `None`: as the configuration says.
    pub key_file: Option<PathBuf>,
    /// Ceph's options that take the place of the file's.
    pub settings: Vec<(String, String)>,
}

/// A connection, shared by the images that were opened through it.
#[derive(Debug)]
pub struct Cluster {
    ceph: Arc<Ceph>,
    rados: *mut c_void,
    options: ClusterOptions,
}

// SAFETY: invariant 2.
unsafe impl Send for Cluster {}
// SAFETY: invariant 2.
unsafe impl Sync for Cluster {}

impl Cluster {
    /// Connects. Takes as long as the cluster does: not for a thread that may not wait. `name` is that of the device, or of the cluster, in errors.
    ///
    /// # Errors
    /// If the configuration is refused, or the cluster.
    pub fn connect(name: &str, ceph: &Arc<Ceph>, options: ClusterOptions) -> Result<Arc<Self>, BdevError> {
        let object = || match &options.config_file {
            Some(file) => format!("the cluster of {}", file.display()),
            None => "the cluster".to_owned(),
        };
        let failed = |call, hint| {
            let object = object();
            move |source| BdevError::Ceph { device: name.to_owned(), call, object, source, hint }
        };
        let user = options.user.as_deref().map(|user| c_string(name, "user", user)).transpose()?;
        let mut rados = ptr::null_mut();
        // SAFETY: invariant 3.
        let created = unsafe { (ceph.rados_create)(&raw mut rados, user.as_deref().map_or(ptr::null(), CStr::as_ptr)) };
        check(created).map_err(failed("rados_create", None))?;
        super::exit::client_made();
        let cluster = Self { ceph: Arc::clone(ceph), rados, options: options.clone() };
        // Blocks that are cached here go stale when another machine writes them; who wants it says so in the file.
        cluster.set(name, "rbd_cache", "false")?;
        match &options.config_file {
            Some(path) => {
                let path = c_string(name, "config_file", &path.to_string_lossy())?;
                // SAFETY: invariants 1 and 3.
                let read = unsafe { (ceph.rados_conf_read_file)(rados, path.as_ptr()) };
                check(read).map_err(failed("rados_conf_read_file", Some("is it there, and readable?")))?;
            }
            None => {
                // SAFETY: invariant 1. That there is none at the usual places is no error: the settings may say everything.
                unsafe { (ceph.rados_conf_read_file)(rados, ptr::null()) };
            }
        }
        for (key, value) in &options.settings {
            cluster.set(name, key, value)?;
        }
        if let Some(path) = &options.key_file {
            cluster.set(name, "keyring", &path.to_string_lossy())?;
        }
        // SAFETY: invariant 1.
        let connected = unsafe { (ceph.rados_connect)(rados) };
        check(connected).map_err(failed(
            "rados_connect",
            Some("do the monitors in the configuration file answer, and is the user's key there?"),
        ))?;
        Ok(Arc::new(cluster))
    }

    /// Sets one of Ceph's options.
    pub(super) fn set(&self, name: &str, key: &str, value: &str) -> Result<(), BdevError> {
        let (c_key, c_value) = (c_string(name, "config", key)?, c_string(name, "config", value)?);
        // SAFETY: invariants 1 and 3.
        let set = unsafe { (self.ceph.rados_conf_set)(self.rados, c_key.as_ptr(), c_value.as_ptr()) };
        check(set).map_err(|source| BdevError::Ceph {
            device: name.to_owned(),
            call: "rados_conf_set",
            object: format!("{key} = {value}"),
            source,
            hint: Some("does this version of Ceph have the option, and does it take the value?"),
        })
    }

    /// How it was reached.
    #[must_use]
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    pub(super) fn ceph(&self) -> &Arc<Ceph> {
        &self.ceph
    }

    /// For calls that make something of it.
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.rados
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: invariant 1. Shutting down what never was connected is allowed.
        unsafe { (self.ceph.rados_shutdown)(self.rados) };
        super::exit::client_gone();
    }
}
