//! One polling loop per CPU, messages between them, and memory that is reclaimed only when nobody can still look.
//!
//! A *reactor* is a loop pinned to one CPU. It runs a [`Program`]: messages first, then timers, then one poll; the end of
//! the turn is the *quiet point*, at which the CPU holds no reference to anything shared. Programs on different CPUs share
//! no mutable state: they send messages, and messages name objects by [`Handle`], never by reference.
//!
//! | part | what it is |
//! |---|---|
//! | [`Runtime`], [`Simulation`] | real pinned threads, or N reactors stepped on one thread from a seed with a virtual clock |
//! | [`Program`], [`Turn`] | what runs on a CPU, and what it may use while it runs |
//! | [`Domain`], [`Limbo`], [`Table`], [`Published`] | reclamation: who still looks, what waits, what can be looked up |
//! | [`Slab`], [`Handle`], [`Side`] | slots with generations: a stale name is a miss |
//! | [`Arena`], [`SharedArena`], [`Pool`], [`Buffer`], [`Segment`] | memory that devices and peers may write |
//! | [`Clock`], [`Counter`] | time in ns, and counters with one writer |

#[doc(hidden)]
pub mod parts;

mod runtime;
mod simulation;

mod mesh;
mod reactor;

mod gather;
mod program;
mod published;
mod table;

mod limbo;
mod pool;
mod turn;
mod watch;

mod mailbox;
mod ring;
mod timer;

mod bell;
mod domain;
pub mod doorbell;

mod memory;

mod clock;
mod slab;

mod counter;
mod cpu;
mod full;
mod primitive;
mod random;
#[cfg(test)]
#[cfg(not(loom))]
mod trial;
#[cfg(test)]
#[cfg(not(loom))]
mod two_threads;

pub use clock::{Clock, TimeSource};
pub use counter::{Counter, ReactorCounters, TurnLengths};
pub use cpu::Cpu;
pub use domain::{Domain, Guard, Reader};
pub use full::Full;
pub use gather::Gathering;
pub use limbo::{Grace, Limbo, Reaped};
pub use mailbox::{Postbox, Wake};
pub use memory::{
    Arena, ArenaOptions, HugepagePlan, Hugepages, MemoryError, NodeHugepages, NumaNode, PageKind, RegionId, Segment,
    SharedArena, copy_bytes,
};
pub use pool::{Buffer, Home, Pool};
pub use program::{Name, Program, Progress, Rest};
pub use published::Published;
pub use reactor::Reactor;
pub use runtime::{Placement, PollMode, PollSwitch, ReactorOptions, Runtime, RuntimeBuilder, RuntimeError};
pub use simulation::{Simulation, SimulationOptions, SimulationReport};
pub use slab::{Handle, Side, Slab};
pub use table::{Table, Unlinked};
pub use timer::TimerId;
pub use turn::Turn;
pub use watch::{Slow, Stall, StallFinder, Watch};
