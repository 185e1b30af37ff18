//! Which calls fail.

use bitflags::bitflags;

/// Which of a machine's calls fail by choice. The n-th of a kind: [`super::super::Fabric::fail_call`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CallFaults {
    /// Kinds of calls that can fail. (C5, C19, D1, D2, E11, G3, I11, J1, K5)
    pub kinds: Calls,
    /// One in so many of them does. 0 is none, 1 each.
    pub one_in: u32,
}

bitflags! {
    /// Kinds of calls that can fail. How each says so is its own: an error, an event with one, or an event that takes the place of what was hoped for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Calls: u16 {
        /// [`crate::verbs::Provider::create_port`].
        const CREATE_PORT = 1;
        /// [`crate::verbs::Provider::begin_register`].
        const REGISTER = 1 << 1;
        /// [`crate::verbs::Provider::allocate_window`].
        const ALLOCATE_WINDOW = 1 << 2;
        /// [`crate::verbs::Provider::listen`].
        const LISTEN = 1 << 3;
        /// [`crate::verbs::Provider::begin_create_queue_pair`].
        const CREATE_QUEUE_PAIR = 1 << 4;
        /// [`crate::verbs::Provider::begin_destroy_queue_pair`]: ends with EIO, and the queue pair is gone all the same.
        const DESTROY_QUEUE_PAIR = 1 << 5;
        /// [`crate::verbs::Provider::begin_resolve`].
        const RESOLVE = 1 << 6;
        /// [`crate::verbs::Provider::connect`]: REJECTED, unreachable.
        const CONNECT = 1 << 7;
        /// [`crate::verbs::Provider::accept`]: REJECTED, unreachable; the peer's connect times out.
        const ACCEPT = 1 << 8;
        /// [`crate::verbs::Port::post_send`].
        const POST_SEND = 1 << 9;
        /// [`crate::verbs::Port::post_receive`].
        const POST_RECEIVE = 1 << 10;
        /// [`crate::verbs::Port::post_shared_receive`].
        const POST_SHARED_RECEIVE = 1 << 11;
        /// [`crate::verbs::Provider::begin_reopen`].
        const OPEN = 1 << 12;
    }
}

impl Calls {
    /// The verb or function that fails, for errors and for choices.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::CREATE_PORT => "ibv_create_cq",
            Self::REGISTER => "ibv_reg_mr",
            Self::ALLOCATE_WINDOW => "ibv_alloc_mw",
            Self::LISTEN => "rdma_listen",
            Self::CREATE_QUEUE_PAIR => "rdma_create_qp",
            Self::DESTROY_QUEUE_PAIR => "rdma_destroy_qp",
            Self::RESOLVE => "rdma_resolve_addr",
            Self::CONNECT => "rdma_connect",
            Self::ACCEPT => "rdma_accept",
            Self::POST_SEND => "ibv_post_send",
            Self::POST_RECEIVE => "ibv_post_recv",
            Self::POST_SHARED_RECEIVE => "ibv_post_srq_recv",
            Self::OPEN => "ibv_open_device",
            _ => "several calls",
        }
    }
}
