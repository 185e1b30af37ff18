//! The software fabric between real processes: data, deaths, stops.
//!
//! A test runs this binary again as its peer: the test [`peer`] with `SHARED_ROLE` set. The parent listens; the peer connects.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, clippy::disallowed_methods, reason = "tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reactor::{Clock, SharedArena};
use transport_rdma::soft::shared::{SharedOptions, SharedProvider};
use transport_rdma::verbs::{
    Access, Completion, CompletionStatus, ConnectParameters, Connection, ConnectionId, Event, Flags, LocalSegment,
    Memory, Port, PortId, PortOptions, Provider, QueuePairName, QueuePairOptions, RegisteredMemory, SendOperation,
    SendRequest, Ticket,
};

const ADDRESS: &str = "127.0.0.1:4420";
const ARENA_LEN: usize = 4 << 20;
const MESSAGE_LEN: usize = 64;
/// Where messages are received and sent from: behind the data.
const RECEIVE_OFFSET: usize = ARENA_LEN - 64 * MESSAGE_LEN;
const SEND_OFFSET: usize = RECEIVE_OFFSET - MESSAGE_LEN;
const PATIENCE: Duration = Duration::from_secs(20);

type SharedPort = <SharedProvider as Provider>::Port;

/// One process's side.
struct Node {
    provider: SharedProvider,
    port: SharedPort,
    port_id: PortId,
    clock: Clock,
    arena: Arc<SharedArena>,
    keys: RegisteredMemory,
    events: Vec<Event<SharedPort>>,
    completions: Vec<Completion>,
    ticket: u64,
}

struct End {
    connection: Connection,
    name: QueuePairName,
}

impl Node {
    fn new(directory: &str) -> Self {
        let options = SharedOptions { directory: Some(PathBuf::from(directory)), ..SharedOptions::default() };
        let mut provider = SharedProvider::new(options).unwrap();
        let port_options = PortOptions { completion_count: 1024, shared_receive_count: 0 };
        let (port_id, port) = provider.create_port(port_options).unwrap();
        let arena = Arc::new(SharedArena::new("test", ARENA_LEN, false).unwrap());
        let mut node = Self {
            provider,
            port,
            port_id,
            clock: Clock::start(),
            arena,
            keys: RegisteredMemory { local_key: 0, remote_key: 0 },
            events: Vec::new(),
            completions: Vec::new(),
            ticket: 0,
        };
        node.keys = node.register();
        node
    }

    fn register(&mut self) -> RegisteredMemory {
        let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
        let ticket = self.ticket();
        self.provider.begin_register(ticket, Memory::Shared(Arc::clone(&self.arena)), access);
        self.event(|event| match event {
            Event::Registered { ticket: of, result } if *of == ticket => Some(*result.as_ref().unwrap()),
            _ => None,
        })
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket(self.ticket)
    }

    fn step(&mut self) {
        let now_ns = self.clock.now_ns();
        self.port.poll(now_ns, 64, &mut self.completions);
        while let Some(event) = self.provider.next_event(now_ns) {
            let event = self.provider.acknowledge(event);
            self.events.push(event);
        }
        std::thread::yield_now();
    }

    fn until<T>(&mut self, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "what was waited for did not come");
            self.step();
        }
    }

    fn event<T>(&mut self, mut fits: impl FnMut(&Event<SharedPort>) -> Option<T>) -> T {
        self.until(|node| {
            let (at, found) = node.events.iter().enumerate().find_map(|(at, event)| Some((at, fits(event)?)))?;
            node.events.remove(at);
            Some(found)
        })
    }

    fn is_there(&mut self, fits: impl Fn(&Event<SharedPort>) -> bool) -> bool {
        let found = self.events.iter().position(fits);
        found.map(|at| self.events.remove(at)).is_some()
    }

    fn attach(&mut self, connection: Connection) -> End {
        let (ticket, port_id) = (self.ticket(), self.port_id);
        let options = QueuePairOptions {
            send_count: 512,
            receive_count: 64,
            segment_count: 2,
            inline_len: 0,
            shared_receive: false,
        };
        self.provider.begin_create_queue_pair(ticket, connection.id(), port_id, options);
        let queue_pair = self.until(|node| {
            let at = node.events.iter().position(|event| matches!(event, Event::QueuePairCreated { .. }))?;
            match node.events.remove(at) {
                Event::QueuePairCreated { result, .. } => Some(result.unwrap()),
                _ => None,
            }
        });
        let name = self.port.attach(queue_pair);
        for id in 0..32 {
            self.post_receive(name, id);
        }
        End { connection, name }
    }

    fn post_receive(&mut self, name: QueuePairName, id: u64) {
        let offset = RECEIVE_OFFSET + usize::try_from(id).unwrap() * MESSAGE_LEN;
        let segment = self.segment(offset, MESSAGE_LEN);
        self.port.post_receive(name, id, &[segment]).unwrap();
    }

    fn segment(&self, offset: usize, len: usize) -> LocalSegment {
        LocalSegment { memory: self.arena.segment().part(offset, len), local_key: self.keys.local_key }
    }

    /// The peer's next connection, accepted.
    fn accept(&mut self) -> End {
        let request = self.until(|node| {
            let at = node.events.iter().position(|event| matches!(event, Event::ConnectRequest(_)))?;
            match node.events.remove(at) {
                Event::ConnectRequest(request) => Some(request),
                _ => None,
            }
        });
        let end = self.attach(request.connection);
        self.provider.accept(&end.connection, parameters());
        let id = end.connection.id();
        self.event(|event| matches!(event, Event::Established { connection, .. } if *connection == id).then_some(()));
        end
    }

    fn connect(&mut self) -> End {
        let ticket = self.ticket();
        self.provider.begin_resolve(ticket, ADDRESS.parse().unwrap());
        let connection = self.until(|node| {
            let at = node.events.iter().position(|event| matches!(event, Event::Resolved { .. }))?;
            match node.events.remove(at) {
                Event::Resolved { result, .. } => Some(result.unwrap()),
                _ => None,
            }
        });
        let end = self.attach(connection);
        self.provider.connect(&end.connection, parameters());
        let id = end.connection.id();
        self.event(|event| match event {
            Event::Established { connection, .. } if *connection == id => Some(()),
            Event::Rejected { reason, .. } => panic!("{reason:?}"),
            _ => None,
        });
        end
    }

    fn post(&mut self, name: QueuePairName, operation: SendOperation, offset: usize, len: usize) {
        let segments = [self.segment(offset, len)];
        let request = SendRequest { id: 1 << 32, operation, flags: Flags::SIGNALED, segments: &segments };
        self.port.post_send(name, &request).unwrap();
    }

    fn send(&mut self, name: QueuePairName, words: [u64; 2]) {
        let memory = self.arena.segment().part(SEND_OFFSET, 16);
        memory.write(0, &words[0].to_le_bytes());
        memory.write(8, &words[1].to_le_bytes());
        self.post(name, SendOperation::Send, SEND_OFFSET, 16);
        self.port.ring();
    }

    /// The next completion of one of our sends.
    fn sent(&mut self) -> CompletionStatus {
        self.completion(|completion| completion.id >= 1 << 32).status
    }

    /// The next message, its receive posted again.
    fn received(&mut self, name: QueuePairName) -> [u64; 2] {
        let completion = self.completion(|completion| completion.id < 1 << 32);
        assert_eq!(completion.status, CompletionStatus::Success);
        let memory =
            self.arena.segment().part(RECEIVE_OFFSET + usize::try_from(completion.id).unwrap() * MESSAGE_LEN, 16);
        let mut words = [[0; 8]; 2];
        memory.read(0, &mut words[0]);
        memory.read(8, &mut words[1]);
        self.post_receive(name, completion.id);
        words.map(u64::from_le_bytes)
    }

    fn completion(&mut self, is_it: impl Fn(&Completion) -> bool) -> Completion {
        self.until(|node| {
            let at = node.completions.iter().position(&is_it)?;
            Some(node.completions.remove(at))
        })
    }

    fn end(&mut self, end: End) {
        self.provider.disconnect(end.connection.id());
        self.step();
        let queue_pair = self.port.detach(end.name).unwrap();
        let ticket = self.ticket();
        self.provider.begin_destroy_queue_pair(ticket, queue_pair);
        self.event(|event| {
            matches!(event, Event::QueuePairDestroyed { ticket: of, .. } if *of == ticket).then_some(())
        });
        let ticket = self.ticket();
        self.provider.begin_destroy_connection(ticket, end.connection);
        self.event(|event| matches!(event, Event::ConnectionDestroyed { ticket: of } if *of == ticket).then_some(()));
        self.completions.clear();
    }

    fn live(&self) -> Vec<(&'static str, u64)> {
        let counters = self.provider.counters().into_iter();
        counters.filter(|(name, value)| name.ends_with("_live") && *value > 0).collect()
    }

    fn disconnected(&mut self, id: ConnectionId) {
        self.event(|event| matches!(event, Event::Disconnected { connection } if *connection == id).then_some(()));
    }
}

fn parameters() -> ConnectParameters<'static> {
    ConnectParameters {
        private_data: b"",
        responder_resources: 1,
        initiator_depth: 1,
        retry_count: 7,
        rnr_retry_count: 7,
    }
}

/// A directory that goes with the test.
struct Directory(String);

impl Directory {
    fn new(name: &str) -> Self {
        Self(format!("{}/quiesce-processes-{}-{name}", std::env::temp_dir().display(), std::process::id()))
    }

    fn start(&self, role: &str) -> Peer {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer", "--nocapture", "--test-threads=1"])
            .env("SHARED_ROLE", role)
            .env("SHARED_DIRECTORY", &self.0)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Peer(child)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A peer process, which goes with the test.
struct Peer(Child);

impl Peer {
    fn signal(&self, signal: i32) {
        // SAFETY: our own child.
        unsafe { libc::kill(i32::try_from(self.0.id()).unwrap(), signal) };
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What runs in the other process.
#[test]
fn peer() {
    let (Ok(role), Ok(directory)) = (std::env::var("SHARED_ROLE"), std::env::var("SHARED_DIRECTORY")) else { return };
    if role == "fault" {
        return fault_elsewhere(&directory);
    }
    let mut node = Node::new(&directory);
    let end = node.connect();
    let base = node.arena.segment().address();
    let key = u64::from(node.keys.remote_key);
    match role.as_str() {
        // Offers its memory, and answers each message with the sum of what was written there.
        "memory" => {
            node.send(end.name, [base, key]);
            loop {
                let [round, _] = node.received(end.name);
                if round == u64::MAX {
                    break;
                }
                let mut page = [0; 4096];
                node.arena.segment().read(0, &mut page);
                let sum = page.iter().map(|&byte| u64::from(byte)).sum();
                assert_eq!(node.sent(), CompletionStatus::Success);
                node.send(end.name, [round, sum]);
            }
            node.disconnected(end.connection.id());
            node.end(end);
            assert_eq!(node.live(), [("regions_live", 1)]);
        }
        // Writes into the parent's memory without a pause, as it is told where; ends with its queue pair.
        "writer" => {
            node.send(end.name, [base, key]);
            let [address, key] = node.received(end.name);
            let operation = SendOperation::Write { address, key: u32::try_from(key).unwrap() };
            node.arena.segment().part(0, 1 << 20).write(0, &vec![0xAA; 1 << 20]);
            assert_eq!(node.sent(), CompletionStatus::Success);
            let mut outstanding = 0;
            loop {
                while outstanding < 16 {
                    node.post(end.name, operation, 0, 1 << 20);
                    outstanding += 1;
                }
                node.port.ring();
                let now_ns = node.clock.now_ns();
                node.port.poll(now_ns, 64, &mut node.completions);
                for completion in node.completions.drain(..) {
                    outstanding -= u32::from(completion.id >= 1 << 32);
                    if completion.status != CompletionStatus::Success {
                        return;
                    }
                }
            }
        }
        // Keeps 32 commands of 64 bytes outstanding, each answered by 4 KiB and 16 bytes.
        "load" => {
            pin(1);
            node.send(end.name, [base, key]);
            assert_eq!(node.sent(), CompletionStatus::Success);
            let (mut outstanding, mut done) = (0, 0_u64);
            let memory = node.segment(SEND_OFFSET, MESSAGE_LEN);
            let mut completions = Vec::new();
            while done < LOAD_COUNT {
                while outstanding < 32 {
                    let flags = if done.is_multiple_of(16) { Flags::SIGNALED } else { Flags::empty() };
                    let request =
                        SendRequest { id: 1 << 32, operation: SendOperation::Send, flags, segments: &[memory] };
                    if node.port.post_send(end.name, &request).is_err() {
                        break;
                    }
                    outstanding += 1;
                }
                node.port.ring();
                let now_ns = node.clock.now_ns();
                node.port.poll(now_ns, 64, &mut completions);
                for completion in completions.drain(..) {
                    assert_eq!(completion.status, CompletionStatus::Success);
                    if completion.id < 1 << 32 {
                        node.post_receive(end.name, completion.id);
                        outstanding -= 1;
                        done += 1;
                    }
                }
            }
            node.end(end);
        }
        other => panic!("no role {other}"),
    }
}

/// A fault that no peer has caused is nobody's to cover: it ends the process as it would without a fabric.
fn fault_elsewhere(directory: &str) {
    let _node = Node::new(directory);
    let path = format!("{directory}-file");
    std::fs::write(&path, [0; 4096]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a new mapping.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    std::fs::write(&path, []).unwrap();
    std::fs::remove_file(&path).unwrap();
    // SAFETY: mapped, and cut off: SIGBUS.
    let byte = unsafe { base.cast::<u8>().read_volatile() };
    panic!("read {byte}");
}

fn listening(directory: &Directory) -> Node {
    let mut node = Node::new(&directory.0);
    node.provider.listen(ADDRESS.parse::<SocketAddr>().unwrap()).unwrap();
    node
}

#[test]
fn two_processes() {
    let directory = Directory::new("two");
    let mut node = listening(&directory);
    let mut peer = directory.start("memory");
    let end = node.accept();
    let [address, key] = node.received(end.name);
    let key = u32::try_from(key).unwrap();
    for round in 0..2000_u64 {
        let byte = u8::try_from(round % 251).unwrap();
        node.arena.segment().part(0, 4096).write(0, &[byte; 4096]);
        node.post(end.name, SendOperation::Write { address, key }, 0, 4096);
        node.send(end.name, [round, 0]);
        assert_eq!(node.received(end.name), [round, u64::from(byte) * 4096]);
        // And back: what the peer has, read by us alone.
        node.post(end.name, SendOperation::Read { address, key }, 8192, 4096);
        node.port.ring();
        for _ in 0..3 {
            assert_eq!(node.sent(), CompletionStatus::Success);
        }
        let mut back = [0; 4096];
        node.arena.segment().part(8192, 4096).read(0, &mut back);
        assert_eq!(back, [byte; 4096]);
    }
    node.send(end.name, [u64::MAX, 0]);
    assert_eq!(node.sent(), CompletionStatus::Success);
    node.end(end);
    assert!(peer.0.wait().unwrap().success());
    node.until(|node| {
        (node.provider.counters().iter().all(|&(name, value)| !name.starts_with("peers_") || value == 0)).then_some(())
    });
    assert_eq!(node.live(), [("listeners_live", 1), ("regions_live", 1)]);
}

#[test]
fn a_killed_peer_leaves_nothing_behind() {
    let directory = Directory::new("killed");
    let mut node = listening(&directory);
    let before = node.live();
    let mut peer = directory.start("memory");
    let end = node.accept();
    let [address, key] = node.received(end.name);
    let operation = SendOperation::Write { address, key: u32::try_from(key).unwrap() };
    for _ in 0..40 {
        node.post(end.name, operation, 0, 1 << 20);
    }
    node.port.ring();
    peer.signal(libc::SIGKILL);
    let killed = Instant::now();
    node.disconnected(end.connection.id());
    // Writes go on into memory that is still mapped, or end; a message shows that nobody is there.
    while !node.completions.iter().any(|completion| completion.status != CompletionStatus::Success) {
        node.step();
        assert!(killed.elapsed() < Duration::from_secs(1), "the queue pair lives on");
    }
    node.end(end);
    node.until(|node| (node.live() == before).then_some(()));
    node.until(|node| node.provider.counters().contains(&("peers_idle", 0)).then_some(()));
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let mapped = node.provider.counters().into_iter().find(|(name, _)| *name == "mapped_bytes").unwrap().1;
    assert_eq!(mapped, 0);
    peer.0.wait().unwrap();
}

/// Deregistration returns when no copy under the key can run any more, and not before: tried until a stop hits the peer in mid-copy.
#[test]
fn a_stopped_copier_delays_deregistration_and_nothing_else() {
    let directory = Directory::new("stopped");
    for attempt in 0.. {
        assert!(attempt < 20, "the peer was never stopped in mid-copy");
        let mut node = listening(&directory);
        let peer = directory.start("writer");
        let end = node.accept();
        node.received(end.name);
        let target = node.register();
        let base = node.arena.segment().address();
        node.send(end.name, [base, u64::from(target.remote_key)]);
        assert_eq!(node.sent(), CompletionStatus::Success);
        // Until it has begun.
        let arena = Arc::clone(&node.arena);
        let byte = |offset| {
            let mut byte = [0];
            arena.segment().read(offset, &mut byte);
            byte[0]
        };
        node.until(|_| (byte(0) == 0xAA).then_some(()));
        peer.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(i32::try_from(peer.0.id()).unwrap(), &raw mut status, libc::WUNTRACED) };
        let ticket = node.ticket();
        node.provider.begin_deregister(ticket, target);
        let is_it =
            move |event: &Event<SharedPort>| matches!(event, Event::Deregistered { ticket: of } if *of == ticket);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(50) {
            node.step();
        }
        if node.is_there(is_it) {
            continue;
        }
        // Others are not delayed: memory that this peer does not know.
        let other = node.ticket();
        let arena = reactor::Arena::new(4096, false).unwrap();
        node.provider.begin_register(other, Memory::Private(arena.segment()), Access::LOCAL_WRITE);
        let keys = node.event(|event| match event {
            Event::Registered { ticket: of, result } if *of == other => Some(*result.as_ref().unwrap()),
            _ => None,
        });
        let other = node.ticket();
        node.provider.begin_deregister(other, keys);
        node.event(|event| matches!(event, Event::Deregistered { ticket: of } if *of == other).then_some(()));
        assert!(!node.is_there(is_it), "the copier is still stopped");
        peer.signal(libc::SIGCONT);
        node.event(|event| is_it(event).then_some(()));
        // From here on nobody writes.
        node.arena.segment().part(0, 1 << 20).zero();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(50) {
            node.step();
        }
        let mut after = vec![0; 1 << 20];
        node.arena.segment().part(0, 1 << 20).read(0, &mut after);
        assert!(after.iter().all(|&byte| byte == 0), "written after its deregistration");
        node.end(end);
        return;
    }
}

#[test]
fn a_fault_elsewhere_still_ends_the_process() {
    let directory = Directory::new("fault");
    let mut peer = directory.start("fault");
    let status = peer.0.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGBUS), "{status}");
}

const LOAD_COUNT: u64 = 4_000_000;

fn pin(cpu: usize) {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: this thread.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// A measurement, to be run alone on two idle CPUs, in release: `cargo test --release --test shared_processes -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed_of_a_write_and_a_message() {
    let directory = Directory::new("speed");
    let mut node = listening(&directory);
    let peer = directory.start("load");
    let end = node.accept();
    let [address, key] = node.received(end.name);
    let key = u32::try_from(key).unwrap();
    pin(0);
    let (data, response) = (node.segment(0, 4096), node.segment(SEND_OFFSET, 16));
    let (mut done, mut completions) = (0_u64, Vec::new());
    let begin = Instant::now();
    while done < LOAD_COUNT {
        let now_ns = node.clock.now_ns();
        node.port.poll(now_ns, 64, &mut completions);
        for completion in completions.drain(..) {
            assert_eq!(completion.status, CompletionStatus::Success);
            if completion.id >= 1 << 32 {
                continue;
            }
            node.post_receive(end.name, completion.id);
            let operation = SendOperation::Write { address: address + (done % 32) * 4096, key };
            let write = SendRequest { id: 1 << 32, operation, flags: Flags::empty(), segments: &[data] };
            node.port.post_send(end.name, &write).unwrap();
            let flags = if done.is_multiple_of(8) { Flags::SIGNALED } else { Flags::empty() };
            let send = SendRequest { id: 1 << 32, operation: SendOperation::Send, flags, segments: &[response] };
            node.port.post_send(end.name, &send).unwrap();
            done += 1;
        }
        node.port.ring();
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{:.2} M/s: 64 B command, 4 KiB WRITE, 16 B SEND, 32 outstanding", done as f64 / seconds / 1e6);
    node.disconnected(end.connection.id());
    node.end(end);
    drop(peer);
}

/// The reason is for a person, and names the way out.
#[test]
fn nobody_listens_says_what_to_do() {
    let directory = Directory::new("nobody");
    let mut node = Node::new(&directory.0);
    let ticket = node.ticket();
    node.provider.begin_resolve(ticket, ADDRESS.parse().unwrap());
    let connection = node.until(|node| {
        let at = node.events.iter().position(|event| matches!(event, Event::Resolved { .. }))?;
        match node.events.remove(at) {
            Event::Resolved { result, .. } => Some(result.unwrap()),
            _ => None,
        }
    });
    node.provider.connect(&connection, parameters());
    let reason = node.event(|event| match event {
        Event::Rejected { reason, .. } => Some(format!("{reason:?}")),
        _ => None,
    });
    assert!(reason.contains("nothing listens on 127.0.0.1:4420: start nvmf-tgt"), "{reason}");
    assert!(reason.contains("QUIESCE_RUNTIME_DIR") && reason.contains(&directory.0), "{reason}");
}
