//! Socket addresses, to and from the C library's.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. A `sockaddr_storage` is as long and as aligned as any `sockaddr_*`, and all bit patterns of those are valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage};

/// As C has it.
#[derive(Clone, Copy)]
pub(super) struct CAddress(sockaddr_storage);

impl CAddress {
    pub(super) fn new(address: SocketAddr) -> Self {
        // SAFETY: invariant 1.
        let mut storage: sockaddr_storage = unsafe { std::mem::zeroed() };
        let place = &raw mut storage;
        match address {
            SocketAddr::V4(v4) => {
                let value = sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: invariant 1.
                unsafe { place.cast::<sockaddr_in>().write(value) };
            }
            SocketAddr::V6(v6) => {
                let value = sockaddr_in6 {
                    sin6_family: family(libc::AF_INET6),
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: invariant 1.
                unsafe { place.cast::<sockaddr_in6>().write(value) };
            }
        }
        Self(storage)
    }

    /// For calls that read it (and are declared as if they wrote).
    pub(super) fn as_ptr(&self) -> *mut sockaddr {
        (&raw const self.0).cast_mut().cast()
    }

    /// `None`: no address of ours (InfiniBand's own, or none yet).
    pub(super) fn read(storage: &sockaddr_storage) -> Option<SocketAddr> {
        let place = &raw const *storage;
        match i32::from(storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: invariant 1.
                let v4 = unsafe { place.cast::<sockaddr_in>().read() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: invariant 1.
                let v6 = unsafe { place.cast::<sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let address = SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id);
                Some(SocketAddr::V6(address))
            }
            _ => None,
        }
    }
}

fn family(number: i32) -> libc::sa_family_t {
    // The two that are used are 2 and 10.
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["10.9.0.1:4420", "0.0.0.0:1", "[fe80::1%3]:4420", "[2001:db8::7]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(CAddress::read(&CAddress::new(address).0), Some(address), "{text}");
        }
        // SAFETY: invariant 1.
        let none: sockaddr_storage = unsafe { std::mem::zeroed() };
        assert_eq!(CAddress::read(&none), None);
    }

    /// In the order of bytes that the network has.
    #[test]
    fn the_bytes_are_the_networks() {
        let address = CAddress::new("1.2.3.4:258".parse().unwrap());
        let place = &raw const address.0;
        // SAFETY: invariant 1.
        let bytes = unsafe { place.cast::<[u8; 8]>().read() };
        assert_eq!(bytes[2..], [1, 2, 1, 2, 3, 4]);
    }
}
