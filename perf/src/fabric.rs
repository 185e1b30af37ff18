//! Which RDMA is used: a device of this machine, or the software fabric between its processes.

#[cfg(feature = "ibv")]
use transport_rdma::ibv::{IbvOptions, IbvProvider};
use transport_rdma::soft::shared::{SharedOptions, SharedProvider};
use transport_rdma::verbs::{Provider, VerbsError};

use crate::address::TransportAddress;
use crate::arguments::ProviderName;

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    Soft,
    #[cfg(feature = "ibv")]
    Ibv,
}

/// A provider that can be opened for a target's address.
pub(crate) trait Fabric: Provider<Port: Send> + Send {
    fn open(address: &TransportAddress) -> Result<Self, VerbsError>;
}

impl Fabric for SharedProvider {
    fn open(_address: &TransportAddress) -> Result<Self, VerbsError> {
        Self::new(SharedOptions::default())
    }
}

#[cfg(feature = "ibv")]
impl Fabric for IbvProvider {
    fn open(address: &TransportAddress) -> Result<Self, VerbsError> {
        Self::open(options(address))
    }
}

#[cfg(feature = "ibv")]
fn options(address: &TransportAddress) -> IbvOptions {
    IbvOptions { source: address.source, peer: Some(address.address), ..IbvOptions::default() }
}

/// Chooses: where nothing else was said, a device that reaches the target, else the software fabric.
///
/// # Errors
/// If devices are asked for and this build has no provider for them.
pub(crate) fn choose(name: ProviderName, address: &TransportAddress) -> anyhow::Result<Chosen> {
    match name {
        ProviderName::Soft => Ok(Chosen::Soft),
        ProviderName::Ibv => device(),
        ProviderName::Auto => Ok(found(address)),
    }
}

#[cfg(feature = "ibv")]
#[expect(clippy::unnecessary_wraps, reason = "a build without the feature refuses")]
fn device() -> anyhow::Result<Chosen> {
    Ok(Chosen::Ibv)
}

#[cfg(not(feature = "ibv"))]
fn device() -> anyhow::Result<Chosen> {
    Err(transport_rdma::ibv::not_built().into())
}

#[cfg(feature = "ibv")]
fn found(address: &TransportAddress) -> Chosen {
    let is_reached =
        !address.address.ip().is_loopback() && transport_rdma::ibv::chosen_device(&options(address)).is_ok();
    if is_reached { Chosen::Ibv } else { Chosen::Soft }
}

#[cfg(not(feature = "ibv"))]
fn found(_address: &TransportAddress) -> Chosen {
    Chosen::Soft
}
