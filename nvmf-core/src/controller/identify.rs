//! Identify: what a controller says of itself and of its namespaces.

use zerocopy::{FromZeros, IntoBytes};

use super::properties::VERSION;
use super::{Controller, Surroundings, events, features};
use crate::command::Identify;
use crate::io_limits;
use crate::limits::{
    ABORT_COUNT_MAX, ANA_TRANSITION_S, ERROR_ENTRY_COUNT, EVENT_REQUEST_COUNT_MAX, KEEP_ALIVE_GRANULARITY_MS, PAGE_LEN,
};
use crate::namespace::Namespace;
use crate::spec::ControllerModel;
use crate::status::Status;
use crate::subsystem::{Snapshot, Subject, Subsystem};
use crate::wire::identify::{
    CommandSetCombinations, ControllerCommandSet, ControllerList, IdentifyController, IdentifyKind, IdentifyNamespace,
    LbaFormat, NamespaceCommandSet, NamespaceIdentifiers, NamespaceIndependent, NamespaceList,
};
use crate::wire::{DISCOVERY_NQN, KeyedList, SUBMISSION_ENTRY_LEN, U16, U32, U64, U128, pad_text};

/// NSIDs from here on start no list [NVMe 1.4, 5.15.2.3].
const NSID_LIST_END: u32 = 0xFFFF_FFFE;
/// Slot 1 is the only one and is read only [NVMe 1.4, figure 247, FRMW].
const FIRMWARE_SLOTS: u8 = 1 << 1 | 1;
/// 64 bytes required and largest.
const SUBMISSION_ENTRY_EXPONENTS: u8 = 0x66;
/// 16 bytes required and largest.
const COMPLETION_ENTRY_EXPONENTS: u8 = 0x44;
/// CSI of the NVM command set.
const COMMAND_SET_NVM: u8 = 0;
/// CNTID for the controller that processes the command.
const THIS_CONTROLLER: u16 = 0xFFFF;
/// Capsule sizes and offsets are counted in these.
const CAPSULE_UNIT: u32 = 16;

impl Controller {
    /// Puts the structure that was asked for into `data`.
    pub(super) fn identify(
        &self,
        command: &Identify,
        around: &Surroundings<'_>,
        data: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let snapshot = around.snapshot;
        let subsystem = match self.subject {
            Subject::Discovery => None,
            Subject::Nvm(id) => Some(snapshot.subsystem(id).ok_or(Status::INTERNAL_ERROR)?),
        };
        match (command.kind, subsystem) {
            // The structures of one I/O command set: there is the NVM command set, which all namespaces have [NVMe Base 2.0, 5.17.2.5 to 5.17.2.7].
            (
                IdentifyKind::CommandSetNamespace
                | IdentifyKind::CommandSetController
                | IdentifyKind::CommandSetActiveNamespaces,
                Some(_),
            ) if command.command_set != COMMAND_SET_NVM => Err(Status::INVALID_FIELD),
            (IdentifyKind::Controller, _) => {
                data.extend_from_slice(self.page(snapshot, subsystem).as_bytes());
                Ok(())
            }
            (IdentifyKind::Namespace, Some(subsystem)) => {
                let page = self.find(subsystem, command.nsid)?.map(|namespace| self.namespace_page(namespace));
                data.extend_from_slice(page.unwrap_or_else(IdentifyNamespace::new_zeroed).as_bytes());
                Ok(())
            }
            (IdentifyKind::ActiveNamespaces | IdentifyKind::CommandSetActiveNamespaces, Some(subsystem)) => {
                if command.nsid >= NSID_LIST_END {
                    return Err(Status::INVALID_NAMESPACE);
                }
                let nsids = subsystem.visible_namespaces(self.id()).map(|namespace| namespace.nsid);
                data.extend_from_slice(NamespaceList::new(nsids, command.nsid).as_bytes());
                Ok(())
            }
            (IdentifyKind::NamespaceDescriptors, Some(subsystem)) => {
                let namespace =
                    subsystem.visible_namespace(command.nsid, self.id()).ok_or(Status::INVALID_NAMESPACE)?;
                let identifiers = NamespaceIdentifiers {
                    eui64: namespace.eui64,
                    nguid: Some(namespace.nguid),
                    uuid: Some(namespace.uuid.into_bytes()),
                    command_set: Some(COMMAND_SET_NVM),
                };
                data.extend_from_slice(&identifiers.to_page());
                Ok(())
            }
            (IdentifyKind::CommandSetNamespace, Some(subsystem)) => {
                self.find(subsystem, command.nsid)?;
                // No metadata, and so no storage tags: all of it is 0, as for an id that is not active.
                data.extend_from_slice(NamespaceCommandSet::new_zeroed().as_bytes());
                Ok(())
            }
            (IdentifyKind::CommandSetController, Some(_)) => {
                data.extend_from_slice(ControllerCommandSet::new_zeroed().as_bytes());
                Ok(())
            }
            (IdentifyKind::IndependentNamespace, Some(subsystem)) => {
                let page = self.find(subsystem, command.nsid)?.map(|namespace| self.independent_page(namespace));
                data.extend_from_slice(page.unwrap_or_else(NamespaceIndependent::new_zeroed).as_bytes());
                Ok(())
            }
            (IdentifyKind::SubsystemControllers, Some(_)) => {
                let ids = around.directory.controllers_of(self.subject);
                data.extend_from_slice(ControllerList::new(ids, command.controller_id).as_bytes());
                Ok(())
            }
            (IdentifyKind::CommandSetCombinations, Some(_)) => {
                // CNTID FFFFh is the controller that answers; of others this one knows nothing [NVMe Base 2.0, 5.17.2.21].
                if command.controller_id != THIS_CONTROLLER && Some(command.controller_id) != self.stage.id() {
                    return Err(Status::INVALID_FIELD);
                }
                data.extend_from_slice(CommandSetCombinations::nvm().as_bytes());
                Ok(())
            }
            // What a discovery controller has not; what belongs to namespace management, which is not there.
            (
                IdentifyKind::Namespace
                | IdentifyKind::ActiveNamespaces
                | IdentifyKind::NamespaceDescriptors
                | IdentifyKind::CommandSetNamespace
                | IdentifyKind::CommandSetController
                | IdentifyKind::CommandSetActiveNamespaces
                | IdentifyKind::IndependentNamespace
                | IdentifyKind::AllocatedNamespaces
                | IdentifyKind::AttachedControllers
                | IdentifyKind::SubsystemControllers
                | IdentifyKind::CommandSetCombinations,
                _,
            ) => Err(Status::INVALID_FIELD),
        }
    }

    /// An id that is legal and not active, or that this host does not see, has a page of zeroes: `None`
    /// [NVM Command Set 1.0, 4.1.5.1; NVMe Base 2.0, 5.17.2.8].
    fn find<'s>(&self, subsystem: &'s Subsystem, nsid: u32) -> Result<Option<&'s Namespace>, Status> {
        match subsystem.visible_namespace(nsid, self.id()) {
            Some(namespace) => Ok(Some(namespace)),
            None if (1..=subsystem.nsid_max()).contains(&nsid) => Ok(None),
            None => Err(Status::INVALID_NAMESPACE),
        }
    }

    fn page(&self, snapshot: &Snapshot, subsystem: Option<&Subsystem>) -> IdentifyController {
        let limits = &snapshot.controller;
        let mut page = IdentifyController::new_zeroed();
        page.firmware_revision = pad_text(env!("CARGO_PKG_VERSION"));
        page.cmic = IdentifyController::CMIC_PORTS | IdentifyController::CMIC_CONTROLLERS;
        page.mdts = (limits.transfer_len_max / PAGE_LEN).trailing_zeros().to_le_bytes()[0];
        page.controller_id = U16::new(self.stage.id().unwrap_or(0));
        page.version = U32::new(VERSION.0);
        page.oaes = U32::new(events::optional(self.subject, self.reports_ana));
        page.ctratt =
            U32::new(IdentifyController::CTRATT_HOST_ID_128 | IdentifyController::CTRATT_KEEP_ALIVE_BY_TRAFFIC);
        page.abort_limit_zero_based = ABORT_COUNT_MAX - 1;
        page.event_request_limit_zero_based = (EVENT_REQUEST_COUNT_MAX - 1).to_le_bytes()[0];
        page.error_log_entries_zero_based = u8::try_from(ERROR_ENTRY_COUNT - 1).unwrap_or(u8::MAX);
        page.frmw = FIRMWARE_SLOTS;
        page.lpa =
            IdentifyController::LPA_OFFSET | IdentifyController::LPA_EFFECTS | IdentifyController::LPA_SUPPORTED_PAGES;
        page.keep_alive_granularity_100ms = U16::new((KEEP_ALIVE_GRANULARITY_MS / 100).try_into().unwrap_or(u16::MAX));
        page.sgls = U32::new(
            IdentifyController::SGLS_SUPPORTED | IdentifyController::SGLS_KEYED | IdentifyController::SGLS_OFFSET,
        );
        page.submission_entry_exponents = SUBMISSION_ENTRY_EXPONENTS;
        page.completion_entry_exponents = COMPLETION_ENTRY_EXPONENTS;
        page.command_count_max = U16::new(limits.queue_depth_max);
        page.response_capsule_16b = U32::new(1);
        page.data_block_descriptors_max = 1;
        let mut capsule_len = u32::try_from(SUBMISSION_ENTRY_LEN).unwrap_or(0);
        let Some(subsystem) = subsystem else {
            page.controller_type = IdentifyController::TYPE_DISCOVERY;
            page.serial_number = pad_text("");
            page.model_number = pad_text("Discovery");
            page.subsystem_nqn[..DISCOVERY_NQN.len()].copy_from_slice(DISCOVERY_NQN.as_bytes());
            page.command_capsule_16b = U32::new(capsule_len / CAPSULE_UNIT);
            return page;
        };
        capsule_len += limits.in_capsule_len;
        page.data_block_descriptors_max = descriptor_count_max(limits.in_capsule_len);
        page.controller_type = IdentifyController::TYPE_IO;
        page.serial_number = pad_text(&subsystem.serial_number);
        page.model_number = pad_text(&subsystem.model_number);
        page.subsystem_nqn = subsystem.nqn.to_field();
        page.namespace_count = U32::new(subsystem.nsid_max());
        if self.reports_ana {
            page.cmic |= IdentifyController::CMIC_ANA;
            page.anacap = IdentifyController::ANACAP_ALL_STATES;
            page.anatt = ANA_TRANSITION_S;
            // Any NSID's number may be a group's [NVMe Base 2.0, 8.1.2].
            page.anagrpmax = page.namespace_count;
            page.nanagrpid = page.namespace_count;
        }
        page.allowed_namespace_count_max = page.namespace_count;
        let mut oncs = IdentifyController::ONCS_SAVE_SELECT | IdentifyController::ONCS_TIMESTAMP;
        if subsystem.has_reservations {
            oncs |= IdentifyController::ONCS_RESERVATIONS;
        }
        page.oncs = U16::new(oncs);
        io_limits::describe_controller(&mut page, subsystem, limits.transfer_len_max);
        let cache =
            if features::has_volatile_cache(self.subject, snapshot) { IdentifyController::VWC_PRESENT } else { 0 };
        page.volatile_write_cache = cache | IdentifyController::VWC_FLUSH_ALL_NOT_SUPPORTED;
        page.ofcs = U16::new(IdentifyController::OFCS_DISCONNECT);
        if subsystem.controller_model == ControllerModel::Static {
            page.fcatt = IdentifyController::FCATT_STATIC;
        }
        page.command_capsule_16b = U32::new(capsule_len / CAPSULE_UNIT);
        page
    }
}

/// MSDBD: as many as the capsule has room for, and one where it has none.
fn descriptor_count_max(in_capsule_len: u32) -> u8 {
    u8::try_from(in_capsule_len / CAPSULE_UNIT).unwrap_or(u8::MAX).clamp(1, KeyedList::COUNT_MAX)
}

impl Controller {
    /// What of a namespace's page does not depend on the I/O command set: the same values.
    fn independent_page(&self, namespace: &Namespace) -> NamespaceIndependent {
        let page = self.namespace_page(namespace);
        let mut independent = NamespaceIndependent::new_zeroed();
        independent.nmic = page.nmic;
        independent.rescap = page.rescap;
        independent.fpi = page.fpi;
        independent.ana_group_id = page.ana_group_id;
        independent.nsattr = page.nsattr;
        independent.nstat = NamespaceIndependent::NSTAT_READY;
        independent
    }

    fn namespace_page(&self, namespace: &Namespace) -> IdentifyNamespace {
        let geometry = &namespace.geometry;
        let mut page = IdentifyNamespace::new_zeroed();
        page.block_count = U64::new(geometry.block_count);
        page.capacity_block_count = page.block_count;
        page.used_block_count = page.block_count;
        page.nmic = IdentifyNamespace::NMIC_SHARED;
        io_limits::describe_namespace(&mut page, geometry);
        page.rescap = namespace.reservation_capabilities;
        page.capacity_bytes = U128::new(u128::from(geometry.block_count) * u128::from(geometry.block_len));
        page.nsattr = if geometry.read_only { IdentifyNamespace::NSATTR_WRITE_PROTECTED } else { 0 };
        page.ana_group_id = U32::new(if self.reports_ana { namespace.ana_group } else { 0 });
        page.nguid = namespace.nguid;
        page.eui64 = namespace.eui64.unwrap_or_default();
        page.lba_formats[0] = LbaFormat {
            block_len_exponent: geometry.block_len.trailing_zeros().to_le_bytes()[0],
            ..LbaFormat::default()
        };
        page
    }
}
