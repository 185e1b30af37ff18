//! One queue pair: made and destroyed on the worker, moved through its states by the control plane, posted to by its CPU.
//!
//! It is never attached to its connection's id: the library would move it to the error state while an event is fetched, whoever destroys it meanwhile. So its
//! attributes come from `rdma_init_qp_attr`, and every move is made here.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. The pointer lives as long as the [`Object`], and the object as long as the provider's record or the CPU has it; [`Object::destroy`] takes it whole.
//! 2. Moves are made by the control plane and the worker, which first makes the queue pair: never two at a time.
//! 3. Structures that a call reads or fills in are ours and consist of numbers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

use super::id::Id;
use super::queues::Queues;
use super::raw::{Raw, by_errno};
use super::sys::{self, ibv_qp_state as state};
use crate::verbs::QueuePairOptions;

/// RNR NAK timer as InfiniBand encodes it: 0.64 ms [InfiniBand 1.4, table 45]. The kernel's default, 0, means 655 ms.
const RNR_TIMER: u8 = 12;

/// How far it has come, as its CPU needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Takes receives.
    Initial = 0,
    /// Takes everything.
    Ready = 1,
    /// Takes everything, and flushes it.
    Failed = 2,
    /// Something could not be posted after it was taken: it takes nothing more, and is to be destroyed.
    Broken = 3,
}

/// What the provider and the CPU share.
#[derive(Debug)]
pub(super) struct Object {
    raw: Raw<sys::ibv_qp>,
    number: u32,
    queues: Arc<Queues>,
    stage: AtomicU8,
    /// It has receives that only another move to the error state flushes.
    has_late_receives: AtomicBool,
    /// The provider said that it is broken.
    pub(super) is_reported: AtomicBool,
    segment_count: u32,
    inline_len: u32,
    shared_receive: bool,
}

/// A queue pair by value: its CPU's, until it is destroyed.
#[derive(Debug)]
pub struct QueuePair {
    pub(super) object: Arc<Object>,
    /// Whose it is.
    pub(super) connection: u64,
}

impl Object {
    /// Makes one in the INIT state.
    pub(super) fn create(
        id: &Id,
        connection: u64,
        queues: &Arc<Queues>,
        options: &QueuePairOptions,
    ) -> io::Result<Arc<Self>> {
        // SAFETY: invariant 3.
        let mut attributes: sys::ibv_qp_init_attr = unsafe { std::mem::zeroed() };
        // Async events name the connection by this.
        attributes.qp_context = std::ptr::without_provenance_mut(usize::try_from(connection).unwrap_or(0));
        (attributes.send_cq, attributes.recv_cq) = (queues.completions(), queues.completions());
        attributes.qp_type = sys::ibv_qp_type::IBV_QPT_RC;
        attributes.cap = sys::ibv_qp_cap {
            max_send_wr: options.send_count.max(1),
            max_recv_wr: if options.shared_receive { 0 } else { options.receive_count.max(1) },
            max_send_sge: options.segment_count.max(1),
            max_recv_sge: if options.shared_receive { 0 } else { options.segment_count.max(1) },
            max_inline_data: options.inline_len,
        };
        if options.shared_receive {
            attributes.srq = queues.shared_receives();
        }
        // SAFETY: the queues are alive, with their device; invariant 3.
        let made = Raw::returned(unsafe { sys::ibv_create_qp(queues.device().pd(), &raw mut attributes) })?;
        // SAFETY: it was just made; the number never changes.
        let number = unsafe { (*made.as_ptr()).qp_num };
        let object = Self {
            raw: made,
            number,
            queues: Arc::clone(queues),
            stage: AtomicU8::new(Stage::Initial as u8),
            has_late_receives: AtomicBool::new(false),
            is_reported: AtomicBool::new(false),
            segment_count: options.segment_count,
            inline_len: options.inline_len,
            shared_receive: options.shared_receive,
        };
        // What fails here is destroyed with the object.
        let (attributes, mask) = id.attributes(state::IBV_QPS_INIT)?;
        object.modify(attributes, mask)?;
        Ok(Arc::new(object))
    }

    /// Destroys it. Waits until its async events are acknowledged. An error means that its memory may still be written.
    pub(super) fn destroy(self) -> io::Result<()> {
        // SAFETY: invariant 1: this is the last of it.
        let result = by_errno(unsafe { sys::ibv_destroy_qp(self.raw.as_ptr()) });
        let this = std::mem::ManuallyDrop::new(self);
        if result.is_ok() {
            // SAFETY: read once; the original is never dropped. A queue pair that could not be destroyed keeps its queues for good.
            drop(unsafe { std::ptr::read(&raw const this.queues) });
        }
        result
    }

    pub(super) fn raw(&self) -> *mut sys::ibv_qp {
        self.raw.as_ptr()
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn segment_count(&self) -> u32 {
        self.segment_count
    }

    pub(super) fn inline_len(&self) -> u32 {
        self.inline_len
    }

    pub(super) fn shared_receive(&self) -> bool {
        self.shared_receive
    }

    #[inline]
    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Initial,
            1 => Stage::Ready,
            2 => Stage::Failed,
            _ => Stage::Broken,
        }
    }

    /// Connects it: `depths` are READs that we answer and READs that we start at a time, where they are not the connection manager's to say.
    pub(super) fn connect(&self, id: &Id, depths: Option<(u8, u8)>, ack_timeout: Option<u8>) -> io::Result<()> {
        // Its rights depend on what was negotiated since it was made.
        let (attributes, mask) = id.attributes(state::IBV_QPS_INIT)?;
        self.modify(attributes, mask)?;
        let (mut attributes, mask) = id.attributes(state::IBV_QPS_RTR)?;
        if let Some((answered, _)) = depths {
            attributes.max_dest_rd_atomic = answered;
        }
        attributes.min_rnr_timer = RNR_TIMER;
        self.modify(attributes, mask)?;
        let (mut attributes, mask) = id.attributes(state::IBV_QPS_RTS)?;
        if let Some((_, started)) = depths {
            attributes.max_rd_atomic = started;
        }
        if let Some(exponent) = ack_timeout {
            attributes.timeout = exponent;
        }
        if self.queues.device().retries_for_ever() {
            attributes.retry_cnt = attributes.retry_cnt.min(6);
        }
        self.modify(attributes, mask)?;
        // A failure or a breakage that came meanwhile stays.
        let (from, to) = (Stage::Initial as u8, Stage::Ready as u8);
        let _ = self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }

    /// Moves it to the error state; again, if it is there already.
    pub(super) fn fail(&self) -> io::Result<()> {
        let _ = self.stage.fetch_max(Stage::Failed as u8, Ordering::AcqRel);
        // Pairs with the one in `note_receive`: either the CPU sees the stage, or this move sees its receive.
        fence(Ordering::SeqCst);
        // SAFETY: invariant 3.
        let mut attributes: sys::ibv_qp_attr = unsafe { std::mem::zeroed() };
        attributes.qp_state = state::IBV_QPS_ERR;
        self.modify(attributes, sys::QP_STATE)
    }

    /// Its CPU cannot go on with it.
    pub(super) fn break_off(&self) {
        self.stage.store(Stage::Broken as u8, Ordering::Release);
    }

    /// Its CPU has posted a receive, on a device that does not look at receives in the error state by itself. Whether the provider has to be told.
    pub(super) fn note_receive(&self) -> bool {
        fence(Ordering::SeqCst);
        self.stage() == Stage::Failed && !self.has_late_receives.swap(true, Ordering::AcqRel)
    }

    /// Takes the note.
    pub(super) fn take_late_receives(&self) -> bool {
        self.has_late_receives.swap(false, Ordering::AcqRel)
    }

    fn modify(&self, mut attributes: sys::ibv_qp_attr, mask: i32) -> io::Result<()> {
        // SAFETY: invariants 1, 2 and 3.
        by_errno(unsafe { sys::ibv_modify_qp(self.raw(), &raw mut attributes, mask) })
    }
}

impl Drop for Object {
    /// Of a program that ends without destroying it, or of a queue pair whose making failed half way: no event of it is owed then.
    fn drop(&mut self) {
        // SAFETY: invariant 1: this is the last of it.
        unsafe { sys::ibv_destroy_qp(self.raw.as_ptr()) };
    }
}
