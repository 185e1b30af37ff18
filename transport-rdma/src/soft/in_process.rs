//! The software fabric within one process, under a scheduler that chooses: for tests and the simulator.
//!
//! A [`Fabric`] joins machines ([`InProcessProvider`]); each has its own keys, connections and ports. Every delivery (message, consumed count, state,
//! letter between connection managers, event, end of a ticket) takes a number of its receiver's looks that is chosen ([`reactor::Choices`]: drawn from a seed, or listed), in order per link
//! and per object and in no order between them. Copies may take two steps with everything else between; gate and keys are checked at each.
//! One fabric is used from one thread: with the same calls in the same order the same happens. Choice 0 is always the calm one.
//!
//! What can go wrong is in [`FabricOptions`], calm by default and each machine's own, and in the calls of [`Fabric`], which do one thing now. Each names the
//! entries of the published list of lifecycle defects that it serves.
//!
//! Misuse that a real device would punish later, or never, is an immediate panic that names it: use after destroy, destroying a connection before its
//! queue pair, deregistering twice, and with [`FabricOptions::is_strict`] a local key after its deregistration and a completion queue's overrun.
//!
//! | part | what it is |
//! |---|---|
//! | [`fabric`] | the network: machines, and what is done to them |
//! | [`options`] | what a device, a connection manager and calls do otherwise than calm ones |
//! | [`calls`] | the provider's calls |
//! | [`provider`] | one machine's control plane: what it keeps, what it hears |
//! | [`orders`] | what a machine is to meet at its next look |
//! | [`cm`] | letters between connection managers |
//! | [`ending`] | destroys on their way, and what they wait for |
//! | [`events`] | events on their way: late, twice, withheld |
//! | [`port`] | the NIC, and what a device does with completions and calls |
//! | [`link`] | the wire |
//! | [`world`] | what the machines share |
//! | [`audit`] | whether posted, completed and held agree; memory that devices may touch |
//! | [`machine`] | one machine as the others and its own ports see it |
//! | [`stage`] | completions between having happened and being in the completion queue |
//! | [`bell`] | what wakes a port that sleeps |
//! | [`keys`] | one machine's memory keys |
//! | [`ledger`] | one queue's posted requests, counted apart from the device |

mod fabric;
mod options;

mod calls;
mod orders;
mod provider;

mod cm;
mod ending;
mod events;

mod port;

mod audit;
mod link;
mod machine;
mod world;

mod stage;

mod bell;
mod keys;
mod ledger;

#[cfg(test)]
mod tests;

pub use audit::{Discrepancy, PostedSegment};
pub use fabric::Fabric;
pub use link::{InProcessWire, Link};
pub use machine::MachineId;
pub use options::{
    CallFaults, Calls, CompletionFaults, CompletionKinds, DeviceFaults, EventKinds, FabricOptions, LastWqeFaults,
    LastWqeMoment, ManagerFaults, Reuse, TicketKinds,
};
pub use orders::InjectedEvent;
pub use port::InProcessPort;
pub use provider::InProcessProvider;
