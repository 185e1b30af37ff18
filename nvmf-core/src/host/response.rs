//! A response as the host reads it.

use crate::status::Status;
use crate::wire::CompletionEntry;

/// A response as the host reads it. Any 16 bytes are one: whether `command_id` is one that is out is the queue's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCompletion {
    /// Which command.
    pub command_id: u16,
    /// How far the controller has fetched; 0xFFFF where SQ flow control is off.
    pub sq_head: u16,
    /// How it ended.
    pub status: Status,
    /// DW0 and DW1.
    pub result: u64,
}

impl HostCompletion {
    /// Reads all fields.
    #[must_use]
    pub const fn parse(bytes: &[u8; 16]) -> Self {
        let entry = CompletionEntry::from_bytes(*bytes);
        Self {
            command_id: entry.command_id.get(),
            sq_head: entry.sq_head.get(),
            status: entry.status(),
            result: entry.result.get(),
        }
    }

    /// DW0.
    #[must_use]
    pub const fn dword0(&self) -> u32 {
        let [a, b, c, d, ..] = self.result.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_bytes() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0xEE, 0xEE, 0x34, 0x12, 0x05, 0x80];
        let completion = HostCompletion::parse(&bytes);
        assert_eq!(completion.command_id, 0x1234);
        assert_eq!(completion.sq_head, 9);
        // The phase tag means nothing over fabrics.
        assert_eq!(completion.status, Status::INVALID_FIELD);
        assert_eq!(completion.result, 0x0807_0605_0403_0201);
        assert_eq!(completion.dword0(), 0x0403_0201);
    }
}
