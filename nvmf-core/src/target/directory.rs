//! What every CPU may look at: the snapshot, the qpairs' headers, where each controller lives, and everybody's counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reactor::{Cpu, Domain, Guard, Handle, Published, Table, Unlinked};

use crate::ControllerKind;
use crate::counters::PollGroupCounters;
use crate::limits::{CONTROLLER_ID_MAX, QPAIR_COUNT_MAX};
use crate::membership::Remote;
use crate::qpair::header::QpairHeader;
use crate::subsystem::{Snapshot, Subject};

/// Shared by all CPUs of a target. Nothing in it is written by two.
pub struct Directory {
    snapshot: Published<Snapshot>,
    transfer_len_max: u32,
    cpus: Vec<PerCpu>,
    /// By controller id: a CPU plus one above a handle, 0 for none. The control plane writes. Relaxed throughout: an entry is a name, and a name that
    /// is late is a miss.
    controllers: Vec<AtomicU64>,
    /// By controller id: what it is a controller of, a subsystem's id or 0 for the discovery service. As `controllers`.
    subjects: Vec<AtomicU64>,
}

/// What one polling CPU writes.
struct PerCpu {
    headers: Table<QpairHeader>,
    counters: Arc<PollGroupCounters>,
}

const HANDLE_BITS: u32 = 56;

/// Subsystems are numbered from 1.
fn subject_bits(subject: Subject) -> u64 {
    match subject {
        Subject::Discovery => 0,
        Subject::Nvm(id) => id.0,
    }
}

impl Directory {
    pub(super) fn new(domain: &Domain, cpu_count: u16, snapshot: Box<Snapshot>) -> Self {
        let per_cpu = || PerCpu {
            headers: Table::new(domain, QPAIR_COUNT_MAX),
            counters: Arc::new(PollGroupCounters::default()),
        };
        Self {
            transfer_len_max: snapshot.controller.transfer_len_max,
            snapshot: Published::new(domain, snapshot),
            cpus: (0..cpu_count).map(|_| per_cpu()).collect(),
            controllers: (0..=CONTROLLER_ID_MAX).map(|_| AtomicU64::new(0)).collect(),
            subjects: (0..=CONTROLLER_ID_MAX).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Polling CPUs.
    #[must_use]
    pub fn cpu_count(&self) -> u16 {
        u16::try_from(self.cpus.len()).unwrap_or(u16::MAX)
    }

    /// What a CPU counts.
    ///
    /// # Panics
    /// If there is no such CPU.
    #[must_use]
    pub fn counters(&self, cpu: Cpu) -> Arc<PollGroupCounters> {
        Arc::clone(&self.cpus[usize::from(cpu.0)].counters)
    }

    /// The qpairs of a CPU, by slot number, as they are in this turn.
    pub fn qpairs<'t>(&self, guard: Guard<'t>, cpu: Cpu) -> impl Iterator<Item = &'t QpairHeader> {
        let table = self.cpus.get(usize::from(cpu.0)).map(|cpu| &cpu.headers);
        table.into_iter().flat_map(move |table| (0..table.capacity()).filter_map(move |slot| table.look(guard, slot)))
    }

    /// The largest transfer of one command, fixed for the target's life.
    pub(crate) fn transfer_len_max(&self) -> u32 {
        self.transfer_len_max
    }

    /// The target as it is in this turn.
    pub(crate) fn snapshot<'t>(&self, guard: Guard<'t>) -> &'t Snapshot {
        self.snapshot.load(guard)
    }

    /// Only the control plane may.
    pub(super) fn replace_snapshot(&self, snapshot: Box<Snapshot>) -> Unlinked<Snapshot> {
        self.snapshot.replace(snapshot)
    }

    /// Where the controller with this id lives, as far as is known.
    pub(crate) fn controller(&self, id: u16) -> Option<Remote<ControllerKind>> {
        let entry = self.controllers.get(usize::from(id))?.load(Ordering::Relaxed);
        let cpu = u16::try_from(entry >> HANDLE_BITS).ok()?.checked_sub(1)?;
        Some(Remote { cpu: Cpu(cpu), handle: Handle::from_bits(entry) })
    }

    /// The ids of a subject's controllers, ascending, as far as is known.
    pub(crate) fn controllers_of(&self, subject: Subject) -> impl Iterator<Item = u16> {
        let bits = subject_bits(subject);
        (0..=CONTROLLER_ID_MAX).zip(self.controllers.iter().zip(&self.subjects)).filter_map(move |(id, (place, of))| {
            let is_there = place.load(Ordering::Relaxed) != 0 && of.load(Ordering::Relaxed) == bits;
            is_there.then_some(id)
        })
    }

    /// Only the control plane may. `id` is one that it has allocated.
    pub(super) fn set_controller(&self, id: u16, controller: Option<(Remote<ControllerKind>, Subject)>) {
        if let Some((_, subject)) = controller {
            self.subjects[usize::from(id)].store(subject_bits(subject), Ordering::Relaxed);
        }
        let entry = controller.map_or(0, |(controller, _)| {
            (u64::from(controller.cpu.0) + 1) << HANDLE_BITS | controller.handle.to_bits()
        });
        self.controllers[usize::from(id)].store(entry, Ordering::Relaxed);
    }

    /// The header of a qpair of `cpu`.
    pub(crate) fn header<'t>(&self, guard: Guard<'t>, cpu: Cpu, index: usize) -> Option<&'t QpairHeader> {
        self.cpus.get(usize::from(cpu.0))?.headers.look(guard, index)
    }

    /// Only `cpu` may.
    pub(crate) fn link_header(&self, cpu: Cpu, header: Box<QpairHeader>) {
        self.cpus[usize::from(cpu.0)].headers.link(header.handle.index(), header);
    }

    /// Only `cpu` may.
    pub(crate) fn unlink_header(&self, cpu: Cpu, index: usize) -> Option<Unlinked<QpairHeader>> {
        self.cpus[usize::from(cpu.0)].headers.unlink(index)
    }
}
