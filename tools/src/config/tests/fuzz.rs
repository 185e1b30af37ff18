//! Any text is a configuration, or has errors that say where and what.

use std::path::Path;
use std::sync::LazyLock;

use ::fuzz::{Bytes, Features};

use super::{Config, SMALLEST};

/// Where a section begins.
const SECTIONS: [&str; 18] = [
    "[target]",
    "[limits]",
    "[log]",
    "[transport]",
    "[[placement]]",
    "[[device]]",
    "[[device]]",
    "[[subsystem]]",
    "[[subsystem]]",
    "[[subsystem.namespace]]",
    "[[subsystem.host]]",
    "[[subsystem.ana]]",
    "[[referral]]",
    "[[key]]",
    "[authentication]",
    "[metrics]",
    "[rpc]",
    "[nothing]",
];

/// All keys of the file's shape, whoever adds one.
static KEYS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let fields = include_str!("../shape.rs").lines().filter_map(|line| line.strip_prefix("    pub(super) "));
    let names = fields.filter_map(|field| field.split_once(':')).map(|(name, _)| name);
    names.chain(["type", "nothing"]).collect()
});

/// Words and numbers that mean something to a key, and some that do to none.
const VALUES: [&str; 62] = [
    "0",
    "1",
    "-1",
    "2",
    "64",
    "512",
    "4096",
    "65519",
    "65520",
    "9223372036854775807",
    "-9223372036854775808",
    "1e300",
    "nan",
    "true",
    "false",
    "\"\"",
    "\"memory\"",
    "\"null\"",
    "\"file\"",
    "\"fault\"",
    "\"delay\"",
    "\"partition\"",
    "\"qos\"",
    "\"nvme\"",
    "\"rbd\"",
    "\"disk0\"",
    "\"disk1\"",
    "\"disk2\"",
    "\"64MiB\"",
    "\"4GiB\"",
    "\"99999999999999TiB\"",
    "\"0B\"",
    "\"-1KiB\"",
    "\"adaptive\"",
    "\"busy\"",
    "\"soft\"",
    "\"rdma\"",
    "\"json\"",
    "\"debug\"",
    "\"optimized\"",
    "\"127.0.0.1:4420\"",
    "\"10.0.0.7\"",
    "\"[::1]:1\"",
    "\"0.0.0.0:0\"",
    "\"nqn.2026-11.io.quiesce:demo\"",
    "\"nqn.2026-11.io.quiesce:host\"",
    "\"/etc/quiesce/key\"",
    "\"\\u0000\"",
    "[]",
    "[0]",
    "[0, 1]",
    "[\"sha256\"]",
    "[\"null\", \"ffdhe2048\"]",
    "[\"127.0.0.1:4420\"]",
    "[\"127.0.0.1:4420\", \"127.0.0.1:4420\"]",
    "[\"nqn.2026-11.io.quiesce:host\"]",
    "{ a = 1 }",
    "\"6f1c2d9e-8f0b-4d5c-9a3b-0c1d2e3f4a5b\"",
    "\"00112233445566778899aabbccddeeff\"",
    "\"0011223344556677\"",
    "2026-11-23",
    "\"\"\"",
];

#[test]
fn configurations() {
    ::fuzz::check("configurations", concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/fuzz.hex"), run);
}

fn run(input: &[u8]) -> Features {
    let mut bytes = Bytes::new(input);
    let text = text(&mut bytes);
    let mut features = Features::new();
    match Config::parse(Path::new("t.toml"), &text, &[0, 1]) {
        Ok(config) => {
            features.insert(1 << 32 | config.devices.len() as u64 & 7 | (config.subsystems.len() as u64 & 7) << 3);
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.is_empty() && shown.lines().all(|line| line.starts_with("t.toml")), "{shown}\n---\n{text}");
            features.extend(shown.lines().map(kind));
        }
    }
    features
}

/// Which error it is, not where and of what: the plain words of its last part, without names and values.
fn kind(line: &str) -> u64 {
    let told = line.rsplit(": ").next().unwrap_or(line);
    let plain = told.split(['"', '`']).step_by(2).flat_map(|part| part.split(' '));
    let words = plain.filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    words.take(8).flat_map(str::bytes).fold(0, |sum: u64, byte| (sum * 31 + u64::from(byte)) % 65_536)
}

/// The smallest file, or nothing, with lines that make sense by themselves, and now and then bytes that do not.
fn text(bytes: &mut Bytes<'_>) -> String {
    let mut text = if bytes.one_in(3) { String::new() } else { SMALLEST.to_owned() };
    while !bytes.is_empty() && text.len() < 8192 {
        match bytes.u8() % 16 {
            0..=2 => text.push_str(bytes.pick(&SECTIONS)),
            3 => {
                let at = usize::from(bytes.u16()) % (text.len() + 1);
                if text.is_char_boundary(at) {
                    text.insert_str(at, &String::from_utf8_lossy(bytes.take(3)));
                }
                continue;
            }
            4 => {
                let lines: Vec<&str> = text.lines().collect();
                let skipped = usize::from(bytes.u8()) % lines.len().max(1);
                let kept: Vec<&str> =
                    lines.iter().enumerate().filter(|(at, _)| *at != skipped).map(|(_, line)| *line).collect();
                text = kept.join("\n");
            }
            _ => {
                text.push_str(bytes.pick(&KEYS));
                text.push_str(" = ");
                text.push_str(bytes.pick(&VALUES));
            }
        }
        text.push('\n');
    }
    text
}
