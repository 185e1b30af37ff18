//! A report as tables, cut to a terminal's size.

use super::super::answer::{bytes, cell, count, table, time};
use super::report::Report;
use serde_json::json;

/// Columns and lines; nothing is cut where there is no terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) lines: usize,
}

impl Size {
    /// A file or pipe.
    pub(super) const WHOLE: Self = Self { columns: usize::MAX, lines: usize::MAX };

    /// Whether there is room for names in full.
    fn is_wide(self) -> bool {
        self.columns >= 120
    }
}

/// The four tables below each other, without an end of line.
pub(super) fn show(report: &Report, size: Size) -> String {
    let sections = [cpus(report), namespaces(report, size), hosts(report, size), qpairs(report, size)];
    let sections: Vec<Vec<&str>> = sections.iter().map(|section| section.lines().collect()).collect();
    let lens: Vec<usize> = sections.iter().map(Vec::len).collect();
    let shares = shares(&lens, size.lines.saturating_sub(sections.len() - 1));
    let mut lines = Vec::new();
    for (section, share) in sections.iter().zip(shares) {
        if share == 0 {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let hidden = section.len() - share;
        let shown = if hidden == 0 { share } else { share - 1 };
        lines.extend(section.iter().take(shown).map(|line| line.chars().take(size.columns).collect()));
        if hidden > 0 {
            lines.push(format!("… {} more", section.len() - shown));
        }
    }
    lines.join("\n")
}

/// How many lines each section gets: what is short is whole, the others share what is left.
fn shares(lens: &[usize], mut room: usize) -> Vec<usize> {
    let mut shares = vec![0; lens.len()];
    let mut order: Vec<usize> = (0..lens.len()).collect();
    order.sort_by_key(|at| lens[*at]);
    for (done, at) in order.into_iter().enumerate() {
        let fair = room / (lens.len() - done);
        shares[at] = lens[at].min(fair);
        room -= shares[at];
    }
    shares
}

fn percent(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

fn cpus(report: &Report) -> String {
    let rows = report.cpus.iter().map(|cpu| {
        let full = usize::try_from(cpu.busy_permille / 50).unwrap_or(20);
        vec![
            cpu.cpu.to_string(),
            percent(cpu.busy_permille),
            format!("{}{}", "█".repeat(full), "·".repeat(20_usize.saturating_sub(full))),
            percent(cpu.polling_permille),
            percent(cpu.asleep_permille),
            count(cpu.busy_turns_per_s).replace(' ', ""),
            count(cpu.messages_per_s).replace(' ', ""),
            cpu.qpairs.to_string(),
        ]
    });
    let headings = [">CPU", ">BUSY%", "", ">POLL%", ">SLEEP%", ">TURNS/s", ">MSGS/s", ">QPAIRS"];
    table(&headings, rows.collect(), "no CPU polls")
}

/// The end of a name tells more than its beginning.
fn name(text: &str, size: Size) -> String {
    let text = cell(&json!(text));
    let len = text.chars().count();
    let room = if size.columns == usize::MAX {
        len
    } else if size.is_wide() {
        48
    } else {
        20
    };
    if len <= room { text } else { std::iter::once('…').chain(text.chars().skip(len + 1 - room)).collect() }
}

fn maybe_time(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| time(ns).replace(' ', ""))
}

fn per_second(count: u64) -> String {
    bytes(count).replace("iB", "").replace(" B", "").replace(' ', "")
}

fn namespaces(report: &Report, size: Size) -> String {
    let rows = report.namespaces.iter().map(|line| {
        let mut row = vec![name(&line.device, size), line.nsid.map_or_else(|| "-".to_owned(), |nsid| nsid.to_string())];
        row.extend([
            count(line.iops).replace(' ', ""),
            per_second(line.read_bytes_per_s),
            per_second(line.write_bytes_per_s),
            maybe_time(line.read_p50_ns),
            maybe_time(line.read_p99_ns),
            maybe_time(line.write_p50_ns),
            maybe_time(line.write_p99_ns),
            line.queue_depth.to_string(),
        ]);
        if size.is_wide() {
            row.push(line.nqn.as_deref().map_or_else(|| "-".to_owned(), |nqn| name(nqn, size)));
        }
        row
    });
    let mut headings =
        vec!["DEVICE", ">NSID", ">IOPS", ">READ/s", ">WRITE/s", ">R p50", ">R p99", ">W p50", ">W p99", ">QD"];
    if size.is_wide() {
        headings.push("SUBSYSTEM");
    }
    table(&headings, rows.collect(), "no devices")
}

fn hosts(report: &Report, size: Size) -> String {
    let rows = report.hosts.iter().map(|line| {
        vec![
            name(&line.hostnqn, size),
            line.controllers.to_string(),
            line.qpairs.to_string(),
            count(line.iops).replace(' ', ""),
            per_second(line.read_bytes_per_s),
            per_second(line.write_bytes_per_s),
        ]
    });
    table(&["HOST", ">CTRLRS", ">QPAIRS", ">IOPS", ">READ/s", ">WRITE/s"], rows.collect(), "no host is connected")
}

fn qpairs(report: &Report, size: Size) -> String {
    let rows = report.qpairs.iter().map(|line| {
        let mut row = vec![
            name(&line.hostnqn, size),
            line.cntlid.to_string(),
            line.qid.to_string(),
            line.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
            cell(&json!(line.state)),
            count(line.iops).replace(' ', ""),
            per_second(line.read_bytes_per_s),
            per_second(line.write_bytes_per_s),
        ];
        if size.is_wide() {
            row.push(name(&line.nqn, size));
        }
        row
    });
    let mut headings = vec!["HOST", ">CNTLID", ">QID", ">CPU", "STATE", ">IOPS", ">READ/s", ">WRITE/s"];
    if size.is_wide() {
        headings.push("SUBSYSTEM");
    }
    table(&headings, rows.collect(), "")
}

#[cfg(test)]
mod tests {
    use super::super::report::{CpuLine, HostLine, NamespaceLine, QpairLine};
    use super::*;

    fn report(qpair_count: u64) -> Report {
        let qpair = |qid| QpairLine {
            nqn: "nqn.2026-11.io.quiesce:demo".into(),
            hostnqn: "nqn.2014-08.org.nvmexpress:uuid:27dad528-6368-41c3-82d3-0b956b49025d".into(),
            cntlid: 1,
            qid,
            cpu: Some(0),
            state: "enabled".into(),
            iops: 123_456,
            read_bytes_per_s: 500 << 20,
            write_bytes_per_s: 0,
        };
        Report {
            interval_ns: 1_000_000_000,
            cpus: vec![CpuLine {
                cpu: 0,
                busy_permille: 625,
                polling_permille: 375,
                asleep_permille: 0,
                busy_turns_per_s: 41_000,
                messages_per_s: 7,
                qpairs: qpair_count,
            }],
            namespaces: vec![NamespaceLine {
                nqn: Some("nqn.2026-11.io.quiesce:demo".into()),
                nsid: Some(1),
                device: "memory".into(),
                iops: 123_456,
                read_bytes_per_s: 500 << 20,
                write_bytes_per_s: 0,
                read_p50_ns: Some(10_239),
                read_p99_ns: Some(81_919),
                write_p50_ns: None,
                write_p99_ns: None,
                queue_depth: 32,
            }],
            hosts: vec![HostLine {
                hostnqn: qpair(0).hostnqn,
                controllers: 1,
                qpairs: qpair_count,
                ..HostLine::default()
            }],
            qpairs: (0..qpair_count).map(qpair).collect(),
        }
    }

    #[test]
    fn a_small_terminal_is_not_overrun() {
        for (columns, lines, qpair_count) in [(80, 22, 2), (80, 22, 500), (40, 6, 500), (140, 38, 500)] {
            let shown = show(&report(qpair_count), Size { columns, lines });
            assert!(shown.lines().count() <= lines, "{} lines of {lines}:\n{shown}", shown.lines().count());
            assert!(shown.lines().all(|line| line.chars().count() <= columns), "{columns} columns:\n{shown}");
        }
        let shown = show(&report(500), Size { columns: 80, lines: 22 });
        assert!(shown.ends_with("more") && shown.contains("…3-82d3-0b956b49025d"), "{shown}");
    }

    #[test]
    fn a_pipe_gets_all_of_it() {
        let shown = show(&report(500), Size::WHOLE);
        assert!(shown.contains("nqn.2014-08.org.nvmexpress:uuid:27dad528-6368-41c3-82d3-0b956b49025d"), "{shown}");
        assert_eq!(shown.lines().filter(|line| line.contains("enabled")).count(), 500);
    }

    #[test]
    fn a_line_has_what_was_measured() {
        let shown = show(&report(1), Size { columns: 80, lines: 24 });
        assert_eq!(
            shown.lines().take(5).collect::<Vec<_>>().join("\n"),
            "CPU  BUSY%                        POLL%  SLEEP%  TURNS/s  MSGS/s  QPAIRS\n\
             \x20 0   62.5  ████████████········   37.5     0.0      41k       7       1\n\
             \n\
             DEVICE  NSID    IOPS  READ/s  WRITE/s   R p50   R p99  W p50  W p99  QD\n\
             memory     1  123.4k    500M        0  10.2µs  81.9µs      -      -  32"
        );
    }
}
