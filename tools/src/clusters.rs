//! Connections to Ceph clusters that were registered by name, for devices that share one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bdev::Cluster;

/// By name. Shared with the threads that connect.
#[derive(Clone, Debug, Default)]
pub struct Clusters(Arc<Mutex<BTreeMap<String, Place>>>);

/// A name that is taken.
#[derive(Clone, Debug)]
enum Place {
    Connecting,
    Connected(Arc<Cluster>),
}

/// Why one is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of this name.
    Unknown,
    /// A device uses it, or it is just being connected.
    InUse,
}

impl Clusters {
    /// Keeps a name for a cluster that somebody connects to. False if it is taken.
    pub(crate) fn keep(&self, name: &str) -> bool {
        let mut places = self.lock();
        let is_free = !places.contains_key(name);
        if is_free {
            places.insert(name.to_owned(), Place::Connecting);
        }
        is_free
    }

    /// The cluster of a name that was kept; none if it could not be reached.
    pub(crate) fn put(&self, name: &str, cluster: Option<Arc<Cluster>>) {
        match cluster {
            Some(cluster) => drop(self.lock().insert(name.to_owned(), Place::Connected(cluster))),
            None => drop(self.lock().remove(name)),
        }
    }

    /// One that is connected.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Cluster>> {
        match self.lock().get(name) {
            Some(Place::Connected(cluster)) => Some(Arc::clone(cluster)),
            Some(Place::Connecting) | None => None,
        }
    }

    /// All that are connected.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Cluster>)> {
        let places = self.lock();
        let connected = places.iter().filter_map(|(name, place)| match place {
            Place::Connected(cluster) => Some((name.clone(), Arc::clone(cluster))),
            Place::Connecting => None,
        });
        connected.collect()
    }

    /// Takes one out that nothing uses. It is for the caller to let go of it where that may take time.
    pub(crate) fn take(&self, name: &str) -> Result<Arc<Cluster>, Refusal> {
        let mut places = self.lock();
        match places.get(name) {
            None => Err(Refusal::Unknown),
            Some(Place::Connected(cluster)) if Arc::strong_count(cluster) == 1 => {
                let cluster = Arc::clone(cluster);
                places.remove(name);
                Ok(cluster)
            }
            Some(Place::Connected(_) | Place::Connecting) => Err(Refusal::InUse),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
