//! `framework_…`: reactors, how they poll, and who is reported for holding one too long.

use reactor::{PollMode, ReactorCounters};
use serde_json::{Value, json};

use super::View;
use super::thread::{self, TICK_RATE};
use crate::config::{STALL_LIMIT_MS, TURN_LIMIT_US};
use crate::poll_mode::{TIME_US_MAX, Word, describe, times_us};
use crate::reactors::{Place, Reactors};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

pub(super) fn get_reactors(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let reactors: Vec<Value> = view.reactors.polling().map(|place| describe_reactor(view.reactors, place)).collect();
    Ok(json!({ "tick_rate": TICK_RATE, "pid": std::process::id(), "reactors": reactors }))
}

/// SPDK moves threads between reactors; here each stays where it is.
pub(super) fn get_scheduler(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    Ok(json!({ "scheduler_name": "static", "scheduler_period": 0 }))
}

/// SPDK's scripts wait so for a target that has just been started: here the socket is there when it is ready to be asked.
pub(super) fn wait_init(_: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    Ok(json!(true))
}

fn describe_reactor(reactors: &Reactors, place: &Place) -> Value {
    let counters: &ReactorCounters = &place.counters;
    let (busy_ns, idle_ns, sleep_ns) = (counters.busy_ns.value(), counters.idle_ns.value(), counters.sleep_ns.value());
    let mode = place.switch.mode();
    let lengths = &counters.turn_lengths;
    json!({
        "lcore": place.number,
        "busy": busy_ns,
        "idle": idle_ns,
        // SPDK's word for a reactor that waits for events where another would poll.
        "in_interrupt": matches!(mode, PollMode::Adaptive { .. }),
        "lw_threads": [{
            "name": thread::name(place),
            "id": thread::id(place),
            "cpumask": thread::cpu_mask(reactors, place),
            "elapsed": busy_ns + idle_ns + sleep_ns,
        }],
        "pinned": place.os_cpu.is_some(),
        "poll_mode": describe_mode(mode),
        "activity": counters.activity(),
        "sleep": sleep_ns,
        "sleeps": counters.sleep_count.value(),
        "turns": counters.turn_count.value(),
        "busy_turns": counters.busy_turn_count.value(),
        "turn_ns": {
            "p50": lengths.quantile_ns(0.5),
            "p99": lengths.quantile_ns(0.99),
            "max": counters.longest_turn_ns.value(),
        },
        "messages": counters.message_count.value(),
        "timers": counters.timer_count.value(),
        "ring_full": counters.ring_full_count.value(),
        "slow": counters.slow_count.value(),
        "limbo": counters.limbo_len.value(),
    })
}

fn describe_mode(mode: PollMode) -> Value {
    let name = Word::of(mode).name();
    match times_us(mode) {
        Some((spin_us, pause_us)) => json!({ "mode": name, "spin_us": spin_us, "pause_us": pause_us }),
        None => json!({ "mode": name }),
    }
}

/// Nothing is switched unless all is right.
pub(super) fn set_poll_mode(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let chosen = chosen_reactors(view.reactors, parameters)?;
    let is_pinned = chosen.iter().all(|place| place.os_cpu.is_some());
    let allowed = Word::allowed(is_pinned);
    let name = parameters.string("mode")?.ok_or_else(|| parameters.missing("mode", &allowed))?;
    let word = match Word::named(name) {
        Some(word) if word.is_allowed(is_pinned) => word,
        Some(word) => {
            let allowed = format!("{allowed} where reactors are not pinned (target.reactors)");
            return Err(parameters.refuse("mode", &json!(word.name()), &allowed));
        }
        None => return Err(parameters.refuse("mode", &json!(name), &allowed)),
    };
    let spin_us = parameters.number_in("spin_us", 0..=TIME_US_MAX)?;
    let pause_us = parameters.number_in("pause_us", 0..=TIME_US_MAX)?;
    for (name, time) in [("spin_us", spin_us), ("pause_us", pause_us)] {
        if time.is_some() && word != Word::Adaptive {
            let why = format!("is only for mode \"adaptive\", and this is \"{}\": leave it out", word.name());
            return Err(parameters.out_of_place(name, &why));
        }
    }
    let mode = word.with_times(spin_us, pause_us);
    for place in chosen {
        place.switch.set(mode);
        tracing::info!(cpu = place.label(), "by RPC: with nothing to do it {}", describe(mode));
    }
    Ok(json!(true))
}

/// The one with the number `lcore`, or all that poll.
fn chosen_reactors<'a>(reactors: &'a Reactors, parameters: &Parameters<'_>) -> Result<Vec<&'a Place>, RpcError> {
    let Some(lcore) = parameters.number("lcore")? else {
        return Ok(reactors.polling().collect());
    };
    let chosen: Vec<&Place> =
        reactors.polling().filter(|place| place.number.is_some_and(|number| number as u64 == lcore)).collect();
    if chosen.is_empty() {
        let numbers = reactors.polling().map(Place::label).collect::<Vec<_>>().join(", ");
        let allowed = format!("one of {numbers}, or left out for all of them");
        return Err(parameters.refuse("lcore", &json!(lcore), &allowed));
    }
    Ok(chosen)
}

/// As `framework_monitor_context_switch` is used in SPDK: sets what is given, and says what holds then.
pub(super) fn monitor_turns(view: View<'_>, parameters: &Parameters<'_>) -> Result<Value, RpcError> {
    let (watch, reactors) = (view.reactors.watch(), view.reactors);
    let turn_limit_us = parameters.number_in("turn_limit_us", TURN_LIMIT_US)?;
    let stall_limit_ms = parameters.number_in("stall_limit_ms", STALL_LIMIT_MS)?;
    if let Some(turn_limit_us) = turn_limit_us {
        watch.set_limit_ns(turn_limit_us * 1000);
        tracing::info!(turn_limit_us, "by RPC: what holds a CPU longer is reported");
    }
    if let Some(stall_limit_ms) = stall_limit_ms {
        reactors.set_stall_limit_ns(stall_limit_ms * 1_000_000);
        tracing::info!(stall_limit_ms, "by RPC: a CPU that is awake for so long without a turn is reported");
    }
    Ok(json!({
        "turn_limit_us": watch.limit_ns() / 1000,
        "stall_limit_ms": reactors.stall_limit_ns() / 1_000_000,
    }))
}
