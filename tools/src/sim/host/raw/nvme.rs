//! The few bytes of NVMe and of its RDMA binding that the raw host needs, written by hand: the host shares no code with what it tests.

use crate::sim::host::model::Extent;

/// Bytes of a command without data.
pub(super) const COMMAND_LEN: usize = 64;
/// Bytes of a response.
pub(super) const RESPONSE_LEN: usize = 16;
/// Bytes of Connect's data.
pub(super) const CONNECT_DATA_LEN: usize = 1024;
/// Bytes of Identify's data.
pub(super) const IDENTIFY_LEN: usize = 4096;

/// Controller id that asks for any.
pub(super) const ANY_CONTROLLER: u16 = 0xFFFF;
/// Property: controller configuration.
pub(super) const CC: u32 = 0x14;
/// Property: controller status.
pub(super) const CSTS: u32 = 0x1C;
/// Enabled; entries of 64 and 16 bytes.
pub(super) const CC_ENABLE: u64 = 0x0046_0001;
/// The same, and a normal shutdown is announced.
pub(super) const CC_SHUT_DOWN: u64 = CC_ENABLE | 1 << 14;

/// Statuses as code type and code, without their other bits.
pub mod status {
    /// It did what it should.
    pub const SUCCESS: u16 = 0;
    /// It was aborted by an Abort.
    pub const ABORT_REQUESTED: u16 = 0x07;
    /// The other command of its pair failed.
    pub const FUSED_FAILED: u16 = 0x09;
    /// The other command of its pair is missing.
    pub const FUSED_MISSING: u16 = 0x0A;
    /// There is no such namespace, for this host.
    pub const INVALID_NAMESPACE: u16 = 0x0B;
    /// It was aborted by a Preempt and Abort.
    pub const ABORTED_PREEMPT: u16 = 0x1B;
    /// Beyond the end of the namespace.
    pub const OUT_OF_RANGE: u16 = 0x80;
    /// The namespace is not ready.
    pub const NAMESPACE_NOT_READY: u16 = 0x82;
    /// Somebody's reservation is in the way.
    pub const RESERVATION_CONFLICT: u16 = 0x83;
    /// What was asked for could not be written down.
    pub const INTERNAL_ERROR: u16 = 0x06;
    /// An SGL descriptor's type is none.
    pub const SGL_TYPE_INVALID: u16 = 0x11;
    /// Try again later: Connect.
    pub const CONTROLLER_BUSY: u16 = 0x181;
    /// The medium failed while writing.
    pub const WRITE_FAULT: u16 = 0x280;
    /// The medium failed while reading.
    pub const READ_ERROR: u16 = 0x281;
    /// The blocks hold something else.
    pub const COMPARE_FAILURE: u16 = 0x285;
    /// The namespace's ANA group is lost on this path.
    pub const ANA_PERSISTENT_LOSS: u16 = 0x301;
    /// It is inaccessible on this path.
    pub const ANA_INACCESSIBLE: u16 = 0x302;
    /// It changes.
    pub const ANA_TRANSITION: u16 = 0x303;
}

/// 64 bytes with opcode, command id, namespace and an SGL in place.
fn command(opcode: u8, cid: u16, nsid: u32, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = [0; COMMAND_LEN];
    bytes[0] = opcode;
    bytes[1] = 0x40;
    bytes[2..4].copy_from_slice(&cid.to_le_bytes());
    bytes[4..8].copy_from_slice(&nsid.to_le_bytes());
    bytes[24..40].copy_from_slice(&sgl);
    bytes
}

/// Keyed SGL data block.
pub(super) fn keyed(address: u64, len: u32, key: u32) -> [u8; 16] {
    let mut sgl = [0; 16];
    sgl[..8].copy_from_slice(&address.to_le_bytes());
    sgl[8..11].copy_from_slice(&len.to_le_bytes()[..3]);
    sgl[11..15].copy_from_slice(&key.to_le_bytes());
    sgl[15] = 0x40;
    sgl
}

/// In-capsule data right after the command.
pub(super) fn in_capsule(len: u32) -> [u8; 16] {
    let mut sgl = [0; 16];
    sgl[8..12].copy_from_slice(&len.to_le_bytes());
    sgl[15] = 0x01;
    sgl
}

/// A descriptor of a type that does not exist.
pub(super) fn no_sgl() -> [u8; 16] {
    let mut sgl = [0; 16];
    sgl[15] = 0xE7;
    sgl
}

pub(super) fn connect(cid: u16, qid: u16, depth: u16, keep_alive_ms: u32, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = command(0x7F, cid, 0, sgl);
    bytes[4] = 0x01;
    bytes[42..44].copy_from_slice(&qid.to_le_bytes());
    bytes[44..46].copy_from_slice(&(depth - 1).to_le_bytes());
    bytes[48..52].copy_from_slice(&keep_alive_ms.to_le_bytes());
    bytes
}

/// `host` is 1 to 255.
pub(super) fn connect_data(subsystem: &str, controller_id: u16, host: u8) -> [u8; CONNECT_DATA_LEN] {
    let mut data = [0; CONNECT_DATA_LEN];
    data[..16].copy_from_slice(&[host; 16]);
    data[16..18].copy_from_slice(&controller_id.to_le_bytes());
    data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
    let nqn = format!("nqn.2026-01.org.quiesce:host{host}");
    data[512..512 + nqn.len()].copy_from_slice(nqn.as_bytes());
    data
}

pub(super) fn property_set(cid: u16, offset: u32, value: u64) -> [u8; COMMAND_LEN] {
    let mut bytes = command(0x7F, cid, 0, [0; 16]);
    bytes[44..48].copy_from_slice(&offset.to_le_bytes());
    bytes[48..56].copy_from_slice(&value.to_le_bytes());
    bytes
}

pub(super) fn property_get(cid: u16, offset: u32) -> [u8; COMMAND_LEN] {
    let mut bytes = command(0x7F, cid, 0, [0; 16]);
    bytes[4] = 0x04;
    bytes[44..48].copy_from_slice(&offset.to_le_bytes());
    bytes
}

pub(super) fn identify_controller(cid: u16, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = command(0x06, cid, 0, sgl);
    bytes[40] = 1;
    bytes
}

/// Set Features: so many I/O queues.
pub(super) fn queue_count(cid: u16, count: u16) -> [u8; COMMAND_LEN] {
    let zero_based = u32::from(count.max(1) - 1);
    let mut bytes = command(0x09, cid, 0, [0; 16]);
    bytes[40] = 7;
    bytes[44..48].copy_from_slice(&(zero_based | zero_based << 16).to_le_bytes());
    bytes
}

pub(super) fn async_event_request(cid: u16) -> [u8; COMMAND_LEN] {
    command(0x0C, cid, 0, [0; 16])
}

pub(super) fn keep_alive(cid: u16) -> [u8; COMMAND_LEN] {
    command(0x18, cid, 0, [0; 16])
}

pub(super) fn abort(cid: u16, sqid: u16, aborted: u16) -> [u8; COMMAND_LEN] {
    let mut bytes = command(0x08, cid, 0, [0; 16]);
    bytes[40..42].copy_from_slice(&sqid.to_le_bytes());
    bytes[42..44].copy_from_slice(&aborted.to_le_bytes());
    bytes
}

pub(super) fn identify_namespace(cid: u16, nsid: u32, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    command(0x06, cid, nsid, sgl)
}

/// Get Log Page, this many bytes of it. The event is not retained.
pub(super) fn log_page(cid: u16, log: u8, len: u32, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = command(0x02, cid, 0, sgl);
    bytes[40] = log;
    bytes[42..44].copy_from_slice(&(len / 4 - 1).to_le_bytes()[..2]);
    bytes
}

pub(super) fn flush(cid: u16, nsid: u32) -> [u8; COMMAND_LEN] {
    command(0x00, cid, nsid, [0; 16])
}

pub(super) fn read(cid: u16, extent: Extent, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    on_blocks(0x02, cid, extent, sgl)
}

pub(super) fn write(cid: u16, extent: Extent, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    on_blocks(0x01, cid, extent, sgl)
}

pub(super) fn write_zeroes(cid: u16, extent: Extent) -> [u8; COMMAND_LEN] {
    on_blocks(0x08, cid, extent, [0; 16])
}

pub(super) fn compare(cid: u16, extent: Extent, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    on_blocks(0x05, cid, extent, sgl)
}

/// A command becomes the first, or the second, of a pair.
pub(super) fn fused(mut bytes: [u8; COMMAND_LEN], is_first: bool) -> [u8; COMMAND_LEN] {
    bytes[1] |= if is_first { 1 } else { 2 };
    bytes
}

fn on_blocks(opcode: u8, cid: u16, extent: Extent, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = command(opcode, cid, extent.nsid(), sgl);
    bytes[40..48].copy_from_slice(&extent.start_block().to_le_bytes());
    bytes[48..50].copy_from_slice(&(extent.count - 1).to_le_bytes());
    bytes
}

/// A reservation command; `word` is CDW10.
pub(super) fn reservation(opcode: u8, cid: u16, nsid: u32, word: u32, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = command(opcode, cid, nsid, sgl);
    bytes[40..44].copy_from_slice(&word.to_le_bytes());
    bytes
}

/// Reservation Report with 128-bit host identifiers, this many bytes of it.
pub(super) fn reservation_report(cid: u16, nsid: u32, len: u32, sgl: [u8; 16]) -> [u8; COMMAND_LEN] {
    let mut bytes = reservation(0x0E, cid, nsid, len / 4 - 1, sgl);
    bytes[44] = 1;
    bytes
}

/// A completion entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) result: u32,
    pub(super) cid: u16,
    /// Code type and code: see [`status`].
    pub(super) status: u16,
}

impl Response {
    pub(super) fn parse(bytes: [u8; RESPONSE_LEN]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let result = u32::from(word(0)) | u32::from(word(2)) << 16;
        Self { result, cid: word(12), status: word(14) >> 1 & 0x07FF }
    }
}

/// What the connection request says: record format 0, queue id, receives, send queue entries (zero-based), controller id.
pub(super) fn connection_request(qid: u16, depth: u16) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[2..4].copy_from_slice(&qid.to_le_bytes());
    bytes[4..6].copy_from_slice(&depth.to_le_bytes());
    bytes[6..8].copy_from_slice(&(depth - 1).to_le_bytes());
    bytes
}

/// The status in a rejection's private data; 0 if there is none.
pub(super) fn reject_status(bytes: &[u8]) -> u16 {
    match bytes {
        [0, 0, low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}
