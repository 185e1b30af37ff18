//! Only arenas make segments, so that each lies in memory that is there.

use reactor::{RegionId, Segment};

fn forge() -> Segment {
    Segment { address: 4096, len: 4096, region: RegionId(0) }
}

fn main() {
    let _ = forge;
}
