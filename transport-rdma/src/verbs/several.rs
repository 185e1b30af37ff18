//! Several devices as one provider: one provider for each, side by side.
//!
//! Names of connections, listeners and ports are the members' own, times the number of members, plus the member's: so each leads back without a table.
//! A queue pair and a port know their member. Nothing of the data path is here: a port is its member's, and calls to it go straight there.
//!
//! An address is listened on by the member that has it. Addresses of no device in particular are refused: a member would hear for the others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use reactor::Rest;

use super::event::{AddressUser, Connection, ConnectionId, ConnectionRequest, Event, ListenerId, Unacknowledged};
use super::port::{Completion, LocalSegment, Port, PostError, QueuePairName, SendRequest};
use super::provider::{
    Access, ConnectParameters, DeviceAttributes, DeviceId, Memory, PortId, PortOptions, Provider, QueuePairOptions,
    RegisteredMemory, Ticket, VerbsError,
};
use crate::wake_set::WakeSet;

/// Which member has an address; where it cannot be told, each is asked to listen there.
pub type Route = Box<dyn Fn(SocketAddr) -> Option<DeviceId> + Send>;

/// See the module.
pub struct Several<P: Provider> {
    members: Vec<Member<P>>,
    route: Route,
    /// Whose event comes next.
    turn: usize,
    /// Of its own making.
    events: VecDeque<Event<SeveralPort<P::Port>>>,
    wakes: WakeSet,
}

struct Member<P> {
    provider: P,
    /// Removed, and not opened again.
    is_away: bool,
}

/// A member and its own event, or an event that is no member's.
type Inward<Q> = Result<(usize, Event<Q>), Event<SeveralPort<Q>>>;

/// A member's port.
#[derive(Debug)]
pub struct SeveralPort<Q> {
    member: u8,
    port: Q,
}

/// A member's queue pair.
#[derive(Debug)]
pub struct SeveralQueuePair<T> {
    member: u8,
    queue_pair: T,
}

impl<P: Provider> Several<P> {
    /// Of at least one and at most 255 providers of one device each.
    ///
    /// # Errors
    /// If the system refuses a descriptor.
    ///
    /// # Panics
    /// If there are fewer or more.
    pub fn new(providers: Vec<P>, route: Route) -> Result<Self, VerbsError> {
        assert!((1..=255).contains(&providers.len()), "{} devices", providers.len());
        let wakes = WakeSet::new(providers.iter().filter_map(Provider::wake_descriptor))
            .map_err(|source| VerbsError::System { call: "epoll for several devices", source })?;
        let members = providers.into_iter().map(|provider| Member { provider, is_away: false }).collect();
        Ok(Self { members, route, turn: 0, events: VecDeque::new(), wakes })
    }

    fn count(&self) -> u64 {
        self.members.len() as u64
    }

    /// The member of a name, and its own name.
    fn split(&self, name: u64) -> (usize, u64) {
        // Below the number of members.
        (usize::try_from(name % self.count()).unwrap_or(0), name / self.count())
    }

    fn of(&mut self, name: u64) -> (&mut P, u64) {
        let (member, own) = self.split(name);
        (&mut self.members[member].provider, own)
    }

    fn on(&mut self, device: DeviceId) -> &mut P {
        &mut self.members[usize::from(device.0)].provider
    }

    fn device_of(&self, name: u64) -> DeviceId {
        DeviceId(u8::try_from(self.split(name).0).unwrap_or(0))
    }

    /// A member's event, with names as they are outside.
    fn outward(&self, member: usize, event: Event<P::Port>) -> Event<SeveralPort<P::Port>> {
        let device = u8::try_from(member).unwrap_or(0);
        let count = self.count();
        let named = |own: u64| own * count + u64::from(device);
        let connection_of = |own: ConnectionId| ConnectionId(named(own.0));
        match event {
            Event::Registered { ticket, result } => Event::Registered { ticket, result },
            Event::Deregistered { ticket } => Event::Deregistered { ticket },
            Event::QueuePairCreated { ticket, result } => Event::QueuePairCreated {
                ticket,
                result: result.map(|queue_pair| SeveralQueuePair { member: device, queue_pair }),
            },
            Event::QueuePairDestroyed { ticket, result } => Event::QueuePairDestroyed { ticket, result },
            Event::ConnectionDestroyed { ticket } => Event::ConnectionDestroyed { ticket },
            Event::Unlistened { ticket } => Event::Unlistened { ticket },
            Event::Resolved { ticket, result } => {
                let result = result.map(|connection| Connection::new(connection_of(connection.id())));
                Event::Resolved { ticket, result }
            }
            Event::ConnectRequest(request) => Event::ConnectRequest(ConnectionRequest {
                connection: Connection::new(connection_of(request.connection.id())),
                listener: ListenerId(named(request.listener.0)),
                ..request
            }),
            Event::Established { connection, private_data, responder_resources, initiator_depth } => {
                let connection = connection_of(connection);
                Event::Established { connection, private_data, responder_resources, initiator_depth }
            }
            Event::Rejected { connection, reason } => Event::Rejected { connection: connection_of(connection), reason },
            Event::Disconnected { connection } => Event::Disconnected { connection: connection_of(connection) },
            Event::TimewaitExit { connection } => Event::TimewaitExit { connection: connection_of(connection) },
            Event::AddressChanged { of: AddressUser::Listener(listener) } => {
                Event::AddressChanged { of: AddressUser::Listener(ListenerId(named(listener.0))) }
            }
            Event::AddressChanged { of: AddressUser::Connection(connection) } => {
                Event::AddressChanged { of: AddressUser::Connection(connection_of(connection)) }
            }
            Event::LastWqeReached { connection } => Event::LastWqeReached { connection: connection_of(connection) },
            Event::QueuePairFatal { connection } => Event::QueuePairFatal { connection: connection_of(connection) },
            Event::CompletionQueueError { port } => {
                let port = named(port.0.into());
                Event::CompletionQueueError { port: PortId(u32::try_from(port).unwrap_or(u32::MAX)) }
            }
            Event::DeviceRemoved(_) => Event::DeviceRemoved(DeviceId(device)),
            Event::DeviceReleased(_) => Event::DeviceReleased(DeviceId(device)),
            Event::DeviceReopened { ticket, result } => Event::DeviceReopened { ticket, result },
        }
    }

    /// The member that an event is owed to, and the event as that had it. Back as it was: nobody is charged for it.
    fn inward(&self, event: Event<SeveralPort<P::Port>>) -> Inward<P::Port> {
        let name = event.subject();
        let (member, own) = self.split(name);
        let connection = ConnectionId(own);
        let event = match event {
            Event::ConnectRequest(request) => {
                // Its subject is the connection; it is the listener's member's too.
                let listener = ListenerId(self.split(request.listener.0).1);
                Event::ConnectRequest(ConnectionRequest {
                    connection: Connection::new(connection),
                    listener,
                    ..request
                })
            }
            Event::Established { private_data, responder_resources, initiator_depth, .. } => {
                Event::Established { connection, private_data, responder_resources, initiator_depth }
            }
            Event::Rejected { reason, .. } => Event::Rejected { connection, reason },
            Event::Disconnected { .. } => Event::Disconnected { connection },
            Event::TimewaitExit { .. } => Event::TimewaitExit { connection },
            Event::AddressChanged { of: AddressUser::Listener(_) } => {
                Event::AddressChanged { of: AddressUser::Listener(ListenerId(own)) }
            }
            Event::AddressChanged { of: AddressUser::Connection(_) } => {
                Event::AddressChanged { of: AddressUser::Connection(connection) }
            }
            Event::LastWqeReached { .. } => Event::LastWqeReached { connection },
            Event::QueuePairFatal { .. } => Event::QueuePairFatal { connection },
            event @ (Event::Registered { .. }
            | Event::Deregistered { .. }
            | Event::QueuePairCreated { .. }
            | Event::QueuePairDestroyed { .. }
            | Event::ConnectionDestroyed { .. }
            | Event::Unlistened { .. }
            | Event::Resolved { .. }
            | Event::CompletionQueueError { .. }
            | Event::DeviceRemoved(_)
            | Event::DeviceReleased(_)
            | Event::DeviceReopened { .. }) => return Err(event),
        };
        Ok((member, event))
    }

    fn refusal(what: &'static str) -> VerbsError {
        VerbsError::NotBuilt { what, instead: "use a provider of one device" }
    }
}

impl<P: Provider> Provider for Several<P> {
    type Port = SeveralPort<P::Port>;

    fn name(&self) -> &'static str {
        self.members[0].provider.name()
    }

    /// Of the first: see [`Self::attributes_of`].
    fn attributes(&self) -> DeviceAttributes {
        self.members[0].provider.attributes()
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.wakes.descriptor()
    }

    fn device_count(&self) -> u8 {
        u8::try_from(self.members.len()).unwrap_or(u8::MAX)
    }

    fn attributes_of(&self, device: DeviceId) -> DeviceAttributes {
        self.members[usize::from(device.0)].provider.attributes()
    }

    fn create_port_on(&mut self, device: DeviceId, options: PortOptions) -> Result<(PortId, Self::Port), VerbsError> {
        let (own, port) = self.on(device).create_port(options)?;
        let name = u64::from(own.0) * self.count() + u64::from(device.0);
        Ok((PortId(u32::try_from(name).unwrap_or(u32::MAX)), SeveralPort { member: device.0, port }))
    }

    fn begin_reopen_on(&mut self, device: DeviceId, ticket: Ticket, addresses: &[SocketAddr]) {
        self.on(device).begin_reopen(ticket, addresses);
    }

    fn begin_register_on(&mut self, device: DeviceId, ticket: Ticket, memory: Memory, access: Access) {
        self.on(device).begin_register(ticket, memory, access);
    }

    fn begin_deregister_on(&mut self, device: DeviceId, ticket: Ticket, memory: RegisteredMemory) {
        self.on(device).begin_deregister(ticket, memory);
    }

    fn device_of_listener(&self, listener: ListenerId) -> DeviceId {
        self.device_of(listener.0)
    }

    fn device_of_connection(&self, connection: ConnectionId) -> DeviceId {
        self.device_of(connection.0)
    }

    fn create_port(&mut self, options: PortOptions) -> Result<(PortId, Self::Port), VerbsError> {
        self.create_port_on(DeviceId::ONLY, options)
    }

    fn begin_reopen(&mut self, ticket: Ticket, addresses: &[SocketAddr]) {
        self.begin_reopen_on(DeviceId::ONLY, ticket, addresses);
    }

    fn begin_register(&mut self, ticket: Ticket, memory: Memory, access: Access) {
        self.begin_register_on(DeviceId::ONLY, ticket, memory, access);
    }

    fn begin_deregister(&mut self, ticket: Ticket, memory: RegisteredMemory) {
        self.begin_deregister_on(DeviceId::ONLY, ticket, memory);
    }

    fn allocate_window(&mut self, _region: RegisteredMemory) -> Result<u32, VerbsError> {
        Err(Self::refusal("a memory window on one of several devices"))
    }

    fn listen(&mut self, address: SocketAddr) -> Result<ListenerId, VerbsError> {
        if address.ip().is_unspecified() {
            let why = "this target has several devices: name an address of one of them".to_owned();
            return Err(VerbsError::Address { address, why });
        }
        let routed = (self.route)(address);
        let mut first_error = None;
        for member in 0..self.members.len() {
            if self.members[member].is_away || routed.is_some_and(|device| usize::from(device.0) != member) {
                continue;
            }
            match self.members[member].provider.listen(address) {
                Ok(ListenerId(own)) => return Ok(ListenerId(own * self.count() + member as u64)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let why = "its device is not there".to_owned();
        Err(first_error.unwrap_or(VerbsError::Address { address, why }))
    }

    fn begin_unlisten(&mut self, ticket: Ticket, listener: ListenerId) {
        let (member, own) = self.of(listener.0);
        member.begin_unlisten(ticket, ListenerId(own));
    }

    fn begin_create_queue_pair(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        port: PortId,
        options: QueuePairOptions,
    ) {
        let (of_port, own_port) = self.split(port.0.into());
        let (of_connection, own) = self.split(connection.0);
        assert_eq!(
            of_port, of_connection,
            "{connection:?} is made a queue pair on {port:?}, which is another device's"
        );
        let own_port = PortId(u32::try_from(own_port).unwrap_or(u32::MAX));
        let member = &mut self.members[of_connection].provider;
        member.begin_create_queue_pair(ticket, ConnectionId(own), own_port, options);
    }

    fn begin_destroy_queue_pair(&mut self, ticket: Ticket, queue_pair: SeveralQueuePair<<P::Port as Port>::QueuePair>) {
        self.on(DeviceId(queue_pair.member)).begin_destroy_queue_pair(ticket, queue_pair.queue_pair);
    }

    fn begin_resolve(&mut self, ticket: Ticket, _address: SocketAddr) {
        let result = Err(Self::refusal("connecting from several devices"));
        self.events.push_back(Event::Resolved { ticket, result });
    }

    fn connect(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        let (member, own) = self.of(connection.id().0);
        member.connect(&Connection::new(ConnectionId(own)), parameters);
    }

    fn accept(&mut self, connection: &Connection, parameters: ConnectParameters<'_>) {
        let (member, own) = self.of(connection.id().0);
        member.accept(&Connection::new(ConnectionId(own)), parameters);
    }

    fn reject(&mut self, request: ConnectionRequest, private_data: &[u8]) {
        let listener = ListenerId(self.split(request.listener.0).1);
        let (member, own) = self.of(request.connection.id().0);
        let connection = Connection::new(ConnectionId(own));
        member.reject(ConnectionRequest { connection, listener, ..request }, private_data);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let (member, own) = self.of(connection.0);
        member.disconnect(ConnectionId(own));
    }

    fn begin_destroy_connection(&mut self, ticket: Ticket, connection: Connection) {
        let (member, own) = self.of(connection.id().0);
        member.begin_destroy_connection(ticket, Connection::new(ConnectionId(own)));
    }

    /// From one after the other.
    fn next_event(&mut self, now_ns: u64) -> Option<Unacknowledged<Self::Port>> {
        if let Some(event) = self.events.pop_front() {
            return Some(Unacknowledged::new(event));
        }
        for _ in 0..self.members.len() {
            let member = self.turn;
            self.turn = (member + 1) % self.members.len();
            let Some(event) = self.members[member].provider.next_event(now_ns) else { continue };
            let event = self.outward(member, event.into_event());
            if let Event::DeviceRemoved(_) = &event {
                self.members[member].is_away = true;
            } else if let Event::DeviceReopened { result: Ok(()), .. } = &event {
                self.members[member].is_away = false;
            }
            return Some(Unacknowledged::new(event));
        }
        None
    }

    fn acknowledge(&mut self, event: Unacknowledged<Self::Port>) -> Event<Self::Port> {
        match self.inward(event.into_event()) {
            Ok((member, event)) => {
                let event = self.members[member].provider.acknowledge(Unacknowledged::new(event));
                self.outward(member, event)
            }
            Err(event) => event,
        }
    }

    /// Sums.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for (name, value) in self.members.iter().flat_map(|member| member.provider.counters()) {
            match sums.iter_mut().find(|(of, _)| *of == name) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name, value)),
            }
        }
        sums
    }

    fn live_count(&self) -> usize {
        self.members.iter().map(|member| member.provider.live_count()).sum()
    }
}

impl<Q: Port> Port for SeveralPort<Q> {
    type QueuePair = SeveralQueuePair<Q::QueuePair>;

    fn attach(&mut self, queue_pair: Self::QueuePair) -> QueuePairName {
        assert_eq!(queue_pair.member, self.member, "a queue pair comes to another device's port");
        self.port.attach(queue_pair.queue_pair)
    }

    fn detach(&mut self, name: QueuePairName) -> Option<Self::QueuePair> {
        let queue_pair = self.port.detach(name)?;
        Some(SeveralQueuePair { member: self.member, queue_pair })
    }

    #[inline]
    fn post_receive(&mut self, name: QueuePairName, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        self.port.post_receive(name, id, segments)
    }

    #[inline]
    fn post_shared_receive(&mut self, id: u64, segments: &[LocalSegment]) -> Result<(), PostError> {
        self.port.post_shared_receive(id, segments)
    }

    #[inline]
    fn post_send(&mut self, name: QueuePairName, request: &SendRequest<'_>) -> Result<(), PostError> {
        self.port.post_send(name, request)
    }

    #[inline]
    fn ring(&mut self) {
        self.port.ring();
    }

    #[inline]
    fn poll(&mut self, now_ns: u64, limit: usize, completions: &mut Vec<Completion>) -> usize {
        self.port.poll(now_ns, limit, completions)
    }

    fn arm(&mut self, now_ns: u64) -> Rest {
        self.port.arm(now_ns)
    }

    fn disarm(&mut self) {
        self.port.disarm();
    }

    fn wake_descriptor(&self) -> Option<RawFd> {
        self.port.wake_descriptor()
    }
}
