//! A limbo goes to another thread only with what may go there.

use std::rc::Rc;
use std::thread;

use reactor::Limbo;

fn send(limbo: Limbo<Rc<u64>>) {
    thread::spawn(move || limbo.len());
}

fn main() {
    let _ = send;
}
