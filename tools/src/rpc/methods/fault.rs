//! `bdev_error_…`: the fault device, under SPDK's names and parameters.
//!
//! As with SPDK, what is injected for one kind of operation takes the place of what was injected for it before, and `all` stands for each of the four kinds.
//! Zeroes and uncorrectable blocks are written, and Compare reads. Three things differ: what `pending` holds back goes on with `clear`, since no reset comes from
//! a host over fabrics, and when the device is deleted or the target ends; `nomem` is tried again at the CPU's next turn, since no layer above queues it; and an
//! error type is not asked for where everything is cleared. Three error types are ours: `torn` (of a write only the first half is done), `lost` (a write or a flush is not done, and succeeds) and `unforced`
//! (a write's FUA is not heeded), which make a disk that a power cut finds out. So are `one_in` (by chance, of a seed that the configuration may give), `start_block` and
//! `num_blocks` (only what touches these), and `pending_us`,
//! after which what is `pending` goes on by itself.

use std::sync::Arc;

use ::bdev::{Affected, Device, Fault, Layer, Rule};
use nvmf_core::ChangeId;
use serde_json::{Value, json};

use super::{Recipe, View, device};
use crate::injection::{self, Details, ERRORS, PENDING_US_MAX};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) const INJECT: &[&str] = &[
    "name",
    "io_type",
    "error_type",
    "num",
    "queue_depth",
    "corrupt_offset",
    "corrupt_value",
    "one_in",
    "start_block",
    "num_blocks",
    "pending_us",
];

/// Nothing that these rules say is left to chance.
const SEED: u64 = 0;

/// SPDK names it so too.
pub(super) fn create(view: View<'_>, parameters: &Parameters<'_>) -> Result<(ChangeId, Value), RpcError> {
    let base_name = parameters.needed_string("base_name", "the name of a device")?;
    let base = view.target.devices().iter().map(|facts| Arc::clone(facts.device)).find(|d| d.name() == base_name);
    let name = format!("EE_{base_name}");
    let made_name = name.clone();
    let recipe: Recipe = Box::new(move || {
        // That there is none is said before this is called.
        let base = base.ok_or_else(|| anyhow::anyhow!("the base device is gone"))?;
        Ok(Arc::new(Fault::new(&made_name, base, SEED)) as Arc<dyn Device>)
    });
    let (change, _) = device::make(view, parameters, name, Some(base_name.into()), recipe)?;
    Ok((change, json!(true)))
}

pub(super) fn delete(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    find(&view, parameters)?;
    device::delete(view, parameters)
}

pub(super) fn inject(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let device = find(&view, parameters)?;
    let Some(Layer::Fault(fault)) = device.layer() else { return Err(RpcError::no_such("bdev", device.name())) };
    let kinds = "\"read\", \"write\", \"unmap\", \"flush\", \"all\" or \"clear\"";
    let kind = parameters.needed_string("io_type", kinds)?;
    let (error, details) = error_of(parameters, kind == "clear")?;
    let count = parameters.number_in("num", 0..=u64::from(u32::MAX))?.unwrap_or(1);
    let outstanding_min = parameters.number("queue_depth")?.unwrap_or(0);
    let one_in = parameters.number_in("one_in", 1..=u64::from(u32::MAX))?.unwrap_or(1);
    let one_in = u32::try_from(one_in).unwrap_or(u32::MAX);
    let start = parameters.number("start_block")?;
    let block_count = parameters.number_in("num_blocks", 1..=u64::MAX)?;
    let blocks = (start.is_some() || block_count.is_some()).then(|| {
        let start = start.unwrap_or(0);
        start..block_count.map_or(u64::MAX, |count| start.saturating_add(count))
    });
    if kind == "clear" {
        fault.clear();
        fault.release_stalled();
        return Ok(json!(true));
    }
    let Some(affected) = injection::affected(kind) else {
        return Err(parameters.refuse("io_type", &json!(kind), kinds));
    };
    for affected in affected {
        let count = Some(u32::try_from(count).unwrap_or(u32::MAX));
        let blocks = blocks.clone();
        if let Some(effect) = injection::effect(error, details, *affected) {
            fault.set(Rule { count, outstanding_min, one_in, blocks, ..Rule::always(*affected, effect) });
        }
    }
    Ok(json!(true))
}

/// Which `error_type` it is, and its numbers.
fn error_of<'p>(parameters: &'p Parameters<'_>, is_optional: bool) -> Result<(&'p str, Details), RpcError> {
    let name = match parameters.string("error_type")? {
        Some(name) => name,
        None if is_optional => "failure",
        None => return Err(parameters.missing("error_type", ERRORS)),
    };
    let flip = parameters.number_in("corrupt_value", 0..=u64::from(u8::MAX))?.unwrap_or(0);
    let details = Details {
        corrupt_offset: parameters.number("corrupt_offset")?.unwrap_or(0),
        corrupt_value: u8::try_from(flip).unwrap_or(u8::MAX),
        pending_us: parameters.number_in("pending_us", 1..=PENDING_US_MAX)?,
    };
    if injection::effect(name, details, Affected::All).is_none() {
        return Err(parameters.refuse("error_type", &json!(name), ERRORS));
    }
    if name == "corrupt_data" && flip == 0 && !is_optional {
        let allowed = "1 to 255: the byte of the data at corrupt_offset is combined with it by exclusive or";
        return Err(parameters.refuse("corrupt_value", &json!(0), allowed));
    }
    Ok((name, details))
}

/// The fault device of this name.
fn find(view: &View<'_>, parameters: &Parameters<'_>) -> Result<Arc<dyn Device>, RpcError> {
    let name = device::needed_name(parameters)?;
    let devices = view.target.devices();
    match devices.iter().find(|facts| facts.device.name() == name) {
        None => Err(RpcError::no_such("bdev", name)),
        Some(facts) if !matches!(facts.device.layer(), Some(Layer::Fault(_))) => {
            Err(parameters.refuse("name", &json!(name), "that of a device of bdev_error_create"))
        }
        Some(facts) => Ok(Arc::clone(facts.device)),
    }
}
