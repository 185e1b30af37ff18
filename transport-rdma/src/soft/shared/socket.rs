//! Unix sockets that keep message boundaries and carry descriptors.
//!
//! Thin: each function is one or two system calls. Owned by the provider's control plane, except [`connect`], which may wait and is for the worker.
//!
//! Invariant, cited by the `SAFETY` notes:
//! 1. Descriptors that the kernel gives are owned at once; all are close-on-exec. Buffers that it fills are ours, with their true lengths.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest message.
pub(super) const MESSAGE_LEN_MAX: usize = 512;
/// Most descriptors of a message.
pub(super) const DESCRIPTOR_COUNT_MAX: usize = 2;

/// `SO_PEERPIDFD`: Linux 6.5 and later; not in every libc.
const SO_PEERPIDFD: libc::c_int = 77;
const CONTROL_LEN: usize = 64;

/// Aligned for `cmsghdr`.
#[repr(C, align(16))]
struct Control([u8; CONTROL_LEN]);

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) pid: i32,
    pub(super) uid: u32,
}

/// What a look at a socket gave.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A message of so many bytes, with its descriptors.
    Message(usize, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other end is closed.
    Closed,
    /// A message too long, or with too many descriptors: nobody who follows the protocol sends that.
    Oversized,
}

/// Listens on a path, which must not exist. Non-blocking.
pub(super) fn listen(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket = new_socket(true)?;
    let (address, len) = socket_address(path)?;
    // SAFETY: a valid address of that length.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    // SAFETY: plain system call.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    Ok(socket)
}

/// Connects; waits at most a second for room in the listener's backlog. For the worker.
pub(super) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(false)?;
    let fd = socket.as_raw_fd();
    let patience = libc::timeval { tv_sec: 1, tv_usec: 0 };
    set_option(fd, libc::SO_SNDTIMEO, &patience)?;
    let (address, len) = socket_address(path)?;
    // SAFETY: a valid address of that length.
    check(unsafe { libc::connect(fd, (&raw const address).cast(), len) })?;
    // SAFETY: plain system call.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: plain system call.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(socket)
}

/// The next connection that waits, if one does.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no address is wanted.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ECONNABORTED | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: invariant 1.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Who is at the other end.
pub(super) fn peer_credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    // SAFETY: all zeroes is a valid ucred.
    let mut credentials: libc::ucred = unsafe { std::mem::zeroed() };
    option(socket.as_raw_fd(), libc::SO_PEERCRED, &mut credentials)?;
    Ok(Credentials { pid: credentials.pid, uid: credentials.uid })
}

/// The process at the other end, as a descriptor that becomes readable when it dies.
pub(super) fn peer_process(socket: &OwnedFd, pid: i32) -> io::Result<OwnedFd> {
    let mut fd: libc::c_int = -1;
    if option(socket.as_raw_fd(), SO_PEERPIDFD, &mut fd).is_err() || fd < 0 {
        // Older kernels: by number. The process holds the socket's other end open now, so the number is its own, unless it has died since; then the
        // socket hangs up as well.
        // SAFETY: plain system call.
        let opened = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        fd = RawFd::try_from(opened).map_err(io::Error::other)?;
    }
    // SAFETY: invariant 1: both ways give a new descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends one message, all of it or nothing. `WouldBlock` if the other end does not read.
pub(super) fn send(socket: &OwnedFd, message: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    assert!(message.len() <= MESSAGE_LEN_MAX && descriptors.len() <= DESCRIPTOR_COUNT_MAX);
    let mut control = Control([0; CONTROL_LEN]);
    let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: all zeroes is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let len = libc::c_uint::try_from(size_of::<RawFd>() * descriptors.len()).unwrap_or(0);
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: arithmetic only.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(len) } as usize;
        // SAFETY: the control buffer is long enough for one header: CMSG_SPACE(8) is 24.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: arithmetic only.
        let cmsg_len = unsafe { libc::CMSG_LEN(len) } as usize;
        let head = libc::cmsghdr { cmsg_len, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
        // SAFETY: `first` points into the control buffer, which is aligned for it.
        unsafe { first.write(head) };
        // SAFETY: arithmetic within the control buffer.
        let data = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
        for (at, descriptor) in descriptors.iter().enumerate() {
            // SAFETY: at most DESCRIPTOR_COUNT_MAX, for which there is room.
            let place = unsafe { data.add(at) };
            // SAFETY: as above.
            unsafe { place.write_unaligned(descriptor.as_raw_fd()) };
        }
    }
    // SAFETY: the header describes our buffers.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The next message.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8; MESSAGE_LEN_MAX]) -> io::Result<Arrival> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LEN;
    // SAFETY: the header describes our buffers.
    let len =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
    if len < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(Arrival::Nothing),
            Some(libc::ECONNRESET | libc::EPIPE) => Ok(Arrival::Closed),
            _ => Err(error),
        };
    }
    // Owned before anything else is looked at: whatever is refused below closes them.
    let descriptors = take_descriptors(&header);
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 || descriptors.len() > DESCRIPTOR_COUNT_MAX {
        return Ok(Arrival::Oversized);
    }
    match usize::try_from(len) {
        Ok(0) | Err(_) => Ok(Arrival::Closed),
        Ok(len) => Ok(Arrival::Message(len, descriptors)),
    }
}

/// Two ends that are connected to each other.
pub(super) fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut ends: [libc::c_int; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: invariant 1.
    Ok(ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }))
}

/// Whether a descriptor is a Unix socket that keeps message boundaries, as those of [`pair`] are.
pub(super) fn is_message_socket(descriptor: &OwnedFd) -> bool {
    let (mut domain, mut kind): (libc::c_int, libc::c_int) = (-1, -1);
    let fd = descriptor.as_raw_fd();
    option(fd, libc::SO_DOMAIN, &mut domain).is_ok()
        && option(fd, libc::SO_TYPE, &mut kind).is_ok()
        && (domain, kind) == (libc::AF_UNIX, libc::SOCK_SEQPACKET)
}

fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel filled the control buffer; the macros stay inside its length.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: `at` points to a header inside the control buffer.
        let head = unsafe { at.read() };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: arithmetic only.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = head.cmsg_len.saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: arithmetic within the control buffer.
            let data = unsafe { libc::CMSG_DATA(at) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: the kernel wrote `count` descriptors.
                let place = unsafe { data.add(index) };
                // SAFETY: as above.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: invariant 1.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: as for the first.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    descriptors
}

fn new_socket(nonblocking: bool) -> io::Result<OwnedFd> {
    let extra = if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: plain system call.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | extra, 0) })?;
    // SAFETY: invariant 1.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn socket_address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all zeroes is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the path {} is too long for a Unix socket: choose a shorter runtime directory", path.display()),
        ));
    }
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok((address, length_of::<libc::sockaddr_un>()))
}

fn option<T>(fd: RawFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut len = length_of::<T>();
    // SAFETY: the buffer is ours and as long as said.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, std::ptr::from_mut(value).cast(), &raw mut len) })?;
    Ok(())
}

fn set_option<T>(fd: RawFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let value_len = length_of::<T>();
    // SAFETY: the buffer is ours and as long as said.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, std::ptr::from_ref(value).cast(), value_len) })?;
    Ok(())
}

fn length_of<T>() -> libc::socklen_t {
    // Structures of the kernel's interface: some hundred bytes at most.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
