//! Reads or writes blocks of a file at random through one channel of the file device, for scripts/bench-file to set beside fio with io_uring.
//!
//! ```text
//! file-load FILE read|write BLOCK_LEN DEPTH SECONDS
//! ```
//!
//! Sleeps where there is nothing to do, as fio does, so that neither takes the CPU from the kernel's side of it. Prints operations per second. What a write leaves in the file is zeroes.
#![allow(clippy::disallowed_methods, reason = "a measurement has a clock")]

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use bdev::{Channel, Device, File, FileOptions, Operation, OperationKind};
use reactor::{Arena, Rest};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, kind, len, depth, seconds] = arguments.as_slice() else {
        return Err("usage: file-load FILE read|write BLOCK_LEN DEPTH SECONDS".into());
    };
    let kind = match kind.as_str() {
        "read" => OperationKind::Read,
        "write" => OperationKind::Write { force_unit_access: false },
        other => return Err(format!("{other}: read or write").into()),
    };
    let (len, depth): (usize, u32) = (len.parse()?, depth.parse()?);
    let device = File::open("file", Path::new(path), FileOptions { queue_depth: depth, ..FileOptions::default() })?;
    if !device.is_direct() || !device.uses_ring() {
        return Err(format!("{path}: not through io_uring, or not past the page cache: nothing to compare").into());
    }
    let geometry = device.geometry();
    let block_count = (len / geometry.block_len as usize) as u64;
    let place_count = geometry.block_count / block_count;
    let memory = Arena::new(len * depth as usize, false)?.segment();
    let mut channel = device.open_channel()?;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |token: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let start_block = random % place_count * block_count;
        let at = usize::try_from(token).unwrap_or(0) * len;
        Operation { token, host: 0, kind, start_block, block_count, data: Some(memory.part(at, len)) }
    };
    let mut operations: VecDeque<Operation> = (0..u64::from(depth)).map(&mut next).collect();
    let mut completions = Vec::new();
    let (begin, time) = (Instant::now(), Duration::from_secs_f64(seconds.parse()?));
    let mut ended_count = 0_u64;
    let mut is_over = false;
    while !is_over || channel.outstanding_count() > 0 {
        if !is_over {
            channel.submit(0, &mut operations);
        }
        channel.poll(0, &mut completions);
        if completions.is_empty() {
            sleep(&mut *channel);
        }
        for completion in completions.drain(..) {
            completion.result.map_err(|error| format!("{error:?}"))?;
            ended_count += u64::from(!is_over);
            operations.push_back(next(completion.token));
        }
        is_over = is_over || begin.elapsed() >= time;
    }
    println!("{:.0}", ended_count as f64 / time.as_secs_f64());
    Ok(())
}

/// Until a completion is there.
fn sleep(channel: &mut dyn Channel) {
    if channel.arm() == Rest::Sleep
        && let Some(fd) = channel.wake_descriptor()
    {
        let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is the channel's.
        unsafe { libc::poll(&raw mut watched, 1, 1000) };
    }
    channel.disarm();
}
