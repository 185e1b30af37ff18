//! The partition device ("Split Disk"): a range of another device's blocks. Several are made of one, side by side.
//!
//! Its size is what it was given: a base that grows does not move it. What the base says of its blocks holds for the partition's, but for alignments that its first
//! block does not keep. Memory that reads need no copy of is the base's, which has it registered for as long as it is there itself.
//! That no two overlap, and that nobody else uses the base, is seen to by who makes them.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

use reactor::{Progress, Rest, Segment};

use crate::channel::{Channel, Completion, Operation};
use crate::device::{BdevError, Device, DeviceError, Geometry, Layer, Preferred};
use crate::extent;
use crate::layer::{OUTSTANDING_MAX, forward};

/// See the module.
pub struct Partition {
    name: String,
    base: Arc<dyn Device>,
    start_block: u64,
    geometry: Geometry,
}

impl Partition {
    /// `block_count` blocks of `base` from `start_block` on.
    ///
    /// # Errors
    /// If they are none, or not all on the base.
    pub fn new(name: &str, base: Arc<dyn Device>, start_block: u64, block_count: u64) -> Result<Self, BdevError> {
        let below = base.geometry();
        let refuse =
            |field, value: String, allowed| Err(BdevError::Field { device: name.to_owned(), field, value, allowed });
        if start_block >= below.block_count {
            return refuse("offset", format!("{start_block} blocks"), "less than the blocks of the base");
        }
        if block_count == 0 || block_count > below.block_count - start_block {
            return refuse(
                "size",
                format!("{block_count} blocks"),
                "at least one block, and no more than the base has from there on",
            );
        }
        let preferred = preferred(below.preferred, start_block);
        let geometry = Geometry { block_count, preferred, ..below };
        Ok(Self { name: name.to_owned(), base, start_block, geometry })
    }

    /// The device below.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.base.name()
    }

    /// Its blocks, as the device below counts them.
    #[must_use]
    pub fn blocks(&self) -> Range<u64> {
        self.start_block..self.start_block + self.geometry.block_count
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("name", &self.name).field("base", &self.base).finish_non_exhaustive()
    }
}

impl Device for Partition {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "Split Disk"
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn layer(&self) -> Option<Layer<'_>> {
        Some(Layer::Partition(self))
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        Ok(Box::new(PartitionChannel {
            base: self.base.open_channel()?,
            geometry: self.geometry,
            start_block: self.start_block,
            forward: VecDeque::with_capacity(OUTSTANDING_MAX),
            refused: Vec::with_capacity(OUTSTANDING_MAX),
        }))
    }
}

/// What suits blocks that begin `offset` blocks into the device.
fn preferred(below: Preferred, offset: u64) -> Preferred {
    // The base's multiples are multiples of this here.
    let kept = |unit: u32| u32::try_from(common_divisor(u64::from(unit), offset)).unwrap_or(unit);
    let boundary = kept(below.boundary);
    Preferred {
        // Pieces that keep to a small divisor of it never cross it, but there are so many of them that crossing it is cheaper.
        boundary: if below.boundary > 0 && boundary >= below.boundary / 4 { boundary } else { 0 },
        write: kept(below.write).max(1),
        write_optimal: below.write_optimal,
        deallocate: kept(below.deallocate).max(1),
    }
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// One CPU's way in.
struct PartitionChannel {
    base: Box<dyn Channel>,
    geometry: Geometry,
    start_block: u64,
    /// On their way to the base, their blocks counted as it does.
    forward: VecDeque<Operation>,
    /// Ended here.
    refused: Vec<(u64, DeviceError)>,
}

impl Channel for PartitionChannel {
    fn submit(&mut self, now_ns: u64, operations: &mut VecDeque<Operation>) {
        let room = OUTSTANDING_MAX.saturating_sub(self.outstanding_count());
        for operation in operations.drain(..room.min(operations.len())) {
            match extent::extent(&self.geometry, &operation) {
                Ok(_) => {
                    let start_block = operation.start_block.saturating_add(self.start_block);
                    self.forward.push_back(Operation { start_block, ..operation });
                }
                Err(error) => self.refused.push((operation.token, error)),
            }
        }
        forward(&mut *self.base, now_ns, &mut self.forward);
    }

    fn poll(&mut self, now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let had_len = completions.len();
        forward(&mut *self.base, now_ns, &mut self.forward);
        completions.extend(self.refused.drain(..).map(|(token, error)| Completion { token, result: Err(error) }));
        self.base.poll(now_ns, completions).or(Progress::busy_if(completions.len() > had_len))
    }

    fn cancel(&mut self, token: u64) -> bool {
        match self.forward.iter().position(|operation| operation.token == token) {
            Some(place) => {
                self.forward.remove(place);
                self.refused.push((token, DeviceError::Cancelled));
                true
            }
            None => self.base.cancel(token),
        }
    }

    fn cancel_all(&mut self) {
        self.refused.extend(self.forward.drain(..).map(|operation| (operation.token, DeviceError::Cancelled)));
        self.base.cancel_all();
    }

    fn in_place(&self, start_block: u64, block_count: u64) -> Option<Segment> {
        extent::range(&self.geometry, start_block, block_count)?;
        self.base.in_place(start_block + self.start_block, block_count)
    }

    fn outstanding_count(&self) -> usize {
        self.forward.len() + self.refused.len() + self.base.outstanding_count()
    }

    fn arm(&mut self) -> Rest {
        let base = self.base.arm();
        if self.forward.is_empty() && self.refused.is_empty() { base } else { Rest::Poll }
    }

    fn disarm(&mut self) {
        self.base.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.base.wake_descriptor()
    }
}

#[cfg(test)]
mod tests {
    use reactor::Arena;

    use super::*;
    use crate::channel::OperationKind;
    use crate::memory::Memory;

    fn base() -> Arc<dyn Device> {
        Arc::new(Memory::new("m", 512, 100, false).unwrap())
    }

    #[test]
    fn each_has_its_own_blocks() {
        let base = base();
        let parts = [(0, 30), (30, 50), (80, 20)]
            .map(|(start, count)| Partition::new("p", Arc::clone(&base), start, count).unwrap());
        let data = Arena::new(512, false).unwrap().segment().part(0, 512);
        for (part, fill) in parts.iter().zip(1..) {
            let mut channel = part.open_channel().unwrap();
            for block in 0..part.geometry().block_count {
                data.write(0, &[fill; 512]);
                let kind = OperationKind::Write { force_unit_access: false };
                let write =
                    Operation { token: block, host: 0, kind, start_block: block, block_count: 1, data: Some(data) };
                channel.submit(0, &mut VecDeque::from([write]));
                let mut completions = Vec::new();
                channel.poll(0, &mut completions);
                assert_eq!(completions, [Completion { token: block, result: Ok(()) }]);
            }
        }
        let memory = base.memory().unwrap();
        let first_bytes: Vec<u8> = (0..100)
            .map(|block| {
                let mut byte = [0];
                memory.read(block * 512, &mut byte);
                byte[0]
            })
            .collect();
        assert_eq!(first_bytes, [vec![1; 30], vec![2; 50], vec![3; 20]].concat());
    }

    #[test]
    fn memory_of_the_base_is_named_and_no_other_blocks_of_it() {
        let base = base();
        let memory = base.memory().unwrap();
        let part = Partition::new("p", base, 30, 50).unwrap();
        let channel = part.open_channel().unwrap();
        assert_eq!(channel.in_place(0, 1), Some(memory.part(30 * 512, 512)));
        assert_eq!(channel.in_place(49, 1), Some(memory.part(79 * 512, 512)));
        assert_eq!(
            (channel.in_place(49, 2), channel.in_place(50, 1), channel.in_place(u64::MAX, 1)),
            (None, None, None)
        );
    }

    #[test]
    fn blocks_that_are_not_there_are_refused_by_field_and_value() {
        let text = |start, count| Partition::new("p", base(), start, count).unwrap_err().to_string();
        assert_eq!(text(100, 1), "p: offset is 100 blocks: less than the blocks of the base");
        let allowed = "at least one block, and no more than the base has from there on";
        assert_eq!(text(0, 0), format!("p: size is 0 blocks: {allowed}"));
        assert_eq!(text(60, 41), format!("p: size is 41 blocks: {allowed}"));
        assert_eq!(text(1, u64::MAX), format!("p: size is {} blocks: {allowed}", u64::MAX));
    }

    #[test]
    fn alignments_are_those_that_the_first_block_keeps() {
        let below = Preferred { boundary: 256, write: 8, write_optimal: 64, deallocate: 16 };
        assert_eq!(preferred(below, 512), below);
        let at_128 = preferred(below, 128);
        assert_eq!(at_128, Preferred { boundary: 128, ..below });
        assert_eq!(preferred(below, 8), Preferred { boundary: 0, deallocate: 8, ..below });
        assert_eq!(preferred(below, 3), Preferred { boundary: 0, write: 1, write_optimal: 64, deallocate: 1 });
        // A piece that keeps to the boundary here keeps to the base's.
        for start in (0..2048_u64).step_by(128) {
            assert_eq!((start + 128) / 256, (start + 128 + 127) / 256);
        }
        let none = Preferred { boundary: 0, write: 1, write_optimal: 1, deallocate: 1 };
        assert_eq!(preferred(none, 7), none);
    }
}
