//! What people write on the command line, as JSON-RPC has it.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::config::Size;

/// What the target counts large sizes in.
const MIB: u64 = 1 << 20;

/// An IP address and a port.
///
/// # Errors
/// What it should look like.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>();
    address.map_err(|_| "not an address and a port, such as 10.0.0.1:4420 or [fd00::1]:4420".to_owned())
}

/// A size.
///
/// # Errors
/// What it should look like.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let size = Size::parse(text).map(|Size(len)| len);
    size.ok_or_else(|| "not a size, such as 64MiB, 1G, 4K (K, M, G, T count in 1024s) or a number of bytes".to_owned())
}

/// A size that the target takes in whole MiB: how many.
///
/// # Errors
/// What it should look like.
pub(super) fn mebibytes(text: &str) -> Result<u64, String> {
    match size(text)? {
        len if len.is_multiple_of(MIB) => Ok(len / MIB),
        len => Err(format!("{len} bytes are no whole number of MiB, which the target takes: write it as 100MiB")),
    }
}

/// Bytes of a block.
///
/// # Errors
/// What they may be.
pub(super) fn block_size(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|len| [512, 4096].contains(len)).ok_or_else(|| "neither 512 nor 4096".to_owned())
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
}

/// NVMe's four words for an address of the RDMA transport.
#[must_use]
pub(super) fn listen_address(address: SocketAddr) -> Value {
    transport_address("RDMA", address)
}

/// The same of any transport.
#[must_use]
pub(super) fn transport_address(transport: &str, address: SocketAddr) -> Value {
    json!({
        "trtype": transport,
        "adrfam": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "traddr": address.ip().to_string(),
        "trsvcid": address.port().to_string(),
    })
}

/// Parameters without those that are null: what was not said is left to the target.
#[must_use]
pub(super) fn said(parameters: Value) -> Value {
    let Value::Object(fields) = parameters else { return parameters };
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(fields.map(|(name, value)| (name, said(value))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_is_left_out() {
        let none: Option<u32> = None;
        assert_eq!(
            said(json!({ "a": 1, "b": none, "c": { "d": none, "e": false } })),
            json!({ "a": 1, "c": { "e": false } })
        );
    }

    #[test]
    fn addresses_and_sizes_say_what_they_should_be() {
        assert!(address("10.0.0.1").unwrap_err().contains("10.0.0.1:4420"));
        assert_eq!(transport_address("TCP", address("[fd00::1]:4420").unwrap())["adrfam"], "IPv6");
        assert_eq!((size("4K"), mebibytes("1G")), (Ok(4096), Ok(1024)));
        assert!(mebibytes("1000000").unwrap_err().contains("whole number of MiB"));
    }
}
