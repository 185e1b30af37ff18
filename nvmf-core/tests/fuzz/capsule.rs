//! Capsules: mostly what a host could mean, with something wrong here and there.

use fuzz::Bytes;
use nvmf_core::RemoteBuffer;
use nvmf_core::wire::auth::AuthenticationEntry;
use nvmf_core::wire::{FabricsType, SglDescriptor, SubmissionEntry, U16, U32};

use super::harness::{HOST_MEMORY_LEN, property_get, property_set};

/// Opcodes that mean something on one of the queues, and fabrics.
const ADMIN: [u8; 14] = [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x15, 0x18, 0x7F];
const IO: [u8; 14] = [0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0C, 0x0D, 0x0E, 0x11, 0x15, 0x19, 0x7F];
const NSIDS: [u32; 8] = [1, 1, 1, 2, 3, 0, 0xFFFF_FFFF, 0xFFFF_FFFE];
/// CAP, VS, INTMS, CC, CSTS, NSSR, AQA.
const PROPERTIES: [u32; 8] = [0x00, 0x08, 0x0C, 0x14, 0x14, 0x1C, 0x20, 0x24];
/// Enabled as hosts do it; disabled; shut down normally and abruptly; strange.
const CONFIGURATIONS: [u64; 6] = [0x0046_0001, 0x0046_0000, 0x0046_4001, 0x0046_8001, 0x0046_0071, 0xFFFF_FFFF];
const LENS: [u32; 12] = [0, 1, 4, 16, 64, 256, 512, 1024, 4096, 8192, 16_384, 131_072];

/// 64 bytes, and the data that comes with them.
pub(crate) type Capsule = ([u8; 64], Vec<u8>);

/// A command for a queue.
pub(crate) fn command(bytes: &mut Bytes<'_>, is_admin: bool, command_id: u16) -> Capsule {
    let (mut entry, data) = match bytes.u8() % 16 {
        0 => (SubmissionEntry::from_bytes(property(bytes)), Vec::new()),
        1 => authentication(bytes),
        2 => (SubmissionEntry::from_bytes(bytes.array()), bytes.take(64).to_vec()),
        _ => ordinary(bytes, is_admin),
    };
    entry.command_id = U16::new(command_id);
    (entry.to_bytes(), data)
}

fn ordinary(bytes: &mut Bytes<'_>, is_admin: bool) -> (SubmissionEntry, Vec<u8>) {
    let opcode = if bytes.one_in(20) { bytes.u8() } else { bytes.pick(if is_admin { &ADMIN } else { &IO }) };
    let mut entry = SubmissionEntry::new(opcode);
    entry.nsid = U32::new(if bytes.one_in(16) { bytes.u32() } else { bytes.pick(&NSIDS) });
    // Half of the writes and comparisons are fused ones.
    if bytes.one_in(8) {
        entry.flags |= bytes.u8() & 3;
    }
    if bytes.one_in(32) {
        entry.flags = bytes.u8();
    }
    let mut word = || U32::new(bytes.number() as u32);
    (entry.cdw10, entry.cdw11, entry.cdw12) = (word(), word(), word());
    (entry.cdw13, entry.cdw14, entry.cdw15) = (word(), word(), word());
    if bytes.one_in(32) {
        (entry.cdw2, entry.cdw3) = (U32::new(bytes.u32()), U32::new(bytes.u32()));
        entry.metadata_pointer.set(bytes.u64());
    }
    let (sgl, data) = data_pointer(bytes);
    entry.sgl1 = sgl;
    (entry, data)
}

/// Where the data is, and what of it is in the capsule.
fn data_pointer(bytes: &mut Bytes<'_>) -> (SglDescriptor, Vec<u8>) {
    match bytes.u8() % 10 {
        0..=3 => (keyed(bytes), Vec::new()),
        4..=6 => {
            let data = contents(bytes);
            let (offset, len) =
                if bytes.one_in(8) { (bytes.number(), bytes.number() as u32) } else { (0, data.len() as u32) };
            (SglDescriptor::in_capsule(offset, len), data)
        }
        7 => {
            let count = bytes.u8() % 20;
            let mut list: Vec<u8> = (0..count).flat_map(|_| keyed(bytes).to_bytes()).collect();
            list.extend_from_slice(bytes.take(usize::from(bytes.clone().u8() % 32)));
            let offset = if bytes.one_in(8) { bytes.number() as u32 } else { 0 };
            (SglDescriptor::last_segment(offset, if bytes.one_in(8) { bytes.u8() } else { count }), list)
        }
        8 => (SglDescriptor::from_bytes(bytes.array()), contents(bytes)),
        _ => (SglDescriptor::from_bytes([0; 16]), Vec::new()),
    }
}

/// Of the host's memory, or nearly.
fn keyed(bytes: &mut Bytes<'_>) -> SglDescriptor {
    let at = if bytes.one_in(40) { bytes.u64() } else { u64::from(bytes.u16()) * 8 % (HOST_MEMORY_LEN as u64) };
    let len = if bytes.one_in(8) { bytes.number() as u32 & 0x00FF_FFFF } else { bytes.pick(&LENS) };
    let buffer = RemoteBuffer { address: at, len, key: u32::from(bytes.u8()) };
    SglDescriptor::keyed(buffer, bytes.one_in(8)).unwrap_or(SglDescriptor::from_bytes([0xFF; 16]))
}

/// Bytes as long as something that is a list or a page, and made of few different ones.
pub(crate) fn contents(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let len = if bytes.one_in(6) { bytes.u16() % 4097 } else { bytes.pick(&LENS).min(4096) as u16 };
    let pattern = bytes.take(usize::from(bytes.clone().u8() % 64));
    if pattern.is_empty() {
        return vec![0; usize::from(len)];
    }
    pattern.iter().copied().cycle().take(usize::from(len)).collect()
}

fn property(bytes: &mut Bytes<'_>) -> [u8; 64] {
    let offset = if bytes.one_in(8) { bytes.number() as u32 } else { bytes.pick(&PROPERTIES) };
    match bytes.u8() % 3 {
        0 => property_get(offset, bytes.one_in(2)),
        1 => property_set(offset, bytes.pick(&CONFIGURATIONS)),
        _ => property_set(offset, bytes.number()),
    }
}

/// Authentication Send with a message that begins as one does, or Receive.
fn authentication(bytes: &mut Bytes<'_>) -> (SubmissionEntry, Vec<u8>) {
    let is_send = bytes.one_in(2);
    let kind = if is_send { FabricsType::AuthenticationSend } else { FabricsType::AuthenticationReceive };
    let mut entry = AuthenticationEntry::new(kind);
    let mut message = Vec::new();
    if is_send {
        // AUTH_TYPE, AUTH_ID, reserved, T_ID.
        message.extend([bytes.pick(&[0, 1]), bytes.pick(&[0x00, 0x02, 0x04, 0xF0, 0xF1, 0x01]), 0, 0]);
        message.extend(bytes.pick(&[0_u16, 1, 7]).to_le_bytes());
        message.extend_from_slice(bytes.take(usize::from(bytes.clone().u8())));
        message.resize(message.len().max(usize::from(bytes.u8()) * 4), 0);
    }
    entry.security_protocol = if bytes.one_in(16) { bytes.u8() } else { AuthenticationEntry::SECURITY_PROTOCOL };
    (entry.specific_0, entry.specific_1) = (AuthenticationEntry::SPECIFIC, AuthenticationEntry::SPECIFIC);
    let len = if is_send { message.len() as u32 } else { bytes.pick(&[16, 64, 1024, 4096]) };
    entry.len = U32::new(if bytes.one_in(16) { bytes.number() as u32 } else { len });
    entry.sgl1 = if is_send { SglDescriptor::in_capsule(0, message.len() as u32) } else { keyed(bytes) };
    (SubmissionEntry::from_bytes(entry.to_bytes()), message)
}
