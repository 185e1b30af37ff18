//! Any bytes on the socket: each request is answered once, now or later, and what is no request ends the connection.

use ::fuzz::{Bytes, Features};
use serde_json::{Map, Value, json};

use super::*;
use crate::rpc::{self, Flow};

#[test]
fn requests() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rpc/methods/tests/fuzz.hex");
    let reactors = reactors::tests::idle();
    // Its memory is never given back.
    let device: Arc<dyn Device> = Arc::new(::bdev::Null::new("disk0", 512, 131_072).unwrap());
    ::fuzz::check("requests", corpus, |input| run(&reactors, &device, input));
}

fn run(reactors: &Reactors, device: &Arc<dyn Device>, input: &[u8]) -> Features {
    let mut bytes = Bytes::new(input);
    let mut features = Features::new();
    let device = Arc::clone(device);
    let spare: Arc<dyn Device> = Arc::new(::bdev::Fault::new("spare", Arc::clone(&device), 1));
    let mut target = Fake { opens_devices: false, ..fake(subsystem(Some(&device)), [device, spare]) };
    let (log, _layer) = log::tests::detached();
    let keyring = RefCell::default();
    let (mut incoming, mut outgoing, mut deferred) = (Vec::new(), Vec::new(), Vec::new());
    let (mut asked, mut is_broken) = (0, false);
    while !bytes.is_empty() && asked < 20 {
        if bytes.one_in(12) {
            incoming.extend_from_slice(bytes.take(40));
            is_broken = true;
        } else {
            let request = request(&mut bytes).to_string();
            let cut = if bytes.one_in(16) { usize::from(bytes.u16()) % (request.len() + 1) } else { request.len() };
            is_broken |= cut < request.len();
            incoming.extend_from_slice(&request.as_bytes()[..cut]);
            asked += 1;
        }
        let started = super::asked();
        let flow = rpc::answer(&mut incoming, &mut outgoing, &mut deferred, |method, parameters| {
            let (target, keyring) = (&mut target, &keyring);
            let clusters = &Clusters::default();
            let view = View {
                target,
                reactors,
                log: &log,
                keyring,
                clusters,
                state: None,
                asked: &started,
                transport_type: "RDMA",
            };
            let outcome = super::super::perform(view, method, parameters);
            let place = METHODS.iter().position(|(name, _)| *name == method).unwrap_or(METHODS.len()) as u64;
            let seen = match &outcome {
                Ok(Outcome::Done(_)) => 1,
                Ok(Outcome::Begun(..) | Outcome::SeveralBegun(..)) => 2,
                Err(error) => {
                    features.insert(1 << 40 | kind(&error.message));
                    3
                }
            };
            features.insert(place << 32 | seen);
            outcome
        });
        if flow == Flow::Close {
            assert!(is_broken, "only what is no JSON ends a connection");
            break;
        }
    }
    let answers = outgoing.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    for line in outgoing.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let answer: Value = serde_json::from_slice(line).unwrap();
        assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
        assert!(answer.get("error").is_none_or(|error| error["message"] != ""), "{answer}");
    }
    assert!(
        is_broken || answers + deferred.len() == asked,
        "{asked} asked, {answers} answered, {} to come",
        deferred.len()
    );
    features
}

/// Which error it is, not of what: the plain words of its last part, without names and values.
fn kind(message: &str) -> u64 {
    let told = message.rsplit(": ").next().unwrap_or(message);
    let plain = told.split('"').step_by(2).flat_map(|part| part.split(' '));
    let words = plain.filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    words.take(8).flat_map(str::bytes).fold(0, |sum: u64, byte| (sum * 31 + u64::from(byte)) % 65_536)
}

/// A request with an id, most often for a method that there is, with parameters that it has.
fn request(bytes: &mut Bytes<'_>) -> Value {
    let (name, _) = &METHODS[usize::from(bytes.u8()) % METHODS.len()];
    let allowed = SCHEMA.parameters(name);
    let mut parameters = Map::new();
    for name in allowed {
        if !bytes.one_in(3) {
            let value = if bytes.u8().is_multiple_of(4) { value(bytes, 3) } else { likely(name, bytes) };
            parameters.insert(name.to_owned(), value);
        }
    }
    let mut request = json!({ "jsonrpc": "2.0", "id": 1, "method": name, "params": parameters });
    match bytes.u8() % 16 {
        0 => request["method"] = value(bytes, 1),
        1 => request["params"] = value(bytes, 2),
        2 => request["id"] = json!(bytes.number()),
        _ => {}
    }
    request
}

/// What a script would say.
fn likely(name: &str, bytes: &mut Bytes<'_>) -> Value {
    match name {
        "nqn" => json!(NQN),
        "host" => json!(HOST),
        "tgt_name" => json!("nvmf_tgt"),
        "name" | "base_name" | "base_bdev_name" | "bdev_name" => json!(bytes.pick(&["disk0", "spare", "new"])),
        "listen_address" | "address" => {
            let port = bytes.pick(&["4420", "4421"]);
            json!({ "trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port })
        }
        "namespace" => json!({ "bdev_name": "spare", "nsid": bytes.u8() % 4 }),
        "rules" => json!([{ "cpus": [bytes.u8() % 3] }]),
        "path" | "filename" | "ptpl_file" => json!("/nowhere/quiesce"),
        "block_size" => json!(512),
        "level" => json!("debug"),
        "mode" => json!(bytes.pick(&["busy", "adaptive", "yielding"])),
        "ana_state" => json!(bytes.pick(&["optimized", "change"])),
        "io_type" => json!(bytes.pick(&["read", "write", "all", "clear"])),
        "error_type" => json!(bytes.pick(&["failure", "corrupt_data", "nomem"])),
        "subnqn" => json!("nqn.2026-11.io.quiesce:other"),
        "dhchap_digests" => json!(["sha256"]),
        "dhchap_dhgroups" => json!(["null", "ffdhe2048"]),
        _ if bytes.one_in(2) => json!(bytes.u8() % 4),
        _ => value(bytes, 3),
    }
}

fn value(bytes: &mut Bytes<'_>, depth: u8) -> Value {
    const WORDS: [&str; 24] = [
        NQN,
        HOST,
        "disk0",
        "spare",
        "",
        "RDMA",
        "IPv4",
        "127.0.0.1",
        "4420",
        "read",
        "write",
        "all",
        "clear",
        "failure",
        "pending",
        "corrupt_data",
        "optimized",
        "inaccessible",
        "adaptive",
        "info",
        "dd5b8f6e-b67a-4506-b606-7fff5a859920",
        "\u{0}",
        "00112233445566778899AABBCCDDEEFF",
        "nqn.2026-11.io.quiesce:other",
    ];
    const FIELDS: [&str; 14] = [
        "trtype",
        "adrfam",
        "traddr",
        "trsvcid",
        "bdev_name",
        "nsid",
        "uuid",
        "nguid",
        "eui64",
        "anagrpid",
        "no_auto_visible",
        "cpus",
        "listener",
        "host",
    ];
    match bytes.u8() % 12 {
        0..=3 => json!(bytes.pick(&WORDS)),
        4 | 5 => json!(bytes.number()),
        6 => json!(bytes.one_in(2)),
        7 => json!(-(i64::from(bytes.u16()))),
        8 => Value::Null,
        9 if depth > 0 => (0..bytes.u8() % 4).map(|_| value(bytes, depth - 1)).collect(),
        10 | 11 if depth > 0 => {
            let count = bytes.u8() % 6;
            Value::Object((0..count).map(|_| (bytes.pick(&FIELDS).to_owned(), value(bytes, depth - 1))).collect())
        }
        _ => json!(0.5),
    }
}
