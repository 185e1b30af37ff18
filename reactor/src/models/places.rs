//! Places for readers that are no reactors, used one after the other.

use loom::thread;

use super::cast::mesh;
use super::{Tally, check};

#[test]
fn two_holders_of_a_place_never_use_its_slot_at_the_same_time() {
    let second = Tally::default();
    let seen = second.clone();
    check(move || {
        // Nobody but the readers is online.
        let domain = mesh::<()>(1).domain().clone();
        let shared = domain.clone();
        let first = thread::spawn(move || {
            if let Some(mut reader) = shared.register_reader() {
                reader.read(|_| ());
            }
        });
        // There is one place in the models.
        if let Some(mut reader) = domain.register_reader() {
            reader.read(|_| {
                // Each of these steps needs this reader to have seen the one before.
                let steps = [domain.advance(), domain.advance()];
                assert_ne!(steps, [true, true], "the epoch went past a reader");
                seen.count();
            });
        }
        first.join().unwrap();
    });
    second.assert_some("a reader in the place");
}
