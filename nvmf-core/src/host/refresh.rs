//! What a host does when its controller has told of an event: it reads the log that the event names, which lets the controller tell of the next one, and
//! asks again for what has changed [NVMe Base 2.0, 5.2].
//!
//! After a change of namespaces that is the list of them and Identify of each: the list of those that changed says only which, and it may have run over.

use crate::host::namespaces::{NamespaceInfo, Scan, ScanProgress};
use crate::host::request;
use crate::host::step::{AdminData, HostError, Outcome, Step};
use crate::wire::identify;
use crate::wire::log::LogPageId;
use crate::wire::{AsyncEvent, Version};

/// Enough to have read the log: a header where the whole may be long.
const LOG_LEN: u32 = 4096;

/// What was asked last.
#[derive(Debug)]
enum State {
    Start,
    Log,
    Namespaces(Scan),
    Over,
}

/// What has become known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What the controller told.
    pub event: AsyncEvent,
    /// The namespaces as they are now, where the event was about them.
    pub namespaces: Option<Vec<NamespaceInfo>>,
}

/// From an event to what it was about.
#[derive(Debug)]
pub struct Refresh {
    event: AsyncEvent,
    version: Version,
    state: State,
}

type Next = Result<(Step<News>, State), HostError>;

impl Refresh {
    /// `version` is the controller's.
    #[must_use]
    pub fn new(event: AsyncEvent, version: Version) -> Self {
        Self { event, version, state: State::Start }
    }

    /// What to do next. First call: `None`.
    ///
    /// # Panics
    /// If called after its end, or with an outcome where no command was submitted: the caller's bug.
    pub fn next(&mut self, outcome: Option<Outcome<'_>>) -> Step<News> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let next = self.advance(state, outcome);
        Step::taken(next, &mut self.state)
    }

    fn advance(&self, state: State, outcome: Option<Outcome<'_>>) -> Next {
        match (state, outcome) {
            (State::Start, None) => match LogPageId::from_byte(self.event.log_page) {
                Some(page) => {
                    let command = request::log_page(page, 0, LOG_LEN);
                    Ok((Step::Submit { command, data: AdminData::In(LOG_LEN) }, State::Log))
                }
                // A log that this layer does not know: its event is told, and not again.
                None => Ok(self.done(None)),
            },
            (State::Log, Some(outcome)) => {
                outcome.success("Get Log Page after an event")?;
                if self.event == AsyncEvent::NAMESPACE_CHANGED {
                    return Ok(self.scanned(Scan::begin(self.version)));
                }
                Ok(self.done(None))
            }
            (State::Namespaces(scan), Some(outcome)) => Ok(self.scanned(scan.next(&outcome)?)),
            (state, outcome) => panic!("a refresh in {state:?} was given {outcome:?}"),
        }
    }

    fn scanned(&self, progress: ScanProgress) -> (Step<News>, State) {
        match progress {
            ScanProgress::Identify(command, scan) => {
                (Step::Submit { command, data: AdminData::In(identify::PAGE_LEN) }, State::Namespaces(scan))
            }
            ScanProgress::Done(namespaces) => self.done(Some(namespaces)),
        }
    }

    fn done(&self, namespaces: Option<Vec<NamespaceInfo>>) -> (Step<News>, State) {
        (Step::Done(Box::new(News { event: self.event, namespaces })), State::Over)
    }
}
