//! The host side of the protocol, without I/O: Connect, controller initialisation, discovery, I/O commands.

/// Who the host is.
#[derive(Clone, Debug)]
pub struct HostIdentity {
    /// Host NQN.
    pub nqn: String,
    /// Host identifier.
    pub id: [u8; 16],
}

/// Data that goes with an admin command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminData {
    /// None.
    None,
    /// To the controller.
    Out(Vec<u8>),
    /// From the controller, this many bytes.
    In(u32),
}

/// What to do next on the admin queue.
#[derive(Debug)]
pub enum Step {
    /// Send this command (its command id and SGL are filled in by the transport) and come back with the outcome.
    Submit {
        /// 64 bytes.
        command: [u8; 64],
        /// Its data.
        data: AdminData,
    },
    /// Come back after this many ns (CSTS.RDY is polled).
    Wait {
        /// ns.
        delay_ns: u64,
    },
    /// The controller is ready.
    Done(Box<Attached>),
    /// It is not to be had.
    Failed(HostError),
}

/// A command's end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// 16 bytes of completion entry.
    pub completion: [u8; 16],
    /// The data that came with [`AdminData::In`].
    pub data: &'a [u8],
}

/// Why the host side gave up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A command ended with an error status.
    #[error("{command} failed: {status}")]
    Status {
        /// Which command, in words.
        command: &'static str,
        /// The status in words, with its numbers.
        status: String,
    },
    /// The controller did not do what the specification says.
    #[error("{what}")]
    Peer {
        /// What.
        what: String,
    },
}

/// A controller that is ready, and what it said of itself.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Controller id.
    pub controller_id: u16,
    /// I/O queues that it grants.
    pub io_queue_count: u16,
    /// Most entries of a queue (a count).
    pub queue_depth_max: u16,
    /// Largest transfer in bytes.
    pub transfer_len_max: u32,
    /// Largest in-capsule data of an I/O queue in bytes.
    pub in_capsule_len: u32,
    /// Serial number.
    pub serial_number: String,
    /// Model number.
    pub model_number: String,
    /// Active namespaces.
    pub namespaces: Vec<NamespaceInfo>,
}

/// One namespace, as identified.
#[derive(Clone, Debug)]
pub struct NamespaceInfo {
    /// Namespace id.
    pub nsid: u32,
    /// Bytes of a block.
    pub block_len: u32,
    /// Blocks.
    pub block_count: u64,
    /// UUID, where it has one.
    pub uuid: Option<[u8; 16]>,
}

/// From a connected admin queue to a ready controller: Connect, CAP, CC.EN, CSTS.RDY, Identify, Number of Queues, Keep Alive Timer,
/// namespaces.
pub struct Initialise {
    _todo: (),
}

impl Initialise {
    /// For `subsystem_nqn`, asking for `io_queue_count` I/O queues and a keep-alive timeout (0: none). `admin_depth` is a count.
    #[must_use]
    pub fn new(
        identity: &HostIdentity,
        subsystem_nqn: &str,
        admin_depth: u16,
        io_queue_count: u16,
        keep_alive_ms: u32,
    ) -> Self {
        let _ = (identity, subsystem_nqn, admin_depth, io_queue_count, keep_alive_ms);
        todo!()
    }

    /// What to do next. First call and after a wait: `None`.
    pub fn next(&mut self, outcome: Option<Outcome<'_>>) -> Step {
        let _ = outcome;
        todo!()
    }
}

/// Connect for an I/O queue: the command and its 1024 bytes of data. `depth` is a count.
#[must_use]
pub fn connect_io(
    identity: &HostIdentity,
    subsystem_nqn: &str,
    controller_id: u16,
    qid: u16,
    depth: u16,
) -> ([u8; 64], Vec<u8>) {
    let _ = (identity, subsystem_nqn, controller_id, qid, depth);
    todo!()
}
