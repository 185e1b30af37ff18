//! A connection manager id.
//!
//! Ids belong to the control plane; making a queue pair and destroying the id happen on the worker, one job after the other.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. The pointer lives until [`Id::destroy`], which takes the last [`Id`] of it: jobs that use it were begun before, and the worker does them in order.
//! 2. Structures that a call reads or fills in are ours and consist of numbers.
//! 3. Addresses and context of an id are written by the library while an event of it is fetched, which happens on the control plane alone, as does the reading.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::address::CAddress;
use super::channel::Channel;
use super::device::name_of;
use super::raw::{Raw, by_last_error};
use super::sys;
use crate::verbs::ConnectParameters;

/// How long the network may take to say where an address is.
const RESOLVE_TIMEOUT_MS: i32 = 2000;
/// Requests that wait at a listener, as the kernel counts them.
const BACKLOG: i32 = 1024;

/// See above.
#[derive(Clone, Debug)]
pub(super) struct Id {
    raw: Raw<sys::rdma_cm_id>,
    /// The ids go before it.
    channel: Arc<Channel>,
}

impl Id {
    /// Events name it by `number`.
    pub(super) fn create(channel: &Arc<Channel>, number: u64) -> io::Result<Self> {
        let mut id = std::ptr::null_mut();
        let port_space = sys::rdma_port_space::RDMA_PS_TCP;
        // SAFETY: the channel is open; invariant 2.
        let result = unsafe { sys::rdma_create_id(channel.raw(), &raw mut id, context(number), port_space) };
        by_last_error(result)?;
        Ok(Self { raw: Raw::returned(id)?, channel: Arc::clone(channel) })
    }

    /// Of a connection request, whose event is being looked at.
    pub(super) fn of_request(channel: &Arc<Channel>, id: *mut sys::rdma_cm_id, number: u64) -> io::Result<Self> {
        let raw = Raw::returned(id)?;
        // Until here it had the listener's.
        // SAFETY: invariant 3.
        unsafe { (*raw.as_ptr()).context = context(number) };
        Ok(Self { raw, channel: Arc::clone(channel) })
    }

    /// Waits until its events are acknowledged.
    pub(super) fn destroy(self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_last_error(unsafe { sys::rdma_destroy_id(self.raw()) })
    }

    pub(super) fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel)
    }

    fn raw(&self) -> *mut sys::rdma_cm_id {
        self.raw.as_ptr()
    }

    /// The number that an id in an event was given.
    pub(super) fn number_of(id: *mut sys::rdma_cm_id) -> u64 {
        // SAFETY: invariant 3, and an id of an event that is not acknowledged is alive.
        let context = unsafe { (*id).context };
        context.addr() as u64
    }

    /// The device that its address belongs to, once that is known.
    pub(super) fn device_name(&self) -> Option<String> {
        // SAFETY: invariant 3.
        let verbs = unsafe { (*self.raw()).verbs };
        if verbs.is_null() {
            return None;
        }
        // SAFETY: the library keeps its contexts.
        let device = unsafe { (*verbs).device };
        Some(name_of(device))
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: invariant 3.
        let route = unsafe { &(*self.raw()).route };
        // SAFETY: whatever it holds, a storage is bytes.
        CAddress::read(unsafe { &route.addr.src_addr_union.src_storage })
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        // SAFETY: invariant 3.
        let route = unsafe { &(*self.raw()).route };
        // SAFETY: whatever it holds, a storage is bytes.
        CAddress::read(unsafe { &route.addr.dst_addr_union.dst_storage })
    }

    pub(super) fn bind(&self, address: SocketAddr) -> io::Result<()> {
        if address.is_ipv6() {
            let mut yes: libc::c_int = 1;
            let (level, option, len) = (sys::OPTION_ID, sys::OPTION_ID_AFONLY, size_of_val(&yes));
            // SAFETY: invariants 1 and 2.
            let result = unsafe { sys::rdma_set_option(self.raw(), level, option, (&raw mut yes).cast(), len) };
            by_last_error(result)?;
        }
        // SAFETY: invariants 1 and 2.
        by_last_error(unsafe { sys::rdma_bind_addr(self.raw(), CAddress::new(address).as_ptr().cast()) })
    }

    pub(super) fn listen(&self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_last_error(unsafe { sys::rdma_listen(self.raw(), BACKLOG) })
    }

    pub(super) fn resolve_address(&self, from: Option<SocketAddr>, to: SocketAddr) -> io::Result<()> {
        let from = from.map(CAddress::new);
        let from = from.as_ref().map_or(std::ptr::null_mut(), CAddress::as_ptr);
        let to = CAddress::new(to);
        // SAFETY: invariants 1 and 2.
        let result = unsafe { sys::rdma_resolve_addr(self.raw(), from.cast(), to.as_ptr().cast(), RESOLVE_TIMEOUT_MS) };
        by_last_error(result)
    }

    pub(super) fn resolve_route(&self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_last_error(unsafe { sys::rdma_resolve_route(self.raw(), RESOLVE_TIMEOUT_MS) })
    }

    /// Attributes and mask for a move of its queue pair.
    pub(super) fn attributes(&self, to: sys::ibv_qp_state::Type) -> io::Result<(sys::ibv_qp_attr, i32)> {
        // SAFETY: invariant 2.
        let mut attributes: sys::ibv_qp_attr = unsafe { std::mem::zeroed() };
        attributes.qp_state = to;
        let mut mask = 0;
        // SAFETY: invariants 1 and 2.
        let result = unsafe { sys::rdma_init_qp_attr(self.raw(), &raw mut attributes, &raw mut mask) };
        by_last_error(result)?;
        Ok((attributes, mask))
    }

    pub(super) fn connect(&self, parameters: &ConnectParameters<'_>, number: u32, has_srq: bool) -> io::Result<()> {
        let mut parameters = c_parameters(parameters, number, has_srq);
        // SAFETY: invariants 1 and 2; the private data outlives the call.
        by_last_error(unsafe { sys::rdma_connect(self.raw(), &raw mut parameters) })
    }

    /// The active side's third message: its queue pair is ready.
    pub(super) fn establish(&self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_last_error(unsafe { sys::rdma_establish(self.raw()) })
    }

    pub(super) fn accept(&self, parameters: &ConnectParameters<'_>, number: u32, has_srq: bool) -> io::Result<()> {
        let mut parameters = c_parameters(parameters, number, has_srq);
        // SAFETY: invariants 1 and 2; the private data outlives the call.
        by_last_error(unsafe { sys::rdma_accept(self.raw(), &raw mut parameters) })
    }

    pub(super) fn reject(&self, private_data: &[u8]) -> io::Result<()> {
        let len = u8::try_from(private_data.len()).unwrap_or(u8::MAX);
        // SAFETY: invariant 1; the private data is at least so long.
        by_last_error(unsafe { sys::rdma_reject(self.raw(), private_data.as_ptr().cast(), len) })
    }

    pub(super) fn disconnect(&self) -> io::Result<()> {
        // SAFETY: invariant 1.
        by_last_error(unsafe { sys::rdma_disconnect(self.raw()) })
    }

    /// See [`sys::notify_communication_established`].
    pub(super) fn notify_established(&self) {
        // SAFETY: invariant 1.
        unsafe { sys::notify_communication_established(self.raw()) };
    }
}

fn context(number: u64) -> *mut std::ffi::c_void {
    std::ptr::without_provenance_mut(usize::try_from(number).unwrap_or(0))
}

fn c_parameters(parameters: &ConnectParameters<'_>, number: u32, has_srq: bool) -> sys::rdma_conn_param {
    sys::rdma_conn_param {
        private_data: parameters.private_data.as_ptr().cast(),
        private_data_len: u8::try_from(parameters.private_data.len()).unwrap_or(u8::MAX),
        responder_resources: parameters.responder_resources,
        initiator_depth: parameters.initiator_depth,
        flow_control: 1,
        retry_count: parameters.retry_count.min(7),
        rnr_retry_count: parameters.rnr_retry_count.min(7),
        srq: u8::from(has_srq),
        qp_num: number,
    }
}
