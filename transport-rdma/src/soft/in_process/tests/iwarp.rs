//! What devices of iWARP do otherwise.

use super::*;
use crate::verbs::CompletionStatus::{RetryExceeded, WorkRequestFlushed};
use crate::verbs::contract::pair::{Pair, Setup};
use crate::verbs::{Provider, SendOperation};

fn iwarp() -> FabricOptions {
    FabricOptions { is_iwarp: true, ..FabricOptions::default() }
}

#[test]
fn a_message_that_finds_no_receive_ends_the_connection() {
    for seed in 0..20 {
        let mut pair = Pair::with(seeded(seed, iwarp()), Setup::default());
        assert!(!pair.sides[0].provider.attributes().retries_receiver_not_ready);
        let ends = pair.connect_with(|pair, side, name| {
            if side == 0 {
                pair.post_receives(0, name, 7, 2);
            }
        });
        for id in 1..=2 {
            let segment = pair.sides[0].part(0, 16);
            pair.sides[0].send(ends[0].name, id, SendOperation::Send, segment);
        }
        let (sends, receives): (Vec<_>, Vec<_>) = pair.completions(0, 4).into_iter().partition(|(id, _)| *id < 7);
        assert_eq!(sends, [(1, RetryExceeded), (2, WorkRequestFlushed)], "seed {seed}");
        assert_eq!(receives, [(7, WorkRequestFlushed), (8, WorkRequestFlushed)], "seed {seed}");
        pair.finish(ends);
    }
}

/// E7: elsewhere a peer's end does nothing to one's own queue pair.
#[test]
fn the_end_of_one_side_ends_the_other() {
    for (options, flushed_count) in [(iwarp(), 2), (FabricOptions::default(), 0)] {
        let mut pair = Pair::with(calm(options), Setup::default());
        let ends = pair.connect_with(|pair, side, name| {
            if side == 1 {
                pair.post_receives(1, name, 7, 2);
            }
        });
        pair.sides[0].provider.disconnect(ends[0].id());
        for _ in 0..300 {
            pair.step();
        }
        assert_eq!(pair.sides[1].take_completions().len(), flushed_count);
        pair.finish(ends);
    }
}
