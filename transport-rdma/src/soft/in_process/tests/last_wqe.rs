//! LAST_WQE_REACHED among the flushes, twice, after QP_FATAL, or not at all.

use super::*;
use crate::verbs::contract::pair::{End, Pair, Setup};
use crate::verbs::{Event, Flags, Port, Provider, SendOperation};

const FLUSH_COUNT: usize = 4;

fn with(last_wqe: LastWqeFaults) -> FabricOptions {
    FabricOptions { device: DeviceFaults { last_wqe, ..DeviceFaults::default() }, ..FabricOptions::default() }
}

fn at(moment: LastWqeMoment) -> FabricOptions {
    with(LastWqeFaults { moment, ..LastWqeFaults::default() })
}

/// On SRQs; side 0 has sends that will be flushed.
fn busy(rig: SeededRig) -> (Pair<SeededRig>, [End; 2]) {
    let mut pair = Pair::with(rig, Setup::shared(4));
    let ends = pair.connect();
    pair.sides[1].is_stopped = true;
    for id in 0..FLUSH_COUNT as u64 {
        pair.sides[0].send_with(ends[0].name, id, SendOperation::Send, Flags::SIGNALED, &[]);
    }
    (pair, ends)
}

fn is_last_wqe<P: Port>(event: &Event<P>) -> bool {
    matches!(event, Event::LastWqeReached { .. })
}

/// How many flushes had been polled when the event was fetched; `None` if it did not come. All flushes come in any case.
fn flushes_before(rig: SeededRig) -> Option<usize> {
    let (mut pair, ends) = busy(rig);
    pair.sides[0].provider.disconnect(ends[0].id());
    let mut before = None;
    for _ in 0..300 {
        pair.step();
        if before.is_none() && pair.sides[0].events.iter().any(is_last_wqe) {
            before = Some(pair.sides[0].completions.len());
        }
    }
    assert_eq!(pair.sides[0].take_completions().len(), FLUSH_COUNT);
    pair.sides[1].is_stopped = false;
    pair.finish(ends);
    before
}

#[test]
fn it_comes_before_among_and_after_the_flushes_or_never() {
    for seed in 0..20 {
        assert_eq!(flushes_before(seeded(seed, at(LastWqeMoment::Before))), Some(0), "seed {seed}");
        assert_eq!(flushes_before(seeded(seed, at(LastWqeMoment::After))), Some(FLUSH_COUNT), "seed {seed}");
        assert_eq!(flushes_before(seeded(seed, at(LastWqeMoment::Never))), None, "seed {seed}");
    }
    let among: Vec<_> = (0..40).map(|seed| flushes_before(seeded(seed, at(LastWqeMoment::Among)))).collect();
    assert!((0..=FLUSH_COUNT).all(|count| among.contains(&Some(count))), "{among:?}");
    let chosen: Vec<_> = (0..40).map(|seed| flushes_before(seeded(seed, at(LastWqeMoment::Chosen)))).collect();
    assert!(chosen.contains(&None) && chosen.contains(&Some(0)) && chosen.contains(&Some(FLUSH_COUNT)), "{chosen:?}");
}

#[test]
fn it_comes_only_where_a_receive_was_taken() {
    for takes in [false, true] {
        let last_wqe = LastWqeFaults { only_if_consumed: true, ..LastWqeFaults::default() };
        let mut pair = Pair::with(calm(with(last_wqe)), Setup::shared(4));
        let ends = pair.connect();
        if takes {
            pair.sides[1].port.post_shared_receive(1, &[]).unwrap();
            pair.sides[0].send_with(ends[0].name, 1, SendOperation::Send, Flags::empty(), &[]);
            pair.completions(1, 1);
        }
        pair.sides[1].provider.disconnect(ends[1].id());
        pair.steps(100);
        assert_eq!(pair.sides[1].events.iter().any(is_last_wqe), takes);
        pair.finish(ends);
    }
}

#[test]
fn it_comes_twice_and_after_a_fatal_event() {
    let mut options = with(LastWqeFaults { fatal_first_one_in: 1, ..LastWqeFaults::default() });
    options.manager.twice = EventKinds::LAST_WQE_REACHED;
    let names = |seed| {
        let (mut pair, ends) = busy(seeded(seed, options.clone()));
        pair.sides[0].provider.disconnect(ends[0].id());
        pair.steps(100);
        let names: Vec<_> =
            pair.sides[0].events.iter().map(Event::name).filter(|name| *name != "DISCONNECTED").collect();
        pair.sides[1].is_stopped = false;
        pair.finish(ends);
        names.into_iter().filter(|name| ["QP_FATAL", "LAST_WQE_REACHED"].contains(name)).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..10).map(names).collect();
    assert!(all.iter().all(|names| names[..2] == ["QP_FATAL", "LAST_WQE_REACHED"]), "{all:?}");
    assert!(all.iter().any(|names| names.len() == 3) && all.iter().any(|names| names.len() == 2), "{all:?}");
}

/// What holds flushes back for an event that is withheld ends with the queue pair.
#[test]
fn an_event_that_never_comes_holds_nothing_beyond_the_destroy() {
    let mut options = at(LastWqeMoment::Before);
    options.manager.withholds = EventKinds::LAST_WQE_REACHED;
    let (mut pair, [active, passive]) = busy(calm(options));
    pair.sides[0].provider.disconnect(active.id());
    pair.steps(200);
    assert_eq!(pair.sides[0].take_completions(), []);
    pair.destroy(0, active);
    assert_eq!(pair.sides[0].take_completions().len(), FLUSH_COUNT, "they had happened");
    pair.sides[1].is_stopped = false;
    pair.end(1, passive);
    pair.close();
}
