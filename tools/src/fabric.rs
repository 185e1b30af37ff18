//! Which RDMA a target uses: devices of this machine, or the software fabric.
//!
//! Decided once, at start, from the configuration, the devices and the listeners' addresses; said in one line of the log.

use std::net::SocketAddr;

use anyhow::Result;
use transport_rdma::ibv::IbvOptions;

use crate::config::{Config, ProviderKind};
use crate::machine;

/// What was chosen.
#[derive(Debug)]
pub enum Fabric {
    /// The software fabric.
    Soft,
    /// RDMA devices, at least one.
    Ibv(Vec<IbvOptions>),
}

impl Fabric {
    /// Devices that memory is taken for.
    #[must_use]
    pub fn device_count(&self) -> u8 {
        match self {
            Self::Soft => 1,
            Self::Ibv(devices) => u8::try_from(devices.len()).unwrap_or(u8::MAX),
        }
    }
}

/// Chooses. `more`: addresses beside the configuration's that it is to listen on.
///
/// # Errors
/// If devices are asked for and this build has no provider for them, or if one only of several listeners is on a device.
pub fn choose(config: &Config, more: &[SocketAddr]) -> Result<Fabric> {
    let listened = listened(config, more);
    let options =
        IbvOptions { device: config.transport.device.clone(), listened: listened.clone(), ..IbvOptions::default() };
    match config.transport.provider {
        ProviderKind::Soft => {
            match machine::rdma_devices().as_slice() {
                [] => tracing::info!("the software fabric is used"),
                devices => tracing::info!(
                    "the software fabric is used (transport.provider = \"soft\"), not {}",
                    devices.join(", ")
                ),
            }
            Ok(Fabric::Soft)
        }
        ProviderKind::Ibv => asked_for(options),
        ProviderKind::Auto if options.device.is_some() => asked_for(options),
        ProviderKind::Auto => find(options),
    }
}

/// Every address that some subsystem is to be reached at.
fn listened(config: &Config, more: &[SocketAddr]) -> Vec<SocketAddr> {
    let all = config.subsystems.iter().flat_map(|subsystem| subsystem.listeners.iter().copied());
    all.chain(more.iter().copied()).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[cfg(not(feature = "ibv"))]
fn asked_for(_options: IbvOptions) -> Result<Fabric> {
    Err(anyhow::Error::from(transport_rdma::ibv::not_built()).context("transport.provider = \"ibv\""))
}

#[cfg(not(feature = "ibv"))]
fn find(_options: IbvOptions) -> Result<Fabric> {
    match machine::rdma_devices().as_slice() {
        [] => tracing::info!("no RDMA device on this machine: the software fabric is used"),
        devices => tracing::warn!(
            "the software fabric is used, not {}: this build has no provider for RDMA devices (feature \"ibv\")",
            devices.join(", ")
        ),
    }
    Ok(Fabric::Soft)
}

#[cfg(feature = "ibv")]
fn asked_for(options: IbvOptions) -> Result<Fabric> {
    Ok(Fabric::Ibv(by_device(options)?))
}

/// One for each device that listeners are on. What is wrong with their addresses is said when the devices are opened.
#[cfg(feature = "ibv")]
fn by_device(options: IbvOptions) -> Result<Vec<IbvOptions>> {
    use std::collections::BTreeMap;

    use transport_rdma::ibv::device_of;

    if options.device.is_some() {
        return Ok(vec![options]);
    }
    let mut by_name: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for address in options.listened.iter().filter(|address| !address.ip().is_unspecified()) {
        match device_of(*address) {
            Ok(Some(name)) => by_name.entry(name).or_default().push(*address),
            Ok(None) | Err(_) => return Ok(vec![options]),
        }
    }
    if by_name.len() < 2 {
        return Ok(vec![options]);
    }
    let names = by_name.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(anywhere) = options.listened.iter().find(|address| address.ip().is_unspecified()) {
        anyhow::bail!("listener {anywhere} is on whichever device, and others are on {names}: name its addresses");
    }
    tracing::info!("listeners are on several RDMA devices: {names}");
    let of_device = |listened| IbvOptions { listened, ..options.clone() };
    Ok(by_name.into_values().map(of_device).collect())
}

/// A device, if there is one and the listeners are on it; where some are and some are not, it cannot be told what is meant.
#[cfg(feature = "ibv")]
fn find(options: IbvOptions) -> Result<Fabric> {
    use transport_rdma::ibv::{device_names, device_of};

    let names = match device_names() {
        Ok(names) if !names.is_empty() => names,
        Ok(_) => return Ok(soft("no RDMA device on this machine")),
        Err(error) => return Ok(soft(&format!("no RDMA device on this machine ({error})"))),
    };
    let is_anywhere = |address: &SocketAddr| address.ip().is_unspecified();
    let mut elsewhere = Vec::new();
    let mut on_device = Vec::new();
    for address in options.listened.iter().filter(|address| !is_anywhere(address)) {
        match device_of(*address)? {
            Some(_) => on_device.push(address.to_string()),
            None => elsewhere.push(address.to_string()),
        }
    }
    let has_wildcard = options.listened.iter().any(is_anywhere);
    match (on_device.is_empty() && !has_wildcard, elsewhere.is_empty()) {
        (true, false) => Ok(soft(&format!("no listener is on one of the RDMA devices ({})", names.join(", ")))),
        (false, false) => anyhow::bail!(
            "transport.provider = \"auto\": listeners {} are on an RDMA device, {} are not: give each target one kind, or say which (\"ibv\", \"soft\")",
            on_device.join(", "),
            elsewhere.join(", ")
        ),
        (_, true) => asked_for(options),
    }
}

#[cfg(feature = "ibv")]
fn soft(why: &str) -> Fabric {
    tracing::info!("{why}: the software fabric is used, which hosts on this machine can reach");
    Fabric::Soft
}
