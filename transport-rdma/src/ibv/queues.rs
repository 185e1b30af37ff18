//! A port's completion queue, the channel that wakes its CPU, and its shared receive queue.
//!
//! Shared by the port, which alone polls and posts, by the provider, which alone grows the queue, and by the queue pairs; whoever lets go last destroys them.
//! Both queues keep the library's locks: a destroy call on the worker may sweep them while their CPU polls.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. The pointers live as long as the [`Queues`]; queue pairs, which use them, hold an `Arc` of it. Of a device that was removed they live until
//!    [`Queues::close`], which comes after the port has left and every queue pair was destroyed.
//! 2. Structures that a call reads or fills in are ours and consist of numbers and pointers.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::device::{Device, set_nonblocking};
use super::raw::{Raw, by_errno};
use super::sys;
use crate::verbs::{PortOptions, VerbsError};

/// Entries that a completion queue begins with where it can grow.
const FIRST_COMPLETION_COUNT: u32 = 1024;

/// See above.
#[derive(Debug)]
pub(super) struct Queues {
    device: Arc<Device>,
    channel: Raw<sys::ibv_comp_channel>,
    completions: Raw<sys::ibv_cq>,
    shared_receives: Option<Raw<sys::ibv_srq>>,
    /// Polling it failed.
    pub(super) is_broken: AtomicBool,
    /// The device was removed: the port is to leave as soon as it has no queue pair.
    is_leaving: AtomicBool,
    /// It has: it touches nothing of this any more.
    has_left: AtomicBool,
    is_closed: AtomicBool,
}

impl Queues {
    /// For port number `number`. Gives the entries that the completion queue has.
    pub(super) fn create(
        device: &Arc<Device>,
        number: usize,
        options: PortOptions,
    ) -> Result<(Arc<Self>, u32), VerbsError> {
        let count = options.completion_count.max(1);
        let first = if device.can_resize() {
            count.min(FIRST_COMPLETION_COUNT.max(options.shared_receive_count.saturating_mul(2)))
        } else {
            count
        };
        let parts = Parts::create(device, number, first, options.shared_receive_count)?;
        // Destroyed by the queues from here on.
        let mut parts = std::mem::ManuallyDrop::new(parts);
        let (Some(channel), Some(completions)) = (parts.channel, parts.completions) else {
            unreachable!("both were made");
        };
        let shared_receives = parts.shared_receives.take();
        let queues = Self {
            device: Arc::clone(device),
            channel,
            completions,
            shared_receives,
            is_broken: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        Ok((Arc::new(queues), first))
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(super) fn completions(&self) -> *mut sys::ibv_cq {
        self.completions.as_ptr()
    }

    /// Null without.
    pub(super) fn shared_receives(&self) -> *mut sys::ibv_srq {
        self.shared_receives.map_or(std::ptr::null_mut(), Raw::as_ptr)
    }

    /// Readable when a notification that was asked for has come.
    pub(super) fn descriptor(&self) -> RawFd {
        // SAFETY: invariant 1; the descriptor never changes.
        unsafe { (*self.channel.as_ptr()).fd }
    }

    /// The next completion brings a notification.
    pub(super) fn notify(&self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_errno(unsafe { sys::ibv_req_notify_cq(self.completions(), 0) })
    }

    /// Takes and acknowledges the notifications that have come: the destroy call waits for each.
    pub(super) fn take_notifications(&self) {
        let mut count = 0;
        loop {
            let (mut of, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: invariants 1 and 2; the channel does not block.
            let result = unsafe { sys::ibv_get_cq_event(self.channel.as_ptr(), &raw mut of, &raw mut context) };
            if result != 0 {
                break;
            }
            count += 1;
        }
        if count > 0 {
            // SAFETY: invariant 1: no other queue uses the channel.
            unsafe { sys::ibv_ack_cq_events(self.completions(), count) };
        }
    }

    /// Grows the completion queue. May be called while its CPU polls.
    pub(super) fn grow(&self, count: u32) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_errno(unsafe { sys::ibv_resize_cq(self.completions(), signed(count)) })
    }

    pub(super) fn break_off(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    /// The device was removed.
    pub(super) fn ask_to_leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// Looked at by each poll: a line that is written once.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// The port's last word.
    pub(super) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Destroys them; once. The port has left, and no queue pair is there.
    pub(super) fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.take_notifications();
        drop(Parts {
            channel: Some(self.channel),
            completions: Some(self.completions),
            shared_receives: self.shared_receives,
        });
    }
}

impl Drop for Queues {
    /// Nothing is asked to be notified, and what came was acknowledged, so no call waits.
    fn drop(&mut self) {
        self.close();
    }
}

/// What has been made so far; destroyed in the order that the library wants.
#[derive(Default)]
struct Parts {
    channel: Option<Raw<sys::ibv_comp_channel>>,
    completions: Option<Raw<sys::ibv_cq>>,
    shared_receives: Option<Raw<sys::ibv_srq>>,
}

impl Parts {
    fn create(device: &Device, number: usize, count: u32, shared_count: u32) -> Result<Self, VerbsError> {
        let failed = |call| move |source| VerbsError::System { call, source };
        let mut parts = Self::default();
        // SAFETY: the device is open.
        let channel = Raw::returned(unsafe { sys::ibv_create_comp_channel(device.context()) });
        let channel = *parts.channel.insert(channel.map_err(failed("ibv_create_comp_channel"))?);
        // SAFETY: it was made above.
        let fd = unsafe { (*channel.as_ptr()).fd };
        set_nonblocking(fd).map_err(failed("fcntl of the completion channel"))?;
        // Ports spread over what interrupts there are.
        let vector = u32::try_from(number).unwrap_or(0) % device.completion_vector_count();
        // Async events name it by this.
        let context = std::ptr::without_provenance_mut(number);
        // SAFETY: the device is open, and the channel was made above.
        let made =
            unsafe { sys::ibv_create_cq(device.context(), signed(count), context, channel.as_ptr(), signed(vector)) };
        parts.completions = Some(Raw::returned(made).map_err(failed("ibv_create_cq"))?);
        if shared_count > 0 {
            let attr = sys::ibv_srq_attr {
                max_wr: shared_count,
                max_sge: device.shared_receive_segment_count_max(),
                srq_limit: 0,
            };
            let mut attributes = sys::ibv_srq_init_attr { srq_context: context, attr };
            // SAFETY: the device is open; invariant 2.
            let made = unsafe { sys::ibv_create_srq(device.pd(), &raw mut attributes) };
            parts.shared_receives = Some(Raw::returned(made).map_err(failed("ibv_create_srq"))?);
        }
        Ok(parts)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(shared_receives) = self.shared_receives.take() {
            // SAFETY: no queue pair uses it.
            unsafe { sys::ibv_destroy_srq(shared_receives.as_ptr()) };
        }
        if let Some(completions) = self.completions.take() {
            // SAFETY: no queue pair uses it.
            unsafe { sys::ibv_destroy_cq(completions.as_ptr()) };
        }
        if let Some(channel) = self.channel.take() {
            // SAFETY: its one queue is gone.
            unsafe { sys::ibv_destroy_comp_channel(channel.as_ptr()) };
        }
    }
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
