//! Nor can the closure leave a reference outside.

use reactor::{Published, Reader};

fn late(reader: &mut Reader, settings: &Published<u64>) -> u64 {
    let mut kept = &0;
    reader.read(|guard| kept = settings.load(guard));
    *kept
}

fn main() {}
