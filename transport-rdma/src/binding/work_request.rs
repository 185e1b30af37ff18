//! How a `wr_id` names a piece of work: never a pointer, always with a generation, so that a completion that comes after the end of
//! its object is a miss and not another object.
//!
//! | bits | what |
//! |---|---|
//! | 63–56 | kind, since a failed completion does not tell its opcode |
//! | 55–24 | generation of what the index names |
//! | 23–0 | index: the side that posts it gives it its meaning |
//!
//! The lower 56 bits are laid out as `reactor::Handle::to_bits`.

/// What kind of work a work request does. Numbers start at 1, so that an all-zero `wr_id` is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WorkKind {
    /// A receive of a queue pair's own receive queue.
    Receive = 1,
    /// A receive of a shared receive queue.
    SharedReceive = 2,
    /// A SEND: a command capsule at the host, a response at the target.
    Send = 3,
    /// An RDMA READ.
    Read = 4,
    /// An RDMA WRITE.
    Write = 5,
    /// The last request of a send queue: with its completion everything before it has been returned.
    Marker = 6,
    /// A memory window is bound.
    Bind = 7,
    /// A memory window's key ends.
    Invalidate = 8,
}

/// A `wr_id`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkRequestId {
    /// What kind of work.
    pub kind: WorkKind,
    /// Below 2^24.
    pub index: u32,
    /// Of what the index names.
    pub generation: u32,
}

impl WorkRequestId {
    /// Indices are below this.
    pub const INDEX_COUNT: u32 = 1 << 24;

    /// Packs it. Panics if the index is too large: limits are checked where the tables are made.
    #[inline]
    #[must_use]
    pub fn to_bits(self) -> u64 {
        assert!(self.index < Self::INDEX_COUNT, "work request index {} has more than 24 bits", self.index);
        u64::from(self.kind as u8) << 56 | u64::from(self.generation) << 24 | u64::from(self.index)
    }

    /// Unpacks it. `None` for a kind that does not exist: the completion is none of ours.
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let [kind, ..] = bits.to_be_bytes();
        let kind = match kind {
            1 => WorkKind::Receive,
            2 => WorkKind::SharedReceive,
            3 => WorkKind::Send,
            4 => WorkKind::Read,
            5 => WorkKind::Write,
            6 => WorkKind::Marker,
            7 => WorkKind::Bind,
            8 => WorkKind::Invalidate,
            _ => return None,
        };
        let [_, g3, g2, g1, g0, i2, i1, i0] = bits.to_be_bytes();
        Some(Self {
            kind,
            index: u32::from_be_bytes([0, i2, i1, i0]),
            generation: u32::from_be_bytes([g3, g2, g1, g0]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_comes_back() {
        let kinds = [
            WorkKind::Receive,
            WorkKind::SharedReceive,
            WorkKind::Send,
            WorkKind::Read,
            WorkKind::Write,
            WorkKind::Marker,
            WorkKind::Bind,
            WorkKind::Invalidate,
        ];
        for kind in kinds {
            for index in [0, 1, WorkRequestId::INDEX_COUNT - 1] {
                for generation in [0, 1, u32::MAX] {
                    let id = WorkRequestId { kind, index, generation };
                    assert_eq!(WorkRequestId::from_bits(id.to_bits()), Some(id));
                }
            }
        }
    }

    #[test]
    fn the_layout_is_the_handles() {
        let id = WorkRequestId { kind: WorkKind::Send, index: 0x12_3456, generation: 0x89AB_CDEF };
        assert_eq!(id.to_bits(), 0x0389_ABCD_EF12_3456);
        let handle = reactor::Handle::<()>::from_bits(id.to_bits());
        assert_eq!((handle.index(), handle.generation()), (0x12_3456, 0x89AB_CDEF));
    }

    #[test]
    fn numbers_that_nobody_posted_are_no_work() {
        assert_eq!(WorkRequestId::from_bits(0), None);
        assert_eq!(WorkRequestId::from_bits(u64::MAX), None);
    }
}
