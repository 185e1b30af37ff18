//! The end of a controller that a host takes leave of: CC.SHN, then CSTS.SHST until it says that the shutdown is complete [NVMe Base 2.0, 3.6.2].
//!
//! For the admin queue, when the I/O queues have ended. CC is read first: everything in it but SHN stays as it is.

use crate::host::request;
use crate::host::step::{AdminData, HostError, Outcome, Step};
use crate::wire::{Configuration, ControllerStatus, Property, ShutdownStatus};

/// CC.SHN: a normal shutdown.
const NORMAL: u8 = 0b01;
/// How long CSTS is left alone between two looks: doubled each time.
const POLL_DELAY_MIN_NS: u64 = 1_000_000;
const POLL_DELAY_MAX_NS: u64 = 64_000_000;

/// What was asked last.
#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    Configuration,
    Notice,
    /// CSTS was asked for.
    Status(Patience),
    /// CSTS will be asked for again.
    Waiting(Patience),
    Over,
}

/// How long CSTS.SHST has been waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    waited_ns: u64,
    delay_ns: u64,
}

/// From a controller that is ready to one that has shut down.
#[derive(Debug)]
pub struct ShutDown {
    patience_ns: u64,
    state: State,
}

type Next = Result<(Step<()>, State), HostError>;

impl ShutDown {
    /// The controller has so long for it.
    #[must_use]
    pub fn new(patience_ns: u64) -> Self {
        Self { patience_ns, state: State::Start }
    }

    /// What to do next. First call and after a wait: `None`.
    ///
    /// # Panics
    /// If called after its end, or with an outcome where no command was submitted: the caller's bug.
    pub fn next(&mut self, outcome: Option<Outcome<'_>>) -> Step<()> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let next = self.advance(state, outcome);
        Step::taken(next, &mut self.state)
    }

    fn advance(&self, state: State, outcome: Option<Outcome<'_>>) -> Next {
        match (state, outcome) {
            (State::Start, None) => Ok(get(Property::Configuration, State::Configuration)),
            (State::Configuration, Some(outcome)) => {
                let configuration = Configuration(outcome.success("Property Get of CC")?.dword0());
                let notice = u64::from(configuration.with_shutdown(NORMAL).0);
                let command = request::property_set(Property::Configuration, notice);
                Ok((Step::Submit { command, data: AdminData::None }, State::Notice))
            }
            (State::Notice, Some(outcome)) => {
                outcome.success("Property Set of CC.SHN")?;
                let patience = Patience { waited_ns: 0, delay_ns: POLL_DELAY_MIN_NS };
                Ok(get(Property::Status, State::Status(patience)))
            }
            (State::Status(patience), Some(outcome)) => {
                let status = ControllerStatus(outcome.success("Property Get of CSTS")?.dword0());
                self.look(status, patience)
            }
            (State::Waiting(patience), None) => Ok(get(Property::Status, State::Status(patience))),
            (state, outcome) => panic!("a shutdown in {state:?} was given {outcome:?}"),
        }
    }

    fn look(&self, status: ControllerStatus, patience: Patience) -> Next {
        if status.shutdown() == Some(ShutdownStatus::Complete) {
            return Ok((Step::Done(Box::new(())), State::Over));
        }
        if status.is_fatal() {
            return Err(HostError::peer(format!("the controller failed while it shut down: CSTS is {:#x}", status.0)));
        }
        if patience.waited_ns >= self.patience_ns {
            let patience_ms = self.patience_ns / 1_000_000;
            return Err(HostError::peer(format!(
                "the controller has not shut down after {patience_ms} ms: CSTS is {:#x}",
                status.0
            )));
        }
        // 0 would be no wait at all.
        let delay_ns = patience.delay_ns.min(self.patience_ns - patience.waited_ns).max(1);
        let next = Patience {
            waited_ns: patience.waited_ns + delay_ns,
            delay_ns: (patience.delay_ns * 2).min(POLL_DELAY_MAX_NS),
        };
        Ok((Step::Wait { delay_ns }, State::Waiting(next)))
    }
}

fn get(property: Property, then: State) -> (Step<()>, State) {
    (Step::Submit { command: request::property_get(property), data: AdminData::None }, then)
}
