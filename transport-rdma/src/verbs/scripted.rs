//! A provider that a test plays: every call is written down, every event is the test's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reactor::Rest;

use super::{
    Access, Completion, ConnectParameters, Connection, ConnectionId, ConnectionRequest, DeviceAttributes, Event,
    ListenerId, LocalSegment, Memory, Port, PortId, PortOptions, PostError, Provider, QueuePairName, QueuePairOptions,
    RegisteredMemory, SendRequest, Ticket, Unacknowledged, VerbsError,
};

/// What the test and the provider share.
#[derive(Default)]
pub(crate) struct Script {
    /// Calls, in words, since the test took them.
    pub(crate) calls: Vec<String>,
    /// Tickets of calls that have not ended.
    pub(crate) tickets: Vec<Ticket>,
    /// What comes next.
    pub(crate) events: VecDeque<Event<ScriptedPort>>,
    /// Queue pairs that were dropped and not destroyed.
    pub(crate) lost_count: Arc<AtomicU32>,
    port_count: u32,
}

/// The provider.
#[derive(Clone, Default)]
pub(crate) struct Scripted(pub(crate) Rc<RefCell<Script>>);

/// Its port, which nobody uses: the test plays the CPUs as well.
#[derive(Debug)]
pub(crate) struct ScriptedPort;

/// A queue pair: notes when it is dropped without having been destroyed.
#[derive(Debug)]
pub(crate) struct ScriptedQueuePair {
    lost_count: Arc<AtomicU32>,
}

impl Drop for ScriptedQueuePair {
    fn drop(&mut self) {
        self.lost_count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Scripted {
    /// A new queue pair.
    pub(crate) fn queue_pair(&self) -> ScriptedQueuePair {
        ScriptedQueuePair { lost_count: Arc::clone(&self.0.borrow().lost_count) }
    }

    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    /// How many queue pairs were dropped since the last time.
    pub(crate) fn take_lost(&self) -> u32 {
        self.0.borrow().lost_count.swap(0, Ordering::Relaxed)
    }

    /// The ticket of the last call that takes one.
    pub(crate) fn last_ticket(&self) -> Ticket {
        self.0.borrow().tickets.last().copied().expect("no call with a ticket was made")
    }

    fn note(&self, call: &str) {
        self.0.borrow_mut().calls.push(call.to_owned());
    }

    fn begin(&self, call: &str, ticket: Ticket) {
        self.note(call);
        self.0.borrow_mut().tickets.push(ticket);
    }
}

impl Provider for Scripted {
    type Port = ScriptedPort;

    fn name(&self) -> &'static str {
        "scripted"
    }

    fn attributes(&self) -> DeviceAttributes {
        crate::soft::in_process::FabricOptions::default().attributes
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }

    fn create_port(&mut self, _: PortOptions) -> Result<(PortId, ScriptedPort), VerbsError> {
        let mut script = self.0.borrow_mut();
        script.port_count += 1;
        Ok((PortId(script.port_count - 1), ScriptedPort))
    }

    fn begin_reopen(&mut self, ticket: Ticket, _: &[SocketAddr]) {
        self.begin("reopen", ticket);
    }

    fn begin_register(&mut self, ticket: Ticket, _: Memory, _: Access) {
        self.begin("register", ticket);
    }

    fn begin_deregister(&mut self, ticket: Ticket, _: RegisteredMemory) {
        self.begin("deregister", ticket);
    }

    fn allocate_window(&mut self, _: RegisteredMemory) -> Result<u32, VerbsError> {
        unreachable!("no test takes a window")
    }

    fn listen(&mut self, _: SocketAddr) -> Result<ListenerId, VerbsError> {
        self.note("listen");
        Ok(ListenerId(1))
    }

    fn begin_unlisten(&mut self, ticket: Ticket, _: ListenerId) {
        self.begin("unlisten", ticket);
    }

    fn begin_create_queue_pair(&mut self, ticket: Ticket, _: ConnectionId, _: PortId, _: QueuePairOptions) {
        self.begin("create queue pair", ticket);
    }

    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: ScriptedQueuePair) {
        // Not lost.
        std::mem::forget(queue_pair);
        self.begin("destroy queue pair", ticket);
    }

    fn begin_resolve(&mut self, ticket: Ticket, _: SocketAddr) {
        self.begin("resolve", ticket);
    }

    fn connect(&mut self, _: &Connection, _: ConnectParameters<'_>) {
        self.note("connect");
    }

    fn accept(&mut self, _: &Connection, _: ConnectParameters<'_>) {
        self.note("accept");
    }

    fn reject(&mut self, _: ConnectionRequest, _: &[u8]) {
        self.note("reject");
    }

    fn disconnect(&mut self, _: ConnectionId) {
        self.note("disconnect");
    }

    fn begin_destroy_connection(&mut self, ticket: Ticket, _: Connection) {
        self.begin("destroy connection", ticket);
    }

    fn next_event(&mut self, _: u64) -> Option<Unacknowledged<ScriptedPort>> {
        self.0.borrow_mut().events.pop_front().map(Unacknowledged::new)
    }

    fn acknowledge(&mut self, event: Unacknowledged<ScriptedPort>) -> Event<ScriptedPort> {
        event.into_event()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn live_count(&self) -> usize {
        0
    }
}

impl Port for ScriptedPort {
    type QueuePair = ScriptedQueuePair;

    fn attach(&mut self, _: ScriptedQueuePair) -> QueuePairName {
        unreachable!("the test plays the CPUs")
    }

    fn detach(&mut self, _: QueuePairName) -> Option<ScriptedQueuePair> {
        unreachable!("the test plays the CPUs")
    }

    fn post_receive(&mut self, _: QueuePairName, _: u64, _: &[LocalSegment]) -> Result<(), PostError> {
        unreachable!("the test plays the CPUs")
    }

    fn post_shared_receive(&mut self, _: u64, _: &[LocalSegment]) -> Result<(), PostError> {
        unreachable!("the test plays the CPUs")
    }

    fn post_send(&mut self, _: QueuePairName, _: &SendRequest<'_>) -> Result<(), PostError> {
        unreachable!("the test plays the CPUs")
    }

    fn ring(&mut self) {}

    fn poll(&mut self, _: u64, _: usize, _: &mut Vec<Completion>) -> usize {
        0
    }

    fn arm(&mut self, _: u64) -> Rest {
        Rest::Sleep
    }

    fn disarm(&mut self) {}

    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }
}
