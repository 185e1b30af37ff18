//! One queue of the raw host: its connection, its queue pair, what it has posted, and the commands that are out.

use transport_rdma::verbs::{Connection, QueuePairName};

use super::claim::Claim;
use super::memory::Buffer;
use super::orders::Opening;
use super::outcome::Tag;
use crate::sim::host::law::Since;
use crate::sim::host::model::{Extent, Read, Swap, Write};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The address is looked up.
    Resolving,
    /// The queue pair is being made.
    Creating,
    /// The queue pair has its receives; nobody was asked for a connection.
    Attached,
    /// The target was asked.
    Connecting,
    /// The connection is up; no capsule was sent.
    Established,
    /// The Connect capsule is out.
    Joining,
    /// Connect was answered.
    Joined,
    /// An admin queue whose controller is enabled; an I/O queue that is joined.
    Ready,
    /// Disconnected: everything posted is to come back.
    Draining,
    /// The queue pair is being destroyed.
    Destroying,
    /// The connection is.
    DestroyingConnection,
}

impl Stage {
    /// Whether commands can be sent.
    pub(super) fn is_up(self) -> bool {
        matches!(self, Self::Established | Self::Joining | Self::Joined | Self::Ready)
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_ending(self) -> bool {
        matches!(self, Self::Draining | Self::Destroying | Self::DestroyingConnection)
    }
}

/// The second command of a pair, as its first knows it: the place in the queue may have another command by the time that the first ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    pub(super) slot: usize,
    pub(super) number: u8,
}

/// A command that was sent.
pub(super) enum Sent {
    Connect,
    Enable,
    Status,
    QueueCount,
    Identify,
    EventRequest,
    KeepAlive,
    ShutDown,
    /// Of which namespace.
    Flush(u32),
    Write(Write),
    Zeroes(Write),
    Read(Read),
    /// The first of a pair, and its second.
    Compare(Extent, Second),
    /// The second of a pair.
    Swap(Swap),
    /// Which command it is for.
    Abort(Aim),
    /// What a scenario reads and judges.
    Look,
    Claim(Claim, u32),
    /// Reads under a key that is none.
    WrongKey,
    WrongSgl,
    /// Bytes of a scenario: whatever comes is right.
    Anything,
}

impl Sent {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::Enable => "Property Set CC.EN",
            Self::Status => "Property Get CSTS",
            Self::QueueCount => "Set Features queue count",
            Self::Identify => "Identify",
            Self::EventRequest => "Asynchronous Event Request",
            Self::KeepAlive => "Keep Alive",
            Self::ShutDown => "Property Set CC.SHN",
            Self::Flush(_) => "Flush",
            Self::Write(_) => "Write",
            Self::Zeroes(_) => "Write Zeroes",
            Self::Read(_) => "Read",
            Self::Compare(..) => "Compare of a pair",
            Self::Swap(_) => "Write of a pair",
            Self::Abort(_) => "Abort",
            Self::Look => "a look",
            Self::Claim(..) => "a reservation command",
            Self::WrongKey => "Read under no key",
            Self::WrongSgl => "Read with no SGL",
            Self::Anything => "raw bytes",
        }
    }

    /// Whether it waits for something to happen, which need not.
    pub(super) fn is_patient(&self) -> bool {
        matches!(self, Self::EventRequest)
    }
}

/// The command that an Abort is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) place: usize,
    /// Of its queue.
    pub(super) generation: u32,
    pub(super) slot: usize,
    pub(super) number: u8,
}

/// What is to be known of a command besides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memo {
    /// Who wants to hear of it.
    pub(super) tag: Option<Tag>,
    /// When it began, for what is right.
    pub(super) since: Since,
    /// Aborts that were sent for it.
    pub(super) abort_count: u32,
    /// One of them is said to have aborted it.
    pub(super) is_aborted: bool,
    /// What the first of its pair ended with.
    pub(super) first: Option<u16>,
}

/// A command that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) number: u8,
    pub(super) status: u16,
    pub(super) abort_count: u32,
}

/// A place for a command: from when it is sent until both its response has come and its send has completed.
pub(super) struct Slot {
    pub(super) buffer: Buffer,
    /// The next command's number, the upper half of its id: a second response to the same command names none.
    pub(super) number: u8,
    /// Not answered.
    pub(super) sent: Option<Sent>,
    /// Our device may still read the capsule.
    pub(super) is_sending: bool,
    pub(super) memo: Memo,
    /// The command before.
    pub(super) ended: Option<Ended>,
}

impl Slot {
    pub(super) fn new(buffer: Buffer) -> Self {
        Self { buffer, number: 0, sent: None, is_sending: false, memo: Memo::default(), ended: None }
    }

    pub(super) fn is_free(&self) -> bool {
        self.sent.is_none() && !self.is_sending
    }
}

pub(super) struct Queue {
    pub(super) qid: u16,
    /// Tells its work requests from those of the place's other queues.
    pub(super) generation: u32,
    pub(super) opening: Opening,
    pub(super) stage: Stage,
    pub(super) since_ns: u64,
    /// How far it is to go by itself.
    pub(super) goal: Stage,
    /// Nobody wants it: it ends as soon as it can.
    pub(super) is_unwanted: bool,
    pub(super) connection: Option<Connection>,
    pub(super) name: Option<QueuePairName>,
    pub(super) slots: Vec<Slot>,
    /// Work requests that have not completed.
    pub(super) posted_count: u32,
    /// Receives that are not posted again for now.
    pub(super) held_receives: Vec<usize>,
    pub(super) holds_receives: bool,
}

impl Queue {
    pub(super) fn new(opening: Opening, generation: u32, now_ns: u64, slots: Vec<Slot>) -> Self {
        Self {
            qid: opening.qid,
            generation,
            goal: opening.goal,
            opening,
            stage: Stage::Resolving,
            since_ns: now_ns,
            is_unwanted: false,
            connection: None,
            name: None,
            slots,
            posted_count: 0,
            held_receives: Vec::new(),
            holds_receives: false,
        }
    }

    /// A place for a command within the queue's depth: all of it, since over fabrics the target gives credit by answering.
    pub(super) fn free_slot(&self) -> Option<usize> {
        let allowed = usize::from(self.opening.depth);
        let out = self.slots.iter().filter(|slot| slot.sent.is_some()).count();
        if out < allowed { self.slots.iter().position(Slot::is_free) } else { None }
    }

    /// Commands that are out and will be answered by themselves.
    pub(super) fn awaited_count(&self) -> usize {
        self.slots.iter().filter_map(|slot| slot.sent.as_ref()).filter(|sent| !sent.is_patient()).count()
    }
}

/// What a work request is: in its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Receive,
    Send,
}

/// Which work request: 64 bits of place, generation, kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkId {
    pub(super) generation: u32,
    pub(super) place: usize,
    pub(super) kind: Kind,
    pub(super) number: usize,
}

impl WorkId {
    pub(super) fn to_bits(self) -> u64 {
        let kind = match self.kind {
            Kind::Receive => 1,
            Kind::Send => 2,
        };
        u64::from(self.generation) << 32 | kind << 24 | (self.place as u64) << 16 | self.number as u64
    }

    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let [a, b, place, kind, generation @ ..] = bits.to_le_bytes();
        let kind = match kind {
            1 => Kind::Receive,
            2 => Kind::Send,
            _ => return None,
        };
        let number = usize::from(u16::from_le_bytes([a, b]));
        Some(Self { generation: u32::from_le_bytes(generation), place: usize::from(place), kind, number })
    }
}
