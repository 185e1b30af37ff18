//! A whole target, and hosts that do anything: every command of a connection that lives is answered once, and at the end nothing is left.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bdev::{Device, Fault, Memory};
use fuzz::{Bytes, Features};
use nvmf_core::DisconnectReason;
use nvmf_core::auth::{HashId, Secret};
use nvmf_core::spec::{AnaState, HostKeys, Key};
use nvmf_core::target::{Amendment, NamespaceRequest};
use nvmf_core::wire::{ConnectEntry, DISCOVERY_NQN, SglDescriptor, U16};

use super::capsule::{self, Capsule};
use super::harness;
use super::harness::device::TestDevice;
use super::harness::{
    CLOSED_NQN, Conn, Connect, HOST_MEMORY_LEN, HOST_NQN, NQN, OTHER_HOST_NQN, Options, World, keyed, listener,
    namespace, property_set,
};

/// Connections of one input, in all: each CPU has room for 16.
const CONNECTION_COUNT_MAX: usize = 12;
/// Commands of one input.
const COMMAND_COUNT_MAX: usize = 400;
/// Of the opcodes that may stay unanswered as long as their queue lives.
const ASYNC_EVENT_REQUEST: u8 = 0x0C;
const FABRICS: u8 = 0x7F;

/// A device, and what the CPUs have: the same for each input, one after the other, since arenas are never given back.
static MEMORY: LazyLock<(Arc<Memory>, Vec<harness::Memory>)> = LazyLock::new(|| {
    let device = Memory::new("memory", 512, 256, false).unwrap();
    (Arc::new(device), harness::Memory::for_all(512 << 10))
});

/// A connection, as its host sees it.
struct Link {
    conn: Conn,
    qid: u16,
    depth: u16,
    /// Opcode and flags of what was sent, by command id.
    sent: BTreeMap<u16, Vec<(u8, u8)>>,
    sent_count: usize,
    /// The controller that its Connect gave it, where it was an admin queue's.
    controller_id: u16,
    looked_at: usize,
}

struct Session {
    world: World,
    links: Vec<Link>,
    next_id: u16,
    command_count: usize,
    features: Features,
}

/// See the module.
pub(crate) fn run(input: &[u8]) -> Features {
    let mut bytes = Bytes::new(input);
    let mut session = Session::new();
    while !bytes.is_empty() && session.command_count < COMMAND_COUNT_MAX {
        session.step(&mut bytes);
    }
    session.end()
}

impl Session {
    fn new() -> Self {
        let memory: Arc<dyn Device> = Arc::clone(&MEMORY.0) as Arc<dyn Device>;
        memory.memory().unwrap().zero();
        let faulty: Arc<dyn Device> = Arc::new(Fault::new("faulty", memory, 1));
        let disk: Arc<dyn Device> = Arc::new(TestDevice::new("disk", 512).aligned(512));
        let mut world = World::new(Options {
            memory: Some(MEMORY.1.clone()),
            ..Options::new(vec![namespace(1, disk), namespace(2, faulty)])
        });
        // One host of the other subsystem has to prove who it is.
        let secret = Secret::generate(Some(HashId::Sha256), &mut |bytes| bytes.fill(7));
        let key = Key { name: "key".into(), secret };
        let keys = HostKeys { host: OTHER_HOST_NQN.into(), key, controller_key: None };
        let removal = world.change(|target| target.remove_host(CLOSED_NQN, OTHER_HOST_NQN)).unwrap();
        world.finish(removal);
        let change = world.change(|target| target.add_host_with_keys(CLOSED_NQN, keys)).unwrap();
        world.finish(change);
        Self { world, links: Vec::new(), next_id: 0, command_count: 0, features: Features::new() }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.u8() % 32 {
            0 | 1 => self.attach(bytes),
            2 | 3 => self.connect(bytes),
            4..=19 => self.send(bytes),
            20..=23 => self.world.run(usize::from(bytes.u8())),
            24 => self.world.pass(u64::from(bytes.u8() / 4)),
            25 => self.lose(bytes),
            26 => self.hold(bytes),
            27 | 28 => self.change(bytes),
            29 => self.raw(bytes),
            _ => {
                let (cpu, at) = (u16::from(bytes.u8() & 1), usize::from(bytes.u16()) * 8);
                let data = capsule::contents(bytes);
                let at = at.min(HOST_MEMORY_LEN - data.len());
                self.world.host_write(cpu, at, &data);
            }
        }
        self.look();
    }

    /// What most hosts do first: an admin queue with an enabled controller, and an I/O queue.
    fn attach(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.u8();
        let Some(admin) = self.open(u16::from(choice & 1), 0, 32) else { return };
        let nqn = [NQN, NQN, NQN, DISCOVERY_NQN][usize::from(choice >> 1 & 3)];
        let host_id = [choice >> 3 & 3; 16].map(|byte| byte + 1);
        let keep_alive_ms = if choice & 0x80 == 0 { 0 } else { 100 };
        let connect = Connect { nqn: nqn.into(), host_id, keep_alive_ms, ..Connect::new(0, 32) };
        self.send_connect(admin, &connect, 0);
        self.world.run(60);
        self.look();
        self.deliver(admin, (property_set(0x14, 0x0046_0001), Vec::new()));
        self.world.run(30);
        let controller_id = self.links[admin].controller_id;
        if choice & 0x40 == 0 && nqn == NQN {
            let Some(io) = self.open(u16::from(choice >> 5 & 1), 1, 16) else { return };
            self.send_connect(io, &Connect { controller_id, host_id, ..Connect::new(1, 16) }, 0);
            self.world.run(60);
        }
    }

    /// Any Connect.
    fn connect(&mut self, bytes: &mut Bytes<'_>) {
        let qid = if bytes.one_in(8) { bytes.u16() } else { u16::from(bytes.u8() % 4) };
        let depth = if bytes.one_in(8) { bytes.u16() % 128 } else { bytes.pick(&[16, 32]) };
        let Some(link) = self.open(u16::from(bytes.u8() & 1), qid, depth.max(2)) else { return };
        let known: Vec<u16> = self.links.iter().map(|link| link.controller_id).filter(|id| *id > 0).collect();
        let controller_id = match known.len() {
            0 => 0xFFFF,
            len if qid > 0 => known[usize::from(bytes.u8()) % len],
            _ => 0xFFFF,
        };
        let (nqn, host_nqn) = bytes.pick(&[
            (NQN, HOST_NQN),
            (NQN, OTHER_HOST_NQN),
            (CLOSED_NQN, OTHER_HOST_NQN),
            (CLOSED_NQN, OTHER_HOST_NQN),
            (CLOSED_NQN, HOST_NQN),
            (DISCOVERY_NQN, HOST_NQN),
        ]);
        let connect = Connect {
            qid: if bytes.one_in(16) { bytes.u16() } else { qid },
            depth: if bytes.one_in(16) { bytes.u16() } else { depth },
            attributes: if bytes.one_in(8) { bytes.u8() } else { 0 },
            keep_alive_ms: if bytes.one_in(4) { bytes.number() as u32 } else { 0 },
            controller_id: if bytes.one_in(16) { bytes.u16() } else { controller_id },
            nqn: nqn.into(),
            host_nqn: host_nqn.into(),
            host_id: [bytes.u8() % 3 + 1; 16],
            in_capsule: bytes.one_in(2),
        };
        self.send_connect(link, &connect, bytes.u8());
    }

    fn open(&mut self, cpu: u16, qid: u16, depth: u16) -> Option<usize> {
        if self.links.len() == CONNECTION_COUNT_MAX {
            return None;
        }
        let conn = self.world.open(cpu, qid, depth);
        let (sent, sent_count) = (BTreeMap::new(), 0);
        self.links.push(Link { conn, qid, depth, sent, sent_count, controller_id: 0, looked_at: 0 });
        Some(self.links.len() - 1)
    }

    fn send_connect(&mut self, link: usize, connect: &Connect, spoil: u8) {
        let (mut entry, mut data): (ConnectEntry, Vec<u8>) = connect.build();
        // Bytes of the data that mean something: host id, controller id, names.
        if spoil & 7 == 7 {
            let at = [0, 16, 17, 256, 300, 512, 600, 1023][usize::from(spoil >> 5)];
            data[at] ^= spoil;
        }
        if connect.in_capsule {
            entry.sgl1 = SglDescriptor::in_capsule(0, data.len() as u32);
        } else {
            let at = HOST_MEMORY_LEN - data.len();
            self.world.host_write(self.links[link].conn.cpu, at, &data);
            entry.sgl1 = keyed(at, data.len() as u32);
            data.clear();
        }
        entry.command_id = U16::new(self.id());
        self.deliver(link, (entry.to_bytes(), data));
    }

    fn send(&mut self, bytes: &mut Bytes<'_>) {
        let count = usize::from(bytes.u8() % 4) + 1;
        let Some(link) = self.choose(bytes) else { return };
        for _ in 0..count {
            let id = self.id();
            let capsule = capsule::command(bytes, self.links[link].qid == 0, id);
            self.deliver(link, capsule);
        }
    }

    fn raw(&mut self, bytes: &mut Bytes<'_>) {
        let Some(link) = self.choose(bytes) else { return };
        let command = bytes.array();
        self.deliver(link, (command, capsule::contents(bytes)));
    }

    fn choose(&self, bytes: &mut Bytes<'_>) -> Option<usize> {
        let choice = usize::from(bytes.u8());
        (!self.links.is_empty()).then(|| choice % self.links.len())
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// As the transport lets it through: a host has no more outstanding than its queue is deep.
    fn deliver(&mut self, link: usize, capsule: Capsule) {
        let link = &mut self.links[link];
        let outstanding = link.sent_count - self.world.responses(link.conn).len();
        if !self.world.is_open(link.conn) && link.sent_count > 0 || outstanding >= usize::from(link.depth) {
            return;
        }
        let (command, data) = capsule;
        let id = u16::from_le_bytes([command[2], command[3]]);
        link.sent.entry(id).or_default().push((command[0], command[1]));
        link.sent_count += 1;
        self.command_count += 1;
        self.world.send(link.conn, command, &data);
    }

    fn lose(&mut self, bytes: &mut Bytes<'_>) {
        let Some(link) = self.choose(bytes) else { return };
        if self.world.is_open(self.links[link].conn) {
            self.world.disconnect(self.links[link].conn, DisconnectReason::PeerGone);
        }
    }

    fn hold(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.u8();
        let mut wire = self.world.wire(u16::from(choice & 1));
        wire.hold_pulls = choice & 2 != 0;
        wire.hold_finished = choice & 4 != 0;
        wire.hold_teardown = choice & 8 != 0;
        wire.registered = choice & 16 == 0;
    }

    /// By the control plane. It may say no.
    fn change(&mut self, bytes: &mut Bytes<'_>) {
        let (nqn, nsid) = (NQN.to_owned(), u32::from(bytes.u8() % 3) + 1);
        let host = HOST_NQN.to_owned();
        let amendment = match bytes.u8() % 9 {
            0 => Amendment::PauseSubsystem { nqn },
            1 | 2 => Amendment::ResumeSubsystem { nqn },
            3 => Amendment::RemoveNamespace { nqn, nsid },
            4 => {
                let device = if nsid == 1 { "disk".to_owned() } else { "faulty".to_owned() };
                let (uuid, nguid, eui64, ana_group) = (None, None, None, None);
                let is_auto_visible = bytes.one_in(2);
                let persistence_file = None;
                let namespace =
                    NamespaceRequest { nsid, device, uuid, nguid, eui64, ana_group, is_auto_visible, persistence_file };
                Amendment::AddNamespace { nqn, namespace }
            }
            5 => Amendment::AddNamespaceHost { nqn, nsid, host },
            6 => Amendment::RemoveNamespaceHost { nqn, nsid, host },
            7 => {
                let states = [AnaState::Optimized, AnaState::NonOptimized, AnaState::Inaccessible];
                Amendment::SetAnaState { nqn, listener: listener(), group: None, state: bytes.pick(&states) }
            }
            _ => {
                let is_allowed = bytes.one_in(2);
                let _ = self.world.change(move |target| target.allow_any_host(NQN, is_allowed));
                return;
            }
        };
        let _ = self.world.change(move |target| target.amend(&amendment));
    }

    /// Responses that have come: each is one that is owed.
    fn look(&mut self) {
        for link in &mut self.links {
            let responses = self.world.responses(link.conn);
            for response in &responses[link.looked_at..] {
                let id = response.command_id.get();
                let owed = link.sent.get_mut(&id).filter(|owed| !owed.is_empty());
                let Some(owed) = owed else { panic!("a response to {id:#x} on queue {}, which owes none", link.qid) };
                let (opcode, _) = owed.remove(0);
                let status = response.status();
                if link.qid == 0 && opcode == FABRICS && status.is_success() && link.controller_id == 0 {
                    link.controller_id = response.result.get() as u16;
                }
                let is_admin = u64::from(link.qid == 0);
                self.features.insert(is_admin << 32 | u64::from(opcode) << 16 | u64::from(status.to_field()));
            }
            link.looked_at = responses.len();
            if let Some(reason) = self.world.ended(link.conn) {
                self.features
                    .insert(1 << 40 | DisconnectReason::ALL.iter().position(|other| *other == reason).unwrap() as u64);
            }
        }
    }

    /// Nothing is held any more: what lives is answered, and then all of it ends.
    fn end(mut self) -> Features {
        for cpu in 0..2 {
            let mut wire = self.world.wire(cpu);
            (wire.hold_pulls, wire.hold_finished, wire.hold_teardown) = (false, false, false);
        }
        let _ = self.world.change(|target| target.resume_subsystem(NQN));
        for _ in 0..150 {
            self.world.run(100);
            // What waits for an end elsewhere waits for so long, and no longer.
            self.world.pass(100);
            self.look();
            if self.links.iter().all(|link| !self.world.is_open(link.conn) || is_answered(link)) {
                break;
            }
        }
        for link in self.links.iter().filter(|link| self.world.is_open(link.conn)) {
            let left: Vec<_> = link.sent.iter().filter(|(_, owed)| !owed.is_empty()).collect();
            assert!(is_answered(link), "queue {}: never answered: {left:x?}", link.qid);
        }
        self.world.shut_down();
        self.look();
        self.features
    }
}

/// What may wait: requests for events, and the first of two fused commands.
fn is_answered(link: &Link) -> bool {
    let may_wait = |(opcode, flags): &(u8, u8)| {
        (link.qid == 0 && *opcode == ASYNC_EVENT_REQUEST) || (link.qid > 0 && flags & 3 == 1)
    };
    link.sent.values().flatten().all(may_wait)
}
