//! JSON-RPC 2.0: bytes of a connection in, bytes out. Which methods there are: [`methods`].
//!
//! A method may answer later, when what it began is done ([`Outcome::Begun`]). Other requests of the same connection are answered meanwhile: an answer
//! is told by its id, as JSON-RPC has it.
//!
//! Requests follow each other in the stream with or without blanks between them, as SPDK's clients send them. A peer may send anything: a
//! request has a limit, what is no JSON ends the connection after an answer, and everything else is answered and the connection goes on.

pub mod methods;
mod neutral;
mod parameters;

use nvmf_core::ChangeId;
use serde_json::{Value, json};

/// Longest request.
pub const REQUEST_LEN_MAX: usize = 64 << 10;

/// JSON-RPC 2.0, 5.1.
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Open,
    /// It ends once what was answered is sent.
    Close,
}

/// What a method comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its result.
    Done(Value),
    /// The result is this value (most often `true`), when this change is done.
    Begun(ChangeId, Value),
    /// The same, when all of these are done.
    SeveralBegun(Vec<ChangeId>, Value),
}

/// A request whose answer comes later.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferred {
    /// When these are done.
    pub changes: Vec<ChangeId>,
    /// Why the first of those that came to nothing did.
    pub failure: Option<String>,
    /// The request's.
    pub id: Value,
    /// What it comes to.
    pub result: Value,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// JSON-RPC's code, or a negated errno as SPDK gives it.
    pub code: i64,
    /// For people.
    pub message: String,
}

impl RpcError {
    /// There is no such method.
    #[must_use]
    pub fn no_method(method: &str) -> Self {
        let message = format!("Method not found: {method:?}; rpc_get_methods lists those that there are");
        Self { code: METHOD_NOT_FOUND, message }
    }

    /// A parameter is missing, unknown, or not what it may be.
    #[must_use]
    pub fn parameters(message: String) -> Self {
        Self { code: INVALID_PARAMS, message: format!("Invalid parameters: {message}") }
    }

    /// It cannot be done now.
    #[must_use]
    pub fn internal(message: String) -> Self {
        Self { code: INTERNAL_ERROR, message }
    }

    /// What was named does not exist.
    #[must_use]
    pub fn no_such(what: &str, name: &str) -> Self {
        Self { code: -i64::from(libc::ENODEV), message: format!("No such device: {what} {name:?}") }
    }
}

/// Answers all whole requests in `incoming`, and leaves the rest there. Those that will be answered later are put into `deferred`.
pub fn answer(
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    deferred: &mut Vec<Deferred>,
    mut perform: impl FnMut(&str, Option<&Value>) -> Result<Outcome, RpcError>,
) -> Flow {
    loop {
        let mut requests = serde_json::Deserializer::from_slice(incoming).into_iter::<Value>();
        let request = requests.next();
        let used_len = requests.byte_offset();
        match request {
            None => {
                // Only blanks.
                incoming.clear();
                return Flow::Open;
            }
            // A request above the limit can have come whole; it is refused as one that has not.
            Some(Ok(_)) if used_len > REQUEST_LEN_MAX => return refuse_length(incoming, outgoing),
            Some(Ok(request)) => {
                incoming.drain(..used_len);
                respond(&request, outgoing, deferred, &mut perform);
            }
            Some(Err(error)) if error.is_eof() && incoming.len() > REQUEST_LEN_MAX => {
                return refuse_length(incoming, outgoing);
            }
            Some(Err(error)) if error.is_eof() => return Flow::Open,
            Some(Err(error)) => {
                // Where the next request begins cannot be known.
                incoming.clear();
                let message = format!("Parse error: {error}");
                write(outgoing, &failure(&Value::Null, &RpcError { code: PARSE_ERROR, message }));
                return Flow::Close;
            }
        }
    }
}

fn refuse_length(incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Flow {
    incoming.clear();
    let message = format!("Invalid request: longer than {REQUEST_LEN_MAX} bytes");
    write(outgoing, &failure(&Value::Null, &RpcError { code: INVALID_REQUEST, message }));
    Flow::Close
}

fn respond(
    request: &Value,
    outgoing: &mut Vec<u8>,
    deferred: &mut Vec<Deferred>,
    perform: &mut impl FnMut(&str, Option<&Value>) -> Result<Outcome, RpcError>,
) {
    let id = request.get("id");
    let invalid = |why: &str| RpcError { code: INVALID_REQUEST, message: format!("Invalid request: {why}") };
    let result = match (request, request.get("method"), id) {
        (Value::Array(_), _, _) => Err(invalid("a batch; send the requests one after the other")),
        (Value::Object(_), _, Some(Value::Array(_) | Value::Object(_) | Value::Bool(_))) => {
            Err(invalid("the id is neither a string nor a number"))
        }
        (Value::Object(_), Some(Value::String(method)), _) => {
            if request.get("jsonrpc").is_some_and(|version| version != "2.0") {
                Err(invalid("jsonrpc is not \"2.0\""))
            } else {
                perform(method, request.get("params"))
            }
        }
        (Value::Object(_), _, _) => Err(invalid("method is missing, or no string")),
        _ => Err(invalid("not an object")),
    };
    // JSON-RPC 2.0, 4.1: a request without an id is not answered, unless it was none.
    let response = match (result, id) {
        (Ok(_), None) => return,
        (Err(error), None) if error.code != INVALID_REQUEST => return,
        (Ok(Outcome::Begun(change, result)), Some(id)) => {
            return deferred.push(Deferred { changes: vec![change], failure: None, id: id.clone(), result });
        }
        (Ok(Outcome::SeveralBegun(changes, result)), Some(id)) => {
            return deferred.push(Deferred { changes, failure: None, id: id.clone(), result });
        }
        (Ok(Outcome::Done(result)), Some(id)) => success(id, &result),
        (Err(error), id) => failure(id.unwrap_or(&Value::Null), &error),
    };
    write(outgoing, &response);
}

impl Deferred {
    /// A change is done, or came to nothing. Whether it was the last that this waited for.
    pub fn is_ended_by(&mut self, change: ChangeId, failure: Option<&str>) -> bool {
        let Some(place) = self.changes.iter().position(|other| *other == change) else { return false };
        self.changes.swap_remove(place);
        if self.failure.is_none() {
            self.failure = failure.map(str::to_owned);
        }
        self.changes.is_empty()
    }
}

/// Answers a request whose changes are done, or came to nothing.
pub fn answer_deferred(deferred: &Deferred, outgoing: &mut Vec<u8>) {
    let response = match &deferred.failure {
        None => success(&deferred.id, &deferred.result),
        Some(why) => failure(&deferred.id, &RpcError::internal(why.clone())),
    };
    write(outgoing, &response);
}

fn success(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn failure(id: &Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": error.code, "message": error.message } })
}

/// One answer a line: easy to read by line, and to look at.
fn write(outgoing: &mut Vec<u8>, response: &Value) {
    outgoing.extend(response.to_string().into_bytes());
    outgoing.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` one after the other; each request is answered with its method's name.
    fn feed(pieces: &[&[u8]]) -> (Vec<Value>, Flow, Vec<u8>) {
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        let mut flow = Flow::Open;
        for piece in pieces {
            incoming.extend_from_slice(piece);
            flow = answer(&mut incoming, &mut outgoing, &mut Vec::new(), |method, _| match method {
                "unknown" => Err(RpcError::no_method(method)),
                known => Ok(Outcome::Done(json!(known))),
            });
        }
        let text = String::from_utf8(outgoing).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), flow, incoming)
    }

    #[test]
    fn requests_are_cut_out_of_the_stream_wherever_it_was_cut() {
        let stream = br#"{"jsonrpc":"2.0","id":1,"method":"a"}{"id":"x","method":"b"}
            {"jsonrpc":"2.0","id":3,"method":"c","params":{"q":"}{"}} "#;
        let expected = [
            json!({"jsonrpc":"2.0","id":1,"result":"a"}),
            json!({"jsonrpc":"2.0","id":"x","result":"b"}),
            json!({"jsonrpc":"2.0","id":3,"result":"c"}),
        ];
        for at in 0..stream.len() {
            let (responses, flow, rest) = feed(&[&stream[..at], &stream[at..]]);
            assert_eq!(responses, expected, "cut at {at}");
            assert_eq!((flow, rest.len()), (Flow::Open, 0));
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(feed(&bytes).0, expected);
    }

    #[test]
    fn what_is_no_json_is_answered_and_ends_the_connection() {
        for garbage in ["GET / HTTP/1.1\r\n\r\n", "{\"a\" 1}", "]", "\u{0}", "{\"id\":1,}"] {
            let (responses, flow, rest) = feed(&[garbage.as_bytes()]);
            assert_eq!(responses[0]["error"]["code"], PARSE_ERROR, "{garbage}");
            assert_eq!((responses.len(), flow, rest.len()), (1, Flow::Close, 0));
        }
        let deep = "[".repeat(100_000);
        assert_eq!(feed(&[deep.as_bytes()]).1, Flow::Close);
    }

    #[test]
    fn a_request_without_end_is_cut_off() {
        let mut long = br#"{"id":1,"method":""#.to_vec();
        long.resize(REQUEST_LEN_MAX, b'a');
        assert_eq!(feed(&[&long]).1, Flow::Open);
        let (responses, flow, rest) = feed(&[&long, b"aa"]);
        assert_eq!(responses[0]["error"]["code"], INVALID_REQUEST);
        assert_eq!((flow, rest.len()), (Flow::Close, 0));
    }

    #[test]
    fn requests_that_are_none_are_told_apart_from_methods_that_are_not_there() {
        let one = |text: &str| feed(&[text.as_bytes()]).0;
        assert_eq!(
            one(r#"{"jsonrpc":"2.0","id":7,"method":"unknown"}"#),
            [json!({"jsonrpc":"2.0","id":7,"error":{"code":-32601,
                "message":"Method not found: \"unknown\"; rpc_get_methods lists those that there are"}})]
        );
        for (text, why) in [
            (r#"{"id":1}"#, "method is missing"),
            (r#"{"id":1,"method":5}"#, "no string"),
            (r#"[{"id":1,"method":"a"}]"#, "one after the other"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, "not \"2.0\""),
            (r#"{"id":{},"method":"a"}"#, "neither a string nor a number"),
            ("5 ", "not an object"),
        ] {
            let response = &one(text)[0];
            assert_eq!(response["error"]["code"], INVALID_REQUEST, "{text}");
            assert!(response["error"]["message"].as_str().unwrap().contains(why), "{response}");
        }
        assert!(one(r#"{"jsonrpc":"2.0","method":"a"}"#).is_empty(), "a notification is not answered");
        assert!(one(r#"{"jsonrpc":"2.0","method":"unknown"}"#).is_empty());
    }
}
