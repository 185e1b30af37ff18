//! What a command is in bytes, and what the model is told when it is sent.

use super::RawHost;
use super::claim::Claim;
use super::commands::{Capsule, cid_of, keyed};
use super::nvme::{self, COMMAND_LEN};
use super::orders::Command;
use super::queue::{Aim, Second, Sent};
use crate::sim::host::model::Extent;
use crate::sim::world::layout::BLOCK_LEN;

/// A key that is none.
const NO_KEY: u32 = 0xDEAD_BE00;
/// Bytes that are asked for of a reservation report: a few registrants.
const REPORT_LEN: usize = 1024;

impl Sent {
    /// The namespace of an I/O command whose end the law judges.
    pub(super) fn nsid(&self) -> Option<u32> {
        match self {
            Self::Write(write) | Self::Zeroes(write) => Some(write.extent.nsid()),
            Self::Swap(swap) => Some(swap.write.extent.nsid()),
            Self::Read(read) => Some(read.extent.nsid()),
            Self::Compare(extent, _) => Some(extent.nsid()),
            Self::Flush(nsid) => Some(*nsid),
            Self::Connect
            | Self::Enable
            | Self::Status
            | Self::QueueCount
            | Self::Identify
            | Self::EventRequest
            | Self::KeepAlive
            | Self::ShutDown
            | Self::Abort(_)
            | Self::Look
            | Self::Claim(..)
            | Self::WrongKey
            | Self::WrongSgl
            | Self::Anything => None,
        }
    }
}

impl RawHost {
    /// Everything but pairs, and what is shorter than a command. `None`: there is nothing to be sent.
    pub(super) fn make(&mut self, place: usize, slot: usize, command: &Command) -> Option<(Sent, Capsule)> {
        if let Command::Abort { qid, further } = command {
            return self.make_abort(place, slot, *qid, *further);
        }
        let key = self.remote_key()?;
        let (number, model) = (self.number, &self.model);
        let slots = &mut self.queues[place].as_mut()?.slots;
        let cid = cid_of(slots[slot].number, slot);
        let buffer = &mut slots[slot].buffer;
        let mut inside = None;
        let (sent, bytes) = match command {
            Command::Write { extent, in_capsule } => {
                let mut data = vec![0; extent.len()];
                let write = model.begin_write(number, *extent, &mut data);
                let data = buffer.fill(&data);
                let is_inside = *in_capsule && extent.count == 1;
                inside = is_inside.then_some(data);
                let sgl = if is_inside { nvme::in_capsule(BLOCK_LEN) } else { keyed(data, key) };
                (Sent::Write(write), nvme::write(cid, *extent, sgl))
            }
            Command::WriteZeroes(extent) => {
                (Sent::Zeroes(model.begin_write_zeroes(number, *extent)), nvme::write_zeroes(cid, *extent))
            }
            Command::Read(extent) => {
                let sgl = keyed(buffer.clear(extent.len()), key);
                (Sent::Read(model.begin_read(*extent)), nvme::read(cid, *extent, sgl))
            }
            Command::WrongKey => {
                let sgl = keyed(buffer.fill(&[0; BLOCK_LEN as usize]), NO_KEY);
                (Sent::WrongKey, nvme::read(cid, FIRST_BLOCK, sgl))
            }
            Command::WrongSgl => (Sent::WrongSgl, nvme::read(cid, FIRST_BLOCK, nvme::no_sgl())),
            Command::Flush => (Sent::Flush(1), nvme::flush(cid, 1)),
            Command::EventRequest => (Sent::EventRequest, nvme::async_event_request(cid)),
            Command::KeepAlive => (Sent::KeepAlive, nvme::keep_alive(cid)),
            Command::Claim { nsid, claim } => {
                let sgl = keyed(buffer.fill(&claim.data()), key);
                let Claim { opcode, word, .. } = *claim;
                (Sent::Claim(claim.clone(), *nsid), nvme::reservation(opcode, cid, *nsid, word, sgl))
            }
            Command::ReservationReport(nsid) => {
                let sgl = keyed(buffer.clear(REPORT_LEN), key);
                (Sent::Look, nvme::reservation_report(cid, *nsid, len_of(REPORT_LEN), sgl))
            }
            Command::IdentifyNamespace(nsid) => {
                let sgl = keyed(buffer.clear(nvme::IDENTIFY_LEN), key);
                (Sent::Look, nvme::identify_namespace(cid, *nsid, sgl))
            }
            Command::LogPage(log, len) => {
                let sgl = keyed(buffer.clear(*len as usize), key);
                (Sent::Look, nvme::log_page(cid, *log, *len, sgl))
            }
            Command::Bytes(bytes) => {
                let mut whole = <[u8; COMMAND_LEN]>::try_from(bytes.as_slice()).ok()?;
                whole[2..4].copy_from_slice(&cid.to_le_bytes());
                (Sent::Anything, whole)
            }
            Command::Swap(_) | Command::Abort { .. } => return None,
        };
        Some((sent, Capsule { bytes, data: inside }))
    }

    fn make_abort(&mut self, place: usize, slot: usize, qid: u16, further: usize) -> Option<(Sent, Capsule)> {
        let aimed = self.up_queue(qid)?;
        let queue = self.queues[aimed].as_mut()?;
        let out: Vec<usize> =
            (0..).zip(&queue.slots).filter(|(_, slot)| slot.sent.is_some()).map(|(at, _)| at).collect();
        let at = *out.get(further.checked_rem(out.len())?)?;
        let aim = Aim { place: aimed, generation: queue.generation, slot: at, number: queue.slots[at].number };
        queue.slots[at].memo.abort_count += 1;
        let cid = cid_of(self.queues[place].as_ref()?.slots[slot].number, slot);
        Some((Sent::Abort(aim), Capsule { bytes: nvme::abort(cid, qid, cid_of(aim.number, at)), data: None }))
    }

    /// Two commands, one behind the other.
    pub(super) fn submit_pair(&mut self, place: usize, first: usize, extent: Extent) -> bool {
        let (Some(key), Some(queue)) = (self.remote_key(), &mut self.queues[place]) else { return false };
        let is_free = |(at, slot): &(usize, &super::queue::Slot)| *at != first && slot.is_free();
        let room = usize::from(queue.opening.depth)
            .saturating_sub(queue.slots.iter().filter(|slot| slot.sent.is_some()).count());
        let Some((second, _)) = queue.slots.iter().enumerate().find(is_free).filter(|_| room >= 2) else {
            return false;
        };
        let old = self.known.entry(extent.start).or_insert_with(|| vec![0; extent.len()]).clone();
        let mut new = vec![0; extent.len()];
        let swap = self.model.begin_swap(self.number, extent, &old, &mut new);
        let cid = |slot: usize| cid_of(queue.slots[slot].number, slot);
        let (first_cid, second_cid) = (cid(first), cid(second));
        let named = Second { slot: second, number: queue.slots[second].number };
        let sgl = keyed(queue.slots[first].buffer.fill(&old), key);
        let compare = nvme::fused(nvme::compare(first_cid, extent, sgl), true);
        let sgl = keyed(queue.slots[second].buffer.fill(&new), key);
        let write = nvme::fused(nvme::write(second_cid, extent, sgl), false);
        let qid = queue.qid;
        self.history.note(&self.name, || format!("queue {qid}: sends a pair as {first} and {second}"));
        // Both are noted first: a post that fails ends the queue, and loses them together.
        self.note_sent(place, first, Sent::Compare(extent, named));
        self.note_sent(place, second, Sent::Swap(swap));
        if self.post_send(place, first, &compare, None) {
            self.post_send(place, second, &write, None);
        }
        true
    }
}

/// Where commands read that are wrong in another way.
const FIRST_BLOCK: Extent = Extent { start: 0, count: 1 };

fn len_of(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
