//! The host side of the protocol, without I/O: Connect, controller initialisation, discovery, I/O commands.
//!
//! [`Initialise`], [`Discover`], [`Refresh`] and [`ShutDown`] are state machines for one admin queue: [`Step`] says what to do, [`Outcome`] brings what came of it. They
//! own no queue, clock or buffer; the caller moves the bytes. What a controller answers is hostile: every field is checked, every loop
//! has a bound, and what is wrong ends as [`HostError`]. Calling `next` again after its end, or with an outcome that no command
//! was submitted for, is the caller's bug and panics. The functions that make commands are pure; any CPU may call them.

mod authenticate;
mod bring_up;
mod discover;
mod identity;
mod initialise;
mod itinerary;
mod namespaces;
mod refresh;
mod reservation;
mod shut_down;

mod request;
mod response;
mod step;

pub use authenticate::Authenticate;
pub use discover::{DISCOVERED_COUNT_MAX, Discover, Discovered};
pub use identity::HostIdentity;
pub use initialise::{Attached, Initialise};
pub use itinerary::Itinerary;
pub use namespaces::{NAMESPACE_COUNT_MAX, NamespaceInfo};
pub use refresh::{News, Refresh};
pub use request::{
    async_event_request, compare, connect_io, copy, copy_list, deallocate, deallocation_list, disconnect, fill, flush,
    fuse, keep_alive, read, shutdown, verify, write, write_uncorrectable, write_zeroes,
};
pub use reservation::{
    ReservationReport, ReservationRequest, keys, reservation_acquire, reservation_register, reservation_release,
    reservation_report,
};
pub use response::{Connected, HostCompletion, connect_outcome};
pub use shut_down::ShutDown;
pub use step::{AdminData, HostError, Outcome, Step};

pub use crate::command::{BlockRange, DataPointer, Fuse};
