//! Discovery logs: of the service that was named, and of those that it refers to.

use std::process::ExitCode;
use std::sync::Arc;

use nvmf_core::host::{Discovered, Itinerary};

use crate::address::TransportAddress;
use crate::arguments::Arguments;
use crate::settings::Settings;
use crate::{report, run, signal};

/// Referrals that lead from one service to the next.
const DISTANCE_MAX: u32 = 4;
/// Services in all.
const SERVICE_COUNT_MAX: usize = 32;

/// Follows the referrals of a log that was read at `address`, and prints what the others say. A service that cannot be asked does not keep the rest from it.
pub(crate) fn follow(
    arguments: &Arguments,
    address: &TransportAddress,
    settings: &Arc<Settings>,
    cpus: &[usize],
    first: &[Discovered],
) -> anyhow::Result<ExitCode> {
    let mut itinerary = Itinerary::new(address.address, DISTANCE_MAX, SERVICE_COUNT_MAX);
    itinerary.next_stop();
    itinerary.found(first);
    let mut code = ExitCode::SUCCESS;
    while let Some(stop) = itinerary.next_stop() {
        let there = TransportAddress { address: stop, ..address.clone() };
        match run::run(arguments, &there, settings, cpus) {
            Ok(run::Result::Discovered(log)) => {
                crate::print(&format!("\n{stop}:\n{}", report::discovery_log(&log)))?;
                itinerary.found(&log);
            }
            // Somebody asked for its end.
            Ok(run::Result::Outcomes(_) | run::Result::Attached(_) | run::Result::Reservation(_)) => {
                return Ok(ExitCode::from(signal::EXIT_INTERRUPTED));
            }
            Err(error) => {
                eprintln!("nvmf-perf: the discovery service at {stop}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    let left_out = itinerary.left_out_count();
    if left_out > 0 {
        eprintln!(
            "nvmf-perf: {left_out} referrals were not followed: they are more than {DISTANCE_MAX} steps away, or beyond the first {SERVICE_COUNT_MAX} services"
        );
    }
    Ok(code)
}
