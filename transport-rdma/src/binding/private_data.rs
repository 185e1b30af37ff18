//! The private data of the connection manager's REQUEST, ACCEPT and REJECT [NVMe RDMA Transport 1.0, 3.1]: little endian, record format 0.
//!
//! What a peer sent is parsed here and nowhere else. Lengths: the connection manager hands over at least what was sent and pads with
//! zeroes, so longer is legal and only shorter is not.

use std::fmt;

/// The only record format there is.
const RECORD_FORMAT: u16 = 0;

/// Why private data cannot be used: each has one status that a REJECT names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum PrivateDataError {
    /// Fewer bytes than the record has.
    #[error("private data of {len} bytes, at least {needed} are needed")]
    TooShort {
        /// What came.
        len: usize,
        /// What the record has.
        needed: usize,
    },
    /// Another record format than 0.
    #[error("record format {0}, only 0 is known")]
    RecordFormat(u16),
    /// A queue of no entries, or a submission queue of one.
    #[error("host send queue size {0} (zero-based), at least 1 is needed")]
    SendQueueSize(u16),
    /// No receives for responses.
    #[error("host receive queue size {0}, at least 1 is needed")]
    ReceiveQueueSize(u16),
}

impl PrivateDataError {
    /// What the REJECT says.
    #[must_use]
    pub fn status(self) -> RejectStatus {
        match self {
            Self::TooShort { .. } => RejectStatus::InvalidLength,
            Self::RecordFormat(_) => RejectStatus::InvalidRecordFormat,
            Self::SendQueueSize(_) => RejectStatus::InvalidSendQueueSize,
            Self::ReceiveQueueSize(_) => RejectStatus::InvalidReceiveQueueSize,
        }
    }
}

/// The STS field of a REJECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum RejectStatus {
    /// Private data too short.
    InvalidLength = 1,
    /// Unknown record format.
    InvalidRecordFormat = 2,
    /// Queue id beyond what the target offers.
    InvalidQueueId = 3,
    /// HSQSIZE out of range.
    InvalidSendQueueSize = 4,
    /// HRQSIZE out of range.
    InvalidReceiveQueueSize = 5,
    /// No resources: try again later, or elsewhere.
    NoResources = 6,
    /// The host answers no RDMA READs (its inbound read depth).
    InvalidInboundReadDepth = 7,
    /// The host's outbound read depth.
    InvalidOutboundReadDepth = 8,
    /// The controller id.
    InvalidControllerId = 9,
}

impl RejectStatus {
    /// Every status, in the order of their numbers, which start at 1.
    pub const ALL: [Self; 9] = [
        Self::InvalidLength,
        Self::InvalidRecordFormat,
        Self::InvalidQueueId,
        Self::InvalidSendQueueSize,
        Self::InvalidReceiveQueueSize,
        Self::NoResources,
        Self::InvalidInboundReadDepth,
        Self::InvalidOutboundReadDepth,
        Self::InvalidControllerId,
    ];

    /// A word for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidLength => "invalid_length",
            Self::InvalidRecordFormat => "invalid_record_format",
            Self::InvalidQueueId => "invalid_queue_id",
            Self::InvalidSendQueueSize => "invalid_send_queue_size",
            Self::InvalidReceiveQueueSize => "invalid_receive_queue_size",
            Self::NoResources => "no_resources",
            Self::InvalidInboundReadDepth => "invalid_inbound_read_depth",
            Self::InvalidOutboundReadDepth => "invalid_outbound_read_depth",
            Self::InvalidControllerId => "invalid_controller_id",
        }
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// `None` for a number that the specification reserves.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.number() == number)
    }
}

impl fmt::Display for RejectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the host says when it connects: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestData {
    /// 0 for the admin queue.
    pub queue_id: u16,
    /// HRQSIZE, a count: receives that the host has for responses.
    pub receive_queue_size: u16,
    /// HSQSIZE, zero-based: the submission queue's entries less one.
    pub send_queue_size_zero_based: u16,
    /// CNTLID: the controller that an I/O queue is for; reserved in older hosts, which send 0.
    pub controller_id: u16,
}

impl RequestData {
    /// Bytes on the wire.
    pub const LEN: usize = 32;

    /// Checks what needs no knowledge of the target.
    ///
    /// # Errors
    /// [`PrivateDataError`]; its status belongs into the REJECT.
    pub fn parse(bytes: &[u8]) -> Result<Self, PrivateDataError> {
        check(bytes, Self::LEN)?;
        let data = Self {
            queue_id: u16_at(bytes, 2),
            receive_queue_size: u16_at(bytes, 4),
            send_queue_size_zero_based: u16_at(bytes, 6),
            controller_id: u16_at(bytes, 8),
        };
        // A submission queue has at least two entries [NVMe 1.4, 4.1.3: a queue of one entry cannot hold a command].
        if data.send_queue_size_zero_based == 0 {
            return Err(PrivateDataError::SendQueueSize(0));
        }
        if data.receive_queue_size == 0 {
            return Err(PrivateDataError::ReceiveQueueSize(0));
        }
        Ok(data)
    }

    /// What goes into the REQUEST.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0..2].copy_from_slice(&RECORD_FORMAT.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.queue_id.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.receive_queue_size.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.send_queue_size_zero_based.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.controller_id.to_le_bytes());
        bytes
    }

    /// Commands that the host may have outstanding, a count: it needs an entry to send each and a receive for each response.
    #[must_use]
    pub fn depth(self) -> u32 {
        (u32::from(self.send_queue_size_zero_based) + 1).min(u32::from(self.receive_queue_size))
    }
}

/// What the target says when it accepts: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptData {
    /// CRQSIZE, a count: receives that the target has for commands.
    pub receive_queue_size: u16,
}

impl AcceptData {
    /// Bytes on the wire.
    pub const LEN: usize = 32;

    /// What the target said.
    ///
    /// # Errors
    /// [`PrivateDataError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PrivateDataError> {
        check(bytes, Self::LEN)?;
        Ok(Self { receive_queue_size: u16_at(bytes, 2) })
    }

    /// What goes into the ACCEPT.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0..2].copy_from_slice(&RECORD_FORMAT.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.receive_queue_size.to_le_bytes());
        bytes
    }
}

/// What the target says when it refuses: 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectData {
    /// STS as it stands on the wire: see [`RejectStatus::from_number`].
    pub status: u16,
}

impl RejectData {
    /// Bytes on the wire.
    pub const LEN: usize = 4;

    /// What the target said.
    ///
    /// # Errors
    /// [`PrivateDataError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PrivateDataError> {
        check(bytes, Self::LEN)?;
        Ok(Self { status: u16_at(bytes, 2) })
    }

    /// What goes into the REJECT.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0..2].copy_from_slice(&RECORD_FORMAT.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.status.to_le_bytes());
        bytes
    }
}

/// Length and record format, which all three records begin with.
fn check(bytes: &[u8], needed: usize) -> Result<(), PrivateDataError> {
    if bytes.len() < needed {
        return Err(PrivateDataError::TooShort { len: bytes.len(), needed });
    }
    match u16_at(bytes, 0) {
        RECORD_FORMAT => Ok(()),
        other => Err(PrivateDataError::RecordFormat(other)),
    }
}

/// Callers have checked the length.
fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 12] = [0, 0, 3, 0, 128, 0, 127, 0, 0xFE, 0xFF, 0, 0];

    fn request() -> Vec<u8> {
        let mut bytes = REQUEST.to_vec();
        bytes.resize(RequestData::LEN, 0);
        bytes
    }

    #[test]
    fn a_request_is_read_from_real_bytes_and_written_back() {
        let data = RequestData::parse(&request()).unwrap();
        assert_eq!(
            data,
            RequestData {
                queue_id: 3,
                receive_queue_size: 128,
                send_queue_size_zero_based: 127,
                controller_id: 0xFFFE
            }
        );
        assert_eq!(data.depth(), 128);
        assert_eq!(data.to_bytes().to_vec(), request());
        let mut padded = request();
        padded.resize(56, 0xAA);
        assert_eq!(RequestData::parse(&padded), Ok(data));
    }

    #[test]
    fn every_broken_request_has_its_status() {
        let status = |bytes: &[u8]| RequestData::parse(bytes).unwrap_err().status();
        assert_eq!(status(&[]), RejectStatus::InvalidLength);
        assert_eq!(status(&request()[..31]), RejectStatus::InvalidLength);
        let changed = |at: usize, value: u8| {
            let mut bytes = request();
            bytes[at] = value;
            bytes
        };
        assert_eq!(status(&changed(1, 1)), RejectStatus::InvalidRecordFormat);
        assert_eq!(status(&changed(6, 0)), RejectStatus::InvalidSendQueueSize);
        assert_eq!(status(&changed(4, 0)), RejectStatus::InvalidReceiveQueueSize);
    }

    #[test]
    fn the_largest_zero_based_size_does_not_wrap() {
        let data = RequestData {
            queue_id: 1,
            receive_queue_size: u16::MAX,
            send_queue_size_zero_based: u16::MAX,
            controller_id: 0,
        };
        assert_eq!(data.depth(), 65_535);
    }

    #[test]
    fn accept_and_reject_round_trip() {
        let accept = AcceptData { receive_queue_size: 0x1234 };
        assert_eq!(accept.to_bytes()[..4], [0, 0, 0x34, 0x12]);
        assert_eq!(AcceptData::parse(&accept.to_bytes()), Ok(accept));
        for status in RejectStatus::ALL {
            let reject = RejectData { status: status.number() };
            assert_eq!(RejectData::parse(&reject.to_bytes()), Ok(reject));
            assert_eq!(RejectStatus::from_number(reject.status), Some(status));
        }
        assert_eq!(RejectStatus::from_number(0), None);
        assert_eq!(RejectStatus::from_number(10), None);
    }
}
