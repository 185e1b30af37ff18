//! Limits and times: what a peer may have, and how long things may take.

use std::path::PathBuf;

/// Limits and times of the software fabric. The defaults are meant to be right.
#[derive(Clone, Debug)]
pub struct SharedOptions {
    /// Where listening sockets are. `None`: `$QUIESCE_RUNTIME_DIR`, else `/run/quiesce` for root, else `$XDG_RUNTIME_DIR/quiesce`, else `/tmp/quiesce-$UID`.
    pub directory: Option<PathBuf>,
    /// Bytes of a queue pair's ring in each direction: a power of two, 4 KiB to 16 MiB. The longest SEND is half of it. Both sides of a connection must have the
    /// same: a request with another is refused.
    pub ring_len: u32,
    /// How long a handshake or a connection may take to come about.
    pub connect_timeout_ns: u64,
    /// How long the end of a connection waits for the peer's reply.
    pub disconnect_timeout_ns: u64,
    /// How long an ended connection's queue pair number may not connect again.
    pub timewait_ns: u64,
    /// Most peer processes.
    pub peer_count_max: u32,
    /// Most of them that one process can be (a process that goes through its addresses, or has several providers, is more than one for a while).
    pub peer_count_per_process_max: u32,
    /// Most of those that have not finished their handshake.
    pub handshake_count_per_process_max: u32,
    /// Most queue pairs.
    pub queue_pair_count_max: u32,
    /// Most connections of one peer.
    pub connection_count_per_peer_max: u32,
    /// Most bytes of one peer's memory that are mapped: arenas and rings.
    pub mapped_len_per_peer_max: u64,
    /// Most connection requests of one listener that are not answered yet.
    pub backlog_count_max: u32,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self {
            directory: None,
            ring_len: 32 << 10,
            connect_timeout_ns: 5_000_000_000,
            disconnect_timeout_ns: 1_000_000_000,
            timewait_ns: 100_000_000,
            peer_count_max: 256,
            peer_count_per_process_max: 16,
            handshake_count_per_process_max: 8,
            queue_pair_count_max: 16 << 10,
            connection_count_per_peer_max: 512,
            mapped_len_per_peer_max: 64 << 30,
            backlog_count_max: 128,
        }
    }
}
