//! One region of zeroes for all devices that read or write such: a thousand of them have as much memory as one.
//!
//! It is there from the first of them until the process ends, under one region's id, so that a transport registers it once, and keeps it registered while a null device is there.

use std::sync::{Mutex, PoisonError};

use reactor::{Arena, Segment};

use crate::device::BdevError;

/// Bytes: at least the largest transfer that makes sense; longer reads are zeroed by hand.
const LEN: usize = 1 << 20;

/// Never written. For `device`, which is the first to need it or not.
///
/// # Errors
/// If there is not enough memory.
pub(crate) fn zeroes(device: &str) -> Result<Segment, BdevError> {
    static ZEROES: Mutex<Option<Arena>> = Mutex::new(None);
    let mut zeroes = ZEROES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(arena) = &*zeroes {
        return Ok(arena.segment());
    }
    let arena = Arena::new(LEN, false).map_err(|source| BdevError::Memory { device: device.to_owned(), source })?;
    Ok(zeroes.insert(arena).segment())
}
