//! Private data of connection managers: any bytes are a request within the target's limits, or are refused with a status that the host understands.

use ::fuzz::{Bytes, Features};
use nvmf_core::spec::ControllerSpec;

use super::bench::LISTENER;
use crate::binding::{AcceptData, RejectData, RejectStatus, RequestData};
use crate::target::control::admission::{CpuLoad, Needs, Reservation, depth_max, queue_pair_options, terms, tests};
use crate::target::message::Terms;
use crate::verbs::{Connection, ConnectionId, ConnectionRequest};

/// Requests of one input.
const REQUEST_COUNT_MAX: usize = 40;

#[test]
fn private_data() {
    ::fuzz::check("private_data", concat!(env!("CARGO_MANIFEST_DIR"), "/src/target/control/tests/fuzz.hex"), run);
}

fn run(input: &[u8]) -> Features {
    let mut bytes = Bytes::new(input);
    let mut features = answers(&mut bytes);
    let mut limits = tests::limits(8, if bytes.one_in(3) { 32 } else { 0 }, 4096);
    limits.controller = ControllerSpec { io_queue_count_max: 4, ..ControllerSpec::default() };
    // What devices have that are smaller than ours.
    limits.device.work_request_count_max = bytes.pick(&[1024, 1 << 16, 64, 3, 1]);
    limits.device.read_initiator_count_max = bytes.pick(&[4, 16, 1, 0]);
    limits.device.retries_receiver_not_ready = bytes.one_in(2);
    let mut load = CpuLoad::new(&limits);
    let mut held: Vec<Reservation> = Vec::new();
    for number in 0..REQUEST_COUNT_MAX {
        if bytes.is_empty() {
            break;
        }
        let request = request(&mut bytes, number as u64);
        match terms(&limits, &request) {
            Err(status) => {
                assert_eq!(RejectStatus::from_number(status.number()), Some(status));
                features.insert(1 << 16 | u64::from(status.number()));
            }
            Ok((data, terms)) => {
                let Terms { depth, read_depth, send_count } = terms;
                let controller = &limits.controller;
                assert!(data.queue_id <= controller.io_queue_count_max);
                assert!((1..=depth_max(controller)).contains(&depth) && u32::from(depth) == data.depth(), "{depth}");
                assert!(depth <= data.receive_queue_size, "a response for each command finds a receive");
                let device = &limits.device;
                assert!((1..=device.read_initiator_count_max.min(request.responder_resources)).contains(&read_depth));
                assert!((3..=device.work_request_count_max).contains(&send_count));
                let options = queue_pair_options(&limits, terms);
                assert!(options.send_count.max(options.receive_count) <= device.work_request_count_max);
                let reserved = load.reserve(Needs::of(&limits, terms), data.queue_id > 0);
                features.insert(2 << 16 | u64::from(depth.ilog2()) << 1 | u64::from(reserved.is_some()));
                held.extend(reserved);
            }
        }
        if bytes.one_in(3)
            && let Some(reservation) = held.pop()
        {
            load.give_back(reservation);
        }
    }
    for reservation in held {
        load.give_back(reservation);
    }
    assert!(load.is_free(), "what was reserved came back");
    features
}

/// What a target may say to our host.
fn answers(bytes: &mut Bytes<'_>) -> Features {
    let said = bytes.clone().take(64);
    let mut features = Features::new();
    if let Ok(accept) = AcceptData::parse(said) {
        assert_eq!(AcceptData::parse(&accept.to_bytes()), Ok(accept));
        features.insert(1);
    }
    if let Ok(reject) = RejectData::parse(said) {
        assert_eq!(RejectData::parse(&reject.to_bytes()), Ok(reject));
        features
            .insert(2 << 8 | RejectStatus::from_number(reject.status).map_or(0, |status| u64::from(status.number())));
    }
    if let Ok(request) = RequestData::parse(said) {
        assert_eq!(RequestData::parse(&request.to_bytes()), Ok(request));
        features.insert(3 << 8);
    }
    features
}

/// One as hosts make it, with something wrong here and there.
fn request(bytes: &mut Bytes<'_>, number: u64) -> ConnectionRequest {
    let size =
        |bytes: &mut Bytes<'_>| if bytes.one_in(4) { bytes.u16() } else { bytes.pick(&[0, 1, 7, 31, 127, 128, 255]) };
    let data = RequestData {
        queue_id: if bytes.one_in(6) { bytes.u16() } else { u16::from(bytes.u8() % 6) },
        receive_queue_size: size(bytes),
        send_queue_size_zero_based: size(bytes),
        controller_id: bytes.u16(),
    };
    let mut private_data = data.to_bytes().to_vec();
    match bytes.u8() % 12 {
        0 => private_data.truncate(usize::from(bytes.u8()) % 33),
        1 => private_data.extend_from_slice(bytes.take(24)),
        2 => private_data[0] = bytes.u8(),
        3 => private_data = bytes.take(56).to_vec(),
        _ => {}
    }
    ConnectionRequest {
        connection: Connection::new(ConnectionId(number)),
        listener: LISTENER,
        local: "10.0.0.1:4420".parse().unwrap(),
        peer: "10.0.0.2:50000".parse().unwrap(),
        private_data,
        responder_resources: if bytes.one_in(8) { bytes.u8() } else { 4 },
        initiator_depth: bytes.u8(),
    }
}
