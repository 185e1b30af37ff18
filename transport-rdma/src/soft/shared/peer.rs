//! One peer process, as the control plane knows it.
//!
//! Owned by the provider, in a table by number; numbers are never reused.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::mapping::Mapping;
use super::message::{Instance, Message};
use super::pair::{NEWS_LINE_SLOTS, NEWS_SLOT_COUNT, Pair, RemoteMemory, Side};
use super::socket::{self, Credentials};
use crate::verbs::Ticket;

use std::net::SocketAddr;

/// Messages that wait for room in the socket. More, and the peer reads nothing: it is ended.
const OUTBOX_COUNT_MAX: usize = 1024;

/// How far the two have come.
#[derive(Debug)]
pub(super) enum Stage {
    /// The worker connects.
    Connecting,
    /// Connector: nothing heard yet.
    AwaitHello,
    /// Connector: the worker makes the pair page.
    MakingPage,
    /// Connector: the page is offered.
    AwaitPaired { page: Mapping },
    /// Connector: the worker maps the keys.
    MappingKeys { page: Mapping },
    /// Acceptor: nothing offered yet.
    AwaitPair,
    /// Acceptor: the worker maps what was offered.
    MappingPair,
    /// Connections may be asked for.
    Live(Arc<Pair>, Arc<RemoteMemory>),
    /// Ended: what is left of it waits for queue pairs to be destroyed.
    Gone(Option<(Arc<Pair>, Arc<RemoteMemory>)>),
}

/// Why nothing more is sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendFailure {
    HungUp,
    NotReading,
}

impl SendFailure {
    /// For people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::HungUp => "it hung up",
            Self::NotReading => "it does not read its messages",
        }
    }
}

/// One peer process.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) number: u64,
    pub(super) side: Side,
    pub(super) stage: Stage,
    /// Why it is gone.
    pub(super) why: String,
    pub(super) instance: Option<Instance>,
    pub(super) credentials: Option<Credentials>,
    pub(super) socket: Option<OwnedFd>,
    pub(super) process: Option<OwnedFd>,
    /// The handshake's.
    pub(super) deadline_ns: Option<u64>,
    /// Who waits for it to become live.
    pub(super) resolves: Vec<(Ticket, SocketAddr)>,
    /// A job for one of its messages is under way: no further message is read until it ends, which keeps them in order and bounds what it may have in flight.
    pub(super) is_working: bool,
    pub(super) board: Board,
    pub(super) connection_count: u32,
    pub(super) queue_pair_count: u32,
    /// Bytes of its memory that are mapped or being mapped here.
    pub(super) mapped_len: u64,
    /// Its arenas, by slot, with their lengths; `true`: withdrawn, to be unmapped.
    pub(super) arenas: BTreeMap<u32, (u64, bool)>,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// Until when the first of them waits.
    outbox_deadline_ns: Option<u64>,
}

impl Peer {
    pub(super) fn new(number: u64, side: Side, stage: Stage, deadline_ns: Option<u64>) -> Self {
        Self {
            number,
            side,
            stage,
            why: String::new(),
            instance: None,
            credentials: None,
            socket: None,
            process: None,
            deadline_ns,
            resolves: Vec::new(),
            is_working: false,
            board: Board::new(),
            connection_count: 0,
            queue_pair_count: 0,
            mapped_len: 0,
            arenas: BTreeMap::new(),
            outbox: VecDeque::new(),
            outbox_deadline_ns: None,
        }
    }

    pub(super) fn pair(&self) -> Option<&Arc<Pair>> {
        match &self.stage {
            Stage::Live(pair, _) | Stage::Gone(Some((pair, _))) => Some(pair),
            Stage::Connecting
            | Stage::AwaitHello
            | Stage::MakingPage
            | Stage::AwaitPaired { .. }
            | Stage::MappingKeys { .. }
            | Stage::AwaitPair
            | Stage::MappingPair
            | Stage::Gone(None) => None,
        }
    }

    pub(super) fn live_pair(&self) -> Option<(&Arc<Pair>, &Arc<RemoteMemory>)> {
        if let Stage::Live(pair, remote) = &self.stage { Some((pair, remote)) } else { None }
    }

    /// To take memory out of it: only while no link holds it.
    pub(super) fn remote_mut(&mut self) -> Option<&mut RemoteMemory> {
        match &mut self.stage {
            Stage::Live(_, remote) | Stage::Gone(Some((_, remote))) => Arc::get_mut(remote),
            Stage::Connecting
            | Stage::AwaitHello
            | Stage::MakingPage
            | Stage::AwaitPaired { .. }
            | Stage::MappingKeys { .. }
            | Stage::AwaitPair
            | Stage::MappingPair
            | Stage::Gone(None) => None,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Gone(_))
    }

    /// Has neither connections nor queue pairs.
    pub(super) fn is_idle(&self) -> bool {
        self.connection_count == 0 && self.queue_pair_count == 0 && self.resolves.is_empty()
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        match self.credentials {
            Some(credentials) => format!("process {}", credentials.pid),
            None => "an unknown process".to_owned(),
        }
    }

    /// Sends, or keeps for later.
    pub(super) fn send(&mut self, message: &Message, descriptors: Vec<OwnedFd>) -> Result<(), SendFailure> {
        if self.socket.is_none() {
            // Gone: who asks is told otherwise.
            return Ok(());
        }
        if self.outbox.len() == OUTBOX_COUNT_MAX {
            return Err(SendFailure::NotReading);
        }
        self.outbox.push_back((message.encode(), descriptors));
        self.flush()
    }

    /// Whether messages wait for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.socket.is_some() && !self.outbox.is_empty()
    }

    /// Sends what waits, at intervals. Who takes none of it for `timeout_ns` does not read.
    pub(super) fn tend(&mut self, now_ns: u64, timeout_ns: u64) -> Result<(), SendFailure> {
        self.flush()?;
        if self.outbox.is_empty() {
            return Ok(());
        }
        let deadline_ns = *self.outbox_deadline_ns.get_or_insert(now_ns.saturating_add(timeout_ns));
        if deadline_ns <= now_ns { Err(SendFailure::NotReading) } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<(), SendFailure> {
        let Some(socket) = &self.socket else {
            self.outbox.clear();
            return Ok(());
        };
        while let Some((message, descriptors)) = self.outbox.front() {
            match socket::send(socket, message, descriptors) {
                Ok(()) => {
                    self.outbox.pop_front();
                    self.outbox_deadline_ns = None;
                }
                // ETOOMANYREFS: too many descriptors under way to someone who does not read.
                Err(error)
                    if error.kind() == std::io::ErrorKind::WouldBlock
                        || error.raw_os_error() == Some(libc::ETOOMANYREFS) =>
                {
                    return Ok(());
                }
                Err(_) => return Err(SendFailure::HungUp),
            }
        }
        Ok(())
    }
}

/// Who has which place of our news board.
#[derive(Debug)]
pub(super) struct Board {
    /// Per line: its port, and which places are taken.
    lines: Vec<(Option<u32>, u16)>,
    /// Places whose queue pair is destroyed here and not yet at the peer, by our connection's number.
    lingering: BTreeMap<u64, u32>,
}

impl Board {
    fn new() -> Self {
        Self { lines: vec![(None, 0); (NEWS_SLOT_COUNT / NEWS_LINE_SLOTS) as usize], lingering: BTreeMap::new() }
    }

    /// A place in a line of this port.
    pub(super) fn take(&mut self, port: u32) -> Option<u32> {
        let has_room = |&(owner, taken): &(Option<u32>, u16)| owner == Some(port) && taken != u16::MAX;
        let at = self
            .lines
            .iter()
            .position(has_room)
            .or_else(|| self.lines.iter().position(|&(owner, _)| owner.is_none()))?;
        let (owner, taken) = &mut self.lines[at];
        *owner = Some(port);
        let place = taken.trailing_ones();
        *taken |= 1 << place;
        Some(u32::try_from(at).ok()? * NEWS_LINE_SLOTS + place)
    }

    /// Gives it back: nothing is stored there any more.
    pub(super) fn give_back(&mut self, slot: u32) {
        let (owner, taken) = &mut self.lines[(slot / NEWS_LINE_SLOTS) as usize];
        *taken &= !(1 << (slot % NEWS_LINE_SLOTS));
        if *taken == 0 {
            *owner = None;
        }
    }

    /// Gives it back when the peer has ended its queue pair.
    pub(super) fn linger(&mut self, connection: u64, slot: u32) {
        self.lingering.insert(connection, slot);
    }

    /// The peer has.
    pub(super) fn end_linger(&mut self, connection: u64) {
        if let Some(slot) = self.lingering.remove(&connection) {
            self.give_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    #[test]
    fn a_line_of_the_board_belongs_to_one_port() {
        let mut board = Board::new();
        let first: Vec<u32> = (0..17).map(|_| board.take(0).unwrap()).collect();
        assert_eq!(first, (0..17).collect::<Vec<_>>());
        assert_eq!(board.take(1), Some(32));
        assert_eq!(board.take(0), Some(17));
        board.give_back(16);
        board.give_back(17);
        assert_eq!(board.take(1), Some(33));
        board.give_back(3);
        assert_eq!(board.take(0), Some(3));
        board.linger(9, 3);
        assert_eq!(board.take(0), Some(16), "place 3 is still the peer's to write");
        board.end_linger(9);
        assert_eq!(board.take(0), Some(3));
    }

    #[test]
    fn who_reads_nothing_is_ended_in_time() {
        let mut sockets: [libc::c_int; 2] = [-1; 2];
        // SAFETY: room for two descriptors.
        let made = unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, sockets.as_mut_ptr())
        };
        assert_eq!(made, 0);
        // SAFETY: new descriptors that nobody else owns.
        let [ours, theirs] = sockets.map(|socket| unsafe { OwnedFd::from_raw_fd(socket) });
        let mut peer = Peer::new(1, Side::Acceptor, Stage::AwaitPair, None);
        peer.socket = Some(ours);
        assert_eq!(peer.tend(1_000, 100), Ok(()), "nothing waits");
        while !peer.is_waiting() {
            peer.send(&Message::Ended { to: 1 }, Vec::new()).unwrap();
        }
        for now_ns in [2_000, 2_050, 2_099] {
            assert_eq!(peer.tend(now_ns, 100), Ok(()));
        }
        // It reads something: time begins again with the next that waits.
        let mut buffer = [0; socket::MESSAGE_LEN_MAX];
        while let Ok(socket::Arrival::Message(..)) = socket::receive(&theirs, &mut buffer) {}
        assert_eq!(peer.tend(2_100, 100), Ok(()));
        assert!(!peer.is_waiting());
        while !peer.is_waiting() {
            peer.send(&Message::Ended { to: 1 }, Vec::new()).unwrap();
        }
        assert_eq!(peer.tend(9_000, 100), Ok(()));
        assert_eq!(peer.tend(9_100, 100), Err(SendFailure::NotReading));
    }

    #[test]
    fn a_full_board_has_no_place() {
        let mut board = Board::new();
        assert!((0..NEWS_SLOT_COUNT).all(|_| board.take(0).is_some()));
        assert_eq!(board.take(0), None);
    }
}
