//! One polling loop per CPU, messages between them, and memory that is reclaimed only when nobody can still look.
//!
//! # The model
//!
//! A *reactor* is a loop, pinned to one CPU if one can be had. A *mesh* of them is put together by a [`RuntimeBuilder`] (real threads) or a [`Simulation`]
//! (all on one thread, every step chosen: drawn from a seed, or listed). Each runs a [`Program`] of yours. Programs share no mutable state: they send each other
//! messages, typed and bounded, which arrive in the order of sending ([`Turn::send`]); other threads post them through a [`Postbox`].
//!
//! **Turn.** A reactor makes turns, and a turn is: the messages that stood in the mailbox, the timers that are due, one [`Program::poll`]. Everything that a
//! program may do it does by way of the [`Turn`] that it is lent for one call. No call may block: nothing else happens on that CPU meanwhile.
//!
//! **Quiet point.** Between two turns a CPU holds no reference to anything shared. The compiler sees to it: what is looked up in a [`Table`], or loaded
//! from a [`Published`] snapshot, is borrowed from the turn (`&'t T`, by way of its [`Guard`]), and can neither be kept nor sent. So looking costs a pointer
//! load: no lock, no count of references.
//!
//! **Handles.** What must be named for longer than a turn (in a message, a timer, a device's context word) is named by a [`Handle`]: the number of a
//! slot in its owner's [`Slab`], and a generation. If the object has ended, the handle is a miss, and never another object.
//!
//! **Grace.** An object that was unlinked, or a snapshot that was replaced, may still be looked at by turns that began before. It waits in a [`Limbo`] until
//! every CPU has passed quiet points since ([`Grace`]): then it is [`Reaped`], and only so does it become a `Box` again. A CPU that does
//! not turn holds this up: limbos are bounded, and [`Domain`], [`Watch`] and [`StallFinder`] tell who it is.
//!
//! **Sleep.** A reactor with nothing to do spins, then pauses, then sleeps, as its [`PollMode`] says and its program allows ([`Program::rest`]). Messages,
//! timers, a [`Wake`] and the program's own descriptor end the sleep. Who sleeps holds no reference either: grace does not wait for it.
//!
//! **Memory.** Bytes that a device or another process may write lie in an [`Arena`] or a [`SharedArena`], are named by [`Segment`]s and are never behind a Rust
//! reference. A [`Pool`] cuts them into [`Buffer`]s, which one holder at a time may use, and which go home by message.
//!
//! # Where to find what
//!
//! | part | what it is |
//! |---|---|
//! | [`Runtime`], [`Simulation`] | real pinned threads, or N reactors stepped on one thread with a virtual clock, in an order from a seed or a list |
//! | [`Program`], [`Turn`] | what runs on a CPU, and what it may use while it runs |
//! | [`Domain`], [`Limbo`], [`Table`], [`Published`] | reclamation: who still looks, what waits, what can be looked up |
//! | [`Slab`], [`Handle`], [`Side`] | slots with generations: a stale name is a miss |
//! | [`Arena`], [`SharedArena`], [`Pool`], [`Buffer`], [`Segment`] | memory that devices and peers may write |
//! | [`ArenaOptions`], [`NumaNode`], [`HugepagePlan`] | which pages, from which node, and what to do where there are too few |
//! | [`Clock`], [`Counter`] | time in ns, and counters with one writer |
//!
//! A whole program in thirty lines is in the crate's README, larger ones are in its `examples`; what the compiler refuses is collected in
//! `tests/compile_fail`.

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
mod durations;
mod full;
#[cfg(test)]
#[cfg(loom)]
mod models;
mod primitive;
mod random;
mod trace;
#[cfg(test)]
#[cfg(not(loom))]
mod trial;
#[cfg(test)]
#[cfg(not(loom))]
mod two_threads;

pub use clock::{Clock, TimeSource};
pub use counter::{Counter, ReactorCounters};
pub use cpu::Cpu;
pub use domain::{Domain, Guard, Reader};
pub use durations::Durations;
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
pub use runtime::{
    Placement, PollMode, PollSwitch, ReactorOptions, Runtime, RuntimeBuilder, RuntimeError, os_cpus_allowed,
};
pub use simulation::{Choice, Choices, Simulation, SimulationOptions, SimulationReport};
pub use slab::{Handle, Side, Slab};
pub use table::{Table, Unlinked};
pub use timer::TimerId;
pub use trace::{TraceKind, TraceRecord};
pub use turn::Turn;
pub use watch::{Slow, Stall, StallFinder, Watch};

/// The README's example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
