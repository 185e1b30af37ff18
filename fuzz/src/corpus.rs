//! Inputs as lines of text.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// All inputs of a file; none where there is no file.
pub(crate) fn read(path: &Path) -> Vec<Vec<u8>> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let inputs = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed = inputs.zip(1..).map(|(line, number)| {
        parse(line).unwrap_or_else(|| panic!("{}: input {number} is not hexadecimal: {line}", path.display()))
    });
    parsed.collect()
}

/// Hexadecimal digits, two a byte.
pub(crate) fn parse(line: &str) -> Option<Vec<u8>> {
    let digits = line.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    if digits.1.is_empty() { digits.0.iter().map(byte).collect() } else { None }
}

pub(crate) fn text(input: &[u8]) -> String {
    input.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Adds them to a file.
pub(crate) fn append(path: &Path, inputs: &[Vec<u8>]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    inputs.iter().try_for_each(|input| writeln!(file, "{}", text(input)))
}
