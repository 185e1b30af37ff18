//! The discovery log page: a header of 1024 bytes and entries of 1024 bytes [NVMe Base 2.0, 5.16.1.23].

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::opcode::byte_enum;
use super::text::pad_text;

byte_enum! {
    /// TRTYPE.
    TransportKind {
        /// RDMA.
        Rdma = 1,
        /// Fibre Channel.
        FibreChannel = 2,
        /// TCP.
        Tcp = 3,
        /// Inside one host.
        Loopback = 254,
    }
}

byte_enum! {
    /// ADRFAM.
    AddressFamily {
        /// IPv4.
        Ipv4 = 1,
        /// IPv6.
        Ipv6 = 2,
        /// InfiniBand.
        InfiniBand = 3,
        /// Fibre Channel.
        FibreChannel = 4,
        /// Inside one host.
        Loopback = 254,
    }
}

byte_enum! {
    /// SUBTYPE.
    SubsystemType {
        /// Another discovery subsystem.
        Referral = 1,
        /// A subsystem with namespaces.
        Nvm = 2,
        /// The discovery subsystem that answers.
        CurrentDiscovery = 3,
    }
}

/// TREQ: a secure channel in bits 1:0, and SQ flow control in bit 2.
///
/// A secure channel is TLS or what a transport has of that kind; DH-HMAC-CHAP is none, and is asked for by Connect's AUTHREQ alone
/// [NVMe over Fabrics 1.1, 5.3]. Where bit 2 is 0 a host may still try without SQ flow control.
pub mod discovery_treq {
    /// Bits 1:0: not specified.
    pub const NOT_SPECIFIED: u8 = 0;
    /// Bits 1:0: a secure channel is required.
    pub const REQUIRED: u8 = 1;
    /// Bits 1:0: none is required.
    pub const NOT_REQUIRED: u8 = 2;
    /// Bit 2: the subsystem can do without SQ flow control.
    pub const NO_SQ_FLOW_CONTROL: u8 = 1 << 2;
}

/// EFLAGS.
pub mod discovery_flags {
    /// DUPRETINFO: the other entries with this flag lead to the same information.
    pub const DUPLICATE_INFORMATION: u16 = 1 << 0;
    /// EPCSD: a host may stay connected to this discovery controller, with a keep-alive timeout, and is told of changes.
    pub const PERSISTENT_CONNECTION: u16 = 1 << 1;
}

/// TSAS of TCP is one byte, SECTYPE.
pub mod tcp_security {
    /// None.
    pub const NONE: u8 = 0;
    /// TLS 1.2.
    pub const TLS_1_2: u8 = 1;
    /// TLS 1.3.
    pub const TLS_1_3: u8 = 2;
}

/// The log's start: 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryHeader {
    /// GENCTR: changes whenever the log does.
    pub generation: U64,
    /// NUMREC.
    pub entry_count: U64,
    /// RECFMT: 0.
    pub record_format: U16,
    reserved_18: [u8; 1006],
}

impl DiscoveryHeader {
    /// Bytes of it, and of each entry.
    pub const LEN: u32 = 1024;

    /// Of its two numbers.
    #[must_use]
    pub fn new(generation: u64, entry_count: u64) -> Self {
        let mut header = Self::new_zeroed();
        header.generation = U64::new(generation);
        header.entry_count = U64::new(entry_count);
        header
    }
}

/// TSAS of RDMA: how queue pairs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RdmaAddressSubtype {
    /// RDMA_QPTYPE: 1 reliable connected, 2 reliable datagram.
    pub queue_pair_type: u8,
    /// RDMA_PRTYPE: 1 not specified, 2 InfiniBand, 3 RoCE, 4 RoCE v2, 5 iWARP.
    pub provider_type: u8,
    /// RDMA_CMS: 1 RDMA_IP_CM.
    pub connection_management: u8,
    reserved_3: [u8; 5],
    /// RDMA_PKEY.
    pub partition_key: U16,
}

impl RdmaAddressSubtype {
    /// Reliable connected queue pairs, any provider, by RDMA_CM.
    pub const ANY: Self = Self::new(1);
    /// The same over RoCE v2.
    pub const ROCE_V2: Self = Self::new(4);

    const fn new(provider_type: u8) -> Self {
        Self {
            queue_pair_type: 1,
            provider_type,
            connection_management: 1,
            reserved_3: [0; 5],
            partition_key: U16::new(0),
        }
    }
}

/// One way to one subsystem: 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryEntry {
    /// TRTYPE: see [`TransportKind`].
    pub transport: u8,
    /// ADRFAM: see [`AddressFamily`].
    pub address_family: u8,
    /// SUBTYPE: see [`SubsystemType`].
    pub subsystem_type: u8,
    /// TREQ: see [`discovery_treq`].
    pub requirements: u8,
    /// PORTID.
    pub port_id: U16,
    /// CNTLID: FFFFh for the dynamic model.
    pub controller_id: U16,
    /// ASQSZ: a count, at least 32.
    pub admin_queue_depth_max: U16,
    /// EFLAGS: see [`discovery_flags`].
    pub flags: U16,
    reserved_12: [u8; 20],
    /// TRSVCID, ASCII: the port.
    pub service: [u8; 32],
    reserved_64: [u8; 192],
    /// SUBNQN.
    pub subsystem_nqn: [u8; 256],
    /// TRADDR, ASCII.
    pub address: [u8; 256],
    /// TSAS of RDMA.
    pub rdma: RdmaAddressSubtype,
    transport_specific_rest: [u8; 246],
}

impl DiscoveryEntry {
    /// A subsystem of the dynamic model, reached over RDMA at an IP address and port.
    #[must_use]
    pub fn rdma(
        subsystem_type: SubsystemType,
        subsystem_nqn: &super::Nqn,
        address: std::net::SocketAddr,
        port_id: u16,
        admin_queue_depth_max: u16,
    ) -> Self {
        Self::at(TransportKind::Rdma, subsystem_type, subsystem_nqn, address, port_id, admin_queue_depth_max)
    }

    /// The same over RDMA or TCP, without a secure channel.
    #[must_use]
    pub fn at(
        transport: TransportKind,
        subsystem_type: SubsystemType,
        subsystem_nqn: &super::Nqn,
        address: std::net::SocketAddr,
        port_id: u16,
        admin_queue_depth_max: u16,
    ) -> Self {
        let mut entry = Self::new_zeroed();
        entry.transport = transport.to_byte();
        let family = if address.is_ipv4() { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
        entry.address_family = family.to_byte();
        entry.subsystem_type = subsystem_type.to_byte();
        entry.requirements = discovery_treq::NOT_REQUIRED;
        entry.port_id = U16::new(port_id);
        entry.controller_id = U16::new(super::DYNAMIC_CONTROLLER_ID);
        entry.admin_queue_depth_max = U16::new(admin_queue_depth_max);
        entry.service = pad_text(&address.port().to_string());
        entry.subsystem_nqn = subsystem_nqn.to_field();
        entry.address = pad_text(&address.ip().to_string());
        if transport == TransportKind::Rdma {
            entry.rdma = RdmaAddressSubtype::ANY;
        }
        entry
    }

    /// SECTYPE, which stands where RDMA has its queue pair type: see [`tcp_security`].
    pub fn set_tcp_security(&mut self, security: u8) {
        self.rdma.queue_pair_type = security;
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;
    use crate::wire::Nqn;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<DiscoveryHeader>(), 1024);
        assert_eq!(offset_of!(DiscoveryHeader, entry_count), 8);
        assert_eq!(offset_of!(DiscoveryHeader, record_format), 16);
        assert_eq!(size_of::<DiscoveryEntry>(), 1024);
        assert_eq!(offset_of!(DiscoveryEntry, port_id), 4);
        assert_eq!(offset_of!(DiscoveryEntry, controller_id), 6);
        assert_eq!(offset_of!(DiscoveryEntry, admin_queue_depth_max), 8);
        assert_eq!(offset_of!(DiscoveryEntry, flags), 10);
        assert_eq!(offset_of!(DiscoveryEntry, service), 32);
        assert_eq!(offset_of!(DiscoveryEntry, subsystem_nqn), 256);
        assert_eq!(offset_of!(DiscoveryEntry, address), 512);
        assert_eq!(offset_of!(DiscoveryEntry, rdma), 768);
        assert_eq!(offset_of!(RdmaAddressSubtype, partition_key), 8);
    }

    #[test]
    fn real_bytes() {
        let nqn = Nqn::new("nqn.2016-06.io.quiesce:one").unwrap();
        let entry = DiscoveryEntry::rdma(SubsystemType::Nvm, &nqn, "192.168.1.2:4420".parse().unwrap(), 1, 32);
        let bytes = entry.as_bytes();
        assert_eq!(&bytes[..12], &[1, 1, 2, 2, 1, 0, 0xFF, 0xFF, 32, 0, 0, 0]);
        assert_eq!(&bytes[32..64], b"4420                            ");
        assert_eq!(&bytes[256..283], b"nqn.2016-06.io.quiesce:one\0");
        assert_eq!(&bytes[512..525], b"192.168.1.2  ");
        assert_eq!(&bytes[768..778], &[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        let entry = DiscoveryEntry::rdma(SubsystemType::Nvm, &nqn, "[::1]:4420".parse().unwrap(), 1, 32);
        assert_eq!(entry.address_family, AddressFamily::Ipv6.to_byte());
        assert_eq!(&entry.address[..4], b"::1 ");
    }
}
