//! Which device an address belongs to: asked of the connection manager, with ids that live no longer than the question.
//!
//! At start, and on the worker: a peer's address may take the network some seconds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::IbvOptions;
use super::channel::Channel;
use super::device::device_names;
use super::id::Id;
use super::sys::rdma_cm_event_type as kind;
use crate::verbs::VerbsError;

/// The name of the device that the options name, or that all their addresses belong to.
///
/// # Errors
/// Without one, or if it cannot be told which.
pub fn chosen_device(options: &IbvOptions) -> Result<String, VerbsError> {
    let names = device_names().map_err(|error| none(&format!(" ({error})")))?;
    if let Some(name) = &options.device {
        return if names.contains(name) { Ok(name.clone()) } else { Err(no_device(name, &names)) };
    }
    let mut chosen: Option<(String, SocketAddr)> = None;
    let locals = options.listened.iter().copied().chain(options.source.map(|source| SocketAddr::new(source, 0)));
    for address in locals {
        if address.ip().is_unspecified() {
            continue;
        }
        let device = device_of(address)?.ok_or_else(|| not_on_a_device(address, &names))?;
        match &chosen {
            Some((other, first)) if *other != device => return Err(two_devices((first, other), (&address, &device))),
            Some(_) => {}
            None => chosen = Some((device, address)),
        }
    }
    if let (None, Some(peer)) = (&chosen, options.peer) {
        return device_towards(peer);
    }
    match (chosen, names.as_slice()) {
        (Some((device, _)), _) => Ok(device),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(none("")),
        (None, several) => Err(undecided(several)),
    }
}

/// The same for a device that was removed: the one of its name, or that the first of these addresses that is on one is on. Other addresses may come later.
pub(super) fn returned_device(named: Option<&str>, addresses: &[SocketAddr], last: &str) -> Result<String, VerbsError> {
    let names = device_names().map_err(|error| none(&format!(" ({error})")))?;
    let specific: Vec<_> = addresses.iter().filter(|address| !address.ip().is_unspecified()).collect();
    let wanted = match named {
        Some(name) => name,
        // Whichever it is on: all of them are listened on by name.
        None if specific.is_empty() => last,
        None => {
            for address in &specific {
                if let Some(device) = device_of(**address)? {
                    return Ok(device);
                }
            }
            return Err(not_on_a_device(*specific[0], &names));
        }
    };
    if names.iter().any(|name| name == wanted) { Ok(wanted.to_owned()) } else { Err(no_device(wanted, &names)) }
}

/// The device of an address of this machine. `None`: it has one, but on no RDMA device, or does not have it.
///
/// # Errors
/// Without a connection manager in the kernel.
pub fn device_of(address: SocketAddr) -> Result<Option<String>, VerbsError> {
    let id = question()?;
    // Without a port, so that it does not matter who listens there.
    let device = id.bind(SocketAddr::new(address.ip(), 0)).ok().and_then(|()| id.device_name());
    end(id)?;
    Ok(device)
}

/// The device by which a peer is reached.
fn device_towards(peer: SocketAddr) -> Result<String, VerbsError> {
    let id = question()?;
    let channel = id.channel();
    let failed = |why: String| VerbsError::Address { address: peer, why };
    let mut device = id.resolve_address(None, peer).map(|()| None).map_err(|error| failed(error.to_string()));
    if device.is_ok() {
        // The channel of a question blocks; the kernel answers in time.
        device = match channel.next() {
            Some(event) => {
                let facts = event.facts();
                let name = (facts.kind == kind::RDMA_CM_EVENT_ADDR_RESOLVED).then(|| id.device_name()).flatten();
                event.acknowledge();
                Ok(name)
            }
            None => Err(failed(std::io::Error::last_os_error().to_string())),
        };
    }
    end(id)?;
    device?.ok_or_else(|| failed("no RDMA device of this machine reaches it; `rdma link` lists them".to_owned()))
}

/// An id on a channel of its own.
fn question() -> Result<Id, VerbsError> {
    let channel =
        Channel::create().map_err(|source| VerbsError::System { call: "rdma_create_event_channel", source })?;
    Id::create(&Arc::new(channel), 0).map_err(|source| VerbsError::System { call: "rdma_create_id", source })
}

fn end(id: Id) -> Result<(), VerbsError> {
    id.destroy().map_err(|source| VerbsError::System { call: "rdma_destroy_id", source })
}

fn wrong(why: String) -> VerbsError {
    VerbsError::System { call: "choosing an RDMA device", source: std::io::Error::other(why) }
}

fn none(why: &str) -> VerbsError {
    wrong(format!(
        "this machine has none{why}: use the software fabric, provider \"soft\", or set one up (docs/RDMA.md)"
    ))
}

fn no_device(name: &str, names: &[String]) -> VerbsError {
    wrong(format!("there is no device \"{name}\"; there are: {}", listed(names)))
}

fn not_on_a_device(address: SocketAddr, names: &[String]) -> VerbsError {
    let why = format!(
        "it is no address of an RDMA device of this machine (devices: {}); `rdma link` says which network interfaces they are on",
        listed(names)
    );
    VerbsError::Address { address, why }
}

fn two_devices(first: (&SocketAddr, &String), second: (&SocketAddr, &String)) -> VerbsError {
    wrong(format!(
        "{} is on {}, {} on {}: one process serves one device; start one for each",
        first.0, first.1, second.0, second.1
    ))
}

fn undecided(names: &[String]) -> VerbsError {
    wrong(format!("there are {}: name one, or an address of it", names.join(", ")))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// An address without a port.
pub(super) fn any_port(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 0)
}
