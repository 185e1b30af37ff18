//! Memory that a device or a peer may write: never behind a Rust reference.
//!
//! [`Segment`] is the currency: an address, a length, the arena it is of. [`Arena`] and [`SharedArena`] make them (at start,
//! by the control plane; their calls are slow), any CPU copies to and from them through [`copy_bytes`]. [`HugepagePlan`] says before the
//! start which arenas will find hugepages, and what to do about the others.
//!
//! Invariants:
//! 1. Every segment lies inside a mapping that is live until [`Arena::release`] or [`SharedArena::release`], whose caller
//!    answers for all of that arena's segments; [`Segment::part`] only narrows.
//! 2. No reference to a segment's bytes is ever made: all reading and writing goes by raw pointer through `memory::copy`,
//!    which the compiler cannot see into, so that a device or another process that writes meanwhile changes what the bytes
//!    are and nothing else.

mod hugepages;
mod shared;

mod arena;
mod copy;
mod mapping;
mod node;

pub use arena::Arena;
pub use copy::copy_bytes;
pub use hugepages::{HugepagePlan, Hugepages, NodeHugepages};
pub use node::NumaNode;
pub use shared::SharedArena;

/// What an arena is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaOptions {
    /// Bytes; rounded up to whole pages.
    pub len: usize,
    /// Whether to try hugepages before ordinary ones.
    pub huge_pages: bool,
    /// Where its pages are to come from if they can: the node of the CPU that will use it.
    pub node: Option<NumaNode>,
}

impl ArenaOptions {
    /// `len` bytes on ordinary pages, from any node.
    #[must_use]
    pub const fn new(len: usize) -> Self {
        Self { len, huge_pages: false, node: None }
    }
}

/// Which pages back an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// 2 MiB hugepages.
    Huge,
    /// 4 KiB pages.
    Ordinary,
}

impl PageKind {
    /// Bytes of one page.
    #[must_use]
    pub const fn page_len(self) -> usize {
        match self {
            Self::Huge => 2 << 20,
            Self::Ordinary => 4096,
        }
    }
}

/// Names one arena for the life of the process. Numbers are given in order of creation and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

/// The machine could not give the memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A system call failed.
    #[error("{call} of {len} bytes failed: {source}")]
    System {
        /// Which call.
        call: &'static str,
        /// For how many bytes.
        len: usize,
        /// errno.
        source: std::io::Error,
    },
    /// More than all of the machine's memory. Checked first: the kernel might grant it, and kill somebody when it is touched.
    #[error("an arena of {len} bytes is more than this machine's memory of {machine_len} bytes")]
    TooLong {
        /// Bytes asked for.
        len: usize,
        /// Bytes that the machine has.
        machine_len: usize,
    },
}

impl MemoryError {
    /// Whether the kernel does not know the call, rather than failed at it.
    fn is_unknown_call(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.raw_os_error() == Some(libc::EINVAL))
    }
}

/// A piece of an arena, as a device sees it: plain data. Only arenas and buffers make one, so its address is always inside a
/// live mapping: arenas are unmapped only by [`Arena::release`], whose caller answers for all segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    address: usize,
    len: usize,
    region: RegionId,
}

impl Segment {
    /// First byte.
    #[must_use]
    pub fn as_ptr(self) -> *mut u8 {
        self.address as *mut u8
    }

    /// The address as a number.
    #[must_use]
    pub fn address(self) -> u64 {
        self.address as u64
    }

    /// Bytes.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The arena that it is a piece of.
    #[must_use]
    pub fn region(self) -> RegionId {
        self.region
    }

    /// A part of it. Panics if the part is not inside.
    #[must_use]
    pub fn part(self, offset: usize, len: usize) -> Self {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "part {offset}+{len} of a segment of {} bytes",
            self.len
        );
        Self { address: self.address + offset, len, region: self.region }
    }

    /// Copies `bytes` to `offset`. Panics if they do not fit.
    #[inline]
    pub fn write(self, offset: usize, bytes: &[u8]) {
        let target = self.part(offset, bytes.len());
        // SAFETY: invariant 1 for the target; the source is a borrowed slice of the same length.
        unsafe { copy_bytes(target.as_ptr(), bytes.as_ptr(), bytes.len()) }
    }

    /// Copies from `offset` into `bytes`. Panics if the segment is too short.
    #[inline]
    pub fn read(self, offset: usize, bytes: &mut [u8]) {
        let source = self.part(offset, bytes.len());
        // SAFETY: invariant 1 for the source; the target is an exclusively borrowed slice of the same length.
        unsafe { copy_bytes(bytes.as_mut_ptr(), source.as_ptr(), bytes.len()) }
    }

    /// Writes zeroes over all of it.
    pub fn zero(self) {
        // SAFETY: invariant 1.
        unsafe { copy::zero_bytes(self.as_ptr(), self.len) }
    }

    /// Copies all of it into the front of `to`, which is at least as long (panics if it is not). The two must not overlap: overlapping bytes
    /// end up undefined, though nothing else does.
    #[inline]
    pub fn copy_to(self, to: Segment) {
        let target = to.part(0, self.len);
        // SAFETY: invariant 1 for both.
        unsafe { copy_bytes(target.as_ptr(), self.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of this machine. `None` where the kernel knows none.
    pub(super) fn some_node() -> Option<NumaNode> {
        (0..1024).find_map(NumaNode::of_cpu)
    }

    /// What the kernel says of the mapping: `default`, `prefer:0`. `None` where it does not say.
    pub(super) fn policy_of(segment: Segment) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/numa_maps").ok()?;
        // Neighbours with the same policy are one mapping.
        let start = |line: &str| usize::from_str_radix(line.split(' ').next()?, 16).ok();
        let line = maps.lines().rfind(|line| start(line).is_some_and(|start| start <= segment.address))?;
        line.split(' ').nth(1).map(str::to_owned)
    }

    fn arena(len: usize) -> Segment {
        Arena::new(len, false).unwrap().segment()
    }

    #[test]
    fn what_is_written_is_read_at_every_length_and_offset() {
        let memory = arena(16 * 1024);
        let other = arena(16 * 1024);
        let pattern: Vec<u8> = (0..=250).cycle().take(9000).collect();
        for len in (0..=600).chain([1023, 1024, 1025, 4096, 4097, 8191, 9000]) {
            for offset in [0, 1, 7, 8, 63] {
                let bytes = &pattern[..len];
                memory.zero();
                memory.write(offset, bytes);
                let mut back = vec![0xEE; len];
                memory.read(offset, &mut back);
                assert_eq!(back, bytes, "{len} bytes at {offset}");
                let mut around = [0xEE];
                memory.read(offset + len, &mut around);
                assert_eq!(around, [0], "nothing is written behind {len} bytes at {offset}");

                other.zero();
                memory.part(offset, len).copy_to(other.part(offset, len + 1));
                let mut copied = vec![0xEE; len + 1];
                other.read(offset, &mut copied);
                assert_eq!((&copied[..len], copied[len]), (bytes, 0));
            }
        }
    }

    #[test]
    fn zero_stops_at_the_end() {
        let memory = arena(4096);
        for len in [0, 1, 7, 8, 9, 255, 256, 257, 1000] {
            memory.write(0, &[0xFF; 1200]);
            memory.part(3, len).zero();
            let mut back = [0; 1200];
            memory.read(0, &mut back);
            assert!(back[..3].iter().chain(&back[3 + len..]).all(|&byte| byte == 0xFF), "{len}");
            assert!(back[3..3 + len].iter().all(|&byte| byte == 0), "{len}");
        }
    }

    #[test]
    #[should_panic(expected = "part 4090+7 of a segment of 4096 bytes")]
    fn a_write_beyond_the_end_is_our_bug() {
        arena(4096).write(4090, &[0; 7]);
    }

    #[test]
    #[should_panic(expected = "part 18446744073709551615+2")]
    fn offset_and_length_do_not_wrap() {
        let _ = arena(4096).part(usize::MAX, 2);
    }
}
