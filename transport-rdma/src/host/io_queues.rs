//! A CPU's I/O queues, as its workload sees them during one poll.

use nvmf_core::host::Attached;
use reactor::{Handle, RegionId, Slab};

use crate::host::command::{self, DataPointer};
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
        match queue.submit(self.port, self.now_ns, tag, command::io(io), data, in_capsule) {
            Ok(()) => Ok(()),
            Err(fault) => {
                queue.break_off();
                self.faults.push((name, fault));
                Err(QueueFull)
            }
        }
    }
}

impl MemoryKeys {
    fn locate(self, io: &IoCommand, region: RegionId, in_capsule_len: usize) -> (DataPointer, Option<LocalSegment>) {
        let (buffer, is_write) = match *io {
            IoCommand::Read { buffer, .. } => (buffer, false),
            IoCommand::Write { buffer, .. } => (buffer, true),
            IoCommand::Flush { .. } | IoCommand::WriteZeroes { .. } => return (DataPointer::None, None),
        };
        assert_eq!(buffer.region(), region, "the buffer is not of the data memory");
        let len = u32::try_from(buffer.len()).ok().filter(|&len| len < 1 << 24).expect("a buffer of 16 MiB or more");
        if is_write && buffer.len() <= in_capsule_len {
            (DataPointer::InCapsule { len }, Some(LocalSegment { memory: buffer, local_key: self.data.local_key }))
        } else {
            (DataPointer::Keyed { address: buffer.address(), len, key: self.data.remote_key }, None)
        }
    }
}

/// How long in-capsule data of an I/O queue may be.
pub(super) fn in_capsule_len(wanted: bool, attached: &Attached) -> usize {
    if wanted { attached.in_capsule_len as usize } else { 0 }
}
