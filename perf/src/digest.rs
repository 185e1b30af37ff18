//! The digesting workload: reads a namespace whole and hashes it in order, with several reads outstanding.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use reactor::{Progress, Segment};
use sha2::{Digest as _, Sha256};
use transport_rdma::host::{Ended, HostFailure, IoCommand, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::outcome::{End, Live, Outcome, Stop};
use crate::settings::Settings;

/// One read, in the order of the namespace.
struct Read {
    slot: u32,
    len: usize,
    has_ended: bool,
}

/// The whole of one namespace.
struct Namespace {
    nsid: u32,
    block_len: u64,
    block_count: u64,
}

/// A namespace's digest.
pub(crate) struct DigestWorkload {
    settings: Arc<Settings>,
    live: Arc<Live>,
    stop: Arc<Stop>,
    ends: Sender<End>,
    namespace: Option<Namespace>,
    buffers: Vec<Segment>,
    idle: Vec<u32>,
    /// Reads that were submitted and not hashed, oldest first.
    reads: VecDeque<Read>,
    /// The next block to read.
    next_block: u64,
    hash: Sha256,
    byte_count: u64,
    scratch: Vec<u8>,
    begin_ns: u64,
    outcome: Outcome,
    is_done: bool,
}

impl DigestWorkload {
    pub(crate) fn new(settings: Arc<Settings>, live: Arc<Live>, stop: Arc<Stop>, ends: Sender<End>) -> Self {
        let scratch = vec![0; settings.io_len];
        Self {
            settings,
            live,
            stop,
            ends,
            namespace: None,
            buffers: Vec::new(),
            idle: Vec::new(),
            reads: VecDeque::new(),
            next_block: 0,
            hash: Sha256::new(),
            byte_count: 0,
            scratch,
            begin_ns: 0,
            outcome: Outcome::default(),
            is_done: false,
        }
    }

    fn begin(&mut self, start: &Start<'_>) -> Result<(), String> {
        let nsid = self.settings.nsids[0];
        let known = &start.attached.namespaces;
        let found = known.iter().find(|namespace| namespace.nsid == nsid);
        let namespace = found.ok_or_else(|| {
            let known: Vec<_> = known.iter().map(|namespace| namespace.nsid.to_string()).collect();
            format!("nsid is {nsid}; the controller has {}", known.join(", "))
        })?;
        // Where the controller takes less than we would like, less it is.
        let io_len = self.settings.io_len.min(start.attached.transfer_len_max as usize);
        if namespace.block_len as usize > io_len || namespace.block_len == 0 {
            return Err(format!("blocks of {} bytes, at most {io_len} are read at a time", namespace.block_len));
        }
        let (block_len, block_count) = (u64::from(namespace.block_len), namespace.block_count);
        self.namespace = Some(Namespace { nsid, block_len, block_count });
        self.scratch.truncate(io_len - io_len % namespace.block_len as usize);
        for index in 0..usize::from(start.queue_depth) {
            self.buffers.push(start.memory.part(index * self.settings.io_len, self.scratch.len()));
        }
        self.idle = (0..u32::from(start.queue_depth)).rev().collect();
        self.live.io_total.set((block_count * block_len).div_ceil(self.scratch.len() as u64));
        Ok(())
    }

    fn submit<Q: Port>(&mut self, io: &mut IoQueues<'_, Q>) -> bool {
        let Some(Namespace { nsid, block_len, block_count }) = self.namespace else { return false };
        let mut any = false;
        while self.next_block < block_count {
            let Some(slot) = self.idle.pop() else { break };
            let most = self.scratch.len() as u64 / block_len;
            let count = most.min(block_count - self.next_block);
            let len = usize::try_from(count * block_len).expect("no longer than the scratch");
            let buffer = self.buffers[slot as usize].part(0, len);
            let read = IoCommand::Read {
                nsid,
                slba: self.next_block,
                block_count: u32::try_from(count).expect("no longer than the scratch"),
                buffer,
            };
            if io.submit(0, u64::from(slot), &read).is_err() {
                self.idle.push(slot);
                break;
            }
            self.reads.push_back(Read { slot, len, has_ended: false });
            self.next_block += count;
            any = true;
        }
        any
    }

    fn hash(&mut self) {
        while let Some(read) = self.reads.pop_front_if(|read| read.has_ended) {
            let bytes = &mut self.scratch[..read.len];
            self.buffers[read.slot as usize].read(0, bytes);
            self.hash.update(bytes);
            self.byte_count += read.len as u64;
            self.idle.push(read.slot);
        }
    }

    fn finish(&mut self, now_ns: u64) {
        self.is_done = true;
        self.outcome.elapsed_ns = now_ns.saturating_sub(self.begin_ns);
        if self.outcome.errors.is_empty() && !self.outcome.was_stopped && self.outcome.refused.is_none() {
            self.outcome.digest = Some((std::mem::take(&mut self.hash).finalize().into(), self.byte_count));
        }
        let _ = self.ends.send(End::Outcome(Box::new(std::mem::take(&mut self.outcome))));
    }
}

impl Workload for DigestWorkload {
    fn ready(&mut self, start: Start<'_>) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        self.begin_ns = start.now_ns;
        if let Err(refused) = self.begin(&start) {
            self.outcome.refused = Some(refused);
            self.finish(start.now_ns);
        }
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        let Some(block_count) = self.namespace.as_ref().map(|namespace| namespace.block_count) else {
            return Progress::Idle;
        };
        if self.is_done {
            return Progress::Idle;
        }
        self.outcome.was_stopped |= self.stop.is_asked();
        if self.outcome.was_stopped || !self.outcome.errors.is_empty() {
            self.next_block = block_count;
        }
        let any = self.submit(io);
        if self.next_block == block_count && self.reads.is_empty() {
            self.finish(now_ns);
        }
        Progress::busy_if(any)
    }

    fn completed(&mut self, _now_ns: u64, ended: &[Ended]) {
        for &Ended { tag, status, .. } in ended {
            if !status.is_success() {
                *self.outcome.errors.entry(status).or_default() += 1;
            }
            let read = self.reads.iter_mut().find(|read| u64::from(read.slot) == tag);
            read.expect("our own tag").has_ended = true;
        }
        self.hash();
        self.live.io_count.add(ended.len() as u64);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn failed(&mut self, failure: &HostFailure) {
        let _ = self.ends.send(End::Failed(failure.clone()));
    }
}
