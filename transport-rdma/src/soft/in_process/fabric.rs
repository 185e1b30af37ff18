//! The network as whoever runs it sees it: machines are added, changed, and have things happen to them.

use std::sync::{Arc, Mutex, MutexGuard};

use reactor::Choices;

use super::audit::{Discrepancy, PostedSegment};
use super::link::lock;
use super::machine::{Machine, MachineId};
use super::options::{Calls, FabricOptions};
use super::orders::{InjectedEvent, Order};
use super::provider::InProcessProvider;
use super::world::World;
use crate::verbs::{ConnectionId, ListenerId, PortId, RejectReason};

/// A network of machines within this process.
#[derive(Clone)]
pub struct Fabric {
    world: Arc<Mutex<World>>,
}

impl Fabric {
    /// A fabric whose choices are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_options(seed, FabricOptions::default())
    }

    /// The same with options.
    #[must_use]
    pub fn with_options(seed: u64, options: FabricOptions) -> Self {
        Self::with_choices(Choices::seeded(seed), options)
    }

    /// The same with choices that come from elsewhere: shared with a [`reactor::Simulation`], or listed.
    #[must_use]
    pub fn with_choices(choices: Choices, options: FabricOptions) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(choices, options))) }
    }

    /// Adds a machine. It begins with the fabric's options.
    #[must_use]
    pub fn machine(&self) -> InProcessProvider {
        InProcessProvider::new(Arc::clone(&self.world))
    }

    /// Changes how it behaves from now on, towards every machine there is and will be.
    pub fn change(&self, change: impl Fn(&mut FabricOptions)) {
        let mut world = self.world();
        change(&mut world.options);
        for machine in &mut world.machines {
            change(&mut machine.options);
        }
        world.ring_all();
    }

    /// The same towards one machine.
    pub fn change_for(&self, machine: MachineId, change: impl FnOnce(&mut FabricOptions)) {
        let mut world = self.world();
        change(&mut world.machine(machine).options);
        world.ring_all();
    }

    // What there is.

    /// A machine's connections, oldest first, up to the ends of their destructions.
    #[must_use]
    pub fn connections(&self, machine: MachineId) -> Vec<ConnectionId> {
        self.world().machine(machine).connections.iter().copied().collect()
    }

    /// A machine's listeners.
    #[must_use]
    pub fn listeners(&self, machine: MachineId) -> Vec<ListenerId> {
        self.world().listeners.values().filter(|(of, _)| *of == machine).map(|(_, id)| *id).collect()
    }

    /// How many ports a machine has had; they are numbered from 0.
    #[must_use]
    pub fn port_count(&self, machine: MachineId) -> usize {
        self.world().machine(machine).ports.len()
    }

    /// Completions of a port that have happened and are not in its completion queue.
    #[must_use]
    pub fn waiting_completion_count(&self, machine: MachineId, port: PortId) -> usize {
        self.world().machine(machine).port(port).stage.waiting().len()
    }

    // What happens to completions.

    /// The oldest `count` of those come into the completion queue now, whatever holds them. Returns how many there were. (B4: "for every k")
    pub fn release_completions(&self, machine: MachineId, port: PortId, count: usize) -> usize {
        let mut world = self.world();
        let port = world.machine(machine).port(port);
        let count = port.stage.release_now(count);
        port.bell.ring_if_asleep();
        count
    }

    /// The next `count` flush completions of a machine never come. (E3)
    pub fn drop_flushes(&self, machine: MachineId, count: u32) {
        self.world().machine(machine).flushes_to_drop += count;
    }

    // What happens to calls.

    /// The `nth` from now (0 is the next) of a machine's calls of these kinds fails. (Family D; "fail the n-th, for all n")
    pub fn fail_call(&self, machine: MachineId, kinds: Calls, nth: u64) {
        self.world().machine(machine).failing.push((kinds, nth));
    }

    // What happens to a machine at its next look.

    /// It is told something, whatever the truth is. (A4, B2, B6, B10, G2, J5, K1, K2)
    pub fn inject(&self, machine: MachineId, event: InjectedEvent) {
        self.order(machine, Order::Tell(event));
    }

    /// A completion queue breaks, and all queue pairs of its port: CQ_ERR, and QP_FATAL for each; nothing that fails completes there any more. (3.18)
    pub fn break_port(&self, machine: MachineId, port: PortId) {
        self.order(machine, Order::BreakPort(port));
    }

    /// A connection's queue pair breaks: QP_FATAL, and on an SRQ LAST_WQE_REACHED after it, or before. (A4, A6, A7)
    pub fn break_queue_pair(&self, machine: MachineId, connection: ConnectionId) {
        self.order(machine, Order::BreakQueuePair(connection));
    }

    /// Both ends of a connection that is up hear DISCONNECTED, and neither asked for it. (B1, B6)
    pub fn cut(&self, machine: MachineId, connection: ConnectionId) {
        self.order(machine, Order::Cut(connection));
    }

    /// The next connection request that comes to a machine is rejected for this reason before anybody there hears of it. (I12)
    pub fn reject_next(&self, machine: MachineId, reason: RejectReason) {
        self.world().machine(machine).rejections.push_back(reason);
    }

    // What happens to a machine now.

    /// Its device goes: posts and calls that make something fail from now on, destroys succeed (EIO is success then), no failed completion comes any more (what succeeded
    /// may), and nobody hears of it but by time or errors. At its next look its queue pairs break, and it is told DEVICE_REMOVED, once. (G1, G2, G3, G5, G8)
    pub fn remove_device(&self, machine: MachineId) {
        let mut world = self.world();
        world.listeners_lose(machine);
        world.machine(machine).is_removed = true;
        drop(world);
        self.order(machine, Order::RemoveDevice);
    }

    /// The device is there again. What was on it before stays broken, and nothing is made of it before it was opened again. (G1, G3, R15)
    pub fn restore_device(&self, machine: MachineId) {
        self.world().machine(machine).is_removed = false;
    }

    /// It makes no look any more, and what it had begun stays as it is, a copy half way too: SIGSTOP. Peers still reach its memory.
    pub fn stop(&self, machine: MachineId) {
        self.world().machine(machine).is_stopped = true;
    }

    /// The same, when the next of its copies is half way.
    pub fn stop_in_copy(&self, machine: MachineId) {
        self.world().machine(machine).stops_in_copy = true;
    }

    /// Whether it is stopped.
    #[must_use]
    pub fn is_stopped(&self, machine: MachineId) -> bool {
        self.world().machine(machine).is_stopped
    }

    /// It goes on: SIGCONT.
    pub fn resume(&self, machine: MachineId) {
        let mut world = self.world();
        let machine = world.machine(machine);
        machine.is_stopped = false;
        machine.stops_in_copy = false;
        world.ring_all();
    }

    /// It dies in the midst of everything: its peers find its links gone. Its programs may run on, and nothing comes of it. Dropping its provider does the same.
    pub fn kill(&self, machine: MachineId) {
        self.world().kill(machine);
    }

    // Whether all is well.

    /// Every account that does not agree. None, at any step, if device and program are right.
    #[must_use]
    pub fn audit(&self) -> Vec<Discrepancy> {
        self.world().audit()
    }

    /// Shows all memory that a machine's device may touch: named by requests that were posted and have not been completed, of queue pairs that are not
    /// destroyed. Memory that is free may not be among it.
    pub fn for_each_posted(&self, machine: MachineId, visit: impl FnMut(PostedSegment)) {
        self.world().for_each_posted(machine, visit);
    }

    fn order(&self, machine: MachineId, order: Order) {
        let mut world = self.world();
        let machine: &mut Machine = world.machine(machine);
        machine.orders.push_back(order);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}
