//! `[target]`: which CPUs poll and how, and what each has.

use nvmf_core::limits::QPAIR_COUNT_MAX;
use reactor::PollMode;
use toml::Spanned;

use super::value::{list_of, number, quoted, size};
use crate::config::report::Report;
use crate::config::{ReactorSection, STALL_LIMIT_MS, TURN_LIMIT_US, TargetSection, shape};
use crate::poll_mode::{TIME_US_MAX, Word};

/// Reactors that are not pinned.
const FLOATING_COUNT_MAX: u16 = 128;

pub(super) fn check_target(section: shape::Target, cpus_allowed: &[usize], report: &mut Report<'_>) -> TargetSection {
    let reactors = check_reactors(section.cpus, section.reactors, cpus_allowed, report);
    let is_pinned = matches!(reactors, ReactorSection::Pinned(_));
    let (turn_limit_us, stall_limit_ms) = (section.turn_limit_us, section.stall_limit_ms);
    let saves_changes = section.save_changes.as_ref().is_some_and(|saves| *saves.get_ref());
    if let Some(saves) = section.save_changes.filter(|_| saves_changes && section.state_directory.is_none()) {
        let allowed = "only with target.state_directory, where changes are kept";
        report.refuse(saves.span(), "target.save_changes", "true", allowed);
    }
    TargetSection {
        reactors,
        poll_mode: check_poll_mode(section.poll_mode, section.spin_us, section.pause_us, is_pinned, report),
        turn_limit_us: number(turn_limit_us, "target.turn_limit_us", 50_000, TURN_LIMIT_US, report),
        stall_limit_ms: number(stall_limit_ms, "target.stall_limit_ms", 1000, STALL_LIMIT_MS, report),
        hugepages: section.hugepages.unwrap_or(true),
        data_memory_len: size(section.data_memory, "target.data_memory", 32 << 20, 1 << 20..=64 << 30, report),
        queue_pair_count_max: number(section.queue_pairs, "target.queue_pairs", 256, 1..=QPAIR_COUNT_MAX, report),
        shutdown_deadline_s: number(section.shutdown_deadline_s, "target.shutdown_deadline_s", 10, 1..=3600, report),
        state_directory: section.state_directory,
        saves_changes,
    }
}

fn check_reactors(
    cpus: Option<Spanned<Vec<Spanned<i64>>>>,
    count: Option<Spanned<i64>>,
    cpus_allowed: &[usize],
    report: &mut Report<'_>,
) -> ReactorSection {
    match (cpus, count) {
        (None, None) => ReactorSection::Pinned(cpus_allowed.first().copied().into_iter().collect()),
        (Some(list), None) => ReactorSection::Pinned(check_cpus(list, cpus_allowed, report)),
        (None, Some(count)) => {
            ReactorSection::Floating(number(Some(count), "target.reactors", 1, 1..=FLOATING_COUNT_MAX, report))
        }
        (Some(list), Some(count)) => {
            let allowed = "not together with target.cpus: cpus pins one reactor to each, reactors are not pinned; \
                           leave one of the two out";
            report.refuse(count.span(), "target.reactors", count.get_ref(), allowed);
            ReactorSection::Pinned(check_cpus(list, cpus_allowed, report))
        }
    }
}

fn check_cpus(list: Spanned<Vec<Spanned<i64>>>, cpus_allowed: &[usize], report: &mut Report<'_>) -> Vec<usize> {
    let mut cpus: Vec<usize> = Vec::new();
    if list.get_ref().is_empty() {
        report.refuse(list.span(), "target.cpus", "[]", "at least one CPU, such as [0]");
    }
    for number in list.into_inner() {
        let allowed = format!("this process may use {}", list_of(cpus_allowed));
        match usize::try_from(*number.get_ref()) {
            Ok(cpu) if cpus.contains(&cpu) => {
                let allowed = "named twice: each CPU polls once (target.reactors has more reactors than CPUs)";
                report.refuse(number.span(), "target.cpus", cpu, allowed);
            }
            Ok(cpu) if cpus_allowed.contains(&cpu) => cpus.push(cpu),
            _ => report.refuse(number.span(), "target.cpus", number.get_ref(), &allowed),
        }
    }
    cpus
}

fn check_poll_mode(
    mode: Option<Spanned<String>>,
    spin_us: Option<Spanned<i64>>,
    pause_us: Option<Spanned<i64>>,
    is_pinned: bool,
    report: &mut Report<'_>,
) -> PollMode {
    let default = if is_pinned { Word::Adaptive } else { Word::Yielding };
    let word = match mode {
        None => default,
        Some(mode) => match Word::named(mode.get_ref()) {
            Some(word) if word.is_allowed(is_pinned) => word,
            Some(word) => {
                let allowed = format!(
                    "{} with target.reactors, whose threads share CPUs; pin them with target.cpus to poll without pause",
                    Word::allowed(is_pinned)
                );
                report.refuse(mode.span(), "target.poll_mode", quoted(word.name()), &allowed);
                default
            }
            None => {
                report.refuse(mode.span(), "target.poll_mode", quoted(mode.get_ref()), &Word::allowed(is_pinned));
                // Its times are checked as if they belonged to it.
                Word::Adaptive
            }
        },
    };
    let mut time = |value: Option<Spanned<i64>>, field: &str| {
        let value = value?;
        if word != Word::Adaptive {
            let allowed = format!("only for poll_mode = \"adaptive\", and this is \"{}\"", word.name());
            report.refuse(value.span(), field, value.get_ref(), &allowed);
            return None;
        }
        Some(number(Some(value), field, 0, 0..=TIME_US_MAX, report))
    };
    let spin_us = time(spin_us, "target.spin_us");
    let pause_us = time(pause_us, "target.pause_us");
    word.with_times(spin_us, pause_us)
}
