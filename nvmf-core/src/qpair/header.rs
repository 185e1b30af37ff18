//! What everybody may know of a qpair: facts fixed when it was made, its stage, and counters; all with one writer, its CPU.
//!
//! Headers stand in the [`crate::Directory`]'s table of their CPU, under their handle's index, and are read by reference for one turn.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use reactor::{Counter, Handle};

use crate::Qpair;
use crate::transport::QpairSpec;

/// Where a qpair is in its life, as others see it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QpairStage {
    /// The connection stands; Connect has not succeeded.
    Connecting = 0,
    /// An admin queue with a controller.
    Admin = 1,
    /// An I/O queue of a controller.
    Io = 2,
    /// It ends.
    Draining = 3,
}

/// What commands have done: as the SMART log counts, when they are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that read.
    pub read_count: u64,
    /// The bytes that they bring.
    pub read_bytes: u64,
    /// Commands that write.
    pub write_count: u64,
    /// The bytes that they take.
    pub written_bytes: u64,
}

impl Tally {
    /// The larger of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            read_count: self.read_count.max(other.read_count),
            read_bytes: self.read_bytes.max(other.read_bytes),
            write_count: self.write_count.max(other.write_count),
            written_bytes: self.written_bytes.max(other.written_bytes),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.read_count += other.read_count;
        self.read_bytes += other.read_bytes;
        self.write_count += other.write_count;
        self.written_bytes += other.written_bytes;
    }
}

/// A qpair's public side.
#[derive(Debug)]
pub struct QpairHeader {
    /// Its name on its CPU.
    pub handle: Handle<Qpair>,
    /// Where the host connected to.
    pub listener: SocketAddr,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Queue id.
    pub qid: u16,
    /// Entries agreed at transport level.
    pub depth: u16,
    /// When it was made.
    pub opened_ns: u64,
    /// Commands fetched.
    pub command_count: Counter,
    /// When the last command was fetched.
    pub last_command_ns: Counter,
    /// Commands fetched that read, and the bytes that they bring.
    pub read_count: Counter,
    /// See `read_count`.
    pub read_bytes: Counter,
    /// Commands fetched that write, and the bytes that they take.
    pub write_count: Counter,
    /// See `write_count`.
    pub written_bytes: Counter,
    stage: AtomicU8,
    controller_id: AtomicU16,
}

impl QpairHeader {
    pub(crate) fn new(handle: Handle<Qpair>, spec: &QpairSpec, now_ns: u64) -> Self {
        Self {
            handle,
            listener: spec.listener,
            peer: spec.peer,
            qid: spec.qid,
            depth: spec.depth,
            opened_ns: now_ns,
            command_count: Counter::new(),
            last_command_ns: Counter::new(),
            read_count: Counter::new(),
            read_bytes: Counter::new(),
            write_count: Counter::new(),
            written_bytes: Counter::new(),
            stage: AtomicU8::new(QpairStage::Connecting as u8),
            controller_id: AtomicU16::new(0),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn stage(&self) -> QpairStage {
        // Relaxed: the byte stands for itself, nothing is read because of it.
        match self.stage.load(Ordering::Relaxed) {
            0 => QpairStage::Connecting,
            1 => QpairStage::Admin,
            2 => QpairStage::Io,
            _ => QpairStage::Draining,
        }
    }

    /// Its controller, once Connect has succeeded.
    #[must_use]
    pub fn controller_id(&self) -> Option<u16> {
        Some(self.controller_id.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    /// What it has done so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            read_count: self.read_count.value(),
            read_bytes: self.read_bytes.value(),
            write_count: self.write_count.value(),
            written_bytes: self.written_bytes.value(),
        }
    }

    /// Only its CPU may.
    pub(crate) fn set_stage(&self, stage: QpairStage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Only its CPU may.
    pub(crate) fn set_controller_id(&self, id: u16) {
        self.controller_id.store(id, Ordering::Relaxed);
    }
}
