//! A CPU's I/O queues, as its workload sees them during one poll.

use nvmf_core::RemoteBuffer;
use nvmf_core::host::{self, Attached, BlockRange, DataPointer};
use reactor::{Handle, RegionId, Segment, Slab};

use crate::binding::COMMAND_LEN;
use crate::host::message::MemoryKeys;
use crate::host::queue::{Queue, QueueFault};
use crate::host::workload::IoCommand;
use crate::verbs::{LocalSegment, Port};

/// The queue takes no command now: it has as many outstanding as it was made for, or its connection is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// This CPU's I/O queues, numbered from 0.
pub struct IoQueues<'a, Q: Port> {
    pub(super) port: &'a mut Q,
    pub(super) queues: &'a mut Slab<Queue>,
    pub(super) names: &'a [Handle<Queue>],
    pub(super) keys: MemoryKeys,
    pub(super) data_region: RegionId,
    /// Longest in-capsule data; 0 where it is not used.
    pub(super) in_capsule_len: usize,
    pub(super) now_ns: u64,
    pub(super) faults: &'a mut Vec<(Handle<Queue>, QueueFault)>,
}

impl<Q: Port> IoQueues<'_, Q> {
    /// How many there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.names.len()
    }

    /// Commands that `queue` takes now.
    #[must_use]
    pub fn room(&self, queue: u16) -> usize {
        self.queues.look(self.names[usize::from(queue)]).map_or(0, Queue::room)
    }

    /// Submits one command; `tag` comes back with its end. Panics if the buffer is not of the CPU's data memory: a key covers no other.
    ///
    /// # Errors
    /// [`QueueFull`]; see [`Self::room`].
    pub fn submit(&mut self, queue: u16, tag: u64, io: &IoCommand) -> Result<(), QueueFull> {
        let name = self.names[usize::from(queue)];
        let Some(queue) = self.queues.look_mut(name).filter(|queue| queue.room() > 0) else {
            return Err(QueueFull);
        };
        let (data, in_capsule) = self.keys.locate(io, self.data_region, self.in_capsule_len);
        match queue.submit(self.port, self.now_ns, tag, |id| command(io, id, data), in_capsule) {
            Ok(()) => Ok(()),
            Err(fault) => {
                queue.break_off();
                self.faults.push((name, fault));
                Err(QueueFull)
            }
        }
    }
}

fn command(io: &IoCommand, id: u16, data: DataPointer) -> [u8; COMMAND_LEN] {
    let range = |slba, block_count| BlockRange::new(slba, block_count).expect("a command has 1 to 65536 blocks");
    match *io {
        IoCommand::Read { nsid, slba, block_count, .. } => host::read(id, nsid, range(slba, block_count), data),
        IoCommand::Write { nsid, slba, block_count, force_unit_access, .. } => {
            host::write(id, nsid, range(slba, block_count), force_unit_access, data)
        }
        IoCommand::Flush { nsid } => host::flush(id, nsid),
        IoCommand::Reservation { nsid, request, .. } => request.command(id, nsid, data),
        IoCommand::WriteZeroes { nsid, slba, block_count } => {
            host::write_zeroes(id, nsid, range(slba, block_count), false, false)
        }
        IoCommand::WriteUncorrectable { nsid, slba, block_count } => {
            host::write_uncorrectable(id, nsid, range(slba, block_count))
        }
    }
}

impl MemoryKeys {
    fn locate(self, io: &IoCommand, region: RegionId, in_capsule_len: usize) -> (DataPointer, Option<LocalSegment>) {
        let (buffer, is_write) = match *io {
            IoCommand::Read { buffer, .. } => (buffer, false),
            IoCommand::Write { buffer, .. } => (buffer, true),
            IoCommand::Reservation { request, buffer, .. } => (buffer, request.keys_len().is_some()),
            IoCommand::Flush { .. } | IoCommand::WriteZeroes { .. } | IoCommand::WriteUncorrectable { .. } => {
                return (DataPointer::None, None);
            }
        };
        assert_eq!(buffer.region(), region, "the buffer is not of the data memory");
        let len = u32::try_from(buffer.len()).ok().filter(|&len| len < 1 << 24).expect("a buffer of 16 MiB or more");
        if is_write && buffer.len() <= in_capsule_len {
            (
                DataPointer::InCapsule { offset: 0, len },
                Some(LocalSegment { memory: buffer, local_key: self.data.local_key }),
            )
        } else {
            (self.keyed(buffer, len), None)
        }
    }
}

impl MemoryKeys {
    /// `len` bytes at the start of a part of the data memory.
    pub(super) fn keyed(self, memory: Segment, len: u32) -> DataPointer {
        let buffer = RemoteBuffer { address: memory.address(), len, key: self.data.remote_key };
        DataPointer::Keyed { buffer, invalidate: false }
    }
}

/// How long in-capsule data of an I/O queue may be.
pub(super) fn in_capsule_len(wanted: bool, attached: &Attached) -> usize {
    if wanted { attached.in_capsule_len as usize } else { 0 }
}
