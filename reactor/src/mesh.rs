//! The reactors of one mesh before they have programs: what connects them.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::bell::{Bell, Stage};
use crate::counter::ReactorCounters;
use crate::cpu::Cpu;
use crate::domain::Domain;
use crate::mailbox::{self, Bells, Inbox, Outbox, Postbox, Wake};
use crate::random::Random;
use crate::reactor::Seat;
use crate::timer::Timers;
use crate::trace::Trace;
use crate::turn::{Limbos, State, Stopwatch};
use crate::watch::Watch;

/// What both runtimes are put together from.
pub(crate) struct Mesh<M> {
    domain: Domain,
    bells: Bells,
    watch: Watch,
    places: Vec<Place<M>>,
}

struct Place<M> {
    /// Taken by the reactor.
    ends: Option<(Inbox<M>, Outbox<M>)>,
    postbox: Arc<ArrayQueue<M>>,
    counters: Arc<ReactorCounters>,
}

impl<M> Mesh<M> {
    /// One reactor for each bell; rings between each two hold `ring_capacity` messages.
    pub(crate) fn new(bells: Vec<Bell>, ring_capacity: usize) -> Self {
        let Ok(cpu_count) = u16::try_from(bells.len()) else { panic!("a mesh of {} reactors", bells.len()) };
        assert!(cpu_count > 0, "a mesh of no reactor");
        let bells: Bells = bells.into_iter().map(CachePadded::new).collect();
        let places = mailbox::connect(&bells, ring_capacity).into_iter().map(|(inbox, outbox)| Place {
            postbox: Arc::clone(&inbox.postbox),
            counters: Arc::new(ReactorCounters::new(cpu_count)),
            ends: Some((inbox, outbox)),
        });
        Self { domain: Domain::new(cpu_count), watch: Watch::new(), places: places.collect(), bells }
    }

    pub(crate) fn cpu_count(&self) -> u16 {
        // Checked in `new`.
        u16::try_from(self.places.len()).unwrap_or(u16::MAX)
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(crate) fn bells(&self) -> &Bells {
        &self.bells
    }

    pub(crate) fn postbox(&self, cpu: Cpu) -> Postbox<M>
    where
        M: Send + 'static,
    {
        let queue = Arc::clone(&self.places[usize::from(cpu.0)].postbox);
        Postbox::new(queue, Wake::new(Arc::clone(&self.bells), cpu))
    }

    pub(crate) fn counters(&self, cpu: Cpu) -> Arc<ReactorCounters> {
        Arc::clone(&self.places[usize::from(cpu.0)].counters)
    }

    /// `cpu`'s place, for its one reactor. From here on it counts as live, and is waited for by reclamation: it must turn, or
    /// be dropped. Panics the second time.
    pub(crate) fn sit(&mut self, cpu: Cpu, seed: u64) -> Seat<M> {
        let cpu_count = self.cpu_count();
        let place = &mut self.places[usize::from(cpu.0)];
        let Some((inbox, outbox)) = place.ends.take() else { panic!("cpu {} has a program already", cpu.0) };
        let mut participant = self.domain.participant(cpu.0);
        participant.go_online();
        self.bells[usize::from(cpu.0)].enter(Stage::Live);
        let state = State {
            cpu,
            cpu_count,
            participant,
            outbox,
            timers: Timers::default(),
            random: Random::new(seed),
            counters: Arc::clone(&place.counters),
            limbos: Limbos::default(),
            stopwatch: Stopwatch::new(self.watch.clone()),
            leaving: false,
            trace: Trace::new(),
            notes: Trace::new(),
        };
        Seat { inbox, state, domain: self.domain.clone(), bells: Arc::clone(&self.bells) }
    }

    /// The first CPU that has no program.
    pub(crate) fn vacant(&self) -> Option<Cpu> {
        (0..).map(Cpu).zip(&self.places).find_map(|(cpu, place)| place.ends.is_some().then_some(cpu))
    }
}
