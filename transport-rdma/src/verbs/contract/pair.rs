//! Two machines and what is common to the cases.

use std::sync::Arc;

use reactor::SharedArena;

use super::{MEMORY_LEN, Rig};
use crate::verbs::{
    Access, Completion, CompletionStatus, ConnectParameters, Connection, ConnectionId, ConnectionRequest, Event, Flags,
    LocalSegment, Memory, Port, PortId, PortOptions, Provider, QueuePairName, QueuePairOptions, RegisteredMemory,
    SendOperation, SendRequest, Ticket, Unacknowledged,
};

/// Steps after which what was waited for will not come.
const PATIENCE: usize = 400_000;

/// How a case wants its machines.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) completion_count: u32,
    pub(crate) shared_receive_count: u32,
    pub(crate) queue_pair: QueuePairOptions,
    pub(crate) rnr_retry_count: u8,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            completion_count: 64,
            shared_receive_count: 0,
            queue_pair: QueuePairOptions {
                send_count: 16,
                receive_count: 16,
                segment_count: 4,
                inline_len: 64,
                shared_receive: false,
            },
            rnr_retry_count: 7,
        }
    }
}

impl Setup {
    pub(crate) fn shared(count: u32) -> Self {
        let mut setup = Self { shared_receive_count: count, ..Self::default() };
        setup.queue_pair.shared_receive = true;
        setup
    }
}

/// One machine.
pub(crate) struct Side<P: Provider> {
    pub(crate) provider: P,
    pub(crate) port: P::Port,
    pub(crate) port_id: PortId,
    pub(crate) arena: Arc<SharedArena>,
    pub(crate) keys: RegisteredMemory,
    /// Polled and not looked at.
    pub(crate) completions: Vec<Completion>,
    /// Fetched, acknowledged and not looked at.
    pub(crate) events: Vec<Event<P::Port>>,
    /// Fetched and not acknowledged, while `is_holding`.
    pub(crate) held: Vec<Unacknowledged<P::Port>>,
    pub(crate) is_holding: bool,
    /// Its CPU does not run.
    pub(crate) is_stopped: bool,
    next_ticket: u64,
}

/// One end of a connection in a case.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) name: QueuePairName,
}

impl End {
    pub(crate) fn id(&self) -> ConnectionId {
        self.connection.id()
    }
}

/// Two machines, and the rig that they came from.
pub(crate) struct Pair<R: Rig> {
    pub(crate) rig: R,
    pub(crate) setup: Setup,
    pub(crate) sides: [Side<R::Provider>; 2],
    pub(crate) now_ns: u64,
    listener: Option<(std::net::SocketAddr, crate::verbs::ListenerId)>,
}

impl<P: Provider> Side<P> {
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// A part of this side's memory, under its local key.
    pub(crate) fn part(&self, offset: usize, len: usize) -> LocalSegment {
        LocalSegment { memory: self.arena.segment().part(offset, len), local_key: self.keys.local_key }
    }

    /// The remote address of a byte of this side's memory.
    pub(crate) fn address(&self, offset: usize) -> u64 {
        self.arena.segment().part(offset, 1).address()
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        self.arena.segment().write(offset, bytes);
    }

    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.arena.segment().read(offset, &mut bytes);
        bytes
    }

    /// Posts one signalled request with one segment, and rings.
    pub(crate) fn send(&mut self, name: QueuePairName, id: u64, operation: SendOperation, segment: LocalSegment) {
        self.send_with(name, id, operation, Flags::SIGNALED, &[segment]);
    }

    pub(crate) fn send_with(
        &mut self,
        name: QueuePairName,
        id: u64,
        operation: SendOperation,
        flags: Flags,
        segments: &[LocalSegment],
    ) {
        self.port.post_send(name, &SendRequest { id, operation, flags, segments }).unwrap();
        self.port.ring();
    }

    /// The completions so far, as identifier and status.
    pub(crate) fn take_completions(&mut self) -> Vec<(u64, CompletionStatus)> {
        self.completions.drain(..).map(|completion| (completion.id, completion.status)).collect()
    }

    /// Takes the first event that fits.
    pub(crate) fn take_event<T>(&mut self, mut fits: impl FnMut(&Event<P::Port>) -> Option<T>) -> Option<T> {
        let (at, found) = self.events.iter().enumerate().find_map(|(at, event)| Some((at, fits(event)?)))?;
        self.events.remove(at);
        Some(found)
    }

    pub(crate) fn gauges(&self) -> Vec<(&'static str, u64)> {
        self.provider.counters().into_iter().filter(|(name, value)| name.ends_with("_live") && *value != 0).collect()
    }
}

impl<R: Rig> Pair<R> {
    pub(crate) fn new(rig: R) -> Self {
        Self::with(rig, Setup::default())
    }

    pub(crate) fn with(mut rig: R, setup: Setup) -> Self {
        let [first, second] = rig.machines();
        let arenas = [rig.memory(0), rig.memory(1)];
        let [first_arena, second_arena] = arenas;
        let sides = [Self::side(first, first_arena, setup), Self::side(second, second_arena, setup)];
        let mut pair = Self { rig, setup, sides, now_ns: 0, listener: None };
        for side in 0..2 {
            let memory = Memory::Shared(Arc::clone(&pair.sides[side].arena));
            let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE | Access::WINDOW_BIND;
            pair.sides[side].keys = pair.register(side, memory, access);
            pair.sides[side].arena.segment().part(0, MEMORY_LEN).zero();
        }
        pair
    }

    fn side(mut provider: R::Provider, arena: Arc<SharedArena>, setup: Setup) -> Side<R::Provider> {
        let Setup { completion_count, shared_receive_count, .. } = setup;
        let (port_id, port) = provider.create_port(PortOptions { completion_count, shared_receive_count }).unwrap();
        Side {
            provider,
            port,
            port_id,
            arena,
            keys: RegisteredMemory { local_key: 0, remote_key: 0 },
            completions: Vec::new(),
            events: Vec::new(),
            held: Vec::new(),
            is_holding: false,
            is_stopped: false,
            next_ticket: 0,
        }
    }

    pub(crate) fn register(&mut self, side: usize, memory: Memory, access: Access) -> RegisteredMemory {
        let ticket = self.sides[side].ticket();
        self.sides[side].provider.begin_register(ticket, memory, access);
        self.event(side, "a registration", |event| match event {
            Event::Registered { ticket: of, result } if *of == ticket => Some(result.as_ref().copied().unwrap()),
            _ => None,
        })
    }

    pub(crate) fn deregister(&mut self, side: usize, keys: RegisteredMemory) {
        let ticket = self.sides[side].ticket();
        self.sides[side].provider.begin_deregister(ticket, keys);
        self.event(side, "a deregistration", |event| {
            matches!(event, Event::Deregistered { ticket: of } if *of == ticket).then_some(())
        });
    }

    /// Both machines have a turn.
    pub(crate) fn step(&mut self) {
        self.now_ns = self.rig.step();
        for side in &mut self.sides {
            if !side.is_stopped {
                side.port.poll(self.now_ns, 32, &mut side.completions);
                side.port.ring();
            }
            for _ in 0..8 {
                let Some(event) = side.provider.next_event(self.now_ns) else { break };
                if side.is_holding {
                    side.held.push(event);
                } else {
                    side.events.push(side.provider.acknowledge(event));
                }
            }
        }
    }

    pub(crate) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Steps until the time has passed.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.step();
        let end_ns = self.now_ns + ns;
        while self.now_ns < end_ns {
            self.step();
        }
    }

    /// Steps until there is something.
    pub(crate) fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        for _ in 0..PATIENCE {
            if let Some(found) = found(self) {
                return found;
            }
            self.step();
        }
        panic!("{what} did not come");
    }

    pub(crate) fn event<T>(
        &mut self,
        side: usize,
        what: &str,
        mut fits: impl FnMut(&Event<<R::Provider as Provider>::Port>) -> Option<T>,
    ) -> T {
        self.until(what, |pair| pair.sides[side].take_event(&mut fits))
    }

    /// Steps until a side has so many completions, and takes all.
    pub(crate) fn completions(&mut self, side: usize, count: usize) -> Vec<(u64, CompletionStatus)> {
        self.full_completions(side, count).iter().map(|completion| (completion.id, completion.status)).collect()
    }

    pub(crate) fn full_completions(&mut self, side: usize, count: usize) -> Vec<Completion> {
        self.until(&format!("completion {count} of side {side}"), |pair| {
            let completions = &mut pair.sides[side].completions;
            (completions.len() >= count).then(|| std::mem::take(completions))
        })
    }

    pub(crate) fn listen(&mut self) -> std::net::SocketAddr {
        if let Some((address, _)) = self.listener {
            return address;
        }
        let address = self.rig.address();
        let listener = self.sides[1].provider.listen(address).unwrap();
        self.listener = Some((address, listener));
        address
    }

    /// A resolved connection of side 0 with its queue pair attached.
    pub(crate) fn resolve(&mut self) -> End {
        let address = self.listen();
        self.resolve_to(address)
    }

    pub(crate) fn resolve_to(&mut self, address: std::net::SocketAddr) -> End {
        let ticket = self.sides[0].ticket();
        self.sides[0].provider.begin_resolve(ticket, address);
        self.until("a resolution", |pair| {
            let events = &mut pair.sides[0].events;
            let at =
                events.iter().position(|event| matches!(event, Event::Resolved { ticket: of, .. } if *of == ticket))?;
            match events.remove(at) {
                Event::Resolved { result, .. } => Some(result.unwrap()),
                _ => None,
            }
        })
        .attach(self, 0)
    }

    /// Side 1's next connection request.
    pub(crate) fn request(&mut self) -> ConnectionRequest {
        self.until("a connection request", |pair| {
            let events = &mut pair.sides[1].events;
            let at = events.iter().position(|event| matches!(event, Event::ConnectRequest(_)))?;
            match events.remove(at) {
                Event::ConnectRequest(request) => Some(request),
                _ => None,
            }
        })
    }

    /// Makes the connection's queue pair.
    pub(crate) fn create(
        &mut self,
        side: usize,
        connection: ConnectionId,
    ) -> <<R::Provider as Provider>::Port as Port>::QueuePair {
        let (ticket, port_id) = (self.sides[side].ticket(), self.sides[side].port_id);
        let options = self.setup.queue_pair;
        self.sides[side].provider.begin_create_queue_pair(ticket, connection, port_id, options);
        self.until("a queue pair", |pair| {
            let events = &mut pair.sides[side].events;
            let at = events
                .iter()
                .position(|event| matches!(event, Event::QueuePairCreated { ticket: of, .. } if *of == ticket))?;
            match events.remove(at) {
                Event::QueuePairCreated { result, .. } => result.ok(),
                _ => None,
            }
        })
    }

    pub(crate) fn parameters<'a>(&self, private_data: &'a [u8]) -> ConnectParameters<'a> {
        ConnectParameters {
            private_data,
            responder_resources: 4,
            initiator_depth: 4,
            retry_count: 7,
            rnr_retry_count: self.setup.rnr_retry_count,
        }
    }

    /// A connection that both sides know to be up. `prepare` posts the receives of each side before that.
    pub(crate) fn connect_with(&mut self, mut prepare: impl FnMut(&mut Self, usize, QueuePairName)) -> [End; 2] {
        let active = self.resolve();
        prepare(self, 0, active.name);
        let parameters = self.parameters(b"hello");
        self.sides[0].provider.connect(&active.connection, parameters);
        let request = self.request();
        let passive = request.connection.attach(self, 1);
        prepare(self, 1, passive.name);
        let parameters = self.parameters(b"welcome");
        self.sides[1].provider.accept(&passive.connection, parameters);
        self.established(0, active.id());
        self.established(1, passive.id());
        [active, passive]
    }

    pub(crate) fn connect(&mut self) -> [End; 2] {
        self.connect_with(|_, _, _| {})
    }

    /// Posts receives of 256 bytes from `first` on, each into its own place, and gives them its place's number.
    pub(crate) fn post_receives(&mut self, side: usize, name: QueuePairName, first: u64, count: u64) {
        for id in first..first + count {
            let segment = self.sides[side].part(receive_offset(id), RECEIVE_LEN);
            self.sides[side].port.post_receive(name, id, &[segment]).unwrap();
        }
    }

    pub(crate) fn established(&mut self, side: usize, id: ConnectionId) {
        self.event(side, "an established connection", |event| {
            matches!(event, Event::Established { connection, .. } if *connection == id).then_some(())
        });
    }

    /// Ends one end: disconnects, waits for `count` completions, detaches, destroys. What it completed is left for the case.
    pub(crate) fn end(&mut self, side: usize, end: End) {
        self.sides[side].provider.disconnect(end.id());
        self.steps(R::FLUSH_TURNS);
        self.destroy(side, end);
    }

    pub(crate) fn destroy(&mut self, side: usize, end: End) {
        let queue_pair = self.sides[side].port.detach(end.name).unwrap();
        self.destroy_queue_pair(side, queue_pair);
        self.destroy_connection(side, end.connection);
    }

    pub(crate) fn destroy_queue_pair(
        &mut self,
        side: usize,
        queue_pair: <<R::Provider as Provider>::Port as Port>::QueuePair,
    ) {
        let ticket = self.sides[side].ticket();
        self.sides[side].provider.begin_destroy_queue_pair(ticket, queue_pair);
        self.event(side, "a queue pair's destruction", |event| match event {
            Event::QueuePairDestroyed { ticket: of, result: Ok(()) } if *of == ticket => Some(()),
            _ => None,
        });
    }

    pub(crate) fn destroy_connection(&mut self, side: usize, connection: Connection) {
        let ticket = self.sides[side].ticket();
        self.sides[side].provider.begin_destroy_connection(ticket, connection);
        self.event(side, "a connection's destruction", |event| {
            matches!(event, Event::ConnectionDestroyed { ticket: of } if *of == ticket).then_some(())
        });
    }

    /// Ends both, and everything else; nothing is alive then, and nothing completes any more.
    pub(crate) fn finish(mut self, ends: [End; 2]) {
        let [first, second] = ends;
        self.end(0, first);
        self.end(1, second);
        self.close();
    }

    /// Ends the listener, if there is one.
    pub(crate) fn unlisten(&mut self) {
        if let Some((_, listener)) = self.listener.take() {
            let ticket = self.sides[1].ticket();
            self.sides[1].provider.begin_unlisten(ticket, listener);
            self.event(1, "the listener's end", |event| {
                matches!(event, Event::Unlistened { ticket: of } if *of == ticket).then_some(())
            });
        }
    }

    /// The same, all connections having ended.
    pub(crate) fn close(mut self) {
        self.unlisten();
        for side in 0..2 {
            let keys = self.sides[side].keys;
            self.deregister(side, keys);
        }
        self.steps(20);
        for side in &mut self.sides {
            side.completions.clear();
        }
        self.steps(20);
        for (number, side) in self.sides.iter().enumerate() {
            assert_eq!(side.gauges(), [], "side {number}");
            assert_eq!(side.provider.live_count(), 0, "side {number}");
            assert_eq!(side.completions, [], "side {number}");
        }
    }
}

/// That these came, in this order, with these statuses or what the rig's devices call them.
#[track_caller]
pub(crate) fn assert_ended<R: Rig>(seen: &[(u64, CompletionStatus)], meant: &[(u64, CompletionStatus)]) {
    let is_same = |(seen, meant): (&(u64, CompletionStatus), &(u64, CompletionStatus))| {
        seen.0 == meant.0 && R::may_be(seen.1, meant.1)
    };
    let are_same = seen.len() == meant.len() && seen.iter().zip(meant).all(is_same);
    assert!(are_same, "{seen:?} came, {meant:?} was meant");
}

/// What a case does with a connection.
pub(crate) trait Attach {
    /// Makes its queue pair and attaches it.
    fn attach<R: Rig>(self, pair: &mut Pair<R>, side: usize) -> End;
}

impl Attach for Connection {
    fn attach<R: Rig>(self, pair: &mut Pair<R>, side: usize) -> End {
        let queue_pair = pair.create(side, self.id());
        let name = pair.sides[side].port.attach(queue_pair);
        End { connection: self, name }
    }
}

/// Bytes of a posted receive.
pub(crate) const RECEIVE_LEN: usize = 256;

/// Where receive number `id` goes: the upper half of the memory, 32 places.
pub(crate) fn receive_offset(id: u64) -> usize {
    MEMORY_LEN / 2 + usize::try_from(id % 32).unwrap() * RECEIVE_LEN
}
