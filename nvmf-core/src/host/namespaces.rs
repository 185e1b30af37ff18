//! The namespaces of a controller: the active list, page by page, then each one [NVMe Base 2.0, 5.17.2].

use crate::host::request;
use crate::host::step::{HostError, Outcome};
use crate::wire::Version;
use crate::wire::identify::{IdentifyKind, IdentifyNamespace, NamespaceIdentifiers, NamespaceList};

/// Most namespaces that are looked at: a controller can claim more than would ever be read.
pub const NAMESPACE_COUNT_MAX: usize = 8192;

/// Highest legal namespace id [NVMe Base 2.0, 3.2.1].
const NSID_MAX: u32 = 0xFFFF_FFFE;

/// One namespace, as identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Namespace id.
    pub nsid: u32,
    /// Bytes of a block.
    pub block_len: u32,
    /// Bytes of metadata with each block. This host reads and writes only namespaces that have none.
    pub metadata_len: u16,
    /// Blocks.
    pub block_count: u64,
    /// UUID, where it has one.
    pub uuid: Option<[u8; 16]>,
}

/// What was asked last, and what is known.
#[derive(Debug)]
pub(super) struct Scan {
    /// Descriptors exist since 1.3.
    has_descriptors: bool,
    /// All active ids, ascending.
    nsids: Vec<u32>,
    /// How many of them are done.
    done_count: usize,
    found: Vec<NamespaceInfo>,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    List,
    Namespace,
    Descriptors,
}

/// An Identify command and the state that waits for its page, or the end.
pub(super) enum ScanProgress {
    Identify([u8; 64], Scan),
    Done(Vec<NamespaceInfo>),
}

impl Scan {
    pub(super) fn begin(version: Version) -> ScanProgress {
        let scan = Self {
            has_descriptors: version >= Version::V1_3,
            nsids: Vec::new(),
            done_count: 0,
            found: Vec::new(),
            asked: Asked::List,
        };
        ScanProgress::Identify(request::identify(IdentifyKind::ActiveNamespaces, 0), scan)
    }

    pub(super) fn next(mut self, outcome: &Outcome<'_>) -> Result<ScanProgress, HostError> {
        match self.asked {
            Asked::List => {
                outcome.success("Identify: active namespaces")?;
                let list = outcome.page("Identify: active namespaces")?;
                if self.add_page(list)? {
                    let after = self.nsids.last().copied().unwrap_or(0);
                    let command = request::identify(IdentifyKind::ActiveNamespaces, after);
                    return Ok(ScanProgress::Identify(command, self));
                }
                Ok(self.next_namespace())
            }
            Asked::Namespace => {
                outcome.success("Identify Namespace")?;
                let nsid = self.nsids[self.done_count];
                let info = namespace(nsid, outcome.page("Identify Namespace")?)?;
                let ask = info.is_some() && self.has_descriptors;
                self.found.extend(info);
                if ask {
                    self.asked = Asked::Descriptors;
                    let command = request::identify(IdentifyKind::NamespaceDescriptors, nsid);
                    return Ok(ScanProgress::Identify(command, self));
                }
                self.done_count += 1;
                Ok(self.next_namespace())
            }
            Asked::Descriptors => {
                // A controller that will never answer it has namespaces without a UUID; any other failure is one.
                match outcome.success("Identify: namespace descriptors") {
                    Ok(_) => {
                        if let Some(info) = self.found.last_mut() {
                            info.uuid = NamespaceIdentifiers::from_page(outcome.data).uuid;
                        }
                    }
                    Err(_) if crate::host::HostCompletion::parse(&outcome.completion).status.do_not_retry() => {}
                    Err(error) => return Err(error),
                }
                self.done_count += 1;
                Ok(self.next_namespace())
            }
        }
    }

    fn next_namespace(mut self) -> ScanProgress {
        match self.nsids.get(self.done_count) {
            Some(nsid) => {
                self.asked = Asked::Namespace;
                ScanProgress::Identify(request::identify(IdentifyKind::Namespace, *nsid), self)
            }
            None => ScanProgress::Done(self.found),
        }
    }

    /// Whether there may be another page. Ids that ascend cannot go on for ever, and the count is bounded besides.
    fn add_page(&mut self, list: &NamespaceList) -> Result<bool, HostError> {
        let mut count = 0;
        for nsid in list.iter() {
            let last = self.nsids.last().copied().unwrap_or(0);
            if nsid <= last || nsid > NSID_MAX {
                return Err(HostError::peer(format!("the list of active namespaces has {nsid:#x} after {last:#x}")));
            }
            if self.nsids.len() == NAMESPACE_COUNT_MAX {
                return Err(HostError::peer(format!(
                    "the controller has more than {NAMESPACE_COUNT_MAX} namespaces, the most that this host looks at"
                )));
            }
            self.nsids.push(nsid);
            count += 1;
        }
        Ok(count == NamespaceList::COUNT_MAX)
    }
}

/// `None` if it is not active any more: then its page is all zero.
fn namespace(nsid: u32, page: &IdentifyNamespace) -> Result<Option<NamespaceInfo>, HostError> {
    let block_count = page.block_count.get();
    if block_count == 0 {
        return Ok(None);
    }
    let format = page.format().ok_or_else(|| {
        HostError::peer(format!("namespace {nsid}: FLBAS is {:#04x}, a format that is not there", page.flbas))
    })?;
    let block_len = format.block_len().ok_or_else(|| {
        HostError::peer(format!("namespace {nsid}: LBADS is {}, no block length", format.block_len_exponent))
    })?;
    if block_count.checked_mul(u64::from(block_len)).is_none() {
        return Err(HostError::peer(format!(
            "namespace {nsid}: {block_count} blocks of {block_len} bytes are more than 64 bits can count"
        )));
    }
    Ok(Some(NamespaceInfo { nsid, block_len, metadata_len: format.metadata_len.get(), block_count, uuid: None }))
}
