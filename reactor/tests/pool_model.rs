//! A pool against a model: which buffers are out, and what is written in them.

use reactor::{Arena, Buffer, Cpu, Home, Pool};

const HOME: Home = Home { cpu: Cpu(0), pool: 0 };
const BUFFER_LEN: usize = 96;
const BUFFER_COUNT: usize = 10;

#[test]
fn random_taking_and_giving_agrees_with_a_list() {
    let seed_count = if std::env::var_os("QUIESCE_TEST_LONG").is_some() { 30_000 } else { 1_000 };
    let arena = Arena::new(4096, false).unwrap();
    for seed in 0..seed_count {
        let mut pool = Pool::new(HOME, arena.segment().part(0, BUFFER_LEN * BUFFER_COUNT + BUFFER_LEN / 2), BUFFER_LEN);
        let mut out: Vec<(Buffer, u8)> = Vec::new();
        let mut exhausted_count = 0;
        let mut state: u64 = seed;
        for mark in 0..=u8::MAX {
            // A linear congruential step (Knuth, MMIX); its high bits are good enough for a choice.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = usize::try_from(state >> 33).unwrap();
            if choice % 5 < 3 {
                match pool.take() {
                    Some(buffer) => {
                        assert_eq!(buffer.segment().len(), BUFFER_LEN);
                        buffer.segment().write(0, &[mark; BUFFER_LEN]);
                        out.push((buffer, mark));
                    }
                    None => {
                        exhausted_count += 1;
                        assert_eq!(out.len(), BUFFER_COUNT, "seed {seed}");
                    }
                }
            } else if !out.is_empty() {
                let (buffer, mark) = out.swap_remove(choice / 8 % out.len());
                let mut read = [0; BUFFER_LEN];
                buffer.segment().read(0, &mut read);
                assert_eq!(read, [mark; BUFFER_LEN], "seed {seed}: two buffers overlap");
                pool.give(buffer);
            }
            assert_eq!((pool.taken(), pool.available()), (out.len(), BUFFER_COUNT - out.len()), "seed {seed}");
            assert_eq!(pool.exhausted_count(), exhausted_count, "seed {seed}");
        }
        out.into_iter().for_each(|(buffer, _)| pool.give(buffer));
        assert_eq!(pool.available(), BUFFER_COUNT);
    }
}
