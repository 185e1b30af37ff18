//! A queue pair, as it moves by value between provider and CPU, and what its CPU keeps in it.
//!
//! Invariants:
//! 1. Segments of the inline memory are handed to the wire for the time of one call and kept by nobody: a wire keeps no segment between calls.

use reactor::{Arena, Segment};

use super::command::{LinkParameters, QueuePairControl, QueuePairSerial};
use super::completion_queue::Credit;
use super::receive_queue::ReceiveQueue;
use super::send_queue::SendQueue;
use super::state::QueuePairState;
use crate::soft::wire::LinkState;
use crate::verbs::{LocalSegment, QueuePairOptions, VerbsError};

/// A queue pair of the software NIC over links `L`. The provider makes it and destroys it; in between it is attached to a [`super::Nic`].
pub struct QueuePair<L> {
    pub(super) control: QueuePairControl,
    /// In a box, since it is taken out and put back around each use and may be large.
    pub(super) link: Option<Box<L>>,
    pub(super) state: QueuePairState,
    pub(super) parameters: LinkParameters,
    pub(super) send: SendQueue,
    /// Its own receives; `None` on an SRQ.
    pub(super) receive: Option<ReceiveQueue>,
    pub(super) segment_count_max: usize,
    pub(super) inline_len_max: usize,
    inline: Option<Arena>,
    /// Keys of the windows that were bound here: no other queue pair's messages end them (a type 2 window belongs to its queue pair
    /// [InfiniBand Architecture, volume 1, 10.6.7.2]).
    windows: Vec<u32>,
    /// What was last said to the peer.
    pub(super) said: LinkState,
    /// It has sent, written, read or consumed since the last doorbell.
    pub(super) is_dirty: bool,
    /// It is in the list of those that every poll looks at.
    pub(super) is_active: bool,
    /// It has a message and no receive for it.
    pub(super) is_blocked: bool,
    /// The poll that looked at it last.
    pub(super) polled: u64,
    /// When its peer's state is to be read again although there is no news.
    pub(super) check_ns: u64,
    /// Since when the peer has consumed nothing.
    pub(super) waits_since_ns: u64,
    /// Since when the peer has had no receive.
    pub(super) not_ready_since_ns: Option<u64>,
}

impl<L> QueuePair<L> {
    /// Makes one, with all the memory that it will ever use. The provider checks the options against its limits before.
    ///
    /// # Errors
    /// If there is no memory for inline data.
    pub fn new(
        serial: QueuePairSerial,
        number: u32,
        options: &QueuePairOptions,
    ) -> Result<(Box<Self>, QueuePairControl), VerbsError> {
        let (send_count, inline_len) = (options.send_count as usize, options.inline_len as usize);
        let segment_count_max = options.segment_count as usize;
        let inline = match send_count * inline_len {
            0 => None,
            len => Some(Arena::new(len, false).map_err(|error| match error {
                reactor::MemoryError::System { call, source, .. } => VerbsError::System { call, source },
                reactor::MemoryError::TooLong { len, machine_len } => VerbsError::Limit {
                    what: "inline memory of a queue pair",
                    value: len as u64,
                    limit: machine_len as u64,
                },
            })?),
        };
        let receive =
            (!options.shared_receive).then(|| ReceiveQueue::new(options.receive_count as usize, segment_count_max));
        let control = QueuePairControl::new(serial, number);
        let queue_pair = Self {
            control: control.clone(),
            link: None,
            state: QueuePairState::Reset,
            parameters: LinkParameters { retry_count: 0, rnr_retry_count: 0 },
            send: SendQueue::new(send_count),
            receive,
            segment_count_max,
            inline_len_max: inline_len,
            inline,
            windows: Vec::new(),
            said: LinkState::Ready,
            is_dirty: false,
            is_active: false,
            is_blocked: false,
            polled: 0,
            check_ns: 0,
            waits_since_ns: 0,
            not_ready_since_ns: None,
        };
        Ok((Box::new(queue_pair), control))
    }

    /// Its name.
    #[must_use]
    pub fn serial(&self) -> QueuePairSerial {
        self.control.serial()
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.control.number()
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> QueuePairState {
        self.state
    }

    /// Whether all work that was posted to its own queues has ended.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.send.is_empty() && self.receive.as_ref().is_none_or(ReceiveQueue::is_empty)
    }

    /// For the provider that destroys it: its end of the link, if it was ever connected.
    #[must_use]
    pub fn into_link(mut self) -> Option<L> {
        self.link.take().map(|link| *link)
    }

    /// Copies inline data to the memory of the next request's slot. It was checked to fit.
    pub(super) fn keep_inline(&self, segments: &[LocalSegment]) -> Option<LocalSegment> {
        let arena = self.inline.as_ref()?;
        let slot = arena.segment().part(self.send.next_index() * self.inline_len_max, self.inline_len_max);
        let mut len = 0;
        for segment in segments {
            segment.memory.copy_to(slot.part(len, segment.memory.len()));
            len += segment.memory.len();
        }
        Some(LocalSegment { memory: slot.part(0, len), local_key: 0 })
    }

    /// A window was bound under this key.
    pub(super) fn window_bound(&mut self, key: u32) {
        // One whose region went away without an invalidation is still listed: its entry of the key table is this one's now.
        self.windows.retain(|known| known >> 8 != key >> 8);
        self.windows.push(key);
    }

    /// The key has ended.
    pub(super) fn window_ended(&mut self, key: u32) {
        self.windows.retain(|known| *known != key);
    }

    /// Whether the key is that of a window that was bound here.
    pub(super) fn has_window(&self, key: u32) -> bool {
        self.windows.contains(&key)
    }

    /// What polling a completion gives back.
    pub(super) fn credit(&mut self, credit: Credit) {
        match credit {
            Credit::Send(count) => self.send.credit(count),
            Credit::Receive => {
                if let Some(receive) = &mut self.receive {
                    receive.credit();
                }
            }
            Credit::SharedReceive => {}
        }
    }
}

impl<L> Drop for QueuePair<L> {
    fn drop(&mut self) {
        if let Some(arena) = self.inline.take() {
            // SAFETY: invariant 1; and the queue that could hand out more goes now.
            unsafe { arena.release() };
        }
    }
}

/// Total bytes, widened.
#[inline]
pub(super) fn total_len(segments: &[LocalSegment]) -> u64 {
    segments.iter().map(|segment| Segment::len(segment.memory) as u64).sum()
}
