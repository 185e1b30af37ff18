//! What SPDK's own client sends beyond what is asked for.

use super::*;

#[test]
fn parameters_that_ask_for_nothing_are_taken_and_others_of_spdks_refused() {
    let reactors = reactors::tests::idle();
    let call = |parameters: &Value| {
        let (outcome, changes) =
            with_target(&reactors, None, |view| super::super::perform(view, "nvmf_create_subsystem", Some(parameters)));
        (outcome.map(|_| ()).map_err(|error| error.message), changes.len())
    };
    let mut parameters = json!({
        "nqn": "nqn.2026-11.io.quiesce:new",
        "allow_any_host": true,
        "passthrough": false,
        "enable_nssr": false,
    });
    assert_eq!(call(&parameters), (Ok(()), 1));
    parameters["passthrough"] = json!(true);
    let (outcome, change_count) = call(&parameters);
    let message = outcome.unwrap_err();
    assert!(message.contains("passthrough is true, which is of SPDK's"), "{message}");
    assert!(message.ends_with("give false, or leave it out") && change_count == 0, "{message}");
}

#[test]
fn the_transport_is_there_and_a_creation_says_whether_it_suffices() {
    let reactors = reactors::tests::idle();
    let ask = |method: &str, parameters: &Value| {
        with_view(&reactors, |view| perform(view, method, Some(parameters))).map_err(|error| error.message)
    };
    // As SPDK's client sends it.
    let wanted = json!({
        "trtype": "rdma", "max_queue_depth": 128, "no_srq": false, "c2h_success": true, "zcopy": false,
        "dif_insert_or_strip": false, "no_wr_batching": false, "io_unit_size": 8192,
    });
    assert_eq!(ask("nvmf_create_transport", &wanted), Ok(json!(true)));
    for (name, value, part) in [
        ("trtype", json!("TCP"), "trtype is \"TCP\", and should be RDMA"),
        ("max_queue_depth", json!(257), "max_queue_depth is 257, and should be at most 256, or transport.queue_depth"),
        ("max_io_size", json!(1 << 20), "or transport.transfer_size larger"),
        ("zcopy", json!(true), "zcopy is true"),
        ("num_shared_buffers", json!("many"), "and should be a number"),
    ] {
        let mut parameters = wanted.clone();
        parameters[name] = value;
        let message = ask("nvmf_create_transport", &parameters).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
    let described = ask("nvmf_get_transports", &json!({})).unwrap();
    assert_eq!(described[0]["max_queue_depth"], 256);
    assert_eq!((&described[0]["trtype"], &described[0]["no_srq"]), (&json!("RDMA"), &json!(true)));
    assert!(ask("nvmf_get_transports", &json!({ "trtype": "TCP" })).is_err());
}

#[test]
fn the_version_is_our_own() {
    let reactors = reactors::tests::idle();
    let version = with_view(&reactors, |view| perform(view, "spdk_get_version", None)).unwrap();
    assert!(version["version"].as_str().unwrap().starts_with("Quiesce v"), "{version}");
    assert_eq!(version["fields"]["major"], json!(env!("CARGO_PKG_VERSION_MAJOR").parse::<u32>().unwrap()));
}
