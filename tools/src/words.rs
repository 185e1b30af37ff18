//! What the target's CPUs note, in words: `queue pair 3.2 is quiet (returned)`.
//!
//! Objects are named as their owner names them: slot and generation, so that a name means the same object in the whole trace. A name is its CPU's own;
//! where an object of another CPU is meant, that is said.

use nvmf_core::trace::{self as layer, NO_ID, reason_from_number};
use reactor::{Handle, TraceRecord};
use transport_rdma::trace::Step;

/// What a record tells.
#[must_use]
pub fn told(record: &TraceRecord) -> String {
    if let Some(step) = Step::of(record) {
        told_by_transport(step, record)
    } else if let Some(step) = layer::Step::of(record) {
        told_by_layer(step, record)
    } else {
        let TraceRecord { kind, subject, detail, .. } = record;
        format!("kind {:#x}, subject {subject:#x}, detail {detail:#x}", kind.0)
    }
}

/// Whether the second of two records that follow each other says nothing new: an event that is acknowledged as soon as it is fetched.
#[must_use]
pub fn imply(first: &TraceRecord, second: &TraceRecord) -> bool {
    let steps = (Step::of(first), Step::of(second));
    steps == (Some(Step::EventFetched), Some(Step::EventAcknowledged))
        && (first.subject, first.detail) == (second.subject, second.detail)
}

fn told_by_transport(step: Step, record: &TraceRecord) -> String {
    let (named, detail) = (name(record.subject), record.detail);
    let word = step.detail_name(detail).unwrap_or("unknown");
    match step {
        Step::Adopted => format!("adopts queue pair {named} of connection {}", name(detail)),
        Step::Refused => format!("has no room for the queue pair of connection {named}"),
        Step::Applied => format!("queue pair {named} is told: {word}"),
        Step::Missed => format!("queue pair {named} was to be told: {word}; it is past that"),
        Step::DrainBegun => format!("queue pair {named} drains ({})", reason(detail)),
        Step::MarkerPosted if detail == 0 => format!("queue pair {named}: the device refused the drain's marker"),
        Step::MarkerPosted => format!("queue pair {named}: the drain's marker is posted"),
        Step::Quiet => format!("queue pair {named} is quiet ({word})"),
        Step::RequestsReleased => format!("queue pair {named}: its requests are released ({word})"),
        Step::DestroySent => format!("queue pair {named} is sent to be destroyed, of connection {}", name(detail)),
        Step::DestroyReturned => format!("queue pair {named}: destroy came back ({word})"),
        Step::Retired => format!("queue pair {named} is retired: it waits for the grace period"),
        Step::Reaped => format!("queue pair {named} is reaped"),
        Step::Quarantined => format!("queue pair {named} is given up with its memory: it cannot be destroyed"),
        Step::ConnectionRequested => format!("connection {named} is asked for (id {detail})"),
        Step::StageEntered => format!("connection {named}: {word}"),
        Step::RecordForgotten => format!("connection {named} is forgotten"),
        Step::RecordMissed => format!("news for connection {named} or id {} change nothing", record.subject),
        Step::EventFetched => format!("event {word} of {}", cause(record.subject)),
        Step::EventAcknowledged => format!("event {word} of {} is acknowledged only now", cause(record.subject)),
        Step::DeviceRemoved => format!("the device is removed, under {detail} connections"),
        Step::DeviceReturned => format!("the device is back, for the {detail}. time"),
        Step::Refitted => "it has a new port".to_owned(),
        Step::PortFailed => format!("the completion queue of port {} broke, of {detail} connections", record.subject),
    }
}

fn told_by_layer(step: layer::Step, record: &TraceRecord) -> String {
    let (subject, detail) = (record.subject, record.detail);
    match step {
        layer::Step::QpairOpened => format!("qpair {} is opened, queue id {detail}", name(subject)),
        layer::Step::QpairDrains => format!("qpair {} takes no more commands ({})", name(subject), reason(detail)),
        layer::Step::QpairClosed => format!("qpair {} is closed", name(subject)),
        layer::Step::ControllerBorn => format!("controller {} is made, admin qpair {}", place(subject), name(detail)),
        layer::Step::ControllerAdmitted => format!("controller {} has id {detail}, and serves", place(subject)),
        layer::Step::ControllerRefused => format!("controller {} got no id, and is gone", place(subject)),
        layer::Step::ControllerCloses => format!("controller {} closes ({})", place(subject), reason(detail)),
        layer::Step::ControllerGone if detail == NO_ID => {
            format!("controller {} is gone, without an id", place(subject))
        }
        layer::Step::ControllerGone => format!("controller {} is gone, id {detail}", place(subject)),
        layer::Step::MemberJoined => format!("qpair {} joins controller {}", place(subject), place(detail)),
        layer::Step::MemberLeft => format!("qpair {} has left controller {}", place(subject), place(detail)),
        layer::Step::IdGiven => format!("controller id {detail} is given to {}", place(subject)),
        layer::Step::IdFreed => format!("controller id {detail} is free again"),
        layer::Step::ControllerEnabled => format!("controller {} is enabled by its host", place(subject)),
        layer::Step::ControllerReset => format!("controller {} is reset by its host", place(subject)),
        layer::Step::ControllerShutDown => format!("controller {} is shut down by its host", place(subject)),
        layer::Step::KeepAliveExpired => format!("controller {} ends: its host sends no Keep Alive", place(subject)),
        layer::Step::CommandFailed => {
            let (command_id, status) = layer::failed_command_parts(detail);
            format!("qpair {}: command {command_id} failed: {status}", name(subject))
        }
        layer::Step::AbortAsked => format!("qpair {}: its host wants command {detail} aborted", name(subject)),
        layer::Step::PressureBegan => format!("commands wait for {}", pressure(detail)),
        layer::Step::PressureEnded => format!("no command has waited for {} for a second", pressure(detail)),
        layer::Step::HostAuthenticated => format!("the host of qpair {} has authenticated", name(subject)),
        layer::Step::HostRefused => format!("the host of qpair {} has not authenticated ({detail})", name(subject)),
        layer::Step::QpairMissed => format!("news for qpair {} come too late", name(subject)),
        layer::Step::ControllerMissed => format!("news for controller {} come too late", place(subject)),
    }
}

/// `3.2`: slot and generation.
fn name(bits: u64) -> String {
    format!("{:?}", Handle::<()>::from_bits(bits))
}

/// `3.2 of cpu 1`.
fn place(bits: u64) -> String {
    format!("{} of cpu {}", name(bits), bits >> 56)
}

/// What an event is of: a connection or listener by its id, a small number; or a ticket, whose top 8 bits are a kind, above the name of what it was for.
fn cause(subject: u64) -> String {
    match (subject >> 56, Handle::<()>::from_bits(subject)) {
        (0, _) => format!("id {subject}"),
        (_, handle) if handle.generation() > 0 => name(subject),
        (_, handle) => format!("number {}", handle.index()),
    }
}

fn pressure(number: u64) -> &'static str {
    layer::Pressure::from_number(number).map_or("something", layer::Pressure::name)
}

fn reason(number: u64) -> String {
    reason_from_number(number).map_or_else(|| format!("reason {number}"), |reason| format!("{reason:?}"))
}

#[cfg(test)]
mod tests {
    use reactor::TraceKind;

    use super::*;

    fn record(kind: TraceKind, subject: u64, detail: u64) -> TraceRecord {
        TraceRecord { at_ns: 0, kind, subject, detail }
    }

    #[test]
    fn names_are_slot_and_generation() {
        let bits = 2 << 24 | 3;
        assert_eq!(told(&record(Step::Quiet.kind(), bits, 0)), "queue pair 3.2 is quiet (returned)");
        let joined = record(layer::Step::MemberJoined.kind(), bits | 1 << 56, bits);
        assert_eq!(told(&joined), "qpair 3.2 of cpu 1 joins controller 3.2 of cpu 0");
        assert_eq!(told(&record(TraceKind(1), 2, 3)), "kind 0x1, subject 0x2, detail 0x3");
    }

    #[test]
    fn an_event_is_told_once_unless_it_is_acknowledged_later() {
        let (fetched, other) = (record(Step::EventFetched.kind(), 4, 11), record(Step::EventFetched.kind(), 5, 11));
        let acknowledged = record(Step::EventAcknowledged.kind(), 4, 11);
        assert!(imply(&fetched, &acknowledged));
        assert!(!imply(&other, &acknowledged));
        assert!(!imply(&acknowledged, &fetched));
        assert_eq!(told(&fetched), "event DISCONNECTED of id 4");
        assert_eq!(cause(2 << 56 | 1 << 24 | 7), "7.1");
        assert_eq!(cause(5 << 56 | 7), "number 7");
    }

    #[test]
    fn every_step_has_words_of_its_own() {
        let transport = Step::ALL.iter().map(|step| step.kind());
        let kinds: Vec<_> = transport.chain(layer::Step::ALL.iter().map(|step| step.kind())).collect();
        let mut told: Vec<_> = kinds.iter().map(|kind| told(&record(*kind, 1, 1))).collect();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), kinds.len());
        assert!(told.iter().all(|words| !words.contains("kind 0x")));
    }
}
