//! The checks that turn what was written into what is meant.

mod authentication;
mod device;
mod placement;
mod rbd;
mod referral;
mod subsystem;
mod target;
mod value;

use std::ops::Range;

use nvmf_core::limits::{ADMIN_QUEUE_DEPTH_MIN, IO_QUEUE_COUNT_MAX, TRANSFER_LEN_MAX, TRANSFER_LEN_MIN};
use nvmf_core::spec::HostLimits;
use toml::Spanned;

use super::log_level::{LOG_LEVELS, log_filter};
use super::report::Report;
use super::shape;
use super::size::Size;
use super::{Config, LimitsSection, LogFormat, LogSection, ProviderKind, TargetSection, TransportSection};
use authentication::{check_authentication, check_keys};
use device::check_devices;
use placement::check_placement;
use referral::check_referrals;
use subsystem::check_subsystems;
pub use subsystem::serial_number;
use target::check_target;
use value::{address, choice, number, quoted, size, socket_path};

/// Data buffers of the largest transfer that each CPU has at least: half of the memory is for small ones.
const TRANSFERS_IN_MEMORY_MIN: u64 = 4;

/// Checks all of it. What is wrong goes to the report, and something harmless takes its place, so that the rest is checked too.
pub(super) fn check(file: shape::File, cpus_allowed: &[usize], report: &mut Report<'_>) -> Config {
    let data_memory_span = file.target.data_memory.as_ref().map(Spanned::span);
    let target = check_target(file.target, cpus_allowed, report);
    let placement = check_placement(file.placement, &target.reactors, report);
    let limits = check_limits(file.limits, report);
    let log = check_log(file.log, report);
    let transport = check_transport(file.transport, report);
    check_data_memory(&target, &transport, data_memory_span, report);
    let clusters = rbd::check_clusters(file.cluster, report);
    let devices = check_devices(file.device, &clusters, report);
    let keys = check_keys(file.key, report);
    let authentication = check_authentication(file.authentication, report);
    let subsystems = check_subsystems(file.subsystem, &devices, &keys, report);
    let referrals = check_referrals(file.referral, report);
    let metrics = file.metrics.and_then(|metrics| address(&metrics.listen, "metrics.listen", "127.0.0.1:9420", report));
    let rpc = file.rpc.and_then(|rpc| socket_path(&rpc.socket, report));
    if subsystems.is_empty() && rpc.is_none() {
        let text =
            "has no [[subsystem]], and no [rpc] by which one could be made: there would be nothing to connect to";
        report.say(None, text.to_owned());
    }
    Config {
        target,
        placement,
        limits,
        log,
        transport,
        clusters,
        devices,
        subsystems,
        referrals,
        keys,
        authentication,
        metrics,
        rpc,
    }
}

/// A CPU that has no buffer for the largest transfer would let its host wait for ever.
fn check_data_memory(
    target: &TargetSection,
    transport: &TransportSection,
    span: Option<Range<usize>>,
    report: &mut Report<'_>,
) {
    let least = TRANSFERS_IN_MEMORY_MIN * u64::from(transport.transfer_len_max);
    if (target.data_memory_len as u64) < least {
        let allowed = format!(
            "at least {} for {TRANSFERS_IN_MEMORY_MIN} of the largest transfers (transport.transfer_size)",
            Size(least)
        );
        let text = format!("target.data_memory is {}: {allowed}", Size(target.data_memory_len as u64));
        report.say(span, text);
    }
}

/// What is left out is not limited.
fn check_limits(section: shape::Limits, report: &mut Report<'_>) -> LimitsSection {
    let none = HostLimits::default();
    let (queue_pairs, commands) = (section.host_queue_pairs, section.host_commands);
    let data_len_max = section.host_data.map(|len| size(Some(len), "limits.host_data", 0, 1..=1 << 40, report));
    LimitsSection {
        host_queue_pair_count_max: number(queue_pairs, "limits.host_queue_pairs", u32::MAX, 1..=u32::MAX - 1, report),
        host: HostLimits {
            command_count_max: number(
                commands,
                "limits.host_commands",
                none.command_count_max,
                1..=u32::MAX - 1,
                report,
            ),
            data_len_max: data_len_max.unwrap_or(none.data_len_max),
        },
    }
}

fn check_log(section: shape::Log, report: &mut Report<'_>) -> LogSection {
    let level = match section.level {
        None => "info".to_owned(),
        Some(level) => {
            if log_filter(level.get_ref()).is_none() {
                report.refuse(level.span(), "log.level", quoted(level.get_ref()), LOG_LEVELS);
            }
            level.into_inner()
        }
    };
    let format = choice(
        section.format,
        "log.format",
        LogFormat::Text,
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        report,
    );
    LogSection { level, format }
}

fn check_transport(section: shape::Transport, report: &mut Report<'_>) -> TransportSection {
    let defaults = TransportSection::default();
    let provider = choice(
        section.provider,
        "transport.provider",
        defaults.provider,
        &[("auto", ProviderKind::Auto), ("soft", ProviderKind::Soft), ("ibv", ProviderKind::Ibv)],
        report,
    );
    let transfer_span = section.transfer_size.as_ref().map(Spanned::span);
    let transfer_len_max = size(
        section.transfer_size,
        "transport.transfer_size",
        u64::from(defaults.transfer_len_max),
        u64::from(TRANSFER_LEN_MIN)..=u64::from(TRANSFER_LEN_MAX),
        report,
    );
    // Identify gives it as a power of two of pages: NVM Express Base 2.0, figure 275, MDTS.
    if let Some(span) = transfer_span
        && !u32::is_power_of_two(transfer_len_max)
    {
        let shown = Size(u64::from(transfer_len_max));
        report.refuse(span, "transport.transfer_size", shown, "a power of two, such as \"128KiB\"");
    }
    let capsule_span = section.in_capsule_size.as_ref().map(Spanned::span);
    let in_capsule_len: u32 = size(
        section.in_capsule_size,
        "transport.in_capsule_size",
        u64::from(defaults.in_capsule_len),
        0..=8192,
        report,
    );
    // Identify gives it in units of 16 bytes: NVM Express Base 2.0, figure 275, IOCCSZ.
    if let Some(span) = capsule_span
        && !in_capsule_len.is_multiple_of(16)
    {
        report.refuse(span, "transport.in_capsule_size", in_capsule_len, "a multiple of 16 bytes");
    }
    TransportSection {
        provider,
        device: section.device,
        queue_depth: number(section.queue_depth, "transport.queue_depth", defaults.queue_depth, 2..=1024, report),
        admin_queue_depth: number(
            section.admin_queue_depth,
            "transport.admin_queue_depth",
            defaults.admin_queue_depth,
            // NVMe over Fabrics 1.1, 3.3: an admin queue has at least 32 entries.
            ADMIN_QUEUE_DEPTH_MIN..=1024,
            report,
        ),
        io_queue_count_max: number(
            section.io_queues,
            "transport.io_queues",
            defaults.io_queue_count_max,
            1..=IO_QUEUE_COUNT_MAX,
            report,
        ),
        in_capsule_len,
        transfer_len_max,
        shared_receive_count: number(section.shared_receives, "transport.shared_receives", 0, 0..=65_536, report),
        runtime_dir: section.runtime_dir,
    }
}
