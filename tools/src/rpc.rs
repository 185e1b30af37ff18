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
pub mod schema;

use nvmf_core::ChangeId;
use serde_json::{Value, json};

/// Longest request: room for a configuration of a few thousand namespaces.
pub const REQUEST_LEN_MAX: usize = 1 << 20;

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

/// A request, or a batch of them, whose answer comes later.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferred {
    /// Requests that wait.
    waiting: Vec<Waiting>,
    /// Answers to those of a batch that do not.
    answers: Vec<Value>,
    is_batch: bool,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    /// For these to be done.
    changes: Vec<ChangeId>,
    /// Why the first of those that came to nothing did.
    failure: Option<String>,
    /// The request's.
    id: Value,
    /// What it comes to.
    result: Value,
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
    /// There is no such method; one may be meant.
    #[must_use]
    pub fn no_method(method: &str, near: Option<&str>) -> Self {
        let way_out = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "rpc_get_methods lists those that there are".to_owned(),
        };
        let message = format!("Method not found: {method:?}; {way_out}");
        Self { code: METHOD_NOT_FOUND, message }
    }

    /// It is no request.
    fn invalid(why: &str) -> Self {
        Self { code: INVALID_REQUEST, message: format!("Invalid request: {why}") }
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

/// One request, or a batch [JSON-RPC 2.0, 6].
fn respond(
    request: &Value,
    outgoing: &mut Vec<u8>,
    deferred: &mut Vec<Deferred>,
    perform: &mut impl FnMut(&str, Option<&Value>) -> Result<Outcome, RpcError>,
) {
    let mut all = Deferred { waiting: Vec::new(), answers: Vec::new(), is_batch: request.is_array() };
    match request.as_array() {
        Some(batch) if batch.is_empty() => {
            return write(outgoing, &failure(&Value::Null, &RpcError::invalid("an empty batch")));
        }
        Some(batch) => batch.iter().for_each(|request| all.take(request, perform)),
        None => all.take(request, perform),
    }
    if all.waiting.is_empty() { all.write(outgoing) } else { deferred.push(all) }
}

impl Deferred {
    fn take(&mut self, request: &Value, perform: &mut impl FnMut(&str, Option<&Value>) -> Result<Outcome, RpcError>) {
        let id = request.get("id");
        let invalid = |why: &str| Err(RpcError::invalid(why));
        let result = match (request, request.get("method"), id) {
            (Value::Object(_), _, Some(Value::Array(_) | Value::Object(_) | Value::Bool(_))) => {
                invalid("the id is neither a string nor a number")
            }
            (Value::Object(_), Some(Value::String(method)), _) => {
                if request.get("jsonrpc").is_some_and(|version| version != "2.0") {
                    invalid("jsonrpc is not \"2.0\"")
                } else {
                    perform(method, request.get("params"))
                }
            }
            (Value::Object(_), _, _) => invalid("method is missing, or no string"),
            _ => invalid("not an object"),
        };
        // JSON-RPC 2.0, 4.1: a request without an id is not answered, unless it was none.
        match (result, id) {
            (Ok(_), None) => {}
            (Err(error), None) if error.code != INVALID_REQUEST => {}
            (Ok(Outcome::Begun(change, result)), Some(id)) => self.defer(vec![change], id, result),
            (Ok(Outcome::SeveralBegun(changes, result)), Some(id)) => self.defer(changes, id, result),
            (Ok(Outcome::Done(result)), Some(id)) => self.answers.push(success(id, &result)),
            (Err(error), id) => self.answers.push(failure(id.unwrap_or(&Value::Null), &error)),
        }
    }

    fn defer(&mut self, changes: Vec<ChangeId>, id: &Value, result: Value) {
        self.waiting.push(Waiting { changes, failure: None, id: id.clone(), result });
    }

    /// A change is done, or came to nothing; `result` is what it comes to, where that is known only now. Whether it was the last that this waited for.
    pub fn is_ended_by(&mut self, change: ChangeId, failure: Option<&str>, result: Option<&Value>) -> bool {
        let mut is_concerned = false;
        for request in &mut self.waiting {
            if let Some(place) = request.changes.iter().position(|other| *other == change) {
                request.changes.swap_remove(place);
                is_concerned = true;
                if let Some(result) = result {
                    request.result = result.clone();
                }
                if request.failure.is_none() {
                    request.failure = failure.map(str::to_owned);
                }
            }
        }
        let ended = self.waiting.extract_if(.., |request| request.changes.is_empty());
        self.answers.extend(ended.map(|request| request.answer()));
        is_concerned && self.waiting.is_empty()
    }

    /// Those of a batch together; nothing at all where none is answered.
    fn write(&self, outgoing: &mut Vec<u8>) {
        match self.answers.as_slice() {
            [] => {}
            [answer] if !self.is_batch => write(outgoing, answer),
            answers => write(outgoing, &json!(answers)),
        }
    }
}

impl Waiting {
    fn answer(&self) -> Value {
        match &self.failure {
            None => success(&self.id, &self.result),
            Some(why) => failure(&self.id, &RpcError::internal(why.clone())),
        }
    }
}

/// Answers a request whose changes are done, or came to nothing.
pub fn answer_deferred(deferred: &Deferred, outgoing: &mut Vec<u8>) {
    deferred.write(outgoing);
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
                "unknown" => Err(RpcError::no_method(method, None)),
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
    fn a_batch_is_answered_together() {
        let text = br#"[{"id":1,"method":"a"},{"method":"b"},5,{"id":"x","method":"unknown"}]"#;
        let (responses, flow, _) = feed(&[text]);
        let [batch] = responses.as_slice() else { panic!("{responses:?}") };
        let ids: Vec<&Value> = batch.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
        assert_eq!((ids, flow), (vec![&json!(1), &Value::Null, &json!("x")], Flow::Open));
        assert_eq!(batch[1]["error"]["code"], INVALID_REQUEST);
        assert!(feed(&[br#"[{"method":"a"}]"#]).0.is_empty(), "notifications alone");

        // One that waits keeps the others.
        let change = methods::tests::a_change();
        let (mut incoming, mut outgoing, mut deferred) = (text.to_vec(), Vec::new(), Vec::new());
        answer(&mut incoming, &mut outgoing, &mut deferred, |method, _| match method {
            "a" => Ok(Outcome::Begun(change, json!(true))),
            other => Ok(Outcome::Done(json!(other))),
        });
        assert!(outgoing.is_empty() && deferred.len() == 1);
        assert!(deferred[0].is_ended_by(change, Some("why"), None));
        answer_deferred(&deferred[0], &mut outgoing);
        let batch: Value = serde_json::from_slice(&outgoing).unwrap();
        assert_eq!((batch.as_array().unwrap().len(), &batch[2]["error"]["message"]), (3, &json!("why")));
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
            ("[]", "an empty batch"),
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
