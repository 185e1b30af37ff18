//! The host's discovery against a log that is sound, changes while it is read, or is hostile.

use crate::controller::{Ask, End, FakeController, run};
use nvmf_core::host::{DISCOVERED_COUNT_MAX, Discover, Discovered, HostError, HostIdentity};
use nvmf_core::wire::{DISCOVERY_NQN, DiscoveryEntry, Nqn, SubsystemType, TransportKind};
use proptest::prelude::*;

fn discover(
    controller: &mut FakeController,
    twist: impl FnMut(u32, &FakeController, &mut [u8; 16], &mut Vec<u8>),
) -> End<Vec<Discovered>> {
    let mut machine = Discover::new(&HostIdentity::from_uuid([3; 16]), 32);
    run(|outcome| machine.next(outcome), controller, twist)
}

fn with_entries(count: u16) -> FakeController {
    let mut controller = FakeController::new();
    controller.entries = (0..count)
        .map(|port_id| {
            let nqn = Nqn::new(&format!("nqn.2016-06.io.quiesce:{port_id}")).unwrap();
            DiscoveryEntry::rdma(SubsystemType::Nvm, &nqn, "127.0.0.1:4420".parse().unwrap(), port_id, 32)
        })
        .collect();
    controller
}

#[test]
fn a_log_is_read_whole() {
    for count in [0, 1, 3, 4, 5, 9] {
        let mut controller = with_entries(count);
        let found = discover(&mut controller, |_, _, _, _| {}).result.unwrap();
        assert_eq!(found.len(), usize::from(count));
        for (port_id, entry) in (0..).zip(&found) {
            assert_eq!(entry.port_id, port_id);
            assert_eq!(entry.subsystem_nqn.as_str(), format!("nqn.2016-06.io.quiesce:{port_id}"));
            assert_eq!(entry.transport, Some(TransportKind::Rdma));
            assert_eq!(entry.subsystem_type, Some(SubsystemType::Nvm));
            assert_eq!(entry.socket_address(), Some("127.0.0.1:4420".parse().unwrap()));
            assert_eq!((entry.controller_id, entry.admin_queue_depth_max), (0xFFFF, 32));
        }
        assert_eq!(controller.connected.unwrap().subsystem_nqn.as_str(), DISCOVERY_NQN);
        let log_pages = controller.asked.iter().filter(|ask| **ask == Ask::LogPage).count();
        assert_eq!(log_pages, 2 + usize::from(count).div_ceil(4));
    }
}

#[test]
fn a_log_that_changes_is_read_again() {
    let mut controller = with_entries(5);
    // The second look at the header, and the third, find another generation.
    controller.change_at_header = vec![2, 3];
    let found = discover(&mut controller, |_, _, _, _| {}).result.unwrap();
    assert_eq!(found.len(), 5);
    let log_pages = controller.asked.iter().filter(|ask| **ask == Ask::LogPage).count();
    assert_eq!(log_pages, 4 + 3 * 2);
}

#[test]
fn a_log_that_always_changes_is_given_up() {
    let mut controller = with_entries(5);
    controller.change_at_header = (2..100).collect();
    let error = discover(&mut controller, |_, _, _, _| {}).result.unwrap_err();
    assert!(error.to_string().contains("changed 8 times"), "{error}");
}

fn peer_error(twist: impl FnMut(u32, &FakeController, &mut [u8; 16], &mut Vec<u8>)) -> String {
    match discover(&mut with_entries(3), twist).result {
        Err(HostError::Peer { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hostile_log_is_refused() {
    // Answer 5 is the header, 6 the entries.
    for claimed in [DISCOVERED_COUNT_MAX + 1, u64::MAX] {
        let what = peer_error(|count, _, _, data| {
            if count == 5 {
                data[8..16].copy_from_slice(&claimed.to_le_bytes());
            }
        });
        assert!(what.contains(&claimed.to_string()), "{what}");
    }
    assert!(
        peer_error(|count, _, _, data| if count == 5 {
            data[16] = 1
        })
        .contains("record format 1")
    );
    assert!(
        peer_error(|count, _, _, data| if count == 5 {
            data.truncate(1023)
        })
        .contains("1023 bytes of 1024")
    );
    assert!(
        peer_error(|count, _, _, data| if count == 6 {
            data.truncate(3071)
        })
        .contains("ends in entry 2")
    );
    assert!(
        peer_error(|count, _, _, data| if count == 6 {
            data[1024 + 256..1024 + 512].fill(b'a')
        })
        .contains("entry 1")
    );
}

#[test]
fn unknown_kinds_and_addresses_are_kept_as_they_are() {
    let found = discover(&mut with_entries(1), |count, _, _, data| {
        if count == 6 {
            data[0] = 99;
            data[1] = 98;
            data[2] = 97;
            data[512..516].copy_from_slice(b"\x1B[2J");
        }
    });
    let entry = &found.result.unwrap()[0];
    assert_eq!((entry.transport, entry.address_family, entry.subsystem_type), (None, None, None));
    assert_eq!(entry.address, "?[2J0.0.1");
    assert_eq!(entry.socket_address(), None);
}

proptest! {
    #[test]
    fn anything_may_be_answered(
        twists in proptest::collection::vec((0u32..12, any::<bool>(), 0usize..4096, any::<[u8; 4]>(), 0usize..8192), 0..6),
        count in 0u16..12,
    ) {
        let end = discover(&mut with_entries(count), |number, _, completion, data| {
            for (when, in_data, at, bytes, len) in &twists {
                if *when != number { continue }
                let target: &mut [u8] = if *in_data { data.truncate(*len); data } else { completion };
                if target.is_empty() { continue }
                for (offset, byte) in bytes.iter().enumerate() {
                    let place = (at + offset) % target.len();
                    target[place] = *byte;
                }
            }
        });
        if let Ok(found) = end.result {
            for entry in found {
                let _ = entry.socket_address();
            }
        }
    }
}
