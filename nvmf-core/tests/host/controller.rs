//! A controller for tests of the host side: answers what a sound one would, or what a script says instead.

use nvmf_core::RemoteBuffer;
use nvmf_core::command::{AdminCommand, Command, DataPointer, FabricsCommand, GetLogPage, IdentifyKind, QueueKind};
use nvmf_core::host::{AdminData, HostError, Outcome, Step, fill};
use nvmf_core::status::Status;
use nvmf_core::wire::identify::{IdentifyController, IdentifyNamespace, NamespaceIdentifiers, NamespaceList};
use nvmf_core::wire::{
    Capabilities, CompletionEntry, Configuration, ConnectData, ConnectParameters, ConnectResult, ControllerStatus,
    DiscoveryEntry, DiscoveryHeader, FeatureId, Property, QueueCounts, ShutdownStatus, U16, U32, U64, Version, log,
    pad_text,
};
use zerocopy::{FromZeros, IntoBytes};

/// What a command is called in scripts, in the order of an initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Connect,
    Capabilities,
    Version,
    Configuration,
    Status,
    Controller,
    QueueCount,
    ActiveNamespaces,
    Namespace,
    Descriptors,
    LogPage,
}

pub(crate) struct FakeController {
    pub(crate) controller_id: u16,
    pub(crate) capabilities: u64,
    pub(crate) version: Version,
    /// How often CSTS says "not ready" before it says "ready".
    pub(crate) not_ready_count: u32,
    pub(crate) granted: QueueCounts,
    pub(crate) page: IdentifyController,
    pub(crate) nsids: Vec<u32>,
    pub(crate) namespace: IdentifyNamespace,
    pub(crate) entries: Vec<DiscoveryEntry>,
    pub(crate) generation: u64,
    /// At the nth look at the log's header the generation changes.
    pub(crate) change_at_header: Vec<u32>,
    pub(crate) connected: Option<ConnectParameters>,
    /// Everything that was asked, in order.
    pub(crate) asked: Vec<Ask>,
    pub(crate) configuration: Configuration,
    header_count: u32,
    enabled: bool,
}

impl FakeController {
    pub(crate) fn new() -> Self {
        let mut page = IdentifyController::new_zeroed();
        page.serial_number = pad_text("SN1");
        page.model_number = pad_text("Quiesce");
        page.controller_id = U16::new(7);
        page.mdts = 5;
        page.command_count_max = U16::new(128);
        page.sgls = U32::new(
            IdentifyController::SGLS_SUPPORTED | IdentifyController::SGLS_KEYED | IdentifyController::SGLS_OFFSET,
        );
        page.command_capsule_16b = U32::new(260);
        page.response_capsule_16b = U32::new(1);
        page.keep_alive_granularity_100ms = U16::new(10);
        let mut namespace = IdentifyNamespace::new_zeroed();
        namespace.block_count = U64::new(1 << 20);
        namespace.lba_formats[0].block_len_exponent = 12;
        Self {
            controller_id: 7,
            capabilities: Capabilities::new(1023, 15).0,
            version: Version::V1_4,
            not_ready_count: 0,
            granted: QueueCounts { submission: 4, completion: 4 },
            page,
            nsids: vec![1, 2, 9],
            namespace,
            entries: Vec::new(),
            generation: 1,
            change_at_header: Vec::new(),
            connected: None,
            asked: Vec::new(),
            configuration: Configuration::default(),
            header_count: 0,
            enabled: false,
        }
    }

    /// A sound answer to a command: completion and data.
    pub(crate) fn answer(&mut self, mut bytes: [u8; 64], data: &AdminData) -> ([u8; 16], Vec<u8>) {
        let (len, out): (u32, &[u8]) = match data {
            AdminData::None => (0, &[]),
            AdminData::Out(out) => (u32::try_from(out.len()).unwrap(), out),
            AdminData::In(len) => (*len, &[]),
        };
        assert!(len <= 4096, "the host asks for {len} bytes");
        let pointer = DataPointer::Keyed { buffer: RemoteBuffer { address: 0, len, key: 1 }, invalidate: false };
        fill(&mut bytes, 3, pointer);
        let command = Command::parse(QueueKind::Admin, &bytes).expect("the host sends legal commands");
        let (result, data) = match command {
            Command::Fabrics(command) => (self.fabrics(command, out), Vec::new()),
            Command::Admin(AdminCommand::Identify(identify)) => (0, self.identify(identify.kind, identify.nsid)),
            Command::Admin(AdminCommand::SetFeatures(set)) => {
                assert_eq!(set.feature, FeatureId::NumberOfQueues);
                self.asked.push(Ask::QueueCount);
                (u64::from(self.granted.to_dword()), Vec::new())
            }
            Command::Admin(AdminCommand::GetLogPage(page)) => (0, self.log(page)),
            other => panic!("{other:?}"),
        };
        assert!(data.is_empty() || data.len() == len as usize);
        (CompletionEntry::new(3, Status::SUCCESS).with_result(result).to_bytes(), data)
    }

    fn fabrics(&mut self, command: FabricsCommand, out: &[u8]) -> u64 {
        match command {
            FabricsCommand::Connect(connect) => {
                self.asked.push(Ask::Connect);
                assert_eq!(connect.qid, 0);
                self.connected = Some(ConnectData::parse(out).expect("the host's Connect data is legal"));
                ConnectResult { controller_id: self.controller_id, authentication: 0 }.to_result()
            }
            FabricsCommand::PropertyGet(get) => match Property::from_offset(get.offset) {
                Some(Property::Capabilities) => {
                    assert!(get.is_wide);
                    self.asked.push(Ask::Capabilities);
                    self.capabilities
                }
                Some(Property::Version) => {
                    self.asked.push(Ask::Version);
                    u64::from(self.version.0)
                }
                Some(Property::Configuration) => {
                    self.asked.push(Ask::Configuration);
                    u64::from(self.configuration.0)
                }
                Some(Property::Status) => {
                    self.asked.push(Ask::Status);
                    let ready = self.enabled && self.not_ready_count == 0;
                    self.not_ready_count = self.not_ready_count.saturating_sub(1);
                    u64::from(ControllerStatus::new(ready, false, ShutdownStatus::Normal).0)
                }
                other => panic!("{other:?}"),
            },
            FabricsCommand::PropertySet(set) => {
                self.asked.push(Ask::Configuration);
                assert_eq!(set.offset, 0x14);
                self.configuration = Configuration(u32::try_from(set.value).unwrap());
                self.enabled = self.configuration.is_enabled();
                0
            }
            other => panic!("{other:?}"),
        }
    }

    fn identify(&mut self, kind: IdentifyKind, nsid: u32) -> Vec<u8> {
        match kind {
            IdentifyKind::Controller => {
                self.asked.push(Ask::Controller);
                self.page.as_bytes().to_vec()
            }
            IdentifyKind::ActiveNamespaces => {
                self.asked.push(Ask::ActiveNamespaces);
                NamespaceList::new(self.nsids.iter().copied(), nsid).as_bytes().to_vec()
            }
            IdentifyKind::Namespace => {
                self.asked.push(Ask::Namespace);
                self.namespace.as_bytes().to_vec()
            }
            IdentifyKind::NamespaceDescriptors => {
                self.asked.push(Ask::Descriptors);
                let uuid = Some([u8::try_from(nsid & 0xFF).unwrap(); 16]);
                NamespaceIdentifiers { uuid, ..Default::default() }.to_page().to_vec()
            }
            other => panic!("{other:?}"),
        }
    }

    fn log(&mut self, page: GetLogPage) -> Vec<u8> {
        self.asked.push(Ask::LogPage);
        if page.log_page != log::LogPageId::Discovery.to_byte() {
            return vec![0; page.len as usize];
        }
        if page.offset == 0 {
            self.header_count += 1;
            if self.change_at_header.contains(&self.header_count) {
                self.generation += 1;
            }
        }
        let mut whole = DiscoveryHeader::new(self.generation, self.entries.len() as u64).as_bytes().to_vec();
        for entry in &self.entries {
            whole.extend_from_slice(entry.as_bytes());
        }
        let mut part = vec![0; page.len as usize];
        log::window(&whole, page.offset, &mut part);
        part
    }
}

/// How a machine ended, and how long it was told to wait in all.
pub(crate) struct End<T> {
    pub(crate) result: Result<T, HostError>,
    pub(crate) waited_ns: u64,
    pub(crate) step_count: u32,
}

/// Runs a machine to its end. `twist` may change each answer; it is told how many there were before.
pub(crate) fn run<T>(
    mut next: impl FnMut(Option<Outcome<'_>>) -> Step<T>,
    controller: &mut FakeController,
    mut twist: impl FnMut(u32, &FakeController, &mut [u8; 16], &mut Vec<u8>),
) -> End<T> {
    let (mut waited_ns, mut step_count, mut answer_count) = (0, 0, 0);
    let mut step = next(None);
    loop {
        step_count += 1;
        assert!(step_count < 40_000, "the machine does not end");
        step = match step {
            Step::Submit { command, data } => {
                let (mut completion, mut data) = controller.answer(command, &data);
                twist(answer_count, controller, &mut completion, &mut data);
                answer_count += 1;
                next(Some(Outcome { completion, data: &data }))
            }
            Step::Wait { delay_ns } => {
                assert!(delay_ns > 0);
                waited_ns += delay_ns;
                next(None)
            }
            Step::Done(done) => return End { result: Ok(*done), waited_ns, step_count },
            Step::Failed(error) => return End { result: Err(error), waited_ns, step_count },
        };
    }
}
