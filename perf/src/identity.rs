//! Who the host is: what the command line says, or what is derived from it.

use nvmf_core::host::HostIdentity;
use sha2::{Digest as _, Sha256};

use crate::arguments::HostId;
use crate::random::mix;

/// What the specification calls a host that is named by a UUID [NVMe Base 2.0, 4.5].
const UUID_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Two runs at the same time are two hosts, and so are two lines of one, unless they are given one name: who has a name has one identifier, at every start.
pub(crate) fn identity(nqn: Option<&str>, id: Option<HostId>, line: u16) -> HostIdentity {
    let process = u64::from(std::process::id()) | u64::from(line) << 32;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(process).to_be_bytes());
    bytes[8..].copy_from_slice(&mix(!process).to_be_bytes());
    let mut identity = match nqn {
        Some(nqn) => HostIdentity { nqn: nqn.to_owned(), id: id_of(nqn) },
        None => HostIdentity::from_uuid(bytes),
    };
    if let Some(id) = id {
        identity.id = id.0;
    }
    identity
}

fn id_of(nqn: &str) -> [u8; 16] {
    let named = nqn.strip_prefix(UUID_NQN).and_then(uuid).filter(|id| *id != [0; 16]);
    named.unwrap_or_else(|| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(nqn)[..16]);
        HostIdentity::from_uuid(bytes).id
    })
}

/// 32 hexadecimal digits, with hyphens or without.
pub(crate) fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.split('-').collect();
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn of(words: &[&str]) -> HostIdentity {
        let arguments = Arguments::try_parse_from(["nvmf-perf"].iter().chain(words)).unwrap();
        identity(arguments.common.host_nqn.as_deref(), arguments.common.host_id, 0)
    }

    #[test]
    fn a_name_has_one_identifier() {
        let named = of(&["--host-nqn", "nqn.2026-11.io.quiesce:a"]);
        assert_eq!(named, of(&["--host-nqn", "nqn.2026-11.io.quiesce:a"]));
        assert_ne!(named.id, of(&["--host-nqn", "nqn.2026-11.io.quiesce:b"]).id);
        let uuid = "27dad528-6368-41c3-82d3-0b956b49025d";
        let id = *b"\x27\xda\xd5\x28\x63\x68\x41\xc3\x82\xd3\x0b\x95\x6b\x49\x02\x5d";
        assert_eq!(of(&["--host-nqn", &format!("{UUID_NQN}{uuid}")]).id, id);
        let given = of(&["--host-nqn", "nqn.2026-11.io.quiesce:a", "--host-id", uuid]);
        assert_eq!((given.nqn, given.id), (named.nqn, id));
        assert_ne!(identity(None, None, 0), identity(None, None, 1), "two lines are two hosts");
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        for text in ["", "1", "00000000-0000-0000-0000-000000000000", "+7dad528-6368-41c3-82d3-0b956b49025d"] {
            assert!(Arguments::try_parse_from(["nvmf-perf", "--host-id", text]).is_err(), "{text}");
        }
    }
}
