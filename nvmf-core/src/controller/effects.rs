//! What this controller supports, as its log pages tell: made of the same tables that decide what is done, so that they cannot disagree.

use super::features::{Facts, Scope};
use crate::command::{Command, CommandError, QueueKind};
use crate::subsystem::Subject;
use crate::wire::log::{CommandEffects, EffectsLog, FeatureEffects, FeatureEffectsLog, LogPageId, SupportedLogs};
use crate::wire::{AdminOpcode, FeatureId, IoOpcode, SubmissionEntry};

/// Whether a controller of this kind has the page.
pub(super) fn has_page(page: LogPageId, subject: Subject, reports_ana: bool) -> bool {
    match (page, subject) {
        (
            LogPageId::Supported
            | LogPageId::Error
            | LogPageId::Effects
            | LogPageId::FeatureEffects
            | LogPageId::ManagementEffects,
            _,
        )
        | (
            LogPageId::Smart | LogPageId::FirmwareSlot | LogPageId::ChangedNamespaces | LogPageId::Reservation,
            Subject::Nvm(_),
        )
        | (LogPageId::Discovery, Subject::Discovery) => true,
        (
            LogPageId::Smart | LogPageId::FirmwareSlot | LogPageId::ChangedNamespaces | LogPageId::Reservation,
            Subject::Discovery,
        )
        | (LogPageId::Discovery, Subject::Nvm(_))
        | (LogPageId::Ana, Subject::Discovery) => false,
        (LogPageId::Ana, Subject::Nvm(_)) => reports_ana,
    }
}

/// Supported Log Pages.
pub(super) fn supported_logs(subject: Subject, reports_ana: bool) -> SupportedLogs {
    SupportedLogs::new(|page| LogPageId::from_byte(page).is_some_and(|page| has_page(page, subject, reports_ana)))
}

/// Commands Supported and Effects.
pub(super) fn commands(subject: Subject) -> EffectsLog {
    let admin = |opcode| AdminOpcode::from_byte(opcode).filter(|_| is_known(QueueKind::Admin, opcode)).map(on_admin);
    let io = |opcode| IoOpcode::from_byte(opcode).filter(|_| is_known(QueueKind::Io, opcode)).map(on_io);
    match subject {
        Subject::Discovery => EffectsLog::new(admin, |_| None),
        Subject::Nvm(_) => EffectsLog::new(admin, io),
    }
}

/// Feature Identifiers Supported and Effects.
pub(super) fn features(subject: Subject, has_volatile_cache: bool) -> FeatureEffectsLog {
    FeatureEffectsLog::new(|feature| {
        let is_there = |feature: &FeatureId| *feature != FeatureId::VolatileWriteCache || has_volatile_cache;
        let feature = FeatureId::from_byte(feature).filter(is_there)?;
        let effects = match Facts::of(feature, subject)?.scope {
            Scope::Controller => FeatureEffects::PER_CONTROLLER,
            Scope::Namespace => FeatureEffects::PER_NAMESPACE,
        };
        Some(if feature == FeatureId::NumberOfQueues { effects.changes_controller() } else { effects })
    })
}

/// Whether the parser takes it for a command at all.
fn is_known(queue: QueueKind, opcode: u8) -> bool {
    let parsed = Command::parse(queue, &SubmissionEntry::new(opcode).to_bytes());
    !matches!(parsed, Err(CommandError::Opcode { .. }))
}

fn on_admin(opcode: AdminOpcode) -> CommandEffects {
    let command = CommandEffects::SUPPORTED;
    match opcode {
        AdminOpcode::Identify | AdminOpcode::GetLogPage => command.on_namespace().on_controller().on_subsystem(),
        AdminOpcode::GetFeatures => command.on_namespace().on_controller(),
        // Number of Queues.
        AdminOpcode::SetFeatures => command.on_namespace().on_controller().changes_controller(),
        AdminOpcode::Abort
        | AdminOpcode::AsyncEventRequest
        | AdminOpcode::KeepAlive
        | AdminOpcode::DeleteSubmissionQueue
        | AdminOpcode::CreateSubmissionQueue
        | AdminOpcode::DeleteCompletionQueue
        | AdminOpcode::CreateCompletionQueue => command.on_controller(),
    }
}

fn on_io(opcode: IoOpcode) -> CommandEffects {
    let command = CommandEffects::SUPPORTED.on_namespace();
    match opcode {
        IoOpcode::Write
        | IoOpcode::WriteZeroes
        | IoOpcode::WriteUncorrectable
        | IoOpcode::DatasetManagement
        | IoOpcode::Copy => command.changes_blocks(),
        IoOpcode::Flush
        | IoOpcode::Read
        | IoOpcode::Compare
        | IoOpcode::Verify
        | IoOpcode::ReservationRegister
        | IoOpcode::ReservationReport
        | IoOpcode::ReservationAcquire
        | IoOpcode::ReservationRelease => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subsystem::SubsystemId;

    /// The identifiers and values that are not 0.
    fn told(values: &[crate::wire::U32]) -> Vec<(u8, u32)> {
        (0..=u8::MAX).zip(values).filter(|(_, value)| value.get() != 0).map(|(id, value)| (id, value.get())).collect()
    }

    #[test]
    fn what_a_discovery_controller_has() {
        let pages: Vec<u8> = told(&supported_logs(Subject::Discovery, true).pages).iter().map(|page| page.0).collect();
        assert_eq!(pages, [0x00, 0x01, 0x05, 0x12, 0x13, 0x70]);
        let log = features(Subject::Discovery, false);
        assert_eq!(told(&log.features), [(0x0B, 0x20_0001), (0x0F, 0x20_0001), (0x81, 0x20_0001)]);
        assert_eq!(told(&commands(Subject::Discovery).io), []);
    }

    #[test]
    fn what_an_io_controller_has() {
        let subject = Subject::Nvm(SubsystemId(1));
        let pages: Vec<u8> = told(&supported_logs(subject, true).pages).iter().map(|page| page.0).collect();
        assert!(
            pages.starts_with(&[0x00, 0x01, 0x02, 0x03, 0x04, 0x05]) && pages.contains(&0x0C) && !pages.contains(&0x70)
        );
        assert!(told(&features(subject, false).features).iter().all(|(feature, _)| *feature != 0x06));
        let log = features(subject, true);
        assert!(told(&log.features).contains(&(0x05, 0x10_0001)), "error recovery is set on a namespace");
        assert!(told(&log.features).contains(&(0x07, 0x20_0011)));
        let log = commands(subject);
        assert!(told(&log.io).contains(&(0x01, 0x10_0003)) && told(&log.io).contains(&(0x02, 0x10_0001)));
        // Connect makes queues.
        assert!(told(&log.admin).iter().all(|(opcode, _)| ![0x00, 0x01, 0x04, 0x05].contains(opcode)));
        assert!(told(&log.admin).contains(&(0x08, 0x20_0001)));
    }
}
