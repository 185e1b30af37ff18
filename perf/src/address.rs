//! Transport addresses in the form that SPDK's users know: `trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn…`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use nvmf_core::wire::DISCOVERY_NQN;

/// Where a subsystem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransportAddress {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// The address that connections come from. `None`: the routes decide.
    pub(crate) source: Option<IpAddr>,
    /// NVMe qualified name; the discovery subsystem's where none was given.
    pub(crate) subsystem_nqn: String,
}

/// Why an address could not be read. Each names the field, its value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// Not `key:value`.
    #[error(
        "{0:?} is no key:value; an address looks like 'trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:NQN'"
    )]
    Form(String),
    /// A key that there is not.
    #[error("unknown key {0:?}; known are trtype, adrfam, traddr, trsvcid, subnqn, hostaddr")]
    Key(String),
    /// A key twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// A value that is not allowed.
    #[error("{key} is {value:?}: {allowed}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// What it was.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A key is missing.
    #[error("traddr is missing: the target's IP address, as in traddr:127.0.0.1")]
    NoAddress,
}

impl FromStr for TransportAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (mut address, mut port, mut nqn, mut family, mut kind, mut source) = (None, None, None, None, None, None);
        for word in text.split_whitespace() {
            let (key, value) = word.split_once(':').ok_or_else(|| AddressError::Form(word.to_owned()))?;
            match key.to_ascii_lowercase().as_str() {
                "trtype" => once("trtype", &mut kind, check_kind(value)?)?,
                "adrfam" => once("adrfam", &mut family, check_family(value)?)?,
                "traddr" => once("traddr", &mut address, parse_address("traddr", value)?)?,
                "hostaddr" => once("hostaddr", &mut source, parse_address("hostaddr", value)?)?,
                "trsvcid" => once("trsvcid", &mut port, parse_port(value)?)?,
                "subnqn" => once("subnqn", &mut nqn, check_nqn(value)?)?,
                _ => return Err(AddressError::Key(key.to_owned())),
            }
        }
        let address: IpAddr = address.ok_or(AddressError::NoAddress)?;
        if source.is_some_and(|source: IpAddr| source.is_ipv4() != address.is_ipv4()) {
            let allowed = "of the same family as traddr";
            return Err(AddressError::Value {
                key: "hostaddr",
                value: source.map(|s| s.to_string()).unwrap_or_default(),
                allowed,
            });
        }
        if family.is_some_and(|wants_v4: bool| wants_v4 != address.is_ipv4()) {
            let allowed = "not of the family that adrfam names";
            return Err(AddressError::Value { key: "traddr", value: address.to_string(), allowed });
        }
        Ok(Self {
            address: SocketAddr::new(address, port.unwrap_or(4420)),
            source,
            subsystem_nqn: nqn.unwrap_or_else(|| DISCOVERY_NQN.to_owned()),
        })
    }
}

fn once<T>(key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), AddressError> {
    if slot.replace(value).is_some() { Err(AddressError::Twice(key)) } else { Ok(()) }
}

fn check_kind(value: &str) -> Result<(), AddressError> {
    if value.eq_ignore_ascii_case("rdma") {
        return Ok(());
    }
    Err(AddressError::Value { key: "trtype", value: value.to_owned(), allowed: "only RDMA is built" })
}

fn check_family(value: &str) -> Result<bool, AddressError> {
    match value.to_ascii_lowercase().as_str() {
        "ipv4" => Ok(true),
        "ipv6" => Ok(false),
        _ => Err(AddressError::Value { key: "adrfam", value: value.to_owned(), allowed: "IPv4 or IPv6" }),
    }
}

fn parse_address(key: &'static str, value: &str) -> Result<IpAddr, AddressError> {
    value.trim_matches(['[', ']']).parse().map_err(|_| AddressError::Value {
        key,
        value: value.to_owned(),
        allowed: "an IP address, as in 127.0.0.1",
    })
}

fn parse_port(value: &str) -> Result<u16, AddressError> {
    value.parse().ok().filter(|&port| port != 0).ok_or_else(|| AddressError::Value {
        key: "trsvcid",
        value: value.to_owned(),
        allowed: "a port, 1 to 65535",
    })
}

fn check_nqn(value: &str) -> Result<String, AddressError> {
    // 223 bytes is the longest name [NVMe Base 2.0, 4.5].
    if value.starts_with("nqn.") && value.len() <= 223 {
        return Ok(value.to_owned());
    }
    let allowed = "an NVMe qualified name: begins with nqn., at most 223 bytes";
    Err(AddressError::Value { key: "subnqn", value: value.to_owned(), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TransportAddress, AddressError> {
        text.parse()
    }

    #[test]
    fn the_whole_form() {
        let text = "trtype:RDMA adrfam:IPv4 traddr:192.0.2.7 trsvcid:4421 subnqn:nqn.2026-11.io.example:a:b";
        let address = parse(text).unwrap();
        assert_eq!(address.address.to_string(), "192.0.2.7:4421");
        assert_eq!(address.subsystem_nqn, "nqn.2026-11.io.example:a:b");
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let address = parse("traddr:::1").unwrap();
        assert_eq!(address.address.to_string(), "[::1]:4420");
        assert_eq!(address.subsystem_nqn, DISCOVERY_NQN);
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        for (text, words) in [
            ("trtype:RDMA", "traddr is missing"),
            ("trtype:TCP traddr:127.0.0.1", "trtype is \"TCP\""),
            ("traddr:localhost", "traddr is \"localhost\""),
            ("traddr:127.0.0.1 trsvcid:0", "trsvcid is \"0\""),
            ("traddr:127.0.0.1 trsvcid:70000", "trsvcid is \"70000\""),
            ("traddr:127.0.0.1 adrfam:IPv6", "not of the family"),
            ("traddr:127.0.0.1 traddr:127.0.0.2", "traddr is given twice"),
            ("traddr:127.0.0.1 subnqn:demo", "subnqn is \"demo\""),
            ("127.0.0.1", "no key:value"),
            ("host:127.0.0.1", "unknown key \"host\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
