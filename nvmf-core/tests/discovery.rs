//! Discovery: what the log says beside subsystems, and who is told when that changes.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod harness;

use std::sync::Arc;

use harness::device::TestDevice;
use harness::{Conn, NQN, Options, World, command, keyed, listener, namespace};
use nvmf_core::limits::REFERRAL_COUNT_MAX;
use nvmf_core::spec::{ControllerSpec, ReferralSpec};
use nvmf_core::status::Status;
use nvmf_core::target::Target;
use nvmf_core::wire::{
    AsyncEvent, DISCOVERY_NQN, DiscoveryEntry, DiscoveryHeader, SglDescriptor, TransportKind, trim_text,
};
use zerocopy::FromBytes;

fn world() -> World {
    World::new(Options::new(vec![namespace(1, Arc::new(TestDevice::new("disk", 1000)))]))
}

fn connect(world: &mut World) -> Conn {
    let (admin, _) = world.connect_admin(0, DISCOVERY_NQN, 0);
    world.enable(admin);
    admin
}

/// GENCTR, and of each entry SUBTYPE, EFLAGS, TREQ, NQN, address and port.
fn log(world: &mut World, admin: Conn) -> (u64, Vec<String>) {
    let get = command(0x02, 3, 0, keyed(0, 16384), [0x70 | 4095 << 16, 0, 0, 0]).to_bytes();
    assert_eq!(world.execute(admin, get, &[]).status(), Status::SUCCESS);
    let log = world.host_read(0, 0, 16384);
    let header = DiscoveryHeader::ref_from_bytes(&log[..1024]).unwrap();
    let tell = |entry: &DiscoveryEntry| {
        let [nqn, address, service] =
            [trim_text(&entry.subsystem_nqn), trim_text(&entry.address), trim_text(&entry.service)];
        let (kind, flags, needs) = (entry.subsystem_type, entry.flags.get(), entry.requirements);
        format!("{kind} {flags:02b} {needs} {nqn} {address} {service}")
    };
    let entries = log[1024..].chunks_exact(1024).take(header.entry_count.get() as usize);
    (header.generation.get(), entries.map(|entry| tell(DiscoveryEntry::ref_from_bytes(entry).unwrap())).collect())
}

fn referral(address: &str) -> ReferralSpec {
    ReferralSpec::new(address.parse().unwrap())
}

const OURS: &str = "2 00 2 nqn.2024-01.example:disk 127.0.0.1 4420";
const ITSELF: &str = "3 11 2 nqn.2014-08.org.nvmexpress.discovery 127.0.0.1 4420";

#[test]
fn the_log_says_where_it_is_itself_and_who_else_to_ask() {
    let mut world = world();
    let admin = connect(&mut world);
    let ours = OURS.replace("nqn.2024-01.example:disk", NQN);
    assert_eq!(listener().to_string(), "127.0.0.1:4420");
    assert_eq!(log(&mut world, admin), (1, vec![ours.clone(), ITSELF.into()]));
    world.send(admin, command(0x0C, 0x700, 0, SglDescriptor::NO_DATA, [0; 4]).to_bytes(), &[]);
    world.run(60);
    let secure = ReferralSpec { needs_secure_channel: true, ..referral("10.0.0.9:8009") };
    for (spec, generation) in [(referral("[fd00::9]:8009"), 2), (secure.clone(), 3)] {
        let change = world.change(move |target| target.add_referral(spec)).unwrap();
        world.finish(change);
        world.run(60);
        if generation == 2 {
            let told = world.responses(admin).into_iter().find(|answer| answer.command_id.get() == 0x700).unwrap();
            assert_eq!(AsyncEvent::from_result(told.result.get()), AsyncEvent::DISCOVERY_CHANGED);
        }
        assert_eq!(log(&mut world, admin).0, generation);
    }
    let first = "1 00 2 nqn.2014-08.org.nvmexpress.discovery fd00::9 8009";
    let second = "1 00 1 nqn.2014-08.org.nvmexpress.discovery 10.0.0.9 8009";
    assert_eq!(log(&mut world, admin), (3, vec![ours.clone(), first.into(), second.into(), ITSELF.into()]));
    // What is needed there is no part of its name.
    let plain = ReferralSpec { needs_secure_channel: false, ..secure };
    let change = world.change(move |target| target.remove_referral(&plain)).unwrap();
    world.finish(change);
    assert_eq!(log(&mut world, admin), (4, vec![ours, first.into(), ITSELF.into()]));
    world.shut_down();
}

#[test]
fn what_is_there_twice_or_not_at_all_is_named() {
    let mut world = world();
    let removed = world.change(|target| target.remove_referral(&referral("10.0.0.9:8009"))).unwrap_err();
    assert_eq!(
        removed.to_string(),
        "address is 10.0.0.9:8009, and should be that of a referral for nqn.2014-08.org.nvmexpress.discovery; there is: none"
    );
    for (spec, text) in [
        (ReferralSpec { subsystem_nqn: "far".into(), ..referral("10.0.0.9:1") }, "subnqn is far"),
        (ReferralSpec { transport: TransportKind::FibreChannel, ..referral("10.0.0.9:1") }, "trtype is FibreChannel"),
        (referral("0.0.0.0:1"), "address is 0.0.0.0:1"),
        (referral("10.0.0.9:0"), "address is 10.0.0.9:0"),
    ] {
        let told = world.change(move |target| target.add_referral(spec)).unwrap_err().to_string();
        assert!(told.contains(text), "{told}");
    }
    for port in 1..=REFERRAL_COUNT_MAX as u16 {
        let spec = referral(&format!("10.0.0.9:{port}"));
        let change = world.change(move |target| target.add_referral(spec)).unwrap();
        world.finish(change);
    }
    let mut refused =
        |spec: ReferralSpec| world.change(move |target| target.add_referral(spec)).unwrap_err().to_string();
    assert!(refused(referral("10.0.0.9:1")).contains("remove that referral first"));
    assert!(refused(referral("10.0.0.8:1")).contains("referrals (their number) is 65: 0 to 64"));
    world.shut_down();
}

#[test]
fn a_target_starts_with_referrals_and_refuses_two_alike() {
    let sim = reactor::Simulation::<harness::Letter>::new(1, 1);
    let target = |addresses: &[&str]| {
        let mut spec = harness::target_spec(Vec::new(), ControllerSpec::default());
        spec.referrals = addresses.iter().map(|address| referral(address)).collect();
        Target::new(sim.domain(), 1, spec)
    };
    assert_eq!(target(&["10.0.0.9:1", "10.0.0.9:2"]).unwrap().referrals().count(), 2);
    let error = target(&["10.0.0.9:1", "10.0.0.9:1"]).err().unwrap().to_string();
    assert_eq!(error, "referral to 10.0.0.9:1: address is 10.0.0.9:1: each address once for each NQN");
}
