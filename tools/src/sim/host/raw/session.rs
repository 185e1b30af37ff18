//! What a host does by itself: an association, and how it ends.

/// One association: an admin queue, I/O queues, commands on them, an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// I/O queues, 0 to 4.
    pub io_queue_count: u16,
    /// The I/O queues' depth, 2 to 16.
    pub depth: u16,
    /// Commands on the I/O queues before the end, all of them together.
    pub io_count: u32,
    /// How it ends.
    pub end: End,
    /// Keep-alive timeout, 0 for none.
    pub keep_alive_ms: u32,
    /// Whether it sends what keeps it alive.
    pub keeps_alive: bool,
    /// Asynchronous event requests that it leaves with the controller.
    pub event_request_count: u16,
    /// Most blocks of a command, 1 to 8.
    pub block_count_max: u16,
    /// One in so many commands goes to blocks that all hosts use; 0 for none.
    pub shares_one_in: u32,
    /// Nobody has a reason to refuse it, or to end it before it does: whoever does is a finding.
    pub is_owed: bool,
    /// Private data and RDMA READs of its connection requests, if not as they should be.
    pub request: Option<(Vec<u8>, u8)>,
}

impl Session {
    /// An I/O queue of eight, a keep-alive of a second that nobody keeps, and blocks of its own.
    #[must_use]
    pub fn new(io_count: u32, end: End) -> Self {
        Self {
            io_queue_count: 1,
            depth: 8,
            io_count,
            end,
            keep_alive_ms: 1000,
            keeps_alive: false,
            event_request_count: 1,
            block_count_max: 4,
            shares_one_in: 0,
            is_owed: false,
            request: None,
        }
    }
}

impl Session {
    /// The same, which nobody has a reason to disturb.
    #[must_use]
    pub fn owed(self) -> Self {
        Self { is_owed: true, keeps_alive: true, ..self }
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After the last response.
    Quietly,
    /// After the last response it says that it leaves (CC.SHN), and then does.
    Announced,
    /// With commands outstanding.
    Abruptly,
    /// This many of our turns after the admin connection was asked for, wherever it is then.
    AfterTurns(u32),
    /// Sends more commands than the depth allows, and waits to be thrown out.
    Overrun,
    /// Sends 10 bytes as a capsule, and waits to be thrown out.
    ShortCapsule,
    /// Names memory that is not there, and waits to be thrown out.
    WrongKey,
    /// Names memory in a way that does not exist, is told so, and ends quietly.
    WrongSgl,
    /// Disconnects its first I/O queue, with commands outstanding, makes another of the same number while the old one drains, uses it as much as the
    /// first, and ends quietly.
    Reconnect,
    /// Its machine stops in the midst of everything: nothing of it is heard again.
    Dies,
    /// Waits for the target to end it.
    Wait,
}

impl End {
    /// Those that say nothing of a number.
    pub const ALL: [Self; 10] = [
        Self::Quietly,
        Self::Announced,
        Self::Abruptly,
        Self::Overrun,
        Self::ShortCapsule,
        Self::WrongKey,
        Self::WrongSgl,
        Self::Reconnect,
        Self::Dies,
        Self::Wait,
    ];
}
