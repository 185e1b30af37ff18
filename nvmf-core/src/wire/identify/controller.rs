//! Identify Controller [NVMe Base 2.0, figure 275].

use zerocopy::little_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyController {
    /// VID.
    pub vid: U16,
    /// SSVID.
    pub ssvid: U16,
    /// SN, ASCII.
    pub serial_number: [u8; 20],
    /// MN, ASCII.
    pub model_number: [u8; 40],
    /// FR, ASCII.
    pub firmware_revision: [u8; 8],
    /// RAB.
    pub rab: u8,
    /// IEEE, OUI.
    pub ieee: [u8; 3],
    /// CMIC: more ports (bit 0), more controllers (bit 1), ANA reporting (bit 3).
    pub cmic: u8,
    /// MDTS: largest transfer is 2 to the power of this, in pages of CAP.MPSMIN; 0 is no limit.
    pub mdts: u8,
    /// CNTLID.
    pub controller_id: U16,
    /// VER, as the VS property.
    pub version: U32,
    /// RTD3R.
    pub rtd3r: U32,
    /// RTD3E.
    pub rtd3e: U32,
    /// OAES: which asynchronous events there are, in the bits of their configuration.
    pub oaes: U32,
    /// CTRATT: 128-bit host identifier (bit 0), keep-alive by traffic (bit 6).
    pub ctratt: U32,
    /// RRLS.
    pub rrls: U16,
    reserved_102: [u8; 9],
    /// CNTRLTYPE: 1 I/O, 2 discovery, 3 administrative.
    pub controller_type: u8,
    /// FGUID.
    pub fguid: [u8; 16],
    /// CRDT1 to CRDT3, in units of 100 ms.
    pub command_retry_delay: [U16; 3],
    reserved_134: [u8; 119],
    /// NVMSR.
    pub nvmsr: u8,
    /// VWCI.
    pub vwci: u8,
    /// MEC.
    pub mec: u8,
    /// OACS: optional admin commands.
    pub oacs: U16,
    /// ACL: Abort commands at a time.
    pub abort_limit_zero_based: u8,
    /// AERL: Asynchronous Event Requests at a time.
    pub event_request_limit_zero_based: u8,
    /// FRMW: slot 1 read only (bit 0), number of slots (bits 3:1).
    pub frmw: u8,
    /// LPA: SMART per namespace (bit 0), effects log (bit 1), log page offset (bit 2).
    pub lpa: u8,
    /// ELPE: entries of the error log.
    pub error_log_entries_zero_based: u8,
    /// NPSS.
    pub power_states_zero_based: u8,
    /// AVSCC.
    pub avscc: u8,
    /// APSTA.
    pub apsta: u8,
    /// WCTEMP, in K.
    pub warning_temperature: U16,
    /// CCTEMP, in K.
    pub critical_temperature: U16,
    /// MTFA.
    pub mtfa: U16,
    /// HMPRE.
    pub hmpre: U32,
    /// HMMIN.
    pub hmmin: U32,
    /// TNVMCAP.
    pub total_capacity: U128,
    /// UNVMCAP.
    pub unallocated_capacity: U128,
    /// RPMBS.
    pub rpmbs: U32,
    /// EDSTT.
    pub edstt: U16,
    /// DSTO.
    pub dsto: u8,
    /// FWUG.
    pub fwug: u8,
    /// KAS: granularity of the keep-alive timer in units of 100 ms; 0 is none.
    pub keep_alive_granularity_100ms: U16,
    /// HCTMA.
    pub hctma: U16,
    /// MNTMT.
    pub mntmt: U16,
    /// MXTMT.
    pub mxtmt: U16,
    /// SANICAP.
    pub sanicap: U32,
    /// HMMINDS.
    pub hmminds: U32,
    /// HMMAXD.
    pub hmmaxd: U16,
    /// NSETIDMAX.
    pub nsetidmax: U16,
    /// ENDGIDMAX.
    pub endgidmax: U16,
    /// ANATT, in s.
    pub anatt: u8,
    /// ANACAP.
    pub anacap: u8,
    /// ANAGRPMAX.
    pub anagrpmax: U32,
    /// NANAGRPID.
    pub nanagrpid: U32,
    /// PELS.
    pub pels: U32,
    /// Domain identifier.
    pub domain_id: U16,
    reserved_358: [u8; 10],
    /// MEGCAP.
    pub megcap: U128,
    reserved_384: [u8; 128],
    /// SQES: required (bits 3:0) and largest (bits 7:4) size, as powers of two.
    pub submission_entry_exponents: u8,
    /// CQES: as SQES.
    pub completion_entry_exponents: u8,
    /// MAXCMD: commands outstanding per queue. Not 0 over fabrics.
    pub command_count_max: U16,
    /// NN: highest NSID, or number of namespaces.
    pub namespace_count: U32,
    /// ONCS: optional I/O commands: Write Zeroes is bit 3.
    pub oncs: U16,
    /// FUSES: fused operations.
    pub fuses: U16,
    /// FNA.
    pub fna: u8,
    /// VWC: present (bit 0), Flush of all namespaces (bits 2:1: 10b not supported, 11b supported).
    pub volatile_write_cache: u8,
    /// AWUN, zero-based.
    pub awun_zero_based: U16,
    /// AWUPF, zero-based.
    pub awupf_zero_based: U16,
    /// ICSVSCC.
    pub icsvscc: u8,
    /// NWPC.
    pub nwpc: u8,
    /// ACWU, zero-based.
    pub acwu_zero_based: U16,
    /// OCFS: formats of Copy's source ranges.
    pub copy_formats: U16,
    /// SGLS: see the constants.
    pub sgls: U32,
    /// MNAN.
    pub allowed_namespace_count_max: U32,
    /// MAXDNA.
    pub maxdna: U128,
    /// MAXCNA.
    pub maxcna: U32,
    reserved_564: [u8; 204],
    /// SUBNQN, UTF-8, ended by NUL.
    pub subsystem_nqn: [u8; 256],
    reserved_1024: [u8; 768],
    /// IOCCSZ: largest I/O command capsule, in units of 16 bytes.
    pub command_capsule_16b: U32,
    /// IORCSZ: largest I/O response capsule, in units of 16 bytes.
    pub response_capsule_16b: U32,
    /// ICDOFF: where in-capsule data starts behind the 64 bytes, in units of 16 bytes.
    pub in_capsule_data_offset_16b: U16,
    /// FCATT: bit 0 is the static controller model.
    pub fcatt: u8,
    /// MSDBD: data block descriptors in a capsule; 0 is no limit.
    pub data_block_descriptors_max: u8,
    /// OFCS: Disconnect is bit 0.
    pub ofcs: U16,
    reserved_1806: [u8; 242],
    /// PSD0 to PSD31.
    pub power_states: [[u8; 32]; 32],
    /// Vendor specific.
    pub vendor: [u8; 1024],
}

impl IdentifyController {
    /// FCATT bit 0 (CMOD): the static controller model.
    pub const FCATT_STATIC: u8 = 1 << 0;
    /// SGLS bits 1:0: SGLs without alignment or granularity.
    pub const SGLS_SUPPORTED: u32 = 0b01;
    /// SGLS bits 1:0.
    pub const SGLS_SUPPORTED_MASK: u32 = 0b11;
    /// SGLS bit 2: keyed data blocks.
    pub const SGLS_KEYED: u32 = 1 << 2;
    /// SGLS bit 18: an SGL may be longer than the data.
    pub const SGLS_LONGER: u32 = 1 << 18;
    /// SGLS bit 20: addresses may be offsets, that is in-capsule data.
    pub const SGLS_OFFSET: u32 = 1 << 20;
    /// CTRATT bit 0: host identifiers of 128 bits.
    pub const CTRATT_HOST_ID_128: u32 = 1 << 0;
    /// CTRATT bit 6: any command of the host restarts the keep-alive timer.
    pub const CTRATT_KEEP_ALIVE_BY_TRAFFIC: u32 = 1 << 6;
    /// FUSES bit 0.
    pub const FUSES_COMPARE_AND_WRITE: u16 = 1 << 0;
    /// ONCS bit 0.
    pub const ONCS_COMPARE: u16 = 1 << 0;
    /// ONCS bit 1.
    pub const ONCS_WRITE_UNCORRECTABLE: u16 = 1 << 1;
    /// ONCS bit 2.
    pub const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
    /// ONCS bit 7.
    pub const ONCS_VERIFY: u16 = 1 << 7;
    /// ONCS bit 8.
    pub const ONCS_COPY: u16 = 1 << 8;
    /// OCFS bit 0: source ranges of 32 bytes.
    pub const COPY_FORMAT_0: u16 = 1 << 0;
    /// ONCS bit 3.
    pub const ONCS_WRITE_ZEROES: u16 = 1 << 3;
    /// ONCS bit 4: Save in Set Features and Select in Get Features are looked at.
    pub const ONCS_SAVE_SELECT: u16 = 1 << 4;
    /// ONCS bit 6: Timestamp.
    pub const ONCS_TIMESTAMP: u16 = 1 << 6;
    /// LPA bit 1: Commands Supported and Effects.
    pub const LPA_EFFECTS: u8 = 1 << 1;
    /// LPA bit 5: Supported Log Pages, scopes of commands, and the effects of features and management commands.
    pub const LPA_SUPPORTED_PAGES: u8 = 1 << 5;
    /// ONCS bit 5.
    pub const ONCS_RESERVATIONS: u16 = 1 << 5;
    /// LPA bit 2: Get Log Page with offset and 32-bit length.
    pub const LPA_OFFSET: u8 = 1 << 2;
    /// VWC bit 0.
    pub const VWC_PRESENT: u8 = 1;
    /// VWC bits 2:1: Flush with NSID FFFFFFFFh is not supported.
    pub const VWC_FLUSH_ALL_NOT_SUPPORTED: u8 = 0b10 << 1;
    /// OFCS bit 0: Disconnect.
    pub const OFCS_DISCONNECT: u16 = 1;
    /// CNTRLTYPE of an I/O controller.
    pub const TYPE_IO: u8 = 1;
    /// CNTRLTYPE of a discovery controller.
    pub const TYPE_DISCOVERY: u8 = 2;
    /// CMIC bit 0: the subsystem may have more than one port.
    pub const CMIC_PORTS: u8 = 1;
    /// CMIC bit 3: Asymmetric Namespace Access is reported.
    pub const CMIC_ANA: u8 = 1 << 3;
    /// ANACAP bits 4:0: every state may be told. ANAGRPID may change while a namespace is attached (bit 6 is 0).
    pub const ANACAP_ALL_STATES: u8 = 0b1_1111;
    /// CMIC bit 1: the subsystem may have more than one controller.
    pub const CMIC_CONTROLLERS: u8 = 1 << 1;
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<IdentifyController>(), 4096);
        macro_rules! at {
            ($($field:ident: $offset:literal,)*) => {
                $(assert_eq!(offset_of!(IdentifyController, $field), $offset, stringify!($field));)*
            };
        }
        at! {
            serial_number: 4, model_number: 24, firmware_revision: 64, rab: 72, ieee: 73, cmic: 76, mdts: 77,
            controller_id: 78, version: 80, oaes: 92, ctratt: 96, rrls: 100, controller_type: 111, fguid: 112,
            command_retry_delay: 128, nvmsr: 253, oacs: 256, abort_limit_zero_based: 258,
            event_request_limit_zero_based: 259, frmw: 260, lpa: 261, error_log_entries_zero_based: 262,
            power_states_zero_based: 263, warning_temperature: 266, critical_temperature: 268, hmpre: 272,
            total_capacity: 280, unallocated_capacity: 296, rpmbs: 312, keep_alive_granularity_100ms: 320,
            sanicap: 328, nsetidmax: 338, anatt: 342, anagrpmax: 344, nanagrpid: 348, domain_id: 356, megcap: 368,
            submission_entry_exponents: 512, completion_entry_exponents: 513, command_count_max: 514,
            namespace_count: 516, oncs: 520, fuses: 522, fna: 524, volatile_write_cache: 525, awun_zero_based: 526,
            acwu_zero_based: 532, sgls: 536, allowed_namespace_count_max: 540, subsystem_nqn: 768,
            command_capsule_16b: 1792, response_capsule_16b: 1796, in_capsule_data_offset_16b: 1800, fcatt: 1802,
            data_block_descriptors_max: 1803, ofcs: 1804, power_states: 2048, vendor: 3072,
        }
    }
}
