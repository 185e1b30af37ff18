//! Queue pair numbers and memory keys that are used again.

use super::*;
use crate::verbs::contract::pair::Pair;
use crate::verbs::{Access, Memory, Provider};

#[test]
fn numbers_and_keys_come_again_at_once_late_or_never() {
    for reuse in REUSES {
        let device = DeviceFaults { numbers: reuse, keys: reuse, ..DeviceFaults::default() };
        let mut pair = Pair::new(calm(FabricOptions { device, ..FabricOptions::default() }));
        let (mut numbers, mut keys) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let [active, passive] = pair.connect();
            numbers.push(active.name.number);
            pair.end(0, active);
            pair.end(1, passive);
            let memory = Memory::Shared(Arc::clone(&pair.sides[0].arena));
            let region = pair.register(0, memory, Access::LOCAL_WRITE);
            keys.push(region.local_key);
            pair.deregister(0, region);
        }
        let distinct = |mut names: Vec<u32>| {
            names.sort_unstable();
            names.dedup();
            names.len()
        };
        let counts = (distinct(numbers), distinct(keys));
        match reuse {
            Reuse::AtOnce => assert_eq!(counts, (1, 1)),
            Reuse::Never => assert_eq!(counts, (8, 8)),
            // A key that comes late differs in its generation.
            Reuse::Late => assert_eq!(counts, (3, 8)),
        }
        assert_eq!(pair.sides[0].provider.live_count(), 0);
        pair.close();
    }
}
