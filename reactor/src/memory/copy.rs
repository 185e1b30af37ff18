//! The one routine that moves bytes from and to memory that a device or a peer may write at the same time.
//!
//! On x86-64 it is assembly (`rep movsb` from 256 bytes up), elsewhere and under Miri a loop of volatile accesses: either way
//! the compiler may not assume that bytes read twice are equal, nor read or write anything of its own. Concurrent writes
//! make the copied bytes a mixture; whoever copies checks the private copy, never the source.

/// Copies `len` bytes. Ranges that overlap give undefined *bytes*, nothing worse.
///
/// # Safety
/// `len` bytes from `src` are mapped readable and from `dst` writable for the whole call. Rust references to them, if there are
/// any, belong to the caller, who holds the target's exclusively.
#[inline]
pub unsafe fn copy_bytes(dst: *mut u8, src: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= STRING_MIN_LEN {
        // SAFETY: the caller's promise.
        return unsafe { string_copy(dst, src, len) };
    }
    // SAFETY: the caller's promise.
    unsafe { volatile_copy(dst, src, len) }
}

/// Writes `len` zeroes.
///
/// # Safety
/// As [`copy_bytes`] for `dst`.
pub(super) unsafe fn zero_bytes(dst: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= STRING_MIN_LEN {
        // SAFETY: the caller's promise.
        return unsafe { string_zero(dst, len) };
    }
    for at in 0..len {
        // SAFETY: `at` is below `len`.
        let byte = unsafe { dst.add(at) };
        // SAFETY: the caller's promise.
        unsafe { byte.write_volatile(0) };
    }
}

/// Below this the start-up of the string instructions costs more than it saves.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const STRING_MIN_LEN: usize = 256;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn string_copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention. No `nomem`: the compiler must
    // expect any memory to have changed.
    unsafe {
        std::arch::asm!("rep movsb", inout("rdi") dst => _, inout("rsi") src => _, inout("rcx") len => _, options(nostack, preserves_flags));
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn string_zero(dst: *mut u8, len: usize) {
    // SAFETY: as for `string_copy`.
    unsafe {
        std::arch::asm!("rep stosb", inout("rdi") dst => _, inout("rcx") len => _, in("al") 0u8, options(nostack, preserves_flags));
    }
}

#[inline]
unsafe fn volatile_copy(dst: *mut u8, src: *const u8, len: usize) {
    let mut at = 0;
    while len - at >= 8 {
        // SAFETY: eight more bytes are inside the source.
        let from = unsafe { src.add(at) }.cast::<[u8; 8]>();
        // SAFETY: eight more bytes are inside the target.
        let to = unsafe { dst.add(at) }.cast::<[u8; 8]>();
        // SAFETY: the caller's promise; a byte array has no alignment.
        let bytes = unsafe { from.read_volatile() };
        // SAFETY: likewise.
        unsafe { to.write_volatile(bytes) };
        at += 8;
    }
    while at < len {
        // SAFETY: `at` is inside the source.
        let from = unsafe { src.add(at) };
        // SAFETY: `at` is inside the target.
        let to = unsafe { dst.add(at) };
        // SAFETY: the caller's promise.
        let byte = unsafe { from.read_volatile() };
        // SAFETY: likewise.
        unsafe { to.write_volatile(byte) };
        at += 1;
    }
}
