//! The few bytes of NVMe that the raw host needs, written by hand so that the tests share no code with what they test.

/// 64 bytes with opcode, command id, namespace and an SGL in place.
fn command(opcode: u8, cid: u16, nsid: u32, sgl: [u8; 16]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[0] = opcode;
    bytes[1] = 0x40;
    bytes[2..4].copy_from_slice(&cid.to_le_bytes());
    bytes[4..8].copy_from_slice(&nsid.to_le_bytes());
    bytes[24..40].copy_from_slice(&sgl);
    bytes
}

/// Keyed SGL data block; with invalidation if `invalidate`.
pub fn keyed(address: u64, len: u32, key: u32, invalidate: bool) -> [u8; 16] {
    let mut sgl = [0; 16];
    sgl[..8].copy_from_slice(&address.to_le_bytes());
    sgl[8..11].copy_from_slice(&len.to_le_bytes()[..3]);
    sgl[11..15].copy_from_slice(&key.to_le_bytes());
    sgl[15] = if invalidate { 0x4F } else { 0x40 };
    sgl
}

/// In-capsule data right after the command.
pub fn in_capsule(len: u32) -> [u8; 16] {
    let mut sgl = [0; 16];
    sgl[8..12].copy_from_slice(&len.to_le_bytes());
    sgl[15] = 0x01;
    sgl
}

pub fn connect(cid: u16, qid: u16, depth: u16, keep_alive_ms: u32, sgl: [u8; 16]) -> [u8; 64] {
    let mut bytes = command(0x7F, cid, 0, sgl);
    bytes[4] = 0x01;
    bytes[42..44].copy_from_slice(&qid.to_le_bytes());
    bytes[44..46].copy_from_slice(&(depth - 1).to_le_bytes());
    bytes[48..52].copy_from_slice(&keep_alive_ms.to_le_bytes());
    bytes
}

pub fn connect_data(subsystem: &str, controller_id: u16, host: u8) -> [u8; 1024] {
    let mut data = [0; 1024];
    data[..16].copy_from_slice(&[host; 16]);
    data[16..18].copy_from_slice(&controller_id.to_le_bytes());
    data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
    let nqn = format!("nqn.2026-01.org.quiesce:host{host}");
    data[512..512 + nqn.len()].copy_from_slice(nqn.as_bytes());
    data
}

pub fn property_set(cid: u16, offset: u32, value: u64) -> [u8; 64] {
    let mut bytes = command(0x7F, cid, 0, [0; 16]);
    bytes[44..48].copy_from_slice(&offset.to_le_bytes());
    bytes[48..56].copy_from_slice(&value.to_le_bytes());
    bytes
}

pub fn property_get(cid: u16, offset: u32) -> [u8; 64] {
    let mut bytes = command(0x7F, cid, 0, [0; 16]);
    bytes[4] = 0x04;
    bytes[44..48].copy_from_slice(&offset.to_le_bytes());
    bytes
}

pub fn identify_controller(cid: u16, sgl: [u8; 16]) -> [u8; 64] {
    let mut bytes = command(0x06, cid, 0, sgl);
    bytes[40] = 1;
    bytes
}

pub fn queue_count(cid: u16, count: u32) -> [u8; 64] {
    let mut bytes = command(0x09, cid, 0, [0; 16]);
    bytes[40] = 7;
    bytes[44..48].copy_from_slice(&((count - 1) | (count - 1) << 16).to_le_bytes());
    bytes
}

pub fn async_event_request(cid: u16) -> [u8; 64] {
    command(0x0C, cid, 0, [0; 16])
}

pub fn transfer(write: bool, cid: u16, start_block: u64, block_count: u16, sgl: [u8; 16]) -> [u8; 64] {
    let mut bytes = command(if write { 1 } else { 2 }, cid, 1, sgl);
    bytes[40..48].copy_from_slice(&start_block.to_le_bytes());
    bytes[48..50].copy_from_slice(&(block_count - 1).to_le_bytes());
    bytes
}

/// Result, command id and status (without the phase bit) of a completion entry.
pub fn completion(bytes: [u8; 16]) -> (u32, u16, u16) {
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (u32::from(word(0)) | u32::from(word(2)) << 16, word(12), word(14) >> 1)
}
