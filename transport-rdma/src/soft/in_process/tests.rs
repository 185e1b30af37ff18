//! The contract over many seeds, and what is this fabric's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use reactor::{Choices, SharedArena};

use super::{
    CompletionFaults, DeviceFaults, EventKinds, Fabric, FabricOptions, InProcessPort, InProcessProvider, LastWqeFaults,
    LastWqeMoment, ManagerFaults, Reuse,
};
use crate::verbs::contract::{self, MEMORY_LEN, Rig};
use crate::verbs::{Event, RejectReason, Ticket};

struct SeededRig {
    fabric: Fabric,
    arenas: [Arc<SharedArena>; 2],
    now_ns: u64,
    step_ns: u64,
    next_port: u16,
}

impl SeededRig {
    /// Every option that a case must not depend on is drawn from the seed.
    fn new(seed: u64, arenas: &[Arc<SharedArena>; 2]) -> Self {
        let choices = Choices::seeded(seed ^ 0x0B5C_0AE5);
        let options = FabricOptions {
            delay_max: choices.below("delay_max", 7),
            ring_message_count: choices.between("ring_message_count", 1, 21),
            splits_copies: choices.one_in("splits_copies", 2),
            raises_last_wqe: choices.one_in("raises_last_wqe", 2),
            sweeps_on_destroy: choices.one_in("sweeps_on_destroy", 2),
            device: DeviceFaults {
                completions: CompletionFaults {
                    looks_max: choices.below("looks_max", 6),
                    is_split: choices.one_in("is_split", 2),
                    is_mixed: choices.one_in("is_mixed", 2),
                    ..CompletionFaults::default()
                },
                last_wqe: LastWqeFaults { moment: choices.one_of("moment", &MOMENTS), ..LastWqeFaults::default() },
                numbers: choices.one_of("numbers", &REUSES),
                keys: choices.one_of("keys", &REUSES),
                ..DeviceFaults::default()
            },
            manager: ManagerFaults {
                late: choices.one_of("late", &[EventKinds::empty(), EventKinds::all()]),
                late_looks_max: 5,
                ..ManagerFaults::default()
            },
            ..FabricOptions::default()
        };
        let fabric = Fabric::with_options(seed, options);
        Self { fabric, arenas: arenas.clone(), now_ns: 0, step_ns: 10_000, next_port: 4420 }
    }
}

const MOMENTS: [LastWqeMoment; 4] =
    [LastWqeMoment::AtOnce, LastWqeMoment::Before, LastWqeMoment::Among, LastWqeMoment::After];
const REUSES: [Reuse; 3] = [Reuse::Late, Reuse::AtOnce, Reuse::Never];

impl Rig for SeededRig {
    type Provider = InProcessProvider;

    // Each completion may be a batch, and each batch take its looks.
    const FLUSH_TURNS: usize = 200;

    fn machines(&mut self) -> [InProcessProvider; 2] {
        [0, 1].map(|_| {
            let mut machine = self.fabric.machine();
            // The cases look by themselves.
            machine.wake_with(|_| ());
            machine
        })
    }

    fn is_woken(&mut self, port: &mut InProcessPort) -> bool {
        port.has_rung()
    }

    fn memory(&mut self, side: usize) -> Arc<SharedArena> {
        Arc::clone(&self.arenas[side])
    }

    fn address(&mut self) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), self.next_port))
    }

    fn step(&mut self) -> u64 {
        let found = self.fabric.audit();
        assert!(found.is_empty(), "{}", found[0]);
        self.now_ns += self.step_ns;
        self.now_ns
    }
}

fn arenas() -> [Arc<SharedArena>; 2] {
    ["first", "second"].map(|name| Arc::new(SharedArena::new(name, MEMORY_LEN, false).unwrap()))
}

#[test]
fn the_contract_over_many_seeds() {
    let arenas = arenas();
    for seed in 0..60 {
        contract::run(|case| {
            // Shown where a case fails.
            println!("seed {seed}: {case}");
            SeededRig::new(seed, &arenas)
        });
    }
}

fn rig(options: FabricOptions) -> SeededRig {
    seeded(1, options)
}

fn seeded(seed: u64, options: FabricOptions) -> SeededRig {
    SeededRig { fabric: Fabric::with_options(seed, options), ..SeededRig::new(seed, &arenas()) }
}

/// On one fabric with nothing by chance: every choice is the calm one.
fn calm(options: FabricOptions) -> SeededRig {
    let fabric = Fabric::with_choices(Choices::listed(vec![]), options);
    SeededRig { fabric, ..SeededRig::new(1, &arenas()) }
}

/// Whether a call that was begun with `ticket` has failed.
fn failure(event: &Event<InProcessPort>, ticket: Ticket) -> Option<()> {
    let has_failed = matches!(
        event,
        Event::Registered { ticket: of, result: Err(_) }
        | Event::Resolved { ticket: of, result: Err(_) }
        | Event::QueuePairCreated { ticket: of, result: Err(_) }
        | Event::QueuePairDestroyed { ticket: of, result: Err(_) } if *of == ticket
    );
    has_failed.then_some(())
}

fn rejection(event: &Event<InProcessPort>) -> Option<RejectReason> {
    if let Event::Rejected { reason, .. } = event { Some(reason.clone()) } else { None }
}

mod auditing;
mod breaking;
mod calls;
mod completions;
mod iwarp;
mod last_wqe;
mod manager;
mod names;
mod removal;
mod shared_receives;
mod stopping;

/// What is this fabric's own: its options, and its answer to misuse.
mod own {
    use super::*;
    use crate::soft::in_process::TicketKinds;
    use crate::verbs::contract::pair::{Pair, Setup};
    use crate::verbs::{
        Access, CompletionStatus as Status, Event, Flags, Memory, Port, Provider, SendOperation, Ticket,
    };

    #[test]
    fn a_peer_that_never_consumes_is_given_up_in_time() {
        let options = FabricOptions { transport_timeout_ns: 1_000_000, ..FabricOptions::default() };
        let mut pair = Pair::new(rig(options));
        let ends = pair.connect();
        pair.sides[1].is_stopped = true;
        let begin_ns = pair.now_ns;
        pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::empty(), &[]);
        pair.sides[0].send_with(ends[0].name, 2, SendOperation::Send, Flags::empty(), &[]);
        assert_eq!(pair.completions(0, 2), [(1, Status::RetryExceeded), (2, Status::WorkRequestFlushed)]);
        let waited_ns = pair.now_ns - begin_ns;
        assert!((8_000_000..9_000_000).contains(&waited_ns), "{waited_ns} ns for 8 timeouts of 1 ms");
        pair.sides[1].is_stopped = false;
        pair.finish(ends);
    }

    /// Receives of an SRQ and their completions: swept away, the SRQ's room comes back, the completions do not.
    #[test]
    fn swept_completions_never_come() {
        let options = FabricOptions { sweeps_on_destroy: true, ..FabricOptions::default() };
        let mut pair = Pair::with(rig(options), Setup::shared(2));
        let [active, passive] = pair.connect();
        for id in 0..2 {
            pair.sides[1].port.post_shared_receive(id, &[]).unwrap();
        }
        for id in 0..2 {
            pair.sides[0].send_with(active.name, id, SendOperation::Send, Flags::SIGNALED, &[]);
        }
        // The CPU takes the messages and does not poll their completions.
        while pair.sides[0].completions.len() < 2 {
            pair.now_ns += 10_000;
            pair.sides[1].port.poll(pair.now_ns, 0, &mut Vec::new());
            let side = &mut pair.sides[0];
            side.port.poll(pair.now_ns, 8, &mut side.completions);
        }
        assert!(pair.sides[1].port.post_shared_receive(2, &[]).is_err(), "they are not polled");
        let queue_pair = pair.sides[1].port.detach(passive.name).unwrap();
        let ticket = Ticket(77);
        pair.sides[1].provider.begin_destroy_queue_pair(ticket, queue_pair);
        pair.sides[1].port.poll(pair.now_ns, 0, &mut Vec::new());
        pair.event(1, "the destruction", |event| {
            matches!(event, Event::QueuePairDestroyed { ticket: of, .. } if *of == ticket).then_some(())
        });
        pair.steps(20);
        assert_eq!(pair.sides[1].take_completions(), []);
        for id in 2..4 {
            assert_eq!(pair.sides[1].port.post_shared_receive(id, &[]), Ok(()));
        }
        pair.destroy_connection(1, passive.connection);
        pair.sides[0].take_completions();
        pair.end(0, active);
        pair.close();
    }

    #[test]
    fn an_overrun_breaks_the_completion_queue_and_its_queue_pairs() {
        let options = FabricOptions { is_strict: false, ..FabricOptions::default() };
        let setup = Setup { completion_count: 4, ..Setup::default() };
        let mut pair = Pair::with(rig(options), setup);
        let ends = pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 0, 8);
            }
        });
        // Its CPU takes messages and polls no completion.
        for id in 0..8 {
            pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::empty(), &[]);
        }
        let mut polled = Vec::new();
        for _ in 0..200 {
            pair.now_ns += 10_000;
            pair.sides[0].port.poll(pair.now_ns, 0, &mut Vec::new());
            pair.sides[1].port.poll(pair.now_ns, 0, &mut polled);
        }
        assert_eq!(overruns(&pair), 1);
        let id = ends[1].id();
        pair.event(1, "the queue pair's end", |event| {
            matches!(event, Event::QueuePairFatal { connection } if *connection == id).then_some(())
        });
        let kept: Vec<_> = (0..4).map(|id| (id, Status::Success)).collect();
        assert_eq!(pair.completions(1, 4), kept, "what was in it is still there");
        pair.steps(50);
        assert_eq!(pair.sides[1].take_completions(), [], "and nothing more");
        pair.sides[0].take_completions();
        pair.finish(ends);
    }

    fn overruns(pair: &Pair<SeededRig>) -> u64 {
        let counters = pair.sides[1].provider.counters();
        counters.into_iter().find(|(name, _)| *name == "completion_queue_overruns").unwrap().1
    }

    #[test]
    #[should_panic(expected = "overran")]
    fn an_overrun_is_a_panic_where_it_is_strict() {
        let mut pair = Pair::with(rig(FabricOptions::default()), Setup { completion_count: 4, ..Setup::default() });
        pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 0, 8);
                // 8 flushes for 4 places.
                let newest = *pair.sides[1].provider.connections.keys().next_back().unwrap();
                pair.sides[1].provider.disconnect(newest);
            }
        });
        pair.steps(200);
    }

    #[test]
    #[should_panic(expected = "used after its deregistration")]
    fn an_ended_local_key_is_a_panic() {
        let mut pair = Pair::new(rig(FabricOptions::default()));
        let memory = Memory::Shared(Arc::clone(&pair.sides[0].arena));
        let keys = pair.register(0, memory, Access::LOCAL_WRITE);
        pair.deregister(0, keys);
        let ends = pair.connect();
        let mut segment = pair.sides[0].part(0, 16);
        segment.local_key = keys.local_key;
        pair.sides[0].send(ends[0].name, 1, SendOperation::Send, segment);
    }

    #[test]
    #[should_panic(expected = "before its queue pair")]
    fn a_connection_is_not_destroyed_before_its_queue_pair() {
        let mut pair = Pair::new(rig(FabricOptions::default()));
        let [active, _passive] = pair.connect();
        pair.sides[0].provider.begin_destroy_connection(Ticket(1), active.connection);
    }

    #[test]
    #[should_panic(expected = "with work outstanding")]
    fn destroying_with_work_can_be_forbidden() {
        let options = FabricOptions { forbids_destroy_with_work: true, ..FabricOptions::default() };
        let mut pair = Pair::new(rig(options));
        let [active, _passive] = pair.connect_with(|pair, side, name| pair.post_receives(side, name, 0, 1));
        pair.destroy(0, active);
    }

    #[test]
    #[should_panic(expected = "is no registered region")]
    fn a_region_is_deregistered_once() {
        let mut pair = Pair::new(rig(FabricOptions::default()));
        let keys = pair.sides[0].keys;
        pair.deregister(0, keys);
        pair.deregister(0, keys);
    }

    #[test]
    fn tickets_may_never_end() {
        let options = FabricOptions { never_ending: TicketKinds::DESTROY_QUEUE_PAIR, ..FabricOptions::default() };
        let mut pair = Pair::new(rig(options));
        let [active, passive] = pair.connect();
        let queue_pair = pair.sides[0].port.detach(active.name).unwrap();
        pair.sides[0].provider.begin_destroy_queue_pair(Ticket(99), queue_pair);
        pair.steps(1000);
        let is_it =
            |event: &Event<_>| matches!(event, Event::QueuePairDestroyed { ticket: Ticket(99), .. }).then_some(());
        assert!(pair.sides[0].take_event(is_it).is_none());
        assert!(pair.sides[0].gauges().contains(&("queue_pairs_live", 1)));
        pair.rig.fabric.change(|options| options.never_ending = TicketKinds::empty());
        pair.event(0, "the destruction", is_it);
        pair.destroy_connection(0, active.connection);
        pair.end(1, passive);
        pair.close();
    }

    #[test]
    fn what_may_be_lost_is_lost() {
        let options = FabricOptions { loses_disconnected: true, loses_established: true, ..FabricOptions::default() };
        let mut pair = Pair::new(rig(options));
        let active = pair.resolve();
        let parameters = pair.parameters(b"");
        pair.sides[0].provider.connect(&active.connection, parameters);
        let passive = crate::verbs::contract::pair::Attach::attach(pair.request().connection, &mut pair, 1);
        pair.post_receives(1, passive.name, 0, 1);
        pair.sides[1].provider.accept(&passive.connection, parameters);
        pair.established(0, active.id());
        pair.sides[0].send_with(active.name, 1, SendOperation::Send, Flags::SIGNALED, &[]);
        assert_eq!(pair.completions(1, 1), [(0, Status::Success)]);
        assert_eq!(pair.completions(0, 1), [(1, Status::Success)]);
        pair.sides[0].provider.disconnect(active.id());
        pair.steps(300);
        assert!(
            pair.sides[1].events.is_empty(),
            "neither ESTABLISHED nor DISCONNECTED, and no timewait that began with it"
        );
        pair.finish([active, passive]);
    }

    /// The same seed and the same calls: the same, to the step.
    #[test]
    fn a_seed_tells_everything() {
        fn trace(seed: u64, arenas: &[Arc<SharedArena>; 2]) -> Vec<(u64, u64)> {
            let mut pair = Pair::new(SeededRig::new(seed, arenas));
            let ends = pair.connect_with(|pair, side, name| {
                if side == 1 {
                    pair.post_receives(1, name, 0, 16);
                }
            });
            for id in 0..16 {
                pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::SIGNALED, &[]);
            }
            let mut trace = Vec::new();
            while trace.len() < 16 {
                pair.step();
                let now_ns = pair.now_ns;
                trace.extend(pair.sides[0].completions.drain(..).map(|completion| (now_ns, completion.id)));
            }
            pair.sides[1].completions.clear();
            pair.finish(ends);
            trace
        }
        let arenas = arenas();
        let traces: Vec<_> = (0..8).map(|seed| trace(seed, &arenas)).collect();
        for (seed, first) in (0..).zip(&traces) {
            assert_eq!(&trace(seed, &arenas), first);
        }
        assert!(traces.iter().any(|trace| *trace != traces[0]), "the seed decides something");
    }
}
