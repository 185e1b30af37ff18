//! The host's initialisation against a controller that is sound, refuses at each step, or answers anything.

use crate::controller::{Ask, End, FakeController, run};
use nvmf_core::host::{Attached, HostError, HostIdentity, Initialise};
use nvmf_core::status::Status;
use nvmf_core::wire::{Capabilities, CompletionEntry, ConnectRefusal, QueueCounts, U16, U32, U64, Version};
use proptest::prelude::*;

const NQN: &str = "nqn.2016-06.io.quiesce:one";

fn machine() -> Initialise {
    Initialise::new(&HostIdentity::from_uuid([3; 16]), NQN, 32, 4, 10_000)
}

#[test]
fn a_static_controller_is_asked_for() {
    let mut controller = FakeController::new();
    let mut machine = machine().asking_for(7);
    let end = run(|outcome| machine.next(outcome), &mut controller, |_, _, _, _| {});
    assert_eq!(end.result.unwrap().controller_id, 7);
    assert_eq!(controller.connected.unwrap().controller_id, 7);
}

fn attach(controller: &mut FakeController) -> End<Attached> {
    let mut machine = machine();
    run(|outcome| machine.next(outcome), controller, |_, _, _, _| {})
}

fn peer_error(change: impl FnOnce(&mut FakeController)) -> String {
    let mut controller = FakeController::new();
    change(&mut controller);
    match attach(&mut controller).result {
        Err(HostError::Peer { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sound_controller_is_attached() {
    let mut controller = FakeController::new();
    let attached = attach(&mut controller).result.unwrap();
    assert_eq!(attached.controller_id, 7);
    assert_eq!(attached.io_queue_count, 4);
    assert_eq!(attached.queue_depth_max, 128);
    assert_eq!(attached.transfer_len_max, 128 * 1024);
    assert_eq!(attached.in_capsule_len, 4096);
    assert_eq!((attached.serial_number.as_str(), attached.model_number.as_str()), ("SN1", "Quiesce"));
    let namespaces: Vec<_> =
        attached.namespaces.iter().map(|n| (n.nsid, n.block_len, n.block_count, n.metadata_len, n.uuid)).collect();
    assert_eq!(namespaces, [1, 2, 9].map(|nsid: u8| (u32::from(nsid), 4096, 1 << 20, 0, Some([nsid; 16]))));
    // EN, IOSQES 6, IOCQES 4.
    assert_eq!(controller.configuration.0, 0x0046_0001);
    let connected = controller.connected.unwrap();
    assert_eq!(connected.subsystem_nqn.as_str(), NQN);
    assert_eq!(connected.controller_id, 0xFFFF);
    assert_eq!(
        controller.asked,
        [
            Ask::Connect,
            Ask::Capabilities,
            Ask::Version,
            Ask::Configuration,
            Ask::Status,
            Ask::Controller,
            Ask::QueueCount,
            Ask::ActiveNamespaces,
            Ask::Namespace,
            Ask::Descriptors,
            Ask::Namespace,
            Ask::Descriptors,
            Ask::Namespace,
            Ask::Descriptors,
        ]
    );
}

#[test]
fn a_refusal_at_each_step_names_the_command() {
    let names = [
        "Connect",
        "Property Get of CAP",
        "Property Get of VS",
        "Property Set of CC",
        "Property Get of CSTS",
        "Identify Controller",
        "Set Features: Number of Queues",
        "Identify: active namespaces",
        "Identify Namespace",
        "Identify: namespace descriptors",
    ];
    for (number, name) in (0..).zip(names) {
        let mut machine = machine();
        let end = run(
            |outcome| machine.next(outcome),
            &mut FakeController::new(),
            |count, _, completion, _| {
                if count == number {
                    *completion = CompletionEntry::new(3, Status::INTERNAL_ERROR).to_bytes();
                }
            },
        );
        let status = Status::INTERNAL_ERROR.to_string();
        assert_eq!(end.result.unwrap_err(), HostError::Status { command: name, status });
        assert_eq!(end.step_count, number + 2);
    }
}

#[test]
fn an_answer_cut_short_is_refused_at_each_step_that_has_data() {
    for number in [5, 7, 8] {
        for len in [0, 1, 4095] {
            let mut machine = machine();
            let end = run(
                |outcome| machine.next(outcome),
                &mut FakeController::new(),
                |count, _, _, data| {
                    if count == number {
                        data.truncate(len);
                    }
                },
            );
            let Err(HostError::Peer { what }) = end.result else { panic!() };
            assert!(what.contains(&format!("brought {len} bytes of 4096")), "{what}");
        }
    }
}

#[test]
fn a_refused_connect_names_the_parameter() {
    let mut machine = machine();
    let end = run(
        |outcome| machine.next(outcome),
        &mut FakeController::new(),
        |_, _, completion, _| {
            *completion = CompletionEntry::new(3, Status::CONNECT_INVALID_PARAMETERS)
                .with_result(ConnectRefusal::SUBSYSTEM_NQN.to_result())
                .to_bytes();
        },
    );
    let error = end.result.unwrap_err().to_string();
    assert!(error.contains("Connect failed") && error.contains("no subsystem of this name"), "{error}");
}

#[test]
fn illegal_names_are_not_sent() {
    let mut machine = Initialise::new(&HostIdentity::from_uuid([3; 16]), "iqn.x", 32, 1, 0);
    let mut controller = FakeController::new();
    let end = run(|outcome| machine.next(outcome), &mut controller, |_, _, _, _| {});
    let error = end.result.unwrap_err().to_string();
    assert_eq!(error, "subsystem NQN is \"iqn.x\": an NVMe qualified name starts with \"nqn.\"");
    assert_eq!(controller.asked, []);
}

#[test]
fn readiness_is_waited_for_as_long_as_the_controller_says() {
    let mut controller = FakeController::new();
    controller.not_ready_count = 9;
    let end = attach(&mut controller);
    assert!(end.result.is_ok());
    // 1 + 2 + … + 32, then 64 each.
    assert_eq!(end.waited_ns, (63 + 3 * 64) * 1_000_000);

    for (timeout_500ms, expected_ns) in [(0, 500_000_000), (2, 1_000_000_000), (255, 127_500_000_000)] {
        let mut controller = FakeController::new();
        controller.capabilities = Capabilities::new(31, timeout_500ms).0;
        controller.not_ready_count = u32::MAX;
        let end = attach(&mut controller);
        assert_eq!(end.waited_ns, expected_ns);
        assert!(end.result.unwrap_err().to_string().contains("CAP.TO"));
    }
}

#[test]
fn a_controller_that_cannot_be_used_is_refused() {
    assert!(peer_error(|c| c.capabilities = 0x10_0000_0000 << 8).contains("CSS"));
    assert!(peer_error(|c| c.capabilities = Capabilities::new(0, 1).0).contains("MQES"));
    assert!(peer_error(|c| c.controller_id = 0xFFF0).contains("0xfff0"));
    assert!(peer_error(|c| c.controller_id = 8).contains("8, Identify Controller says 7"));
    assert!(peer_error(|c| c.page.sgls = U32::new(1)).contains("SGLS"));
    assert!(peer_error(|c| c.page.sgls = U32::new(4)).contains("SGLS"));
    assert!(peer_error(|c| c.page.command_capsule_16b = U32::new(3)).contains("IOCCSZ"));
    assert!(peer_error(|c| c.page.response_capsule_16b = U32::new(0)).contains("IORCSZ"));
    assert!(peer_error(|c| c.page.keep_alive_granularity_100ms = U16::new(0)).contains("KAS"));
    assert!(peer_error(|c| c.nsids = vec![1, u32::MAX]).contains("0xffffffff"));
    assert!(peer_error(|c| c.namespace.flbas = 1).contains("FLBAS"));
    assert!(peer_error(|c| c.namespace.lba_formats[0].block_len_exponent = 8).contains("LBADS"));
    assert!(peer_error(|c| c.namespace.lba_formats[0].block_len_exponent = 32).contains("LBADS"));
    assert!(peer_error(|c| c.namespace.block_count = U64::new(u64::MAX)).contains("64 bits"));
}

#[test]
fn a_list_that_does_not_ascend_is_refused() {
    let mut machine = machine();
    let end = run(
        |outcome| machine.next(outcome),
        &mut FakeController::new(),
        |count, _, _, data| {
            if count == 7 {
                data[4..8].copy_from_slice(&1u32.to_le_bytes());
            }
        },
    );
    assert!(end.result.unwrap_err().to_string().contains("0x1 after 0x1"));
}

#[test]
fn limits_of_the_controller_become_limits_of_the_host() {
    let with = |change: &dyn Fn(&mut FakeController)| {
        let mut controller = FakeController::new();
        change(&mut controller);
        attach(&mut controller).result.unwrap()
    };
    assert_eq!(with(&|c| c.page.mdts = 0).transfer_len_max, 0x00FF_F000);
    assert_eq!(with(&|c| c.page.mdts = 255).transfer_len_max, 0x00FF_F000);
    assert_eq!(with(&|c| c.page.mdts = 1).transfer_len_max, 8192);
    assert_eq!(with(&|c| c.page.command_count_max = U16::new(0)).queue_depth_max, 1024);
    assert_eq!(with(&|c| c.page.command_count_max = U16::new(2000)).queue_depth_max, 1024);
    assert_eq!(with(&|c| c.page.command_capsule_16b = U32::new(4)).in_capsule_len, 0);
    assert_eq!(with(&|c| c.page.command_capsule_16b = U32::new(u32::MAX)).in_capsule_len, u32::MAX);
    assert_eq!(with(&|c| c.page.in_capsule_data_offset_16b = U16::new(1)).in_capsule_len, 0);
    assert_eq!(with(&|c| c.page.sgls = U32::new(0b101)).in_capsule_len, 0);
    assert_eq!(with(&|c| c.granted = QueueCounts { submission: 9, completion: 9 }).io_queue_count, 4);
    assert_eq!(with(&|c| c.granted = QueueCounts { submission: 9, completion: 2 }).io_queue_count, 2);
    assert_eq!(with(&|c| c.namespace.lba_formats[0].metadata_len = U16::new(8)).namespaces[0].metadata_len, 8);
    assert_eq!(with(&|c| c.namespace.block_count = U64::new(0)).namespaces, []);
    // Descriptors exist since 1.3.
    assert_eq!(with(&|c| c.version = Version::new(1, 2, 1)).namespaces[0].uuid, None);
    assert_eq!(with(&|c| c.nsids.clear()).namespaces, []);
}

#[test]
fn lists_of_many_namespaces_are_read_page_by_page() {
    for count in [1023, 1024, 1025, 3000, 8192] {
        let mut controller = FakeController::new();
        controller.nsids = (1..=count).map(|nsid| nsid * 2).collect();
        let attached = attach(&mut controller).result.unwrap();
        let found: Vec<u32> = attached.namespaces.iter().map(|namespace| namespace.nsid).collect();
        assert_eq!(found, controller.nsids);
    }
    assert!(peer_error(|c| c.nsids = (1..=8193).collect()).contains("more than 8192 namespaces"));
}

#[test]
fn without_io_queues_none_are_asked_for() {
    let mut machine = Initialise::new(&HostIdentity::from_uuid([3; 16]), NQN, 32, 0, 0);
    let mut controller = FakeController::new();
    controller.page.keep_alive_granularity_100ms = U16::new(0);
    let end = run(|outcome| machine.next(outcome), &mut controller, |_, _, _, _| {});
    assert_eq!(end.result.unwrap().io_queue_count, 0);
    assert!(!controller.asked.contains(&Ask::QueueCount));
}

#[test]
fn descriptors_that_will_never_come_are_done_without() {
    let mut machine = machine();
    let end = run(
        |outcome| machine.next(outcome),
        &mut FakeController::new(),
        |_, controller, completion, data| {
            if controller.asked.last() == Some(&Ask::Descriptors) {
                *completion = CompletionEntry::new(3, Status::INVALID_FIELD).to_bytes();
                data.fill(0xFF);
            }
        },
    );
    let attached = end.result.unwrap();
    assert_eq!(attached.namespaces.len(), 3);
    assert!(attached.namespaces.iter().all(|namespace| namespace.uuid.is_none()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Every answer may have wrong bytes in it, or too few. It ends, without a panic, one way or the other.
    #[test]
    fn anything_may_be_answered(
        twists in proptest::collection::vec((0u32..16, any::<bool>(), 0usize..4096, any::<[u8; 4]>(), 0usize..8192), 0..6),
        not_ready_count in 0u32..4,
    ) {
        let mut controller = FakeController::new();
        controller.not_ready_count = not_ready_count;
        let mut machine = machine();
        let end = run(|outcome| machine.next(outcome), &mut controller, |count, _, completion, data| {
            for (when, in_data, at, bytes, len) in &twists {
                if *when != count { continue }
                let target: &mut [u8] = if *in_data { data.truncate(*len); data } else { completion };
                if target.is_empty() { continue }
                for (offset, byte) in bytes.iter().enumerate() {
                    let place = (at + offset) % target.len();
                    target[place] = *byte;
                }
            }
        });
        if let Err(error) = end.result {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// Nothing but noise, with a status of success so that it gets on.
    #[test]
    fn noise_may_be_answered(noise in proptest::collection::vec(any::<u8>(), 64..512), result: u64) {
        let mut machine = machine();
        let end = run(|outcome| machine.next(outcome), &mut FakeController::new(), |count, _, completion, data| {
            if count > 0 {
                completion[..8].copy_from_slice(&result.to_le_bytes());
            }
            for (place, byte) in data.iter_mut().zip(noise.iter().cycle()) {
                *place = *byte;
            }
        });
        let _ = end.result;
    }
}
