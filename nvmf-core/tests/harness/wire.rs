//! The fabric of one CPU: lists of what is on its way, and the host's memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nvmf_core::wire::CompletionEntry;
use nvmf_core::{Arrival, DisconnectReason, Qpair, QpairSpec, Receive, RemoteBuffer, Slot, Transport};
use reactor::{Handle, Progress, RegionId, Segment, Turn};

use super::{CAPSULE_COUNT, CAPSULE_ROOM, HOST_MEMORY_LEN};

/// One connection, as its host and the fake fabric see it.
pub struct Connection {
    pub spec: QpairSpec,
    pub handle: Option<Handle<Qpair>>,
    pub responses: Vec<CompletionEntry>,
    pub invalidated: Vec<Option<u32>>,
    pub ended: Option<DisconnectReason>,
    pub closed: bool,
    pub(super) capsules: VecDeque<([u8; 64], Vec<u8>)>,
    pub(super) free_slots: Vec<Slot>,
    pub(super) receives_out: u32,
    pub(super) sent: u64,
}

/// One CPU's fabric.
pub struct Wire {
    pub connections: Vec<Connection>,
    pub host_memory: Vec<u8>,
    /// Keeps transfers from the host from ending.
    pub hold_pulls: bool,
    /// Keeps responses' sends from ending.
    pub hold_finished: bool,
    /// Keeps the fabric's part of a teardown from ending.
    pub hold_teardown: bool,
    pub registered: bool,
    /// Where a capsule's data starts in its buffer.
    pub capsule_offset: usize,
    pub(super) opens: VecDeque<usize>,
    pub(super) events: VecDeque<Arrival>,
    pub(super) held: VecDeque<Arrival>,
    pub(super) endings: Vec<(Handle<Qpair>, DisconnectReason)>,
    pub(super) draining: Vec<Handle<Qpair>>,
    pub(super) capsule_memory: Segment,
    pub(super) next_receive: u32,
    pub(super) live_count: usize,
}

impl Wire {
    pub(super) fn by_handle(&mut self, handle: Handle<Qpair>) -> &mut Connection {
        self.connections.iter_mut().find(|c| c.handle == Some(handle)).expect("a qpair of this CPU")
    }

    fn arrive(&mut self) {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let Some(qpair) = connection.handle else { continue };
            if connection.ended.is_some() {
                continue;
            }
            while !connection.capsules.is_empty()
                && let Some(slot) = connection.free_slots.pop()
            {
                let (command, bytes) = connection.capsules.pop_front().unwrap();
                connection.receives_out += 1;
                let id = self.next_receive;
                self.next_receive += 1;
                let data = (!bytes.is_empty()).then(|| {
                    let room = self.capsule_memory.part((id as usize % CAPSULE_COUNT) * CAPSULE_ROOM, CAPSULE_ROOM);
                    let data = room.part(self.capsule_offset, bytes.len());
                    data.write(0, &bytes);
                    data
                });
                // The permit remembers whose it is.
                let receive = Receive { id: u32::try_from(index).unwrap() };
                self.events.push_back(Arrival::Command { qpair, slot, command, data, receive });
            }
        }
    }
}

/// The transport of one CPU.
pub(super) struct Path(pub(super) Rc<RefCell<Wire>>);

impl Transport for Path {
    fn poll<M>(&mut self, _turn: &mut Turn<'_, M>, arrivals: &mut Vec<Arrival>) -> Progress {
        let mut wire = self.0.borrow_mut();
        wire.arrive();
        let mut held = std::mem::take(&mut wire.held);
        wire.events.append(&mut held);
        let mut did = false;
        while let Some(arrival) = wire.events.pop_front() {
            let hold = match &arrival {
                Arrival::Pulled { .. } => wire.hold_pulls,
                Arrival::Finished { .. } => wire.hold_finished,
                Arrival::Command { .. } => false,
            };
            if hold {
                wire.held.push_back(arrival);
                continue;
            }
            if let Arrival::Finished { qpair, slot } = arrival
                && let Some(connection) = wire.connections.iter_mut().find(|c| c.handle == Some(qpair))
            {
                connection.free_slots.push(slot);
            }
            arrivals.push(arrival);
            did = true;
        }
        Progress::busy_if(did)
    }

    fn consumed(&mut self, receive: Receive) {
        let connection = &mut self.0.borrow_mut().connections[receive.id as usize];
        connection.receives_out = connection.receives_out.checked_sub(1).expect("a permit goes back once");
    }

    fn pull(&mut self, qpair: Handle<Qpair>, slot: Slot, from: RemoteBuffer, into: Segment) {
        let mut wire = self.0.borrow_mut();
        assert_eq!(from.len as usize, into.len());
        let Some(range) = host_range(from) else { return wire.endings.push((qpair, DisconnectReason::TransportError)) };
        into.write(0, &wire.host_memory[range]);
        // All pulls of a request end with one arrival.
        let is_known = |event: &Arrival| matches!(event, Arrival::Pulled { qpair: other, slot: of } if (*other, *of) == (qpair, slot));
        if !wire.events.iter().any(is_known) {
            wire.events.push_back(Arrival::Pulled { qpair, slot });
        }
    }

    fn push(&mut self, qpair: Handle<Qpair>, _slot: Slot, from: Segment, to: RemoteBuffer) {
        assert!(from.len() <= to.len as usize, "a push stays inside the host's buffer");
        let mut wire = self.0.borrow_mut();
        let Some(range) = host_range(to) else { return wire.endings.push((qpair, DisconnectReason::TransportError)) };
        let end = range.start + from.len();
        from.read(0, &mut wire.host_memory[range.start..end]);
    }

    fn respond(&mut self, qpair: Handle<Qpair>, slot: Slot, response: [u8; 16], invalidate: Option<u32>) {
        let mut wire = self.0.borrow_mut();
        let connection = wire.by_handle(qpair);
        connection.responses.push(CompletionEntry::from_bytes(response));
        connection.invalidated.push(invalidate);
        wire.events.push_back(Arrival::Finished { qpair, slot });
    }

    fn ring(&mut self) {}

    fn is_registered(&self, _region: RegionId) -> bool {
        self.0.borrow().registered
    }

    fn disconnect(&mut self, qpair: Handle<Qpair>, reason: DisconnectReason) {
        self.0.borrow_mut().endings.push((qpair, reason));
    }
}

/// Where it is in the host's memory. What is elsewhere ends the connection, as with RDMA.
fn host_range(buffer: RemoteBuffer) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(buffer.address).ok()?;
    let end = start.checked_add(buffer.len as usize)?;
    (end <= HOST_MEMORY_LEN).then_some(start..end)
}
