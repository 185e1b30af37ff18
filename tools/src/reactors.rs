//! The mesh's reactors, as people name, watch and switch them.
//!
//! Owns no reactor: counters are read, and switches and limits set, from the control plane, which may do both at any time. A polling reactor has the
//! number of the operating system's CPU that it is pinned to; one that is not pinned has its place in the mesh. The control plane comes last and
//! is called `control`.

use std::cell::Cell;
use std::sync::Arc;

use reactor::{Cpu, Domain, PollSwitch, ReactorCounters, RuntimeBuilder, Watch};

use crate::config::ReactorSection;

/// All reactors of one mesh.
pub struct Reactors {
    /// The polling ones, then the control plane.
    places: Vec<Place>,
    cpus_allowed: Vec<usize>,
    domain: Domain,
    watch: Watch,
    stall_limit_ns: Cell<u64>,
}

/// One reactor.
pub struct Place {
    /// Its place in the mesh.
    pub cpu: Cpu,
    /// What it is called; `None` is the control plane.
    pub number: Option<usize>,
    /// The operating system's CPU that it is pinned to.
    pub os_cpu: Option<usize>,
    /// What it counts.
    pub counters: Arc<ReactorCounters>,
    /// What it does when there is nothing to do.
    pub switch: PollSwitch,
}

impl Place {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn label(&self) -> String {
        self.number.map_or_else(|| "control".to_owned(), |number| number.to_string())
    }
}

impl Reactors {
    /// Those of a mesh that is being put together: `polling` of them poll, and one more is the control plane.
    #[must_use]
    pub fn of<M: Send + 'static>(
        builder: &RuntimeBuilder<M>,
        polling: &ReactorSection,
        cpus_allowed: Vec<usize>,
    ) -> Self {
        let mut names: Vec<(Option<usize>, Option<usize>)> = match polling {
            ReactorSection::Pinned(cpus) => cpus.iter().map(|cpu| (Some(*cpu), Some(*cpu))).collect(),
            ReactorSection::Floating(count) => (0..usize::from(*count)).map(|number| (Some(number), None)).collect(),
        };
        names.push((None, None));
        let places = (0..).map(Cpu).zip(names).map(|(cpu, (number, os_cpu))| Place {
            cpu,
            number,
            os_cpu,
            counters: builder.counters(cpu),
            switch: builder.poll_switch(cpu),
        });
        Self {
            places: places.collect(),
            cpus_allowed,
            domain: builder.domain().clone(),
            watch: builder.watch(),
            stall_limit_ns: Cell::new(u64::MAX),
        }
    }

    /// All of them, in the mesh's order.
    pub fn all(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// Those that poll.
    pub fn polling(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.number.is_some())
    }

    /// What the one at this place is called.
    #[must_use]
    pub fn label(&self, cpu: Cpu) -> String {
        self.places.get(usize::from(cpu.0)).map_or_else(|| cpu.0.to_string(), Place::label)
    }

    /// The CPUs that one at this place may run on.
    #[must_use]
    pub fn os_cpus<'a>(&'a self, place: &'a Place) -> &'a [usize] {
        place.os_cpu.as_ref().map_or(&self.cpus_allowed, std::slice::from_ref)
    }

    /// The mesh's reclamation.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Who holds a CPU too long.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// How long a CPU may be awake without a turn before it is reported.
    #[must_use]
    pub fn stall_limit_ns(&self) -> u64 {
        self.stall_limit_ns.get()
    }

    /// Sets it.
    pub fn set_stall_limit_ns(&self, ns: u64) {
        self.stall_limit_ns.set(ns);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use reactor::ReactorOptions;

    use super::*;

    /// A mesh that never runs, of reactors called 5 and 6, pinned in name only, and a control plane.
    pub(crate) fn idle() -> Reactors {
        of(&ReactorSection::Pinned(vec![5, 6]))
    }

    pub(crate) fn of(section: &ReactorSection) -> Reactors {
        let builder: RuntimeBuilder<u64> =
            RuntimeBuilder::new(&vec![ReactorOptions::yielding(); section.count() + 1], 2).unwrap();
        Reactors::of(&builder, section, vec![0, 1, 5])
    }

    #[test]
    fn names_are_the_operating_systems_numbers_where_there_are_some() {
        let labels = |reactors: &Reactors| reactors.all().map(Place::label).collect::<Vec<_>>();
        let pinned = idle();
        assert_eq!(labels(&pinned), ["5", "6", "control"]);
        assert_eq!(pinned.polling().map(|place| pinned.os_cpus(place)).collect::<Vec<_>>(), [[5], [6]]);
        assert_eq!((pinned.label(Cpu(1)), pinned.label(Cpu(2))), ("6".into(), "control".into()));
        let floating = of(&ReactorSection::Floating(3));
        assert_eq!(labels(&floating), ["0", "1", "2", "control"]);
        assert_eq!(floating.polling().map(|place| floating.os_cpus(place)).next().unwrap(), [0, 1, 5]);
    }
}
