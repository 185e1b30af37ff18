//! What a command has to say: the target's result for programs, a text for people.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// See the module. The default is that all has been said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The result as the target gave it.
    pub json: Value,
    /// The same for people, without an end of line.
    pub text: String,
    /// It tells of a problem: the exit status says so.
    pub has_problem: bool,
}

impl Answer {
    /// A result and what it means.
    pub fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into(), has_problem: false }
    }
}

/// Rows below headings; a heading that begins with `>` has its column flush right. `none` where there are no rows.
#[must_use]
pub fn table(headings: &[&str], rows: Vec<Vec<String>>, none: &str) -> String {
    if rows.is_empty() {
        return none.to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    lines(&table.to_string())
}

/// Names and values below each other.
#[must_use]
pub fn facts(pairs: Vec<(&str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(pairs.into_iter().map(|(name, value)| [format!("{name}:"), value]));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    lines(&table.to_string())
}

/// Without the blanks that fill lines up.
fn lines(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A value in a cell: a dash for nothing. What hosts have chosen may be anything, so nothing in it reaches the terminal as a control character.
#[must_use]
pub fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    };
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// An address of NVMe's four words, as `IP:PORT`.
#[must_use]
pub fn address(value: &Value) -> String {
    let ip = cell(&value["traddr"]);
    let port = cell(&value["trsvcid"]);
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The items of a list; none where it is something else.
#[must_use]
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number; 0 where there is none.
#[must_use]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Bytes in a unit that suits them: at most four digits before it.
#[must_use]
pub fn bytes(count: u64) -> String {
    scaled(count, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// A count in thousands.
#[must_use]
pub fn count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T", "P", "E"]).trim_end().to_owned()
}

/// A time, in ns.
#[must_use]
pub fn time(ns: u64) -> String {
    scaled(ns, 1000, &["ns", "µs", "ms", "s"])
}

/// Exact where the next unit would leave something over and the number is short; else with one digit behind the point.
fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let (mut unit, mut scale) = (0, 1_u64);
    while unit + 1 < units.len() && number / scale >= step {
        scale = scale.saturating_mul(step);
        unit += 1;
    }
    let whole = number / scale;
    let tenths = u128::from(number % scale) * 10 / u128::from(scale);
    match tenths {
        0 => format!("{whole} {}", units[unit]),
        tenths => format!("{whole}.{tenths} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_columns_and_nothing_else() {
        let rows =
            vec![vec!["1".into(), "memory".into(), "64 MiB".into()], vec!["10".into(), "d".into(), "1 GiB".into()]];
        let text = table(&[">NSID", "DEVICE", "SIZE"], rows, "none");
        assert_eq!(text, "NSID  DEVICE  SIZE\n   1  memory  64 MiB\n  10  d       1 GiB");
        assert_eq!(table(&["A"], Vec::new(), "no devices"), "no devices");
        assert_eq!(facts(vec![("a", "1".into()), ("long", "2".into())]), "a:     1\nlong:  2");
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(bytes(number), text);
        }
        assert_eq!((count(999), count(412_345), count(1_000_000)), ("999".into(), "412.3 k".into(), "1 M".into()));
        assert_eq!((time(850), time(12_340), time(90_000_000_000)), ("850 ns".into(), "12.3 µs".into(), "90 s".into()));
    }

    #[test]
    fn what_hosts_have_chosen_does_not_steer_the_terminal() {
        assert_eq!(cell(&json!("nqn\u{1b}[2J\n")), "nqn\u{fffd}[2J\u{fffd}");
        assert_eq!(
            (cell(&json!(null)), cell(&json!([])), cell(&json!([1, "a"]))),
            ("-".into(), "-".into(), "1, a".into())
        );
        assert_eq!(address(&json!({ "traddr": "fd00::9", "trsvcid": "4420" })), "[fd00::9]:4420");
    }
}
