//! A buffer has one holder.

use reactor::Buffer;

fn copy(buffer: Buffer) -> (Buffer, Buffer) {
    (buffer.clone(), buffer)
}

fn main() {
    let _ = copy;
}
