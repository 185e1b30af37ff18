//! docs/CONFIGURATION.md names all keys that a file may have, and no others.

use std::path::Path;

use crate::config::shape;

/// Tables, and the headings under which their keys are.
const TABLES: [(&str, &str); 16] = [
    ("[target]", "[target]"),
    ("[[placement]]", "[[placement]]"),
    ("[limits]", "[limits]"),
    ("[log]", "[log]"),
    ("[transport]", "[transport]"),
    ("[[device]]", "[[device]]"),
    ("[[cluster]]", "[[cluster]]"),
    ("[[device]]\n[[device.fault]]", "[[device.fault]]"),
    ("[[device]]\n[device.limits]", "[device.limits]"),
    ("[[subsystem]]", "[[subsystem]]"),
    ("[[subsystem]]\n[[subsystem.host]]", "[[subsystem.host]]"),
    ("[[subsystem]]\n[[subsystem.namespace]]", "[[subsystem.namespace]]"),
    ("[[subsystem]]\n[[subsystem.ana]]", "[[subsystem.ana]]"),
    ("[[referral]]", "[[referral]]"),
    ("[[key]]", "[[key]]"),
    ("[authentication]", "[authentication]"),
];

/// The same, for tables that have one key.
const SMALL_TABLES: [(&str, &str); 2] = [("[metrics]", "[metrics]"), ("[rpc]", "[rpc]")];

/// Keys that are tables themselves, with headings of their own.
const NESTED: [(&str, &[&str]); 3] = [
    ("[device.limits]", &["host"]),
    ("[[device]]", &["limits", "fault"]),
    ("[[subsystem]]", &["host", "namespace", "ana"]),
];

#[test]
fn the_reference_has_all_keys_and_no_others() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    let text = std::fs::read_to_string(path).unwrap();
    for (table, heading) in TABLES.into_iter().chain(SMALL_TABLES) {
        let mut known = known_keys(table);
        let nested = NESTED.iter().find(|(of, _)| *of == heading).map_or(&[][..], |(_, keys)| *keys);
        known.retain(|key| !nested.contains(&key.as_str()));
        let section = section(&text, heading);
        for key in &known {
            assert!(
                section.contains(&format!("`{key}`")),
                "docs/CONFIGURATION.md says nothing of `{key}` under {heading}"
            );
        }
        for key in told_keys(section) {
            assert!(
                known.iter().any(|known| known == key),
                "docs/CONFIGURATION.md has `{key}` under {heading}: there is no such key"
            );
        }
    }
    let headings: Vec<_> = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(" `[")).collect();
    assert_eq!(headings.len(), TABLES.len() + SMALL_TABLES.len(), "a heading that is not looked at: {headings:?}");
}

#[test]
fn the_file_has_no_tables_without_a_heading() {
    let mut top: Vec<_> =
        TABLES.into_iter().chain(SMALL_TABLES).map(|(_, heading)| heading.trim_matches(['[', ']'])).collect();
    top.retain(|name| !name.contains('.'));
    let mut known = known_keys("");
    top.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, top);
}

#[test]
fn what_a_host_may_do_of_a_device_has_the_devices_keys() {
    let of_device = known_keys("[[device]]\n[device.limits]");
    let of_host = known_keys("[[device]]\n[device.limits.host]");
    assert!(!of_host.is_empty() && of_host.iter().all(|key| of_device.contains(key)), "{of_host:?}");
}

/// The keys that a table may have, as the reader tells them when it finds another.
fn known_keys(table: &str) -> Vec<String> {
    let text = format!("{table}\nno_such_key = 1\n");
    let Err(error) = toml::from_str::<shape::File>(&text) else { panic!("taken: {text}") };
    let said = error.message();
    assert!(said.starts_with("unknown field `no_such_key`, expected "), "{said}");
    said.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// What stands under a heading, up to the next.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = [format!("\n## `{heading}`\n"), format!("\n### `{heading}`\n")];
    let after = start.iter().find_map(|start| text.split_once(start.as_str()));
    let (_, after) = after.unwrap_or_else(|| panic!("no heading {heading}"));
    after.split("\n## ").next().unwrap().split("\n### ").next().unwrap()
}

/// The first column of the tables of keys.
fn told_keys(section: &str) -> impl Iterator<Item = &str> {
    let is_heading = |line: &&str| line.starts_with("| key |");
    let rows =
        section.lines().skip_while(move |line| !is_heading(line)).take_while(|line| line.starts_with('|')).skip(2);
    rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
}
