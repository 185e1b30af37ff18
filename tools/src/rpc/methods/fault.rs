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

use ::bdev::{Affected, Device, Layer, Rule};
use nvmf_core::ChangeId;
use serde_json::{Value, json};

use super::{View, device, layer};
use crate::config::{DeviceKind, DeviceSection};
use crate::injection::{self, Details, ERRORS, PENDING_US_MAX};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// What a rule says.
const RULE: &[&str] = &[
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
    let name = parameters.string("name")?.map_or_else(|| format!("EE_{base_name}"), str::to_owned);
    let mut rules = Vec::new();
    if parameters.any("rules").is_some() {
        for rule in parameters.objects("rules", RULE)? {
            rules.extend(self::rules(&rule, None)?);
        }
    }
    let seed = parameters.number("seed")?.unwrap_or(SEED);
    let kind = DeviceKind::Fault { base: base_name.to_owned(), seed, rules };
    let section = DeviceSection::new(&name, layer::block_len_of(&view, base_name), kind);
    let (change, _) = device::make(view, parameters, section)?;
    Ok((change, json!(true)))
}

pub(super) fn delete(view: View<'_>, parameters: &Parameters<'_>) -> Result<ChangeId, RpcError> {
    find(&view, parameters)?;
    device::delete(view, parameters)
}

pub(super) fn inject(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let device = find(&view, parameters)?;
    let Some(Layer::Fault(fault)) = device.layer() else { return Err(RpcError::no_such("bdev", device.name())) };
    if parameters.string("io_type")? == Some("clear") {
        // Checked all the same.
        error_of(parameters, true)?;
        fault.clear();
        fault.release_stalled();
        return Ok(json!(true));
    }
    for rule in rules(parameters, Some(1))? {
        fault.set(rule);
    }
    Ok(json!(true))
}

/// What is to go wrong, for each kind of operation that `io_type` stands for: so often as `num` says, or `count_default` where it does not.
fn rules(parameters: &Parameters<'_>, count_default: Option<u64>) -> Result<Vec<Rule>, RpcError> {
    let kinds = if count_default.is_some() {
        "\"read\", \"write\", \"unmap\", \"flush\", \"all\" or \"clear\""
    } else {
        "\"read\", \"write\", \"unmap\", \"flush\" or \"all\""
    };
    let kind = parameters.needed_string("io_type", kinds)?;
    let (error, details) = error_of(parameters, false)?;
    let count = parameters.number_in("num", 0..=u64::from(u32::MAX))?.or(count_default);
    let count = count.and_then(|count| u32::try_from(count).ok());
    let outstanding_min = parameters.number("queue_depth")?.unwrap_or(0);
    let one_in = parameters.number_in("one_in", 1..=u64::from(u32::MAX))?.unwrap_or(1);
    let one_in = u32::try_from(one_in).unwrap_or(u32::MAX);
    let start = parameters.number("start_block")?;
    let block_count = parameters.number_in("num_blocks", 1..=u64::MAX)?;
    let blocks = (start.is_some() || block_count.is_some()).then(|| {
        let start = start.unwrap_or(0);
        start..block_count.map_or(u64::MAX, |count| start.saturating_add(count))
    });
    let affected = injection::affected(kind).ok_or_else(|| parameters.refuse("io_type", &json!(kind), kinds))?;
    let rule = |affected: &Affected| {
        let effect = injection::effect(error, details, *affected)?;
        Some(Rule { count, outstanding_min, one_in, blocks: blocks.clone(), ..Rule::always(*affected, effect) })
    };
    Ok(affected.iter().filter_map(rule).collect())
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
