//! A registered reader may look while it reads, and not afterwards: a reference cannot be the result.

use reactor::{Reader, Table};

fn steal<'a>(reader: &mut Reader, table: &'a Table<u64>) -> Option<&'a u64> {
    reader.read(|guard| table.look(guard, 0))
}

fn main() {}
