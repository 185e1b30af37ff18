//! The real target on simulated CPUs: polling CPUs first, the control plane last.
//!
//! It can be killed: its machine is gone in the midst of everything, and only its block device stays. Another can be started in its place then, on another
//! machine with the same address.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use nvmf_core::ChangeId;
use nvmf_core::auth::Job;
use nvmf_core::spec::{NamespaceSpec, Persistence, SubsystemSpec, TargetSpec};
use reactor::{Choices, Cpu, Program, Progress, Rest, Simulation, TraceRecord, Turn, Wake};
use transport_rdma::soft::in_process::{Fabric, MachineId};
use transport_rdma::target::{Change, Control, CounterRow, Message, TargetCpu, TargetMemory, TargetOptions, build_in};

use super::P;
use super::asked::{Answer, Asked};
use super::device::SimulatedDevice;
use super::ground::TargetGround;
use super::layout::{BLOCK_COUNT, BLOCK_LEN, Layout, SUBSYSTEM, address_of, disk_name, reservation_file};
use super::shelf::Shelf;
use crate::words;

/// What is done to the control plane in its next turn.
type Order = Box<dyn FnOnce(&mut Control<P>, &mut Turn<'_, Message<P>>)>;

/// A step of a life that a CPU of the target noted.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Who noted it.
    pub cpu: Cpu,
    /// What.
    pub record: TraceRecord,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words::told(&self.record))
    }
}

/// See the module.
pub struct SimulatedTarget {
    layout: Layout,
    choices: Choices,
    devices: Vec<Arc<SimulatedDevice>>,
    shelf: Shelf,
    /// `None`: it was killed.
    running: Option<Running>,
    /// Of the last look since anybody acted: many checkers look at once, and rows are text.
    seen: RefCell<Option<Rc<[CounterRow]>>>,
}

/// Everything of a target that dies with its machine.
struct Running {
    mesh: Simulation<Message<P>>,
    control: Rc<RefCell<Control<P>>>,
    cpus: Vec<Rc<RefCell<TargetCpu<P>>>>,
    orders: Rc<RefCell<VecDeque<Order>>>,
    changes: Rc<RefCell<Changes>>,
    machine: MachineId,
    /// By CPU: the record that comes next.
    next_records: Vec<u64>,
    /// Last: see there.
    _ground: TargetGround,
}

impl Running {
    fn new(
        layout: &Layout,
        fabric: &Fabric,
        choices: &Choices,
        devices: &[Arc<SimulatedDevice>],
        shelf: &Shelf,
    ) -> Self {
        let mut mesh = Simulation::with_choices(choices.clone(), 0, layout.cpu_count + 1, layout.reactors);
        let options = TargetOptions {
            cpu_count: layout.cpu_count,
            queue_pair_count_max: layout.queue_pair_count_max,
            data_memory_len: layout.data_memory_len,
            huge_pages: false,
            shared_receive_count: layout.shared_receive_count,
            device_count: 1,
            nodes: Vec::new(),
            placement: Vec::new(),
            host_queue_pair_count_max: u32::MAX,
        };
        let mut machine = fabric.machine();
        let id = machine.id();
        let wakes: Vec<Wake> = (0..layout.cpu_count).map(|cpu| mesh.wake(Cpu(cpu))).collect();
        // A CPU's first port, or one that it got when its device came back.
        machine.wake_with(move |port| wakes[port.0 as usize % wakes.len()].wake());
        for device in devices {
            device.wake_with((0..layout.cpu_count).map(|cpu| mesh.wake(Cpu(cpu))).collect());
        }
        let spec = spec(layout, devices, shelf);
        let memory = TargetMemory::allocate(&options, &spec.controller);
        let memory = memory.unwrap_or_else(|error| panic!("memory of the simulated target: {error}"));
        let built = build_in(&memory, machine, mesh.domain(), spec, options);
        let (control, cpus) = built.unwrap_or_else(|error| panic!("the simulated target: {error}"));
        let cpus: Vec<_> = cpus.into_iter().map(|cpu| Rc::new(RefCell::new(cpu))).collect();
        for (number, cpu) in (0..).zip(&cpus) {
            mesh.install(Cpu(number), PollingCpu(Rc::clone(cpu)));
        }
        let control = Rc::new(RefCell::new(control));
        let (orders, changes): (_, Rc<RefCell<Changes>>) = (Rc::default(), Rc::default());
        let program = ControlProgram {
            control: Rc::clone(&control),
            orders: Rc::clone(&orders),
            changes: Rc::clone(&changes),
            shelf: shelf.clone(),
            choices: choices.clone(),
            jobs: VecDeque::new(),
            drawn: 0,
        };
        mesh.install(Cpu(layout.cpu_count), program);
        let next_records = vec![0; usize::from(layout.cpu_count) + 1];
        let ground = TargetGround::new(memory);
        Self { mesh, control, cpus, orders, changes, machine: id, next_records, _ground: ground }
    }
}

impl SimulatedTarget {
    pub(super) fn new(layout: &Layout, fabric: &Fabric, choices: &Choices) -> Self {
        let device = |disk| {
            SimulatedDevice::new(disk_name(disk), choices.clone(), BLOCK_LEN, BLOCK_COUNT, layout.reads_in_place)
        };
        let devices: Vec<_> = (0..layout.disk_count).map(device).collect();
        if let Some(last) = devices.last() {
            last.shrink_to(layout.last_disk_block_count);
        }
        let shelf = Shelf::default();
        let running = Some(Running::new(layout, fabric, choices, &devices, &shelf));
        let (layout, choices) = (layout.clone(), choices.clone());
        Self { layout, choices, devices, shelf, running, seen: RefCell::default() }
    }

    pub(super) fn kill(&mut self) {
        self.forget_rows();
        self.shelf.target_killed(&self.choices);
        self.running = None;
    }

    pub(super) fn restart(&mut self, fabric: &Fabric) {
        self.forget_rows();
        assert!(self.running.is_none(), "a target is started in the place of one that was killed");
        self.running = Some(Running::new(&self.layout, fabric, &self.choices, &self.devices, &self.shelf));
    }

    /// Whether there is one: it was not killed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// CPUs, the control plane included.
    #[must_use]
    pub fn cpu_count(&self) -> u16 {
        self.layout.cpu_count + 1
    }

    /// For traces.
    #[must_use]
    pub fn name_of(&self, cpu: Cpu) -> String {
        if cpu.0 == self.layout.cpu_count { "control".to_owned() } else { format!("cpu {}", cpu.0) }
    }

    /// The block device behind its first namespace.
    #[must_use]
    pub fn device(&self) -> &SimulatedDevice {
        &self.devices[0]
    }

    /// All its block devices.
    #[must_use]
    pub fn devices(&self) -> &[Arc<SimulatedDevice>] {
        &self.devices
    }

    /// The same, for who looks at them later.
    #[must_use]
    pub fn shared_devices(&self) -> Vec<Arc<SimulatedDevice>> {
        self.devices.clone()
    }

    /// Where its reservations are kept.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Receives of all its shared receive queues.
    #[must_use]
    pub fn shared_receive_count(&self) -> u64 {
        u64::from(self.layout.shared_receive_count) * u64::from(self.layout.cpu_count)
    }

    /// The control plane, between its turns.
    ///
    /// # Panics
    /// If the target was killed.
    #[must_use]
    pub fn control(&self) -> Ref<'_, Control<P>> {
        match &self.running {
            Some(running) => running.control.borrow(),
            None => panic!("the target was killed, and has no control plane"),
        }
    }

    /// A polling CPU, between its turns. `None` if the target was killed.
    #[must_use]
    pub fn polling_cpu(&self, cpu: u16) -> Option<Ref<'_, TargetCpu<P>>> {
        self.running.as_ref()?.cpus.get(usize::from(cpu)).map(|cpu| cpu.borrow())
    }

    /// Does something to the control plane in its next turn, as its RPC would.
    pub fn order(&mut self, order: impl FnOnce(&mut Control<P>, &mut Turn<'_, Message<P>>) + 'static) {
        if let Some(running) = &self.running {
            running.orders.borrow_mut().push_back(Box::new(order));
        }
    }

    /// See [`super::World::change`].
    pub(super) fn change(&mut self, change: Change) -> Asked {
        self.ask(move |control, turn| control.change(turn, change).ok())
    }

    /// Begins something that is answered as a change is.
    pub(super) fn ask(
        &mut self,
        begin: impl FnOnce(&mut Control<P>, &mut Turn<'_, Message<P>>) -> Option<ChangeId> + 'static,
    ) -> Asked {
        let asked = Asked::default();
        let Some(running) = &self.running else { return asked };
        let (changes, answer) = (Rc::clone(&running.changes), asked.clone());
        changes.borrow_mut().waiting_count += 1;
        self.order(move |control, turn| {
            let begun = begin(control, turn);
            let mut changes = changes.borrow_mut();
            changes.waiting_count -= 1;
            match begun {
                None => answer.set(Answer::Refused),
                Some(id) => {
                    answer.set(Answer::UnderWay);
                    changes.under_way.insert(id, answer);
                }
            }
        });
        asked
    }

    /// Changes that were not answered.
    #[must_use]
    pub fn changes_under_way(&self) -> usize {
        self.running.as_ref().map_or(0, |running| {
            let changes = running.changes.borrow();
            changes.waiting_count + changes.under_way.len()
        })
    }

    /// Lists all that can be listed, as RPCs would.
    pub fn list_everything(&mut self) {
        self.order(|control, turn| {
            let core = control.core();
            for nqn in core.subsystems().map(|subsystem| subsystem.nqn.clone()) {
                let controller_count = core.controllers(&nqn).map_or(0, Iterator::count);
                let qpair_count = core.qpairs(turn.guard(), &nqn).map_or(0, |qpairs| qpairs.len());
                tracing::trace!(nqn, controller_count, qpair_count);
            }
        });
    }

    /// Its machine on the fabric.
    ///
    /// # Panics
    /// If the target was killed.
    #[must_use]
    pub fn machine(&self) -> MachineId {
        match &self.running {
            Some(running) => running.machine,
            None => panic!("the target was killed, and has no machine"),
        }
    }

    /// Counters and gauges. None of a target that was killed.
    #[must_use]
    pub fn rows(&self) -> Rc<[CounterRow]> {
        let look = || self.running.as_ref().map_or(Vec::new(), |running| running.control.borrow().counters()).into();
        Rc::clone(self.seen.borrow_mut().get_or_insert_with(look))
    }

    /// A counter's sum over its labels.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.rows().iter().filter(|row| row.0 == name).map(|row| row.2).sum()
    }

    /// A counter's sum over the labels that say `value`.
    #[must_use]
    pub fn labelled(&self, name: &str, value: &str) -> u64 {
        let has = |row: &&CounterRow| row.0 == name && row.1.iter().any(|(_, label)| label == value);
        self.rows().iter().filter(has).map(|row| row.2).sum()
    }

    /// Gauges of live things that are not zero, but for those that live as long as the target: its listeners and its memory.
    #[must_use]
    pub fn live(&self) -> Vec<CounterRow> {
        let stays = |name: &str| name.contains("region") || name.contains("listener") || name.contains("keys");
        let is_left = |row: &CounterRow| row.0.ends_with("_live") && row.2 > 0 && !stays(&row.0);
        self.rows().iter().filter(|row| is_left(row)).cloned().collect()
    }

    /// Whether nothing of any connection is left.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.mesh.domain().limbo_len() == 0) && self.live().is_empty()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_left(&self) -> bool {
        let Some(running) = &self.running else { return true };
        (0..self.cpu_count()).all(|cpu| running.mesh.has_left(Cpu(cpu)))
    }

    /// For a report: what each CPU does, and what is left.
    #[must_use]
    pub fn condition(&self) -> String {
        let rows: String =
            self.live().iter().map(|(name, labels, value)| format!("\n  {name} {labels:?} {value}")).collect();
        match &self.running {
            Some(running) => format!("{}{rows}", running.mesh.report()),
            None => "the target was killed".to_owned(),
        }
    }

    /// Somebody acts: what was seen may be otherwise now.
    pub(super) fn forget_rows(&mut self) {
        self.seen.take();
    }

    pub(super) fn turn(&mut self, cpu: u16) {
        if let Some(running) = &mut self.running {
            running.mesh.step_cpu(Cpu(cpu));
        }
    }

    pub(super) fn advance_to(&mut self, now_ns: u64) {
        if let Some(running) = &mut self.running {
            let behind_ns = now_ns.saturating_sub(running.mesh.now_ns());
            running.mesh.advance(behind_ns);
        }
    }

    pub(super) fn may_turn(&self) -> bool {
        let Some(running) = &self.running else { return false };
        (0..self.cpu_count()).any(|cpu| running.mesh.may_turn(Cpu(cpu)))
    }

    pub(super) fn due_ns(&self) -> Option<u64> {
        let running = self.running.as_ref()?;
        (0..self.cpu_count()).filter_map(|cpu| running.mesh.due_ns(Cpu(cpu))).min()
    }

    /// What its CPUs have noted since the last call.
    pub(super) fn take_noted(&mut self) -> Vec<Noted> {
        let mut noted = Vec::new();
        let Some(running) = &mut self.running else { return noted };
        for (cpu, next) in (0..).map(Cpu).zip(&mut running.next_records) {
            let (records, number) = running.mesh.traced(cpu, *next);
            *next = number;
            noted.extend(records.into_iter().map(|record| Noted { cpu, record }));
        }
        noted
    }
}

fn spec(layout: &Layout, devices: &[Arc<SimulatedDevice>], shelf: &Shelf) -> TargetSpec {
    let namespace = |(nsid, device): (u32, &Arc<SimulatedDevice>)| {
        let file = reservation_file(nsid);
        let record = shelf.record(&file);
        let persistence = layout.keeps_reservations.then(|| Persistence { file: file.into(), record });
        let is_auto_visible = !layout.hidden.contains(&nsid);
        NamespaceSpec {
            persistence,
            is_auto_visible,
            ..NamespaceSpec::new(nsid, Arc::<SimulatedDevice>::clone(device))
        }
    };
    TargetSpec {
        subsystems: vec![SubsystemSpec {
            model_number: "simulated".to_owned(),
            allow_any_host: true,
            reports_ana: layout.reports_ana,
            listeners: (0..layout.address_count).map(address_of).collect(),
            namespaces: (1..).zip(devices).map(namespace).collect(),
            ..SubsystemSpec::new(SUBSYSTEM, "1")
        }],
        controller: layout.controller,
        ..TargetSpec::default()
    }
}

/// A polling CPU, which can be looked at between its turns.
struct PollingCpu(Rc<RefCell<TargetCpu<P>>>);

impl Program for PollingCpu {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.0.borrow_mut().receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.0.borrow_mut().fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        self.0.borrow_mut().poll(turn)
    }

    fn rest<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Rest {
        self.0.borrow_mut().rest(turn)
    }

    fn awake(&mut self) {
        self.0.borrow_mut().awake();
    }
}

/// Changes that scenarios have asked for and that were not answered.
#[derive(Default)]
struct Changes {
    /// Their turn has not come.
    waiting_count: usize,
    under_way: BTreeMap<ChangeId, Asked>,
}

/// Authentications that are computed at a time.
const JOB_COUNT_MAX: usize = 2;

/// The control plane: as `nvmf-tgt`'s, without sockets.
struct ControlProgram {
    control: Rc<RefCell<Control<P>>>,
    orders: Rc<RefCell<VecDeque<Order>>>,
    changes: Rc<RefCell<Changes>>,
    shelf: Shelf,
    choices: Choices,
    /// Authentications that are being computed: each is done in some later turn, which the schedule chooses.
    jobs: VecDeque<Job>,
    /// What was drawn of random bytes.
    drawn: u8,
}

impl Program for ControlProgram {
    type Message = Message<P>;

    fn receive<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, from: Option<Cpu>, message: Self::Message) {
        self.control.borrow_mut().receive(turn, from, message);
    }

    fn fire<'t>(&mut self, turn: &mut Turn<'t, Self::Message>, token: u64) {
        self.control.borrow_mut().fire(turn, token);
    }

    fn poll<'t>(&mut self, turn: &mut Turn<'t, Self::Message>) -> Progress {
        let mut control = self.control.borrow_mut();
        let orders: Vec<Order> = self.orders.borrow_mut().drain(..).collect();
        for order in orders {
            order(&mut control, turn);
        }
        if let Some(job) = self.jobs.pop_front() {
            let drawn = &mut self.drawn;
            let done = job.perform(&mut |bytes| {
                bytes.fill_with(|| {
                    *drawn = drawn.wrapping_mul(5).wrapping_add(17);
                    *drawn
                });
            });
            control.job_done(turn, done);
        }
        while let Some((write, outcome)) = self.shelf.next_end(&self.choices) {
            control.reservation_written(write, outcome);
        }
        self.shelf.look();
        let mut progress = control.poll(turn);
        while let Some(write) = control.next_reservation_write() {
            self.shelf.begin(&self.choices, write);
        }
        progress = progress.or(Progress::busy_if(self.shelf.may_end()));
        while let Some(job) = control.next_job(turn, JOB_COUNT_MAX) {
            self.jobs.push_back(job);
        }
        progress = progress.or(Progress::busy_if(!self.jobs.is_empty()));
        while let Some(done) = control.next_done() {
            if let Some(asked) = self.changes.borrow_mut().under_way.remove(&done) {
                asked.set(Answer::Done);
            }
        }
        // The channels are closed, and the device is the world's.
        while control.next_retired(turn).is_some() {}
        if control.is_drained() {
            turn.leave();
        }
        progress
    }
}
