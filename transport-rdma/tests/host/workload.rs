//! A workload that writes every place of a namespace and reads it back, and notes what it was told.

use std::cell::RefCell;
use std::rc::Rc;

use nvmf_core::host::{Attached, Discovered};
use reactor::{Progress, Rest, Segment};
use transport_rdma::host::{Ended, HostFailure, IoCommand, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::world::BLOCK_LEN;

/// What a workload was told.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) attached: Option<Attached>,
    pub(crate) discovered: Option<Vec<Discovered>>,
    pub(crate) failure: Option<HostFailure>,
    pub(crate) is_done: bool,
    pub(crate) verified_count: u64,
    pub(crate) ended_count: u64,
    /// Associations of which nothing is left.
    pub(crate) apart_count: u64,
}

pub(crate) type SharedNotes = Rc<RefCell<Notes>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Writing,
    Reading,
}

struct Slot {
    buffer: Segment,
    /// Where it is at work.
    place: Option<u64>,
}

pub(crate) struct VerifyAll {
    notes: SharedNotes,
    nsid: u32,
    blocks_per_io: u32,
    first_place: u64,
    place_count: u64,
    depth: usize,
    slots: Vec<Slot>,
    phase: Phase,
    next: u64,
    /// Writes and reads for ever.
    endless: bool,
    round: u64,
}

impl VerifyAll {
    /// Blocks `first_place …` in I/Os of `blocks_per_io` blocks.
    pub(crate) fn new(notes: SharedNotes, nsid: u32, blocks_per_io: u32, first_place: u64, place_count: u64) -> Self {
        Self {
            notes,
            nsid,
            blocks_per_io,
            first_place,
            place_count,
            depth: 0,
            slots: Vec::new(),
            phase: Phase::Writing,
            next: 0,
            endless: false,
            round: 0,
        }
    }

    pub(crate) fn endless(self) -> Self {
        Self { endless: true, ..self }
    }

    fn content(&self, place: u64) -> Vec<u8> {
        let len = (self.blocks_per_io * BLOCK_LEN) as usize;
        let mut word = place ^ self.round << 40 ^ u64::from(self.nsid) << 56;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            bytes.extend_from_slice(&(word ^ word >> 29).to_le_bytes());
        }
        bytes
    }
}

impl Workload for VerifyAll {
    fn ready(&mut self, start: Start<'_>) {
        assert!(self.notes.borrow_mut().attached.replace(start.attached.clone()).is_none(), "ready twice");
        let len = (self.blocks_per_io * BLOCK_LEN) as usize;
        self.depth = usize::from(start.queue_depth);
        let count = self.depth * usize::from(start.queue_count);
        self.slots =
            (0..count).map(|index| Slot { buffer: start.memory.part(index * len, len), place: None }).collect();
    }

    fn discovered(&mut self, found: &[Discovered]) {
        let mut notes = self.notes.borrow_mut();
        notes.discovered = Some(found.to_vec());
        notes.is_done = true;
    }

    fn poll<Q: Port>(&mut self, _now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        let idle = self.slots.iter().filter(|slot| slot.place.is_none()).count();
        if self.next == self.place_count && idle == self.slots.len() {
            self.next = 0;
            match self.phase {
                Phase::Writing => self.phase = Phase::Reading,
                Phase::Reading if self.endless => (self.phase, self.round) = (Phase::Writing, self.round + 1),
                Phase::Reading => {
                    self.next = self.place_count;
                    self.notes.borrow_mut().is_done = true;
                }
            }
        }
        let mut any = false;
        for index in 0..self.slots.len() {
            if self.next == self.place_count || self.slots[index].place.is_some() {
                continue;
            }
            let place = self.first_place + self.next;
            let (nsid, block_count) = (self.nsid, self.blocks_per_io);
            let slba = place * u64::from(block_count);
            let buffer = self.slots[index].buffer;
            let command = if self.phase == Phase::Writing {
                buffer.write(0, &self.content(place));
                IoCommand::Write { nsid, slba, block_count, force_unit_access: false, buffer }
            } else {
                buffer.zero();
                IoCommand::Read { nsid, slba, block_count, buffer }
            };
            let queue = u16::try_from(index / self.depth).unwrap();
            if io.submit(queue, index as u64, &command).is_ok() {
                self.slots[index].place = Some(place);
                self.next += 1;
                any = true;
            }
        }
        Progress::busy_if(any)
    }

    fn completed(&mut self, _now_ns: u64, ended: &[Ended]) {
        for ended in ended {
            assert!(ended.status.is_success(), "{}", ended.status);
            let index = usize::try_from(ended.tag).unwrap();
            assert_eq!(usize::from(ended.queue), index / self.depth, "it ended on another queue");
            let place = self.slots[index].place.take().expect("a command ended twice");
            if self.phase == Phase::Reading {
                let expected = self.content(place);
                let mut got = vec![0; expected.len()];
                self.slots[index].buffer.read(0, &mut got);
                assert!(got == expected, "namespace {} place {place}: {:?} …", self.nsid, &got[..16]);
                self.notes.borrow_mut().verified_count += 1;
            }
            self.notes.borrow_mut().ended_count += 1;
        }
    }

    fn rest(&mut self, _now_ns: u64) -> Rest {
        // It submits as long as there is room, and room comes with what ends.
        Rest::Sleep
    }

    fn is_done(&self) -> bool {
        self.notes.borrow().is_done
    }

    fn failed(&mut self, failure: &HostFailure) {
        let mut notes = self.notes.borrow_mut();
        assert!(!notes.is_done, "failed after it was done");
        assert!(notes.failure.replace(failure.clone()).is_none(), "failed twice");
    }

    fn apart(&mut self, _now_ns: u64) {
        let mut notes = self.notes.borrow_mut();
        assert!(notes.is_done || notes.failure.is_some(), "neither done nor failed");
        notes.apart_count += 1;
        (notes.attached, notes.is_done) = (None, false);
        (self.phase, self.next, self.round) = (Phase::Writing, 0, self.round + 1);
    }
}
