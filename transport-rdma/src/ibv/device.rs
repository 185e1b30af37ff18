//! One RDMA device: its context, its protection domain, what it can do.
//!
//! Shared by the provider, the ports and the queue pairs; whoever lets go last closes it. Immutable after it was opened.
//!
//! Invariants, cited by the `SAFETY` notes:
//! 1. `context` and `pd` live as long as the [`Device`]; everything made of them holds an `Arc` of it. Of a device that was removed they live until
//!    [`Device::close`], which comes after everything made of them was destroyed, and nothing is made any more.
//! 2. Structures that a call fills in are ours, zeroed before, and consist of numbers.
//! 3. A device list's entries live until the list is freed.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::raw::{Raw, by_errno};
use super::sys;
use crate::verbs::{DeviceAttributes, VerbsError};

/// Vendor numbers of soft-RoCE, before and since Linux 5.6.
const RXE_VENDORS: [u32; 2] = [0, 0xFF_FFFF];
/// Inline bytes that are tried, most first. Nothing that the transport sends is longer.
const INLINE_LENS: [u32; 6] = [256, 128, 64, 32, 16, 0];
/// Segments of a request, at most: what a work request's memory is sized for.
pub(super) const SEGMENT_COUNT_MAX: u32 = 16;

/// How it speaks to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// InfiniBand and RoCE.
    InfiniBand,
    Iwarp,
}

/// An open device.
#[derive(Debug)]
pub(super) struct Device {
    name: String,
    context: Raw<sys::ibv_context>,
    pd: Raw<sys::ibv_pd>,
    attributes: DeviceAttributes,
    transport: Transport,
    /// Soft-RoCE: see [`Self::forgets_late_receives`].
    is_rxe: bool,
    can_resize: bool,
    completion_vector_count: u32,
    shared_receive_segment_count_max: u32,
    is_closed: AtomicBool,
}

/// Names of the devices that the kernel offers to this process.
///
/// # Errors
/// Without RDMA support in the kernel.
pub fn device_names() -> Result<Vec<String>, VerbsError> {
    let mut names = Vec::new();
    for_each_device(|_, name| names.push(name))?;
    Ok(names)
}

fn for_each_device(mut each: impl FnMut(*mut sys::ibv_device, String)) -> Result<(), VerbsError> {
    let failed = |source| VerbsError::System { call: "ibv_get_device_list", source };
    let mut count = 0;
    // SAFETY: invariant 2.
    let list = Raw::returned(unsafe { sys::ibv_get_device_list(&raw mut count) }).map_err(failed)?;
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: invariant 3, `index` is below the count.
        let place = unsafe { list.as_ptr().add(index) };
        // SAFETY: as above.
        let device = unsafe { place.read() };
        each(device, name_of(device));
    }
    // SAFETY: invariant 3.
    unsafe { sys::ibv_free_device_list(list.as_ptr()) };
    Ok(())
}

/// The name of a device of a list or of an open context.
pub(super) fn name_of(device: *mut sys::ibv_device) -> String {
    // SAFETY: invariant 3; contexts keep theirs.
    let name = unsafe { sys::ibv_get_device_name(device) };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: a string of the device's.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

impl Device {
    /// Opens the device of this name.
    pub(super) fn open(name: &str) -> Result<Arc<Self>, VerbsError> {
        let mut opened = None;
        for_each_device(|device, candidate| {
            if candidate == name {
                // SAFETY: invariant 3.
                let context = unsafe { sys::ibv_open_device(device) };
                opened = Some((Raw::returned(context), transport_of(device)));
            }
        })?;
        let (context, transport) = opened.ok_or_else(|| gone(name))?;
        let context = context.map_err(|source| VerbsError::System { call: "ibv_open_device", source })?;
        let opened = Opened { context };
        set_nonblocking(opened.async_descriptor())
            .map_err(|source| VerbsError::System { call: "fcntl of the async descriptor", source })?;
        // SAFETY: invariant 1.
        let pd = Raw::returned(unsafe { sys::ibv_alloc_pd(context.as_ptr()) });
        let pd = pd.map_err(|source| VerbsError::System { call: "ibv_alloc_pd", source })?;
        let facts = opened.query()?;
        let is_rxe = transport == Transport::InfiniBand && RXE_VENDORS.contains(&facts.vendor_id);
        let mut device = Self {
            name: name.to_owned(),
            context,
            pd,
            attributes: attributes(&facts, opened.transfer_len_max(facts.phys_port_cnt)),
            transport,
            is_rxe,
            can_resize: false,
            completion_vector_count: opened.completion_vector_count(),
            shared_receive_segment_count_max: positive(facts.max_srq_sge).clamp(1, SEGMENT_COUNT_MAX),
            is_closed: AtomicBool::new(false),
        };
        // From here on the device closes it.
        std::mem::forget(opened);
        device.attributes.retries_receiver_not_ready = transport == Transport::InfiniBand;
        device.attributes.raises_last_wqe = transport == Transport::InfiniBand && !is_rxe;
        device.probe()?;
        Ok(Arc::new(device))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn context(&self) -> *mut sys::ibv_context {
        self.context.as_ptr()
    }

    pub(super) fn pd(&self) -> *mut sys::ibv_pd {
        self.pd.as_ptr()
    }

    pub(super) fn attributes(&self) -> DeviceAttributes {
        self.attributes
    }

    /// A word for logs.
    pub(super) fn kind(&self) -> &'static str {
        match (self.transport, self.is_rxe) {
            (Transport::InfiniBand, true) => "soft-RoCE",
            (Transport::InfiniBand, false) => "InfiniBand or RoCE",
            (Transport::Iwarp, _) => "iWARP",
        }
    }

    pub(super) fn can_resize(&self) -> bool {
        self.can_resize
    }

    pub(super) fn completion_vector_count(&self) -> u32 {
        self.completion_vector_count
    }

    pub(super) fn shared_receive_segment_count_max(&self) -> u32 {
        self.shared_receive_segment_count_max
    }

    /// Soft-RoCE: a receive that is posted to a queue pair in the error state is flushed when the queue pair is moved there again, and not before.
    pub(super) fn forgets_late_receives(&self) -> bool {
        self.is_rxe
    }

    /// Soft-RoCE: takes the most retries of a transport timeout for no limit; a peer that is gone would never be given up.
    pub(super) fn retries_for_ever(&self) -> bool {
        self.is_rxe
    }

    /// iWARP: the data of a READ arrives as the peer's writes do, so memory that may take it needs the right for those. [RFC 5040, 5.1]
    pub(super) fn reads_need_remote_write(&self) -> bool {
        self.transport == Transport::Iwarp
    }

    pub(super) fn async_descriptor(&self) -> i32 {
        Opened::descriptor_of(self.context)
    }

    /// Next async event.
    pub(super) fn next_async_event(&self) -> Option<sys::AsyncEvent> {
        // SAFETY: invariant 1.
        unsafe { sys::next_async_event(self.context()) }
    }

    /// What no query tells: the longest inline data, and whether completion queues can grow. Makes and destroys a queue pair of each kind.
    fn probe(&mut self) -> Result<(), VerbsError> {
        let failed = |call| move |source| VerbsError::System { call, source };
        let none = std::ptr::null_mut();
        // SAFETY: invariant 1.
        let cq = Raw::returned(unsafe { sys::ibv_create_cq(self.context(), 16, none, none.cast(), 0) });
        let cq = cq.map_err(failed("ibv_create_cq"))?;
        // SAFETY: the completion queue is alive until below.
        self.can_resize = by_errno(unsafe { sys::ibv_resize_cq(cq.as_ptr(), 64) }).is_ok();
        let mut longest = Err(io::Error::from(io::ErrorKind::Unsupported));
        for inline_len in INLINE_LENS {
            longest = self.try_inline(cq, inline_len).map(|()| inline_len);
            if longest.is_ok() {
                break;
            }
        }
        // SAFETY: nothing uses it any more.
        unsafe { sys::ibv_destroy_cq(cq.as_ptr()) };
        self.attributes.inline_len_max = longest.map_err(failed("ibv_create_qp"))?;
        Ok(())
    }

    fn try_inline(&self, cq: Raw<sys::ibv_cq>, inline_len: u32) -> io::Result<()> {
        // SAFETY: invariant 2.
        let mut attributes: sys::ibv_qp_init_attr = unsafe { std::mem::zeroed() };
        (attributes.send_cq, attributes.recv_cq) = (cq.as_ptr(), cq.as_ptr());
        attributes.qp_type = sys::ibv_qp_type::IBV_QPT_RC;
        attributes.cap = sys::ibv_qp_cap {
            max_send_wr: 4,
            max_recv_wr: 4,
            max_send_sge: 1,
            max_recv_sge: 1,
            max_inline_data: inline_len,
        };
        // SAFETY: invariants 1 and 2.
        let made = Raw::returned(unsafe { sys::ibv_create_qp(self.pd(), &raw mut attributes) })?;
        // SAFETY: it was never used.
        by_errno(unsafe { sys::ibv_destroy_qp(made.as_ptr()) })
    }
}

impl Device {
    /// Lets go of it; once. A driver whose device is removed may wait for this, and the removal with it.
    pub(super) fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // SAFETY: invariant 1: nobody is left. What cannot be destroyed (a quarantined queue pair) is closed with the context.
        unsafe { sys::ibv_dealloc_pd(self.pd()) };
        // SAFETY: as above.
        unsafe { sys::ibv_close_device(self.context()) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.close();
    }
}

/// Has librdmacm look which devices there are: it closes its own contexts of those that are gone.
pub(super) fn forget_removed_devices() {
    let mut count = 0;
    // SAFETY: invariant 2.
    let list = unsafe { sys::rdma_get_devices(&raw mut count) };
    if !list.is_null() {
        // SAFETY: it was given above.
        unsafe { sys::rdma_free_devices(list) };
    }
}

/// A context that is closed if opening it comes to nothing.
struct Opened {
    context: Raw<sys::ibv_context>,
}

impl Opened {
    fn query(&self) -> Result<sys::ibv_device_attr, VerbsError> {
        // SAFETY: invariant 2.
        let mut facts: sys::ibv_device_attr = unsafe { std::mem::zeroed() };
        // SAFETY: invariants 1 and 2.
        by_errno(unsafe { sys::ibv_query_device(self.context.as_ptr(), &raw mut facts) })
            .map_err(|source| VerbsError::System { call: "ibv_query_device", source })?;
        Ok(facts)
    }

    /// The least of its ports: which one a connection takes is not known yet.
    fn transfer_len_max(&self, port_count: u8) -> u32 {
        let lens = (1..=port_count).filter_map(|port| {
            // SAFETY: invariant 2.
            let mut facts: sys::ibv_port_attr = unsafe { std::mem::zeroed() };
            // SAFETY: invariants 1 and 2.
            let result = unsafe { sys::ibv_query_port(self.context.as_ptr(), port, &raw mut facts) };
            (result == 0 && facts.max_msg_sz > 0).then_some(facts.max_msg_sz)
        });
        lens.min().unwrap_or(1 << 20)
    }

    fn async_descriptor(&self) -> i32 {
        Self::descriptor_of(self.context)
    }

    fn descriptor_of(context: Raw<sys::ibv_context>) -> i32 {
        // SAFETY: invariant 1; the descriptor never changes.
        unsafe { (*context.as_ptr()).async_fd }
    }

    fn completion_vector_count(&self) -> u32 {
        // SAFETY: invariant 1; the number never changes.
        positive(unsafe { (*self.context.as_ptr()).num_comp_vectors }).max(1)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: nothing was made of it but a protection domain, which goes with it.
        unsafe { sys::ibv_close_device(self.context.as_ptr()) };
    }
}

fn gone(name: &str) -> VerbsError {
    let source = io::Error::new(io::ErrorKind::NotFound, format!("there is no RDMA device {name}"));
    VerbsError::System { call: "opening an RDMA device", source }
}

fn transport_of(device: *mut sys::ibv_device) -> Transport {
    // SAFETY: invariant 3.
    match unsafe { (*device).transport_type } {
        sys::ibv_transport_type::IBV_TRANSPORT_IWARP => Transport::Iwarp,
        _ => Transport::InfiniBand,
    }
}

fn attributes(facts: &sys::ibv_device_attr, transfer_len_max: u32) -> DeviceAttributes {
    let byte = |number: i32| u8::try_from(number.clamp(0, 255)).unwrap_or(u8::MAX);
    DeviceAttributes {
        queue_pair_count_max: positive(facts.max_qp),
        work_request_count_max: positive(facts.max_qp_wr),
        completion_count_max: positive(facts.max_cqe),
        shared_receive_count_max: if facts.max_srq > 0 { positive(facts.max_srq_wr) } else { 0 },
        segment_count_max: positive(facts.max_sge).clamp(1, SEGMENT_COUNT_MAX),
        inline_len_max: 0,
        read_responder_count_max: byte(facts.max_qp_rd_atom),
        read_initiator_count_max: byte(facts.max_qp_init_rd_atom),
        send_len_max: transfer_len_max,
        transfer_len_max,
        raises_last_wqe: false,
        retries_receiver_not_ready: true,
    }
}

fn positive(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// For the descriptors of the libraries, which they open to block.
pub(super) fn set_nonblocking(fd: i32) -> io::Result<()> {
    // SAFETY: plain system call.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain system call.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
