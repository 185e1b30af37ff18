//! The guard itself does not leave the reading either: it would prove something that is not so any more.

use reactor::{Guard, Published, Reader};

fn late(reader: &mut Reader, settings: &Published<u64>) -> u64 {
    let mut kept: Option<Guard<'_>> = None;
    reader.read(|guard| kept = Some(guard));
    kept.map_or(0, |guard| *settings.load(guard))
}

fn main() {}
