//! The simulator's hosts notice what is wrong, and every scenario comes to what it should over a few seeds.
#![allow(clippy::unwrap_used, reason = "a test program")]

use reactor::Choices;
use tools::sim::failure::Failure;
use tools::sim::history::History;
use tools::sim::host::raw::{End, RawHost, Session, Stage};
use tools::sim::host::real::{Association, RealHost, Shape};
use tools::sim::run::{Origin, play};
use tools::sim::scenario::Run;
use tools::sim::scenarios;
use tools::sim::world::Layout;
use tools::sim::world::device::Lie;

#[test]
fn every_scenario_comes_to_what_it_should() {
    for scenario in scenarios::all() {
        for seed in 0..3 {
            let outcome = play(&scenario, &Origin::Seed(seed));
            assert!(outcome.failure.is_none(), "{} --seed {seed}: {}", scenario.name, outcome.failure.unwrap());
            assert!(outcome.tally.step_count > 0, "{} did nothing", scenario.name);
        }
    }
}

/// Which kind of host reads what the device holds.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Raw,
    Real,
}

/// A calm run with this host, on a device that lies about one in eight writes.
fn run_with(lie: Option<Lie>, reader: Reader, seed: u64) -> Result<(), Failure> {
    let run = Run::new(Choices::seeded(seed), History::default());
    let mut world = run.world(&Layout::calm());
    if let Some(lie) = lie {
        world.target.device().lie(lie, 8);
    }
    match reader {
        Reader::Raw => {
            let host = RawHost::new(0, &world, vec![Session::new(200, End::Quietly).owed()]);
            let observed = host.observed();
            world.add(host);
            world.reach("that it is done", 1_000_000, |_| observed.borrow().is_done)?;
            assert!(observed.borrow().io_count == 200, "{:?}", observed.borrow());
        }
        Reader::Real => {
            let association = Association { io_count: 200, ends_after_turns: None };
            let host = RealHost::new(8, &world, Shape::calm(), vec![association]);
            let observed = host.observed();
            world.add(host);
            world.reach("that it is done", 1_000_000, |_| observed.borrow().is_done)?;
            assert!(observed.borrow().as_planned_count == 1, "{:?}", observed.borrow());
        }
    }
    let tally = world.model.tally();
    assert!(tally.acknowledged_count > 50 && tally.read_block_count > 50, "{tally:?}");
    Ok(())
}

#[test]
fn hosts_notice_a_device_that_loses_misplaces_or_tears_writes() {
    for reader in [Reader::Raw, Reader::Real] {
        for seed in 0..4 {
            run_with(None, reader, seed).unwrap_or_else(|failure| panic!("{reader:?} --seed {seed}: {failure}"));
            let cases = [(Lie::Loses, "is lost"), (Lie::Misplaces, "misplaced"), (Lie::Tears, "torn")];
            for (lie, word) in cases {
                let failure = run_with(Some(lie), reader, seed).unwrap_err();
                assert_eq!(failure.found_by, "data", "{failure}");
                // Misplacing a write loses it too, and which is seen first is the seed's.
                let is_told =
                    failure.what.contains(word) || (lie == Lie::Misplaces && failure.what.contains("is lost"));
                assert!(is_told, "{lie:?}, {reader:?} --seed {seed}: {failure}");
            }
        }
    }
}

/// A host goes as far as it is told, and no further.
#[test]
fn a_host_can_be_led_step_by_step() {
    use tools::sim::host::model::Extent;
    use tools::sim::host::raw::{Command, Opening, Order};
    let run = Run::new(Choices::seeded(3), History::default());
    let mut world = run.world(&Layout::calm());
    let host = RawHost::new(0, &world, Vec::new());
    let steering = host.steering();
    world.add(host);
    steering.open(Opening::new(0).until(Stage::Attached));
    for stage in [Stage::Attached, Stage::Established, Stage::Joined, Stage::Ready] {
        steering.order(Order::Advance { qid: 0, goal: stage });
        world.reach("the next stage", 100_000, |_| steering.is_at(0, stage)).unwrap();
        world.steps(2_000).unwrap();
        assert_eq!(steering.stage(0), Some(stage), "it stays there");
    }
    steering.open(Opening::new(1));
    world.reach("queue 1", 100_000, |_| steering.is_at(1, Stage::Ready)).unwrap();
    steering.stop();
    steering.submit(1, Command::Read(Extent { start: 20, count: 2 }));
    world.steps(2_000).unwrap();
    assert_eq!(steering.observed().io_count, 0, "it is stopped");
    steering.go_on();
    world.reach("the answer", 100_000, |_| steering.observed().io_count == 1).unwrap();
    steering.die();
    world.settle().unwrap();
    assert_eq!(world.target.count("rdma_queue_pairs_live"), 0);
    assert!(steering.observed().disconnects.is_empty(), "the dead hear nothing");
}
