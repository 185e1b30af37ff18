//! A controller of two namespaces, and what tests ask it for.

use std::sync::Arc;

use nvmf_core::status::Status;

use super::device::TestDevice;
use super::{Conn, Options, World, command, keyed, namespace};

/// Namespaces 1 and, read only, 5; a ready controller and its id.
pub fn world() -> (World, Conn, u16) {
    let namespaces = vec![
        namespace(1, Arc::new(TestDevice::new("first", 1000))),
        namespace(5, Arc::new(TestDevice::new("fifth", 2000).read_only())),
    ];
    let mut world = World::new(Options::new(namespaces));
    let (admin, id) = world.attach(0);
    (world, admin, id)
}

/// Identify; its 4096 bytes. `select` is CDW10, with CNTID in its upper half.
pub fn identify(world: &mut World, admin: Conn, select: u32, nsid: u32, csi: u32) -> Result<Vec<u8>, Status> {
    let entry = command(0x06, 1, nsid, keyed(0, 4096), [select, csi << 24, 0, 0]);
    let response = world.execute(admin, entry.to_bytes(), &[]);
    if response.status().is_success() { Ok(world.host_read(0, 0, 4096)) } else { Err(response.status()) }
}
