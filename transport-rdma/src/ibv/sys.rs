//! The only file that names `rdma_sys`: what the provider uses of libibverbs and librdmacm, so that the crate can be replaced here.
//!
//! Left out on purpose: the extended verbs (`*_ex`, `ibv_alloc_td`), whose extension look-up in `rdma_sys` never succeeds on 64 bits; `ibv_event_type`, a Rust
//! enum, of which an event that this version does not know would be undefined behaviour ([`AsyncEvent`] has the number instead); and `rdma_create_qp`, since
//! queue pairs are never attached to their ids.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. [`AsyncEvent`] has the layout of `ibv_async_event`; the assertions below say so.

use std::ffi::{c_int, c_void};
use std::mem::{offset_of, size_of};

/// The inline function, which asks the device itself; the library's symbol of that name is for old callers.
pub(super) use rdma_sys::___ibv_query_port as ibv_query_port;
pub(super) use rdma_sys::{
    ibv_ack_cq_events, ibv_alloc_pd, ibv_close_device, ibv_comp_channel, ibv_context, ibv_cq, ibv_create_comp_channel,
    ibv_create_cq, ibv_create_qp, ibv_create_srq, ibv_dealloc_pd, ibv_dereg_mr, ibv_destroy_comp_channel,
    ibv_destroy_cq, ibv_destroy_qp, ibv_destroy_srq, ibv_device, ibv_device_attr, ibv_free_device_list,
    ibv_get_cq_event, ibv_get_device_list, ibv_get_device_name, ibv_modify_qp, ibv_mr, ibv_open_device, ibv_pd,
    ibv_poll_cq, ibv_port_attr, ibv_post_recv, ibv_post_send, ibv_post_srq_recv, ibv_qp, ibv_qp_attr, ibv_qp_cap,
    ibv_qp_init_attr, ibv_qp_state, ibv_qp_type, ibv_query_device, ibv_recv_wr, ibv_reg_mr, ibv_req_notify_cq,
    ibv_resize_cq, ibv_send_wr, ibv_sge, ibv_srq, ibv_srq_attr, ibv_srq_init_attr, ibv_transport_type, ibv_wc,
    ibv_wc_status, ibv_wr_opcode, rdma_accept, rdma_ack_cm_event, rdma_bind_addr, rdma_cm_event, rdma_cm_event_type,
    rdma_cm_id, rdma_conn_param, rdma_connect, rdma_create_event_channel, rdma_create_id, rdma_destroy_event_channel,
    rdma_destroy_id, rdma_disconnect, rdma_establish, rdma_event_channel, rdma_free_devices, rdma_get_cm_event,
    rdma_get_devices, rdma_init_qp_attr, rdma_listen, rdma_port_space, rdma_reject, rdma_resolve_addr,
    rdma_resolve_route, rdma_set_option, rdma_t as RemoteAddress, wr_t as RemoteUnion,
};

pub(super) const ACCESS_LOCAL_WRITE: c_int = 1;
pub(super) const ACCESS_REMOTE_WRITE: c_int = 2;
pub(super) const ACCESS_REMOTE_READ: c_int = 4;

pub(super) const SEND_FENCE: u32 = 1;
pub(super) const SEND_SIGNALED: u32 = 2;
pub(super) const SEND_SOLICITED: u32 = 4;
pub(super) const SEND_INLINE: u32 = 8;

pub(super) const WC_WITH_IMM: u32 = 2;
pub(super) const WC_WITH_INV: u32 = 8;

/// Attribute masks of `ibv_modify_qp`.
pub(super) const QP_STATE: c_int = 1;

pub(super) const EVENT_CQ_ERR: u32 = 0;
pub(super) const EVENT_QP_FATAL: u32 = 1;
pub(super) const EVENT_QP_REQ_ERR: u32 = 2;
pub(super) const EVENT_QP_ACCESS_ERR: u32 = 3;
pub(super) const EVENT_COMM_EST: u32 = 4;
pub(super) const EVENT_SQ_DRAINED: u32 = 5;
pub(super) const EVENT_PATH_MIG: u32 = 6;
pub(super) const EVENT_PATH_MIG_ERR: u32 = 7;
pub(super) const EVENT_DEVICE_FATAL: u32 = 8;
pub(super) const EVENT_PORT_ACTIVE: u32 = 9;
pub(super) const EVENT_PORT_ERR: u32 = 10;
pub(super) const EVENT_SRQ_ERR: u32 = 14;
pub(super) const EVENT_QP_LAST_WQE_REACHED: u32 = 16;

/// Level and name of rdma_cm's option that keeps an IPv6 listener to IPv6.
pub(super) const OPTION_ID: c_int = 0;
pub(super) const OPTION_ID_AFONLY: c_int = 2;

/// `ibv_async_event`, with the kind as the number that the kernel wrote.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct AsyncEvent {
    /// Of whom: a pointer to a queue pair, completion queue or SRQ, or a port number.
    pub(super) element: *mut c_void,
    /// `EVENT_…`.
    pub(super) kind: u32,
}

// SAFETY: what it names is used through the libraries, which may be called from any thread.
unsafe impl Send for AsyncEvent {}

const _: () = assert!(size_of::<AsyncEvent>() == size_of::<rdma_sys::ibv_async_event>());
const _: () = assert!(offset_of!(AsyncEvent, kind) == offset_of!(rdma_sys::ibv_async_event, event_type));
// What the provider counts on besides: rdma-core's ABI, as its headers had it when the bindings were made.
const _: () = assert!(size_of::<ibv_sge>() == 16);
const _: () = assert!(size_of::<ibv_wc>() == 48);
const _: () = assert!(size_of::<ibv_send_wr>() == 128);
const _: () = assert!(size_of::<ibv_recv_wr>() == 32);
const _: () = assert!(rdma_sys::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0 == ACCESS_REMOTE_READ.unsigned_abs());
const _: () = assert!(rdma_sys::ibv_send_flags::IBV_SEND_INLINE.0 == SEND_INLINE);
const _: () = assert!(rdma_sys::ibv_wc_flags::IBV_WC_WITH_INV.0 == WC_WITH_INV);
const _: () = assert!(rdma_sys::ibv_qp_attr_mask::IBV_QP_STATE.0 == QP_STATE.unsigned_abs());
const _: () = assert!(rdma_sys::ibv_event_type::IBV_EVENT_QP_LAST_WQE_REACHED as u32 == EVENT_QP_LAST_WQE_REACHED);

/// Reads the next async event, if the descriptor has one and does not block.
///
/// # Safety
/// `context` is open.
pub(super) unsafe fn next_async_event(context: *mut ibv_context) -> Option<AsyncEvent> {
    let mut event = AsyncEvent { element: std::ptr::null_mut(), kind: u32::MAX };
    // SAFETY: invariant 1; the caller's promise.
    let result = unsafe { rdma_sys::ibv_get_async_event(context, (&raw mut event).cast()) };
    (result == 0).then_some(event)
}

/// Acknowledges it.
///
/// # Safety
/// It came from [`next_async_event`], and is acknowledged for the first time.
pub(super) unsafe fn ack_async_event(mut event: AsyncEvent) {
    // SAFETY: invariant 1; the caller's promise.
    unsafe { rdma_sys::ibv_ack_async_event((&raw mut event).cast()) };
}

/// Tells the connection manager that the peer's first message has come, which stands in for its last.
///
/// # Safety
/// `id` is alive.
pub(super) unsafe fn notify_communication_established(id: *mut rdma_cm_id) {
    // SAFETY: the caller's promise.
    unsafe { rdma_sys::rdma_notify(id, rdma_sys::ibv_event_type::IBV_EVENT_COMM_EST) };
}
