//! The limit of everything in this layer, and how they relate.
//!
//! What a command line may change lies in [`crate::spec::ControllerSpec`] and is checked against these; what is only here cannot be changed.
//! A limit that is reached is answered with a status or counted under its own name, never a stall without a word.

use crate::wire::auth::CONTROLLER_MESSAGE_LEN_MAX;

/// Polling CPUs of one target. The [`crate::Directory`] packs a CPU beside a 56-bit handle, and zero means *empty*.
pub const CPU_COUNT_MAX: u16 = 254;
/// Qpairs of one CPU: slots of its header table.
pub const QPAIR_COUNT_MAX: usize = 4096;
/// Headers of one CPU that are linked or wait in limbo.
pub const HEADER_COUNT_MAX: usize = 2 * QPAIR_COUNT_MAX;
/// Controllers of the whole target.
pub const CONTROLLER_COUNT_MAX: u16 = 4095;
/// The highest controller id: those above are reserved [NVMe over Fabrics 1.1, 3.3: FFF0h to FFFFh].
pub const CONTROLLER_ID_MAX: u16 = 0xFFEF;
/// Controllers of a subsystem of the static model: their ids are nobody else's.
pub const STATIC_CONTROLLER_COUNT_MAX: u16 = 1024;
/// Devices of a target. Each CPU looks at every one that has something outstanding once in each turn.
pub const DEVICE_COUNT_MAX: usize = 1024;
/// Subsystems of a target.
pub const SUBSYSTEM_COUNT_MAX: usize = 256;
/// Hosts in the list of one subsystem.
pub const HOST_COUNT_MAX: usize = 1024;
/// Listeners of one subsystem.
pub const LISTENER_COUNT_MAX: usize = 64;
/// Highest namespace id: a subsystem keeps a table of this many entries.
pub const NSID_MAX: u32 = 1024;
/// Hosts, for each subsystem, that metrics tell apart, those that have gone among them.
pub const HOST_BOOK_COUNT_MAX: usize = 256;
/// Registrants of one namespace: hosts, each over all its controllers. SPDK stops at 16.
pub const REGISTRANT_COUNT_MAX: usize = 1024;
/// Changes of subsystems that may be under way at a time. Most take some turns; a deletion waits for its slowest I/O.
pub const CHANGE_COUNT_MAX: usize = 64;
/// Referrals of the discovery log.
pub const REFERRAL_COUNT_MAX: usize = 64;

/// Fewest entries of a queue: one would be full when it is empty [NVMe 1.4, 4.1.3].
pub const QUEUE_DEPTH_MIN: u16 = 2;
/// Smallest maximum that an admin queue may be offered with [NVMe over Fabrics 1.1, 5.3: ASQSZ is at least 32]. A host may take less.
pub const ADMIN_QUEUE_DEPTH_MIN: u16 = 32;
/// Most entries of a queue.
pub const QUEUE_DEPTH_MAX: u16 = 4096;
/// Request slots for each entry of a queue: a slot ends with its response's send, the entry already when that is posted.
pub const SLOTS_PER_ENTRY: u16 = 2;
/// I/O queues of one controller.
pub const IO_QUEUE_COUNT_MAX: u16 = 1023;

/// Smallest value of the largest transfer: one page would be an MDTS of 0, which says *no limit* [NVMe 1.4, figure 247].
pub const TRANSFER_LEN_MIN: u32 = 2 * PAGE_LEN;
/// Largest value of the largest transfer.
pub const TRANSFER_LEN_MAX: u32 = 1 << 22;
/// Most in-capsule data.
pub const IN_CAPSULE_LEN_MAX: u32 = 1 << 16;
/// Bytes of a small buffer: the half of all transfers that are 4 or 8 KiB, and all of Identify, take one.
pub const SMALL_BUFFER_LEN: u32 = 8192;
/// Alignment of every buffer, and so the strictest that a device may ask for.
pub const BUFFER_ALIGNMENT: usize = 4096;
/// The minimum memory page, in which MDTS is counted.
pub const PAGE_LEN: u32 = 4096;

/// Bytes of the largest block.
pub const BLOCK_LEN_MAX: u32 = 4096;
/// Bytes of blocks that one step of a command moves which is worked off in pieces (`course.rs`): others have their turn in between.
pub const PIECE_LEN_MAX: u32 = 1 << 17;
/// Source ranges of one Copy (MSRC): as many as a page holds.
pub const COPY_RANGE_COUNT_MAX: u16 = 128;
/// Blocks of one source range (MSSRL).
pub const COPY_RANGE_BLOCK_COUNT_MAX: u16 = 1 << 15;
/// Blocks of one Copy (MCL).
pub const COPY_BLOCK_COUNT_MAX: u32 = 1 << 17;

/// Locks on ranges of blocks that one CPU grants at a time, for the devices that have their home on it; more wait their turn. Every command on a CPU is compared
/// with each of them.
pub const LOCK_COUNT_MAX: usize = 32;

/// Asynchronous Event Requests that a controller holds.
pub const EVENT_REQUEST_COUNT_MAX: usize = 4;
/// Hosts for which changes of the discovery log are counted one by one.
pub const HOST_VERSION_COUNT_MAX: usize = 4096;
/// Longest time that an ANA group is in the state *change*, in s: ANATT.
pub const ANA_TRANSITION_S: u8 = 10;
/// Entries of a controller's error log.
pub const ERROR_ENTRY_COUNT: usize = 64;
/// Reservation notifications that a controller keeps until its host reads them; the oldest makes room.
pub const RESERVATION_NOTICE_COUNT_MAX: usize = 64;
/// Abort commands that may be outstanding. Each is answered in the turn that fetches it.
pub const ABORT_COUNT_MAX: u8 = 4;

/// Authentications that wait for their arithmetic, of all hosts: each is some kilobytes. More are told to try again.
pub const AUTHENTICATION_WAITING_MAX: usize = 1024;
/// Those of one host address: more than a host has queues.
pub const AUTHENTICATION_WAITING_PER_ADDRESS_MAX: usize = 256;
/// Bytes of a message that a host may send: many times the longest that makes sense.
pub const AUTHENTICATION_MESSAGE_LEN_MAX: u32 = PAGE_LEN;
/// An authentication that is required is over this long after Connect; one that a host begins later, this long after its first message.
pub const AUTHENTICATION_TIMEOUT_NS: u64 = 30_000_000_000;

/// A qpair without a successful Connect is ended after this.
pub const CONNECT_TIMEOUT_NS: u64 = 10_000_000_000;
/// A Connect for a queue id whose old qpair has not left waits this long.
pub const JOIN_WAIT_NS: u64 = 2_000_000_000;
/// The keep-alive timeout is rounded up to a multiple of this.
pub const KEEP_ALIVE_GRANULARITY_MS: u32 = 1000;
/// Longest keep-alive timeout.
pub const KEEP_ALIVE_MAX_MS: u32 = 24 * 60 * 60 * 1000;
/// A discovery controller whose host asked for no keep-alive ends after this without a command [NVMe Base 2.0, 3.1.2.3: two minutes].
pub const DISCOVERY_TIMEOUT_MS: u32 = 120_000;
/// CAP.TO: how long a host waits for CSTS.RDY.
pub const READY_TIMEOUT_NS: u64 = 15_000_000_000;

// An operation's token: 16 bits of slot beside 24 of index and 24 of generation.
const _: () = assert!((QUEUE_DEPTH_MAX as u32) * (SLOTS_PER_ENTRY as u32) <= 1 << 16);
const _: () = assert!(QPAIR_COUNT_MAX <= 1 << 24 && HEADER_COUNT_MAX > QPAIR_COUNT_MAX);
// A report counts registrants in 16 bits.
const _: () = assert!(REGISTRANT_COUNT_MAX >= 1024 && REGISTRANT_COUNT_MAX < u16::MAX as usize);
// A controller id is never one of the reserved ones [NVMe over Fabrics 1.1, 3.3: FFF0h to FFFFh].
const _: () = assert!(CONTROLLER_ID_MAX < 0xFFF0 && CONTROLLER_COUNT_MAX <= CONTROLLER_ID_MAX);
const _: () = assert!(STATIC_CONTROLLER_COUNT_MAX <= CONTROLLER_COUNT_MAX);
// A device's place is a u16.
const _: () = assert!(DEVICE_COUNT_MAX <= 1 << 16);
const _: () = assert!(CPU_COUNT_MAX < u8::MAX as u16);
const _: () = assert!(ADMIN_QUEUE_DEPTH_MIN >= QUEUE_DEPTH_MIN && ADMIN_QUEUE_DEPTH_MIN <= QUEUE_DEPTH_MAX);
// A zero-based SQSIZE and MQES fit their 16 bits; 0xFFFF marks "no flow control" in SQHD and so is never a head.
const _: () = assert!(QUEUE_DEPTH_MAX < u16::MAX);
// Admin commands that hold their slot for ever must leave room for others.
const _: () = assert!(EVENT_REQUEST_COUNT_MAX + ABORT_COUNT_MAX as usize + 2 <= ADMIN_QUEUE_DEPTH_MIN as usize);
const _: () = assert!(TRANSFER_LEN_MIN.is_power_of_two() && TRANSFER_LEN_MAX.is_power_of_two());
const _: () = assert!(TRANSFER_LEN_MIN <= SMALL_BUFFER_LEN && SMALL_BUFFER_LEN <= TRANSFER_LEN_MAX);
// Every buffer has room for a list of ranges, and behind it or in its other half for the largest block.
const _: () = assert!(COPY_RANGE_COUNT_MAX as u32 * crate::command::COPY_RANGE_LEN <= PAGE_LEN);
const _: () = assert!(256 * crate::command::DATASET_RANGE_LEN <= PAGE_LEN && TRANSFER_LEN_MIN >= 2 * PAGE_LEN);
const _: () = assert!(SMALL_BUFFER_LEN >= 2 * PAGE_LEN && PIECE_LEN_MAX >= PAGE_LEN && BLOCK_LEN_MAX <= PAGE_LEN);
// MSRC is a zero-based byte.
const _: () = assert!(COPY_RANGE_COUNT_MAX <= 256 && COPY_RANGE_BLOCK_COUNT_MAX as u32 <= COPY_BLOCK_COUNT_MAX);
const _: () = assert!((SMALL_BUFFER_LEN as usize).is_multiple_of(BUFFER_ALIGNMENT));
// A draining qpair's Connect is answered before a host would give up on the new one.
const _: () = assert!(JOIN_WAIT_NS < CONNECT_TIMEOUT_NS && CONNECT_TIMEOUT_NS < READY_TIMEOUT_NS);
// ELPE is zero-based in a byte.
const _: () = assert!(ERROR_ENTRY_COUNT >= 1 && ERROR_ENTRY_COUNT <= 256);
const _: () = assert!(KEEP_ALIVE_MAX_MS.is_multiple_of(KEEP_ALIVE_GRANULARITY_MS));
// One host address cannot fill the line of all; what a message comes in is a small buffer.
const _: () = assert!(AUTHENTICATION_WAITING_PER_ADDRESS_MAX * 4 <= AUTHENTICATION_WAITING_MAX);
const _: () = assert!(AUTHENTICATION_MESSAGE_LEN_MAX <= SMALL_BUFFER_LEN);
const _: () = assert!(CONTROLLER_MESSAGE_LEN_MAX <= AUTHENTICATION_MESSAGE_LEN_MAX as usize);
const _: () = assert!(CONNECT_TIMEOUT_NS < AUTHENTICATION_TIMEOUT_NS);
