//! The log of what was acknowledged as durable. Each piece is one `write`, appended: what is killed between two leaves whole lines, but for the last.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// By namespace and place: the greatest generation.
type Durable = BTreeMap<(u32, u64), u64>;

pub(super) struct Log {
    file: File,
}

impl Log {
    /// Opens or begins a log, and says what it names as durable.
    pub(super) fn open(path: &Path, io_len: usize, seed: u64) -> Result<(Self, Durable), String> {
        let said = |error: io::Error| format!("--log {}: {error}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(said)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(said)?;
        let head = format!("durability io-size {io_len} seed {seed}");
        let mut log = Self { file };
        if text.is_empty() {
            log.write(&format!("{head}\n")).map_err(said)?;
        } else if text.lines().next() != Some(&head) {
            return Err(format!("--log {}: begins otherwise than with \"{head}\"", path.display()));
        } else if !text.ends_with('\n') {
            // Ends the line that a kill has cut off, which is then no line of ours.
            log.write("…\n").map_err(said)?;
        }
        Ok((log, durable(&text)))
    }

    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())
    }
}

fn durable(text: &str) -> Durable {
    let mut durable = Durable::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let mut words = line.split(' ');
        let (Some(nsid), Some(place), Some(generation), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        if let (Ok(nsid), Ok(place), Ok(generation)) = (nsid.parse(), place.parse(), generation.parse::<u64>()) {
            let known = durable.entry((nsid, place)).or_insert(0);
            *known = generation.max(*known);
        }
    }
    durable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_generation_of_whole_lines_counts() {
        let text = "durability io-size 4096 seed 1\nchecked 1 0 4 0\nwriting 1\n1 7 30\n1 7 20\n2 7 5\n1 8 9…\n1 9 44";
        assert_eq!(durable(text), Durable::from([((1, 7), 30), ((2, 7), 5)]));
    }

    #[test]
    fn a_log_goes_on_and_another_runs_log_is_refused() {
        let path = std::env::temp_dir().join(format!("durability-log-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (mut log, durable) = Log::open(&path, 4096, 1).unwrap();
        assert_eq!(durable, Durable::new());
        log.write("1 7 30\n1 8 1").unwrap();
        let (mut log, durable) = Log::open(&path, 4096, 1).unwrap();
        assert_eq!(durable, Durable::from([((1, 7), 30)]), "a line that was cut off does not count");
        log.write("1 8 2\n").unwrap();
        let (_, durable) = Log::open(&path, 4096, 1).unwrap();
        assert_eq!(durable, Durable::from([((1, 7), 30), ((1, 8), 2)]));
        assert!(Log::open(&path, 512, 1).err().unwrap().contains("io-size 512"));
        std::fs::remove_file(path).unwrap();
    }
}
