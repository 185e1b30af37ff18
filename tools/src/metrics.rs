//! Prometheus: what is counted as text, and the little HTTP that it is fetched with. Bytes in, bytes out.

use metrics::Label;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::rpc::Flow;

/// Longest request, with all its header lines.
const REQUEST_LEN_MAX: usize = 8 << 10;

/// One number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name, without the prefix `nvmf_` and, for counters, without `_total`.
    pub name: String,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it is.
    pub help: String,
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// As it is now.
    pub value: u64,
}

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The text of all samples: families by name, their lines by labels.
#[must_use]
pub fn render(samples: &[Sample]) -> String {
    // A recorder for each fetch: what is gone leaves nothing behind, and no handle is kept.
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for sample in samples {
            let labels: Vec<Label> =
                sample.labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
            match sample.kind {
                Kind::Counter => {
                    let name = format!("nvmf_{}_total", sample.name);
                    metrics::describe_counter!(name.clone(), sample.help.clone());
                    metrics::counter!(name, labels).absolute(sample.value);
                }
                Kind::Gauge => {
                    let name = format!("nvmf_{}", sample.name);
                    metrics::describe_gauge!(name.clone(), sample.help.clone());
                    #[allow(clippy::cast_precision_loss, reason = "Prometheus' numbers are floating point")]
                    metrics::gauge!(name, labels).set(sample.value as f64);
                }
            }
        }
    });
    sorted(&recorder.handle().render())
}

/// The exporter gives families and lines in a hash map's order.
fn sorted(text: &str) -> String {
    let mut families: Vec<String> = text
        .split("\n\n")
        .filter(|family| !family.trim().is_empty())
        .map(|family| {
            let mut lines: Vec<&str> = family.trim_matches('\n').lines().collect();
            let head = lines.iter().take_while(|line| line.starts_with('#')).count();
            lines[head..].sort_by_key(|line| natural(line));
            lines.join("\n")
        })
        .collect();
    families.sort_by(|one, two| family_name(one).cmp(family_name(two)));
    families.join("\n\n") + "\n"
}

fn family_name(family: &str) -> &str {
    family.lines().find(|line| !line.starts_with('#')).and_then(|line| line.split(['{', ' ']).next()).unwrap_or(family)
}

/// Text with its numbers widened, so that CPU 10 comes after CPU 9.
fn natural(text: &str) -> String {
    let mut widened = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            if !digits.is_empty() {
                widened.push_str(&format!("{digits:0>20}"));
                digits.clear();
            }
            widened.push(c);
        }
    }
    widened
}

/// Answers one HTTP request, once it is whole. One request a connection.
pub fn answer(incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>, samples: impl FnOnce() -> Vec<Sample>) -> Flow {
    let Some(head_len) = incoming.windows(4).position(|window| window == b"\r\n\r\n") else {
        if incoming.len() > REQUEST_LEN_MAX {
            incoming.clear();
            respond(outgoing, "431 Request Header Fields Too Large", "text/plain", "The request is too long.\n", true);
            return Flow::Close;
        }
        return Flow::Open;
    };
    let line = incoming[..head_len].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let path = path.map(|path| path.split(|byte| *byte == b'?').next().unwrap_or_default());
    let with_body = method != Some(b"HEAD");
    match (method, path, version) {
        (_, _, version) if !version.is_some_and(|version| version.starts_with(b"HTTP/1.")) => {
            respond(outgoing, "400 Bad Request", "text/plain", "This is not HTTP/1.\n", true);
        }
        (Some(b"GET" | b"HEAD"), Some(b"/metrics"), _) => {
            let text = render(&samples());
            respond(outgoing, "200 OK", "text/plain; version=0.0.4; charset=utf-8", &text, with_body);
        }
        (Some(b"GET" | b"HEAD"), _, _) => {
            respond(outgoing, "404 Not Found", "text/plain", "Only /metrics is here.\n", with_body);
        }
        _ => respond(outgoing, "405 Method Not Allowed", "text/plain", "Only GET is allowed.\n", true),
    }
    incoming.clear();
    Flow::Close
}

fn respond(outgoing: &mut Vec<u8>, status: &str, content: &str, body: &str, with_body: bool) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    outgoing.extend(head.into_bytes());
    if with_body {
        outgoing.extend(body.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Sample> {
        let commands = |cpu: usize, value| Sample {
            name: "commands".into(),
            kind: Kind::Counter,
            help: "Commands fetched.".into(),
            labels: vec![("cpu", cpu.to_string()), ("kind", "read".into())],
            value,
        };
        let qpairs =
            Sample { name: "qpairs".into(), kind: Kind::Gauge, help: "Qpairs.".into(), labels: Vec::new(), value: 3 };
        vec![qpairs, commands(10, 7), commands(9, u64::MAX)]
    }

    #[test]
    fn families_and_lines_have_help_type_and_a_fixed_order() {
        let expected = "\
# HELP nvmf_commands_total Commands fetched.
# TYPE nvmf_commands_total counter
nvmf_commands_total{cpu=\"9\",kind=\"read\"} 18446744073709551615
nvmf_commands_total{cpu=\"10\",kind=\"read\"} 7

# HELP nvmf_qpairs Qpairs.
# TYPE nvmf_qpairs gauge
nvmf_qpairs 3
";
        for _ in 0..20 {
            assert_eq!(render(&samples()), expected);
        }
    }

    fn ask(request: &str) -> (String, Flow) {
        let (mut incoming, mut outgoing) = (request.as_bytes().to_vec(), Vec::new());
        let flow = answer(&mut incoming, &mut outgoing, samples);
        (String::from_utf8(outgoing).unwrap(), flow)
    }

    #[test]
    fn only_metrics_is_served() {
        let (response, flow) = ask("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.contains("nvmf_qpairs 3"));
        assert_eq!(flow, Flow::Close);
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/../etc/passwd HTTP/1.0\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
            ("{\"jsonrpc\":\"2.0\"}\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
            ("GET /metrics HTTP/1.1\r\n\r\n", "200"),
            ("GET /metrics?x=1 HTTP/1.1\r\n\r\n", "200"),
        ] {
            let (response, flow) = ask(request);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {response}");
            assert_eq!(flow, Flow::Close);
        }
        let (head, _) = ask("HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.ends_with("\r\n\r\n") && !head.contains("nvmf_qpairs"));
    }

    #[test]
    fn a_request_waits_for_its_end_and_not_for_ever() {
        assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost: x\r\n"), (String::new(), Flow::Open));
        let (response, flow) = ask(&"x".repeat(REQUEST_LEN_MAX + 1));
        assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
        assert_eq!(flow, Flow::Close);
    }
}
