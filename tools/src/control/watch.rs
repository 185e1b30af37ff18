//! A thread that looks, about once a second, what others have done to the target's devices: files and disks that grew, disks that were taken out.
//!
//! It has a thread of its own since looking may take as long as a device likes; what it would delay is later news, nothing else. It keeps no device: one
//! that is closed meanwhile is looked at no more.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bdev::{Device, News};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Something was done to a device.
#[derive(Debug)]
pub(super) struct Sighting {
    /// Its name.
    pub(super) device: String,
    pub(super) news: News,
}

/// The thread, as the control plane reaches it. It ends when this is dropped.
pub(super) struct Watch {
    devices: Sender<Weak<dyn Device>>,
    sightings: Receiver<Sighting>,
    /// Readable when there is one.
    bell: UnixStream,
}

impl Watch {
    /// Starts it.
    pub(super) fn new() -> io::Result<Self> {
        let (bell, rings) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rings.set_nonblocking(true)?;
        let (devices, theirs) = channel();
        let (sees, sightings) = channel();
        let watch = move || watch(&theirs, &sees, &rings);
        std::thread::Builder::new().name("device watch".to_owned()).spawn(watch)?;
        Ok(Self { devices, sightings, bell })
    }

    /// This one is looked at, too.
    pub(super) fn add(&self, device: &Arc<dyn Device>) {
        if self.devices.send(Arc::downgrade(device)).is_err() {
            tracing::error!("the thread that looks after devices has ended");
        }
    }

    /// What was seen.
    pub(super) fn next(&mut self) -> Option<Sighting> {
        // WouldBlock is the ordinary end of this.
        let _ = self.bell.read(&mut [0; 64]);
        self.sightings.try_recv().ok()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

/// Each device with what it was seen to be last: that is not told again.
struct Watched {
    device: Weak<dyn Device>,
    last: Option<News>,
}

fn watch(coming: &Receiver<Weak<dyn Device>>, sees: &Sender<Sighting>, mut rings: &UnixStream) {
    let mut devices: Vec<Watched> = Vec::new();
    loop {
        match coming.recv_timeout(INTERVAL) {
            Ok(device) => devices.push(Watched { device, last: None }),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                devices.retain(|watched| watched.device.strong_count() > 0);
                for watched in &mut devices {
                    let Some(sighting) = watched.look() else { continue };
                    if sees.send(sighting).is_err() {
                        return;
                    }
                    // A full pair is read soon.
                    let _ = rings.write(&[1]);
                }
            }
        }
    }
}

impl Watched {
    fn look(&mut self) -> Option<Sighting> {
        let device = self.device.upgrade()?;
        let news = device.news();
        // What is gone is told as long as it is there: devices that are made of it go first.
        let is_told = news == self.last && !matches!(news, Some(News::Gone { .. }));
        self.last.clone_from(&news);
        let news = news.filter(|_| !is_told)?;
        Some(Sighting { device: device.name().to_owned(), news })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bdev::{File, FileOptions, Null};

    use super::*;

    #[test]
    fn a_file_that_grows_is_told_once_each_time() {
        let path = std::env::temp_dir().join(format!("quiesce-watch-{}", std::process::id()));
        fs::write(&path, [0; 4096]).unwrap();
        let device: Arc<dyn Device> = Arc::new(File::open("file", &path, FileOptions::default()).unwrap());
        let mut watched = Watched { device: Arc::downgrade(&device), last: None };
        assert!(watched.look().is_none());
        for len in [8192, 16_384] {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
            let Sighting { device: name, news } = watched.look().unwrap();
            assert_eq!((name.as_str(), news), ("file", News::Grown { block_count: len / 512 }));
            assert!(watched.look().is_none(), "once");
        }
        device.rescan().unwrap();
        assert_eq!(device.geometry().block_count, 32);
        assert!(watched.look().is_none());
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        assert_eq!(watched.look().unwrap().news, News::Shrunk { block_count: 8 });
        assert!(watched.look().is_none(), "once");
        drop(device);
        assert!(watched.look().is_none(), "it is not kept");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a thread is waited for")]
    fn the_thread_ends_with_its_owner_and_says_nothing_of_what_nobody_changes() {
        let mut watch = Watch::new().unwrap();
        let device: Arc<dyn Device> = Arc::new(Null::new("null", 512, 8).unwrap());
        watch.add(&device);
        assert!(watch.next().is_none());
        drop(watch);
        let deadline = std::time::Instant::now() + 10 * INTERVAL;
        while Arc::weak_count(&device) > 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
