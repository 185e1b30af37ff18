//! Commands as hosts send them, with every field for a test to choose.

use nvmf_core::RemoteBuffer;
use nvmf_core::wire::{
    ConnectData, ConnectEntry, ConnectParameters, FabricsType, Nqn, SglDescriptor, SubmissionEntry, U16, U32,
};
use zerocopy::IntoBytes;

use super::{HOST_ID, HOST_NQN, NQN};

/// A Connect with every field for a test to spoil.
#[derive(Clone)]
pub struct Connect {
    pub qid: u16,
    pub depth: u16,
    pub attributes: u8,
    pub keep_alive_ms: u32,
    pub controller_id: u16,
    pub nqn: String,
    pub host_nqn: String,
    pub host_id: [u8; 16],
    pub in_capsule: bool,
}

impl Connect {
    pub fn new(qid: u16, depth: u16) -> Self {
        Self {
            qid,
            depth,
            attributes: 0,
            keep_alive_ms: 0,
            controller_id: 0xFFFF,
            nqn: NQN.into(),
            host_nqn: HOST_NQN.into(),
            host_id: HOST_ID,
            in_capsule: qid != 0,
        }
    }

    pub fn build(&self) -> (ConnectEntry, Vec<u8>) {
        let mut entry = ConnectEntry::new(FabricsType::Connect);
        entry.command_id = U16::new(self.qid.wrapping_add(0xC0));
        entry.qid = U16::new(self.qid);
        entry.entry_count_zero_based = U16::new(self.depth.wrapping_sub(1));
        entry.attributes = self.attributes;
        entry.keep_alive_ms = U32::new(self.keep_alive_ms);
        let data = ConnectData::from(&ConnectParameters {
            host_id: self.host_id,
            controller_id: self.controller_id,
            subsystem_nqn: Nqn::new(&self.nqn).unwrap(),
            host_nqn: Nqn::new(&self.host_nqn).unwrap(),
        });
        (entry, data.as_bytes().to_vec())
    }
}

pub fn keyed(at: usize, len: u32) -> SglDescriptor {
    SglDescriptor::keyed(RemoteBuffer { address: at as u64, len, key: 1 }, false).unwrap()
}

pub fn property_set(offset: u32, value: u64) -> [u8; 64] {
    let mut entry = nvmf_core::wire::PropertyEntry::new(FabricsType::PropertySet);
    entry.offset = U32::new(offset);
    entry.value.set(value);
    entry.to_bytes()
}

pub fn property_get(offset: u32, wide: bool) -> [u8; 64] {
    let mut entry = nvmf_core::wire::PropertyEntry::new(FabricsType::PropertyGet);
    entry.offset = U32::new(offset);
    entry.attributes = u8::from(wide);
    entry.to_bytes()
}

/// Any command with data in the host's memory.
pub fn command(opcode: u8, command_id: u16, nsid: u32, sgl1: SglDescriptor, cdw: [u32; 4]) -> SubmissionEntry {
    let mut entry = SubmissionEntry::new(opcode);
    entry.command_id = U16::new(command_id);
    entry.nsid = U32::new(nsid);
    entry.sgl1 = sgl1;
    entry.cdw10 = U32::new(cdw[0]);
    entry.cdw11 = U32::new(cdw[1]);
    entry.cdw12 = U32::new(cdw[2]);
    entry.cdw13 = U32::new(cdw[3]);
    entry
}

pub const OP_FLUSH: u8 = 0;
pub const OP_WRITE: u8 = 1;
pub const OP_READ: u8 = 2;
pub const OP_WRITE_ZEROES: u8 = 8;

/// A read or write of `count` blocks of `block_len` at `block`.
pub fn io(opcode: u8, command_id: u16, block: u64, count: u32, sgl1: SglDescriptor) -> [u8; 64] {
    let low = u32::try_from(block & 0xFFFF_FFFF).unwrap();
    let high = u32::try_from(block >> 32).unwrap();
    command(opcode, command_id, 1, sgl1, [low, high, count - 1, 0]).to_bytes()
}
