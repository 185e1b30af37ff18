//! A handle names an object of one kind: it does not open another kind's slab.

use reactor::{Handle, Slab};

struct Connection;
struct Session;

fn confuse(sessions: &Slab<Session>, handle: Handle<Connection>) -> bool {
    sessions.look(handle).is_some()
}

fn main() {
    let _ = confuse;
}
