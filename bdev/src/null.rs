//! The null device ("Null disk"): drops what is written, reads as zeroes.
//!
//! Reads give zeroes rather than leave the buffer as it was: buffers are shared by all connections, and what is left in one is another
//! host's data. It costs nothing, since reads are pushed out of one small region of zeroes that stays in the cache, and which all null devices share.

use std::collections::VecDeque;
use std::fmt;

use reactor::{Progress, Segment};

use crate::channel::{Channel, Completion, Operation, OperationKind};
use crate::device::{BdevError, Deallocation, Device, Geometry};
use crate::extent;
use crate::size::Size;
use crate::zeroes::zeroes;

/// Operations that one channel holds; more stay with the submitter.
const OUTSTANDING_MAX: usize = 256;

/// A device of any size that holds nothing: what is measured with it is everything but the medium.
pub struct Null {
    name: String,
    geometry: Geometry,
    size: Size,
    zeroes: Segment,
}

impl Null {
    /// `block_count` blocks that read as zeroes.
    ///
    /// # Errors
    /// If a number is out of range.
    pub fn new(name: &str, block_len: u32, block_count: u64) -> Result<Self, BdevError> {
        let geometry =
            Geometry { deallocation: Deallocation::Zeroes, ..extent::geometry(name, block_len, block_count)? };
        Ok(Self { name: name.to_owned(), geometry, size: Size::new(block_count), zeroes: zeroes(name)? })
    }
}

impl fmt::Debug for Null {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Null").field("name", &self.name).field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Device for Null {
    fn name(&self) -> &str {
        &self.name
    }

    fn product(&self) -> &'static str {
        "Null disk"
    }

    fn geometry(&self) -> Geometry {
        Geometry { block_count: self.size.now(), ..self.geometry }
    }

    fn memory(&self) -> Option<Segment> {
        Some(self.zeroes)
    }

    fn resize(&self, block_count: u64) -> Result<(), BdevError> {
        extent::geometry(&self.name, self.geometry.block_len, block_count)?;
        self.size.grow(&self.name, block_count)
    }

    fn open_channel(&self) -> Result<Box<dyn Channel>, BdevError> {
        Ok(Box::new(NullChannel {
            geometry: self.geometry,
            size: self.size.clone(),
            zeroes: self.zeroes,
            finished: VecDeque::with_capacity(OUTSTANDING_MAX),
        }))
    }
}

struct NullChannel {
    geometry: Geometry,
    size: Size,
    zeroes: Segment,
    finished: VecDeque<Completion>,
}

impl Channel for NullChannel {
    fn submit(&mut self, _now_ns: u64, operations: &mut VecDeque<Operation>) {
        self.geometry.block_count = self.size.now();
        while self.finished.len() < OUTSTANDING_MAX
            && let Some(operation) = operations.pop_front()
        {
            let result = extent::extent(&self.geometry, &operation).map(|_| ());
            if let (Ok(()), OperationKind::Read, Some(data)) = (result, operation.kind, operation.data) {
                data.zero();
            }
            self.finished.push_back(Completion { token: operation.token, result });
        }
    }

    fn poll(&mut self, _now_ns: u64, completions: &mut Vec<Completion>) -> Progress {
        let progress = Progress::busy_if(!self.finished.is_empty());
        completions.extend(self.finished.drain(..));
        progress
    }

    fn in_place(&self, start_block: u64, block_count: u64) -> Option<Segment> {
        let geometry = Geometry { block_count: self.size.now(), ..self.geometry };
        let extent = extent::range(&geometry, start_block, block_count)?;
        let len = usize::try_from(extent.len).ok().filter(|len| *len <= self.zeroes.len())?;
        Some(self.zeroes.part(0, len))
    }

    fn outstanding_count(&self) -> usize {
        self.finished.len()
    }
}

#[cfg(test)]
mod tests {
    use reactor::Arena;

    use super::*;

    #[test]
    fn a_read_never_shows_what_the_buffer_held() {
        let device = Null::new("n", 512, 1 << 30).unwrap();
        let mut channel = device.open_channel().unwrap();
        let arena = Arena::new(4096, false).unwrap();
        let data = arena.segment().part(0, 512);
        data.write(0, &[0xAA; 512]);
        let read = Operation {
            token: 1,
            host: 0,
            kind: OperationKind::Read,
            start_block: 5,
            block_count: 1,
            data: Some(data),
        };
        channel.submit(0, &mut VecDeque::from([read]));
        let mut completions = Vec::new();
        assert_eq!(channel.poll(0, &mut completions), Progress::Busy);
        let mut bytes = [1; 512];
        data.read(0, &mut bytes);
        assert_eq!(bytes, [0; 512]);
    }

    #[test]
    fn in_place_gives_zeroes_as_far_as_there_are_any() {
        let device = Null::new("n", 4096, 1 << 20).unwrap();
        let channel = device.open_channel().unwrap();
        assert_eq!(channel.in_place(77, 32).unwrap().len(), 128 << 10);
        assert_eq!(channel.in_place(0, 257), None);
        assert_eq!(channel.in_place((1 << 20) - 1, 2), None);
    }

    #[test]
    fn a_thousand_have_as_much_memory_as_one() {
        let devices: Vec<Null> =
            (0..1024).map(|number| Null::new(&number.to_string(), 512, 1 << 30).unwrap()).collect();
        let shared = devices[0].memory().unwrap();
        assert!(devices.iter().all(|device| device.memory() == Some(shared)));
        // What one gives back the others still have.
        devices[0].retire();
        let channel = devices[1].open_channel().unwrap();
        let mut bytes = [1; 512];
        channel.in_place(0, 1).unwrap().read(0, &mut bytes);
        assert_eq!(bytes, [0; 512]);
    }
}
