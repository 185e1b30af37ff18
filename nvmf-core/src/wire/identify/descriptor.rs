//! The Namespace Identification Descriptor list [NVMe Base 2.0, figure 277].

/// What a namespace is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceIdentifiers {
    /// NIDT 1.
    pub eui64: Option<[u8; 8]>,
    /// NIDT 2.
    pub nguid: Option<[u8; 16]>,
    /// NIDT 3.
    pub uuid: Option<[u8; 16]>,
    /// NIDT 4: the I/O command set; 0 is NVM.
    pub command_set: Option<u8>,
}

/// The whole list as bytes.
pub type DescriptorPage = [u8; 4096];

const HEADER_LEN: usize = 4;

impl NamespaceIdentifiers {
    /// As a page: for each identifier its type, length, two reserved bytes, and itself.
    #[must_use]
    pub fn to_page(&self) -> DescriptorPage {
        let mut page = [0; 4096];
        let mut at = 0;
        let mut put = |kind: u8, len: u8, identifier: &[u8]| {
            page[at] = kind;
            page[at + 1] = len;
            page[at + HEADER_LEN..at + HEADER_LEN + identifier.len()].copy_from_slice(identifier);
            at += HEADER_LEN + identifier.len();
        };
        if let Some(eui64) = &self.eui64 {
            put(1, 8, eui64);
        }
        if let Some(nguid) = &self.nguid {
            put(2, 16, nguid);
        }
        if let Some(uuid) = &self.uuid {
            put(3, 16, uuid);
        }
        if let Some(command_set) = &self.command_set {
            put(4, 1, &[*command_set]);
        }
        page
    }

    /// From a page, or as much of one as came: ends at a length of 0, at the end, or at a descriptor that has no room. A descriptor of
    /// unknown type or of a wrong length is stepped over.
    #[must_use]
    pub fn from_page(mut bytes: &[u8]) -> Self {
        let mut identifiers = Self::default();
        // Each round takes at least five bytes, so it ends.
        while let [kind, len, _, _, rest @ ..] = bytes {
            let Some((identifier, after)) = rest.split_at_checked(usize::from(*len)) else { break };
            if *len == 0 {
                break;
            }
            match kind {
                1 => identifiers.eui64 = identifier.try_into().ok(),
                2 => identifiers.nguid = identifier.try_into().ok(),
                3 => identifiers.uuid = identifier.try_into().ok(),
                4 => identifiers.command_set = identifier.first().copied(),
                _ => {}
            }
            bytes = after;
        }
        identifiers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_bytes() {
        let identifiers =
            NamespaceIdentifiers { uuid: Some(*b"0123456789abcdef"), command_set: Some(0), ..Default::default() };
        let page = identifiers.to_page();
        assert_eq!(&page[..20], b"\x03\x10\0\x000123456789abcdef");
        assert_eq!(&page[20..25], &[4, 1, 0, 0, 0]);
        assert!(page[25..].iter().all(|byte| *byte == 0));
        assert_eq!(NamespaceIdentifiers::from_page(&page), identifiers);
    }

    #[test]
    fn wrong_lengths_end_or_are_stepped_over() {
        assert_eq!(NamespaceIdentifiers::from_page(&[3, 16, 0, 0, 1]), NamespaceIdentifiers::default());
        // A UUID of two bytes, then an EUI-64.
        let bytes = [3, 2, 0, 0, 9, 9, 1, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let identifiers = NamespaceIdentifiers::from_page(&bytes);
        assert_eq!(identifiers.uuid, None);
        assert_eq!(identifiers.eui64, Some([1, 2, 3, 4, 5, 6, 7, 8]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = NamespaceIdentifiers::from_page(&bytes);
        }

        #[test]
        fn round_trip(eui64: Option<[u8; 8]>, nguid: Option<[u8; 16]>, uuid: Option<[u8; 16]>, command_set: Option<u8>) {
            let identifiers = NamespaceIdentifiers { eui64, nguid, uuid, command_set };
            prop_assert_eq!(NamespaceIdentifiers::from_page(&identifiers.to_page()), identifiers);
        }
    }
}
