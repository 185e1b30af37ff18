//! `trace_get_events`, which SPDK has not (its traces are read from shared memory by a tool of its own): what happened last to queue pairs and controllers, also to those that are gone.

use nvmf_core::ChangeId;

use super::{View, subsystem};
use crate::events::Question;
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// So many events where nobody says how many.
const LAST: u64 = 100;

/// More than all rings together have on a large machine.
const LAST_MAX: u64 = 1 << 20;

/// Begins to ask all CPUs; the answer comes when the last has told.
pub(super) fn get_events(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    let id = |name| {
        let number = parameters.number_in(name, 0..=u64::from(u16::MAX))?;
        Ok(number.and_then(|number| u16::try_from(number).ok()))
    };
    let last = parameters.number_in("last", 1..=LAST_MAX)?.unwrap_or(LAST);
    let question = Question {
        cntlid: id("cntlid")?,
        qid: id("qid")?,
        host_nqn: parameters.string("hostnqn")?.map(str::to_owned),
        last: usize::try_from(last).unwrap_or(usize::MAX),
    };
    view.target.trace(question).map_err(|error| subsystem::refusal(parameters, &error))
}
