//! `thread_…`: what SPDK calls threads. Here each reactor has one, and that one has one poller.

use serde_json::{Value, json};

use super::View;
use crate::reactors::{Place, Reactors};
use crate::rpc::RpcError;
use crate::rpc::parameters::Parameters;

/// Times are in ns.
pub(super) const TICK_RATE: u64 = 1_000_000_000;

/// As SPDK calls them: its control plane is `app_thread`, and the first.
pub(super) fn name(place: &Place) -> String {
    match place.number {
        None => "app_thread".to_owned(),
        Some(_) => format!("nvmf_tgt_poll_group_{:03}", place.cpu.0),
    }
}

/// From 1.
pub(super) fn id(place: &Place) -> u64 {
    if place.number.is_none() { 1 } else { u64::from(place.cpu.0) + 2 }
}

/// The CPUs that it may run on, as a hexadecimal mask.
pub(super) fn cpu_mask(reactors: &Reactors, place: &Place) -> String {
    mask(reactors.os_cpus(place))
}

fn mask(os_cpus: &[usize]) -> String {
    let mut digits = vec![0_u8; os_cpus.iter().max().map_or(1, |most| most / 4 + 1)];
    for os_cpu in os_cpus {
        digits[os_cpu / 4] |= 1 << (os_cpu % 4);
    }
    digits.iter().rev().map(|digit| format!("{digit:x}")).collect()
}

pub(super) fn get_stats(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let threads = in_order(view.reactors).map(|place| {
        json!({
            "name": name(place),
            "id": id(place),
            "cpumask": cpu_mask(view.reactors, place),
            "busy": place.counters.busy_ns.value(),
            "idle": place.counters.idle_ns.value(),
            "sleep": place.counters.sleep_ns.value(),
            "active_pollers_count": 1,
            "timed_pollers_count": 0,
            "paused_pollers_count": 0,
        })
    });
    Ok(json!({ "tick_rate": TICK_RATE, "threads": threads.collect::<Vec<_>>() }))
}

pub(super) fn get_pollers(view: View<'_>, _: &Parameters<'_>) -> Result<Value, RpcError> {
    let threads = in_order(view.reactors).map(|place| {
        json!({
            "name": name(place),
            "id": id(place),
            "active_pollers": [{
                "name": "poll",
                "id": 1,
                // As SPDK has it for a poller that is not in the middle of something.
                "state": if place.counters.activity() == "poll" { "running" } else { "waiting" },
                "run_count": place.counters.turn_count.value(),
                "busy_count": place.counters.busy_turn_count.value(),
            }],
            "timed_pollers": [],
            "paused_pollers": [],
            "activity": place.counters.activity(),
            "messages": place.counters.message_count.value(),
            "timers": place.counters.timer_count.value(),
        })
    });
    Ok(json!({ "tick_rate": TICK_RATE, "threads": threads.collect::<Vec<_>>() }))
}

/// By id.
fn in_order(reactors: &Reactors) -> impl Iterator<Item = &Place> {
    let control = reactors.all().filter(|place| place.number.is_none());
    control.chain(reactors.polling())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_hexadecimal() {
        assert_eq!(mask(&[5]), "20");
        assert_eq!(mask(&[0, 1, 2, 3]), "f");
        assert_eq!(mask(&[0, 8, 67]), "80000000000000101");
        assert_eq!(mask(&[]), "0");
    }
}
