//! Prometheus: what is counted as text, and the little HTTP that it is fetched with. Bytes in, bytes out.

pub mod declared;
mod exposition;
mod sample;

pub use sample::{Histogram, Sample, Value};

use crate::rpc::Flow;

/// Longest request, with all its header lines.
const REQUEST_LEN_MAX: usize = 8 << 10;

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
            let text = exposition::render(&samples());
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
    use super::sample::tests::samples;
    use super::*;

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
