//! Commands as the kernel takes them: `struct nvme_uring_cmd` of Linux's `nvme_ioctl.h`, which is also its `nvme_passthru_cmd` without the result.

use reactor::Segment;

/// Bytes of the structure.
pub(super) const LEN: usize = 72;

/// Force Unit Access, in CDW12 [NVM Command Set 1.0, 3.2.6].
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Deallocate, in CDW12 of Write Zeroes [NVM Command Set 1.0, 3.2.8].
const DEALLOCATE: u32 = 1 << 25;
/// Attribute: deallocate, in CDW11 of Dataset Management [NVM Command Set 1.0, 3.2.3].
const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;

/// Bytes of a range of Dataset Management [NVM Command Set 1.0, 3.2.3].
pub(super) const RANGE_LEN: usize = 16;

/// An I/O command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Blocks into memory.
    Read { start: u64, count: u32, into: Segment },
    /// Memory into blocks.
    Write { start: u64, count: u32, from: Segment, durable: bool },
    /// The same of zeroes, for drives that cannot write them by themselves.
    WriteOfZeroes { start: u64, count: u32, durable: bool },
    /// Blocks of zeroes.
    WriteZeroes { start: u64, count: u32, deallocate: bool, durable: bool },
    /// One range is deallocated; it is told in memory.
    Deallocate { start: u64, count: u32 },
    /// Blocks that cannot be read.
    WriteUncorrectable { start: u64, count: u32 },
    /// All that was written is durable.
    Flush,
}

/// Makes the kernel's structure. `memory` is a command's data, where it has any.
pub(super) fn encode(nsid: u32, command: Command, memory: Option<Segment>) -> [u8; LEN] {
    // [NVM Command Set 1.0, 3.2] and, for Flush, [NVMe Base 2.0, 7].
    let (opcode, start, count, flags) = match command {
        Command::Flush => (0x00, 0, 0, 0),
        Command::Write { start, count, durable, .. } | Command::WriteOfZeroes { start, count, durable } => {
            (0x01, start, count, if durable { FORCE_UNIT_ACCESS } else { 0 })
        }
        Command::Read { start, count, .. } => (0x02, start, count, 0),
        Command::WriteUncorrectable { start, count } => (0x04, start, count, 0),
        Command::WriteZeroes { start, count, deallocate, durable } => {
            let flags = if durable { FORCE_UNIT_ACCESS } else { 0 } | if deallocate { DEALLOCATE } else { 0 };
            (0x08, start, count, flags)
        }
        Command::Deallocate { .. } => (0x09, 0, 0, 0),
    };
    let mut bytes = [0; LEN];
    bytes[0] = opcode;
    put(&mut bytes, 4, nsid);
    if let Some(memory) = memory {
        bytes[24..32].copy_from_slice(&memory.address().to_ne_bytes());
        put(&mut bytes, 36, u32::try_from(memory.len()).unwrap_or(u32::MAX));
    }
    let [low, high] = halves(start);
    match command {
        Command::Flush => {}
        // One range: the number is zero-based.
        Command::Deallocate { .. } => put(&mut bytes, 44, ATTRIBUTE_DEALLOCATE),
        Command::Read { .. }
        | Command::Write { .. }
        | Command::WriteOfZeroes { .. }
        | Command::WriteZeroes { .. }
        | Command::WriteUncorrectable { .. } => {
            put(&mut bytes, 40, low);
            put(&mut bytes, 44, high);
            put(&mut bytes, 48, count.saturating_sub(1) | flags);
        }
    }
    bytes
}

/// The range of Dataset Management.
pub(super) fn range(start: u64, count: u32) -> [u8; RANGE_LEN] {
    let mut bytes = [0; RANGE_LEN];
    bytes[4..8].copy_from_slice(&count.to_le_bytes());
    bytes[8..16].copy_from_slice(&start.to_le_bytes());
    bytes
}

/// Identify, as the kernel's administrative call takes it: with room for the result, which is not looked at.
pub(super) fn identify(nsid: u32, cns: u32, address: u64, len: u32) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0] = 0x06;
    put(&mut bytes, 4, nsid);
    bytes[24..32].copy_from_slice(&address.to_ne_bytes());
    put(&mut bytes, 36, len);
    put(&mut bytes, 40, cns);
    bytes
}

fn halves(start: u64) -> [u32; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
    [start as u32, (start >> 32) as u32]
}

/// The kernel's own byte order: it makes the drive's of it.
fn put(bytes: &mut [u8; LEN], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use reactor::Arena;

    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn fields_are_where_the_kernel_looks_for_them() {
        let data = Arena::new(4096, false).unwrap().segment().part(0, 4096);
        let start = 0x0000_0001_8000_0007;
        let write = encode(5, Command::Write { start, count: 8, from: data, durable: true }, Some(data));
        assert_eq!((write[0], word(&write, 4)), (1, 5));
        assert_eq!(u64::from_le_bytes(write[24..32].try_into().unwrap()), data.address());
        assert_eq!([36, 40, 44, 48].map(|at| word(&write, at)), [4096, 0x8000_0007, 1, 7 | 1 << 30]);
        assert!(write[52..].iter().chain(&write[8..24]).all(|byte| *byte == 0));
        let read = encode(5, Command::Read { start, count: 1 << 16, into: data }, Some(data));
        assert_eq!((read[0], word(&read, 48)), (2, 0xFFFF));
        let zeroes = encode(5, Command::WriteZeroes { start, count: 1, deallocate: true, durable: false }, None);
        assert_eq!((zeroes[0], word(&zeroes, 36), word(&zeroes, 48)), (8, 0, 1 << 25));
        let bad = encode(5, Command::WriteUncorrectable { start, count: 2 }, None);
        assert_eq!((bad[0], word(&bad, 48)), (4, 1));
        let flush = encode(5, Command::Flush, None);
        assert!(flush[0] == 0 && word(&flush, 4) == 5 && flush[8..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_deallocation_has_its_range_in_memory() {
        let memory = Arena::new(4096, false).unwrap().segment().part(16, RANGE_LEN);
        let bytes = encode(1, Command::Deallocate { start: 9, count: 3 }, Some(memory));
        assert_eq!((bytes[0], [36, 40, 44, 48].map(|at| word(&bytes, at))), (9, [16, 0, 4, 0]));
        assert_eq!(range(9, 3), [0, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn identify_names_its_page() {
        let bytes = identify(3, 6, 0x1000, 4096);
        assert_eq!((bytes[0], [4, 36, 40].map(|at| word(&bytes, at))), (6, [3, 4096, 6]));
    }
}
