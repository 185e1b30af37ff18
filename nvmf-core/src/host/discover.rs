//! Reading a discovery controller's log [NVMe Base 2.0, 5.16.1.23].

use std::net::{IpAddr, SocketAddr};

use zerocopy::FromBytes;

use crate::host::bring_up::{BringUp, Connection, Progress};
use crate::host::identity::HostIdentity;
use crate::host::request;
use crate::host::step::{AdminData, HostError, Outcome, Step};
use crate::wire::log::LogPageId;
use crate::wire::{
    AddressFamily, DISCOVERY_NQN, DYNAMIC_CONTROLLER_ID, DiscoveryEntry, DiscoveryHeader, Nqn, SubsystemType,
    TransportKind, trim_text,
};

/// Most entries that are read: a controller can claim more than would ever be read.
pub const DISCOVERED_COUNT_MAX: u64 = 4096;

/// How often the log may change under the reader.
const ATTEMPT_COUNT_MAX: u32 = 8;
/// Entries of one command: a page, which no MDTS forbids.
const ENTRIES_PER_PAGE: u64 = 4;
const LEN: u64 = DiscoveryHeader::LEN as u64;

/// One way to one subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// TRTYPE; `None` is one that this layer does not know.
    pub transport: Option<TransportKind>,
    /// ADRFAM; `None` is one that this layer does not know.
    pub address_family: Option<AddressFamily>,
    /// SUBTYPE; `None` is one that this layer does not know.
    pub subsystem_type: Option<SubsystemType>,
    /// TREQ.
    pub requirements: u8,
    /// SUBNQN.
    pub subsystem_nqn: Nqn,
    /// TRADDR.
    pub address: String,
    /// TRSVCID.
    pub service: String,
    /// PORTID.
    pub port_id: u16,
    /// CNTLID: FFFFh for the dynamic model.
    pub controller_id: u16,
    /// ASQSZ.
    pub admin_queue_depth_max: u16,
    /// EFLAGS.
    pub flags: u16,
}

impl Discovered {
    /// Address and service, where they are an IP address and a port.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        let address: IpAddr = self.address.parse().ok()?;
        let is_expected = match self.address_family? {
            AddressFamily::Ipv4 => address.is_ipv4(),
            AddressFamily::Ipv6 => address.is_ipv6(),
            AddressFamily::InfiniBand | AddressFamily::FibreChannel | AddressFamily::Loopback => false,
        };
        if is_expected { Some(SocketAddr::new(address, self.service.parse().ok()?)) } else { None }
    }
}

/// From a connected admin queue of a discovery controller to its log: Connect, CAP, VS, CC.EN, CSTS.RDY, header, entries, header again.
#[derive(Debug)]
pub struct Discover {
    attempt_count: u32,
    state: State,
}

/// What was asked last.
#[derive(Debug)]
enum State {
    BringUp(BringUp),
    Header,
    Entries(Reading),
    Check(Reading),
    Over,
}

#[derive(Debug)]
struct Reading {
    generation: u64,
    entry_count: u64,
    found: Vec<Discovered>,
}

type Next = Result<(Step<Vec<Discovered>>, State), HostError>;

impl Discover {
    /// For the well-known discovery subsystem. `admin_depth` is a count.
    #[must_use]
    pub fn new(identity: &HostIdentity, admin_depth: u16) -> Self {
        let connection = Connection {
            identity: identity.clone(),
            subsystem_nqn: DISCOVERY_NQN.to_owned(),
            admin_depth,
            // Read once and gone: no keep-alive [NVMe Base 2.0, 3.1.2.3].
            keep_alive_ms: 0,
            wanted: DYNAMIC_CONTROLLER_ID,
            proof: None,
        };
        Self { attempt_count: 0, state: State::BringUp(BringUp::Start(Box::new(connection))) }
    }

    /// What to do next. First call and after a wait: `None`.
    ///
    /// # Panics
    /// If called after its end, or with an outcome where no command was submitted: the caller's bug.
    pub fn next(&mut self, outcome: Option<Outcome<'_>>) -> Step<Vec<Discovered>> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let next = self.advance(state, outcome);
        Step::taken(next, &mut self.state)
    }

    fn advance(&mut self, state: State, outcome: Option<Outcome<'_>>) -> Next {
        match (state, outcome) {
            (State::BringUp(bring_up), outcome) => match bring_up.next(outcome)? {
                Progress::Step(step, state) => Ok((step.retarget(), State::BringUp(state))),
                Progress::Enabled(_) => Ok((get(0, LEN), State::Header)),
            },
            (State::Header, Some(outcome)) => self.begin(&outcome),
            (State::Entries(mut reading), Some(outcome)) => {
                outcome.success("Get Log Page: discovery entries")?;
                reading.add_page(outcome.data)?;
                Ok(reading.proceed())
            }
            (State::Check(reading), Some(outcome)) => {
                let header = header(&outcome)?;
                if header.generation.get() == reading.generation {
                    Ok((Step::Done(Box::new(reading.found)), State::Over))
                } else {
                    self.begin(&outcome)
                }
            }
            (state, outcome) => panic!("a discovery in {state:?} was given {outcome:?}"),
        }
    }

    /// A header has come: read the log that it announces.
    fn begin(&mut self, outcome: &Outcome<'_>) -> Next {
        let header = header(outcome)?;
        if self.attempt_count == ATTEMPT_COUNT_MAX {
            return Err(HostError::peer(format!(
                "the discovery log changed {ATTEMPT_COUNT_MAX} times while it was read; try again later"
            )));
        }
        self.attempt_count += 1;
        if header.record_format.get() != 0 {
            let format = header.record_format.get();
            return Err(HostError::peer(format!("the discovery log has record format {format}, known is 0")));
        }
        let entry_count = header.entry_count.get();
        if entry_count > DISCOVERED_COUNT_MAX {
            return Err(HostError::peer(format!(
                "the discovery log claims {entry_count} entries, this host reads {DISCOVERED_COUNT_MAX} at most"
            )));
        }
        let reading = Reading { generation: header.generation.get(), entry_count, found: Vec::new() };
        Ok(reading.proceed())
    }
}

impl Reading {
    /// The next entries, or a last look at the header.
    fn proceed(self) -> (Step<Vec<Discovered>>, State) {
        let read_count = self.found.len() as u64;
        // At most DISCOVERED_COUNT_MAX entries: nothing overflows.
        let count = (self.entry_count - read_count).min(ENTRIES_PER_PAGE);
        if count == 0 {
            (get(0, LEN), State::Check(self))
        } else {
            (get(LEN * (1 + read_count), LEN * count), State::Entries(self))
        }
    }

    /// As many entries as were asked for, no more and no fewer.
    fn add_page(&mut self, mut data: &[u8]) -> Result<(), HostError> {
        let asked_count = (self.entry_count - self.found.len() as u64).min(ENTRIES_PER_PAGE);
        for _ in 0..asked_count {
            let number = self.found.len();
            let Ok((entry, rest)) = DiscoveryEntry::ref_from_prefix(data) else {
                return Err(HostError::peer(format!("the discovery log ends in entry {number}")));
            };
            self.found.push(discovered(number, entry)?);
            data = rest;
        }
        Ok(())
    }
}

fn discovered(number: usize, entry: &DiscoveryEntry) -> Result<Discovered, HostError> {
    let subsystem_nqn = Nqn::from_field(&entry.subsystem_nqn)
        .map_err(|error| HostError::peer(format!("entry {number} of the discovery log: subsystem NQN: {error}")))?;
    Ok(Discovered {
        transport: TransportKind::from_byte(entry.transport),
        address_family: AddressFamily::from_byte(entry.address_family),
        subsystem_type: SubsystemType::from_byte(entry.subsystem_type),
        requirements: entry.requirements,
        subsystem_nqn,
        address: trim_text(&entry.address),
        service: trim_text(&entry.service),
        port_id: entry.port_id.get(),
        controller_id: entry.controller_id.get(),
        admin_queue_depth_max: entry.admin_queue_depth_max.get(),
        flags: entry.flags.get(),
    })
}

fn header(outcome: &Outcome<'_>) -> Result<DiscoveryHeader, HostError> {
    outcome.success("Get Log Page: discovery header")?;
    outcome.page::<DiscoveryHeader>("Get Log Page: discovery header").cloned()
}

/// `len` is at most four entries.
fn get(offset: u64, len: u64) -> Step<Vec<Discovered>> {
    #[allow(clippy::cast_possible_truncation)]
    let len = len as u32;
    Step::Submit { command: request::log_page(LogPageId::Discovery, offset, len), data: AdminData::In(len) }
}
