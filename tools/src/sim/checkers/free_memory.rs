//! Memory that is free is nobody's (invariant 1): no device of the target may read or write a buffer that is in its pool.
//!
//! What devices may touch is what was posted and has not completed, of queue pairs that are not destroyed; the fabric keeps that book apart from the
//! target's own. Looked at when a queue pair's memory has just become free, and at intervals.

use reactor::Segment;
use transport_rdma::soft::in_process::PostedSegment;
use transport_rdma::trace::Step;

use super::{Checker, View};
use crate::sim::world::target::Noted;

/// Steps between two looks.
const LOOK_INTERVAL: u32 = 64;

/// See the module.
#[derive(Default)]
pub(super) struct FreeMemory {
    steps: u32,
    /// Something has become free since the last look.
    is_due: bool,
    /// Kept for its room.
    posted: Vec<PostedSegment>,
}

impl FreeMemory {
    fn look(&mut self, view: &View<'_>) -> Result<(), String> {
        let Self { posted, .. } = self;
        posted.clear();
        view.fabric.for_each_posted(view.target.machine(), |segment| posted.push(segment));
        posted.retain(|segment| !segment.memory.is_empty());
        posted.sort_unstable_by_key(|segment| segment.memory.address());
        for number in 0..view.target.cpu_count() {
            let Some(cpu) = view.target.polling_cpu(number) else { continue };
            for free in cpu.free_buffers() {
                if let Some(segment) = touching(posted, free) {
                    let does = if segment.is_written { "write" } else { "read" };
                    let whose = segment.number.map_or("the SRQ".to_owned(), |number| format!("queue pair {number:#x}"));
                    return Err(format!(
                        "a buffer of cpu {number} is free, and a device may {does} it: request {:#x} of {whose} is still posted",
                        segment.id
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What of `posted`, which is sorted by address, names memory of `free`. Nothing that is posted spans several buffers.
fn touching(posted: &[PostedSegment], free: Segment) -> Option<&PostedSegment> {
    let (begin, end) = (free.address(), free.address() + free.len() as u64);
    let behind = posted.partition_point(|segment| segment.memory.address() < end);
    posted[..behind].last().filter(|segment| segment.memory.address() + segment.memory.len() as u64 > begin)
}

impl Checker for FreeMemory {
    fn name(&self) -> &'static str {
        "free-memory"
    }

    fn noted(&mut self, noted: &Noted) -> Result<(), String> {
        let frees = [Step::Quiet, Step::RequestsReleased, Step::Reaped, Step::Refused];
        self.is_due |= Step::of(&noted.record).is_some_and(|step| frees.contains(&step));
        Ok(())
    }

    fn stepped(&mut self, view: &View<'_>) -> Result<(), String> {
        self.steps += 1;
        if !self.is_due && !self.steps.is_multiple_of(LOOK_INTERVAL) {
            return Ok(());
        }
        self.is_due = false;
        self.look(view)
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), String> {
        self.look(view)
    }
}

#[cfg(test)]
mod tests {
    use reactor::{Arena, Choices};
    use transport_rdma::soft::in_process::Fabric;

    use super::*;

    #[test]
    fn memory_that_is_posted_is_seen_in_a_free_buffer_whatever_part_of_it_it_is() {
        let arena = Arena::new(4096, false).unwrap();
        let machine = Fabric::with_choices(Choices::listed(Vec::new()), Default::default()).machine().id();
        let posted = |offset, len| PostedSegment {
            machine,
            number: Some(1),
            id: 7,
            memory: arena.segment().part(offset, len),
            is_written: true,
        };
        let all = [posted(100, 50), posted(1024, 512), posted(3000, 1)];
        let is_touched = |offset, len| touching(&all, arena.segment().part(offset, len)).is_some();
        for (offset, len, is_expected) in [
            (0, 100, false),
            (0, 101, true),
            (149, 10, true),
            (150, 874, false),
            (1024, 512, true),
            (1100, 10, true),
            (1000, 600, true),
            (1536, 1464, false),
            (2048, 1024, true),
            (3001, 1000, false),
        ] {
            assert_eq!(is_touched(offset, len), is_expected, "{offset}, {len}");
        }
    }
}
