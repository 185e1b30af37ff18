//! I/O commands as 64 bytes, and the SGL descriptors that a transport fills into commands.

use nvmf_core::status::Status;

use crate::binding::{COMMAND_LEN, RESPONSE_LEN};
use crate::host::workload::IoCommand;

/// Most blocks of one command: the field is 16 bits and zero-based [NVM Command Set 1.0, 3.2.4].
pub(super) const BLOCK_COUNT_MAX: u32 = 1 << 16;

/// Command Dword 0: flags. SGLs are used, metadata pointer included [NVMe over Fabrics 1.1, 2.1: PSDT is 01b or 10b].
const FLAGS_SGL: u8 = 0b01 << 6;
const COMMAND_ID: std::ops::Range<usize> = 2..4;
const NAMESPACE_ID: std::ops::Range<usize> = 4..8;
const SGL: std::ops::Range<usize> = 24..40;
const SLBA: std::ops::Range<usize> = 40..48;
const BLOCK_COUNT_ZERO_BASED: std::ops::Range<usize> = 48..50;

/// Where a command's data is, as its SGL descriptor says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataPointer {
    /// There is none.
    None,
    /// In our memory, under a key: keyed SGL data block, address subtype [NVMe Base 2.0, 4.1.2.1, type 4h].
    Keyed { address: u64, len: u32, key: u32 },
    /// Right behind the command: SGL data block, offset subtype, offset 0 (ICDOFF is 0 on RDMA) [type 0h, subtype 1h].
    InCapsule { len: u32 },
}

/// Fills the command identifier and the SGL descriptor into a command.
pub(super) fn fill(command: &mut [u8; COMMAND_LEN], command_id: u16, data: DataPointer) {
    command[1] = (command[1] & 0x3F) | FLAGS_SGL;
    command[COMMAND_ID].copy_from_slice(&command_id.to_le_bytes());
    command[SGL].copy_from_slice(&descriptor(data));
}

fn descriptor(data: DataPointer) -> [u8; 16] {
    let mut bytes = [0; 16];
    match data {
        // A keyed descriptor of length 0 says "no data" to targets that look at the type before the opcode.
        DataPointer::None => bytes[15] = 0x40,
        DataPointer::Keyed { address, len, key } => {
            bytes[..8].copy_from_slice(&address.to_le_bytes());
            // Three bytes of length: transfers are bounded far below 16 MiB by the caller.
            bytes[8..11].copy_from_slice(&len.to_le_bytes()[..3]);
            bytes[11..15].copy_from_slice(&key.to_le_bytes());
            bytes[15] = 0x40;
        }
        DataPointer::InCapsule { len } => {
            bytes[8..12].copy_from_slice(&len.to_le_bytes());
            bytes[15] = 0x01;
        }
    }
    bytes
}

/// An I/O command, without identifier and SGL.
pub(super) fn io(command: &IoCommand) -> [u8; COMMAND_LEN] {
    let (opcode, nsid, range) = match *command {
        IoCommand::Flush { nsid } => (0x00, nsid, None),
        IoCommand::Write { nsid, slba, block_count, .. } => (0x01, nsid, Some((slba, block_count))),
        IoCommand::Read { nsid, slba, block_count, .. } => (0x02, nsid, Some((slba, block_count))),
        IoCommand::WriteZeroes { nsid, slba, block_count } => (0x08, nsid, Some((slba, block_count))),
    };
    let mut bytes = [0; COMMAND_LEN];
    bytes[0] = opcode;
    bytes[NAMESPACE_ID].copy_from_slice(&nsid.to_le_bytes());
    if let Some((slba, block_count)) = range {
        assert!((1..=BLOCK_COUNT_MAX).contains(&block_count), "a command of {block_count} blocks");
        bytes[SLBA].copy_from_slice(&slba.to_le_bytes());
        bytes[BLOCK_COUNT_ZERO_BASED].copy_from_slice(&(block_count - 1).to_le_bytes()[..2]);
    }
    bytes
}

/// A response capsule's fields that a transport needs [NVMe Base 2.0, 3.3.3.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) command_id: u16,
    pub(super) status: Status,
}

impl Response {
    pub(super) fn parse(bytes: &[u8; RESPONSE_LEN]) -> Self {
        Self {
            command_id: u16::from_le_bytes([bytes[12], bytes[13]]),
            status: Status::from_field(u16::from_le_bytes([bytes[14], bytes[15]])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_eight_blocks_in_bytes() {
        let mut bytes = io(&IoCommand::WriteZeroes { nsid: 3, slba: 0x0102_0304_0506, block_count: 8 });
        fill(&mut bytes, 0x1234, DataPointer::Keyed { address: 0x7F00_1000, len: 0x1_2345, key: 0xAABB_CCDD });
        let mut expected = [0; 64];
        expected[0] = 0x08;
        expected[1] = 0x40;
        expected[2..4].copy_from_slice(&[0x34, 0x12]);
        expected[4] = 3;
        expected[24..32].copy_from_slice(&[0x00, 0x10, 0x00, 0x7F, 0, 0, 0, 0]);
        expected[32..35].copy_from_slice(&[0x45, 0x23, 0x01]);
        expected[35..39].copy_from_slice(&[0xDD, 0xCC, 0xBB, 0xAA]);
        expected[39] = 0x40;
        expected[40..48].copy_from_slice(&[6, 5, 4, 3, 2, 1, 0, 0]);
        expected[48] = 7;
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_most_blocks_fit_the_field_and_in_capsule_data_is_an_offset_descriptor() {
        let mut bytes = io(&IoCommand::WriteZeroes { nsid: 1, slba: 0, block_count: BLOCK_COUNT_MAX });
        assert_eq!(bytes[48..52], [0xFF, 0xFF, 0, 0]);
        fill(&mut bytes, 0, DataPointer::InCapsule { len: 4096 });
        assert_eq!(bytes[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x01]);
    }

    #[test]
    fn a_response_loses_its_phase_tag() {
        let mut bytes = [0; 16];
        bytes[12..16].copy_from_slice(&[0x05, 0x80, 0x05, 0x80]);
        let status = Status::from_field(0x8004);
        assert!(status.do_not_retry() && status.code() == 2);
        assert_eq!(Response::parse(&bytes), Response { command_id: 0x8005, status });
    }
}
