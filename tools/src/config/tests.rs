//! The texts that a person sees.

use std::path::Path;

use bdev::{Affected, ClusterOptions, Effect};

use super::*;

mod fuzz;
mod reference;
mod saved;

const SMALLEST: &str = r#"
[[device]]
name = "disk0"
type = "memory"
size = "64MiB"

[[subsystem]]
nqn = "nqn.2026-11.io.quiesce:demo"
allow_any_host = true
listeners = ["127.0.0.1:4420"]
[[subsystem.namespace]]
device = "disk0"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("t.toml"), text, &[0, 1]).map_err(|error| error.to_string())
}

/// The errors of the smallest file with `from` replaced.
fn errors(from: &str, to: &str) -> String {
    assert!(SMALLEST.contains(from), "{from}");
    parse(&SMALLEST.replacen(from, to, 1)).expect_err("must be refused")
}

/// The errors of the smallest file with more in front of it.
fn errors_with(more: &str) -> String {
    parse(&format!("{more}{SMALLEST}")).expect_err("must be refused")
}

#[test]
fn the_smallest_file_gets_sensible_defaults() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!(config.target.reactors, ReactorSection::Pinned(vec![0]));
    assert_eq!(config.target.poll_mode, PollMode::ADAPTIVE);
    assert_eq!((config.target.turn_limit_us, config.target.stall_limit_ms), (50_000, 1000));
    assert!(config.target.hugepages);
    assert_eq!(config.target.shutdown_deadline_s, 10);
    assert_eq!(config.transport.provider, ProviderKind::Auto);
    assert_eq!((config.transport.queue_depth, config.transport.in_capsule_len), (256, 4096));
    assert_eq!(config.devices[0].kind, DeviceKind::Memory { len: 64 << 20 });
    assert_eq!(config.devices[0].block_len, 512);
    let subsystem = &config.subsystems[0];
    assert_eq!((subsystem.namespaces[0].nsid, subsystem.namespaces[0].uuid), (1, None));
    assert_eq!(subsystem.model_number, "Quiesce");
    assert_eq!(subsystem.serial_number.len(), 18);
    assert!(config.metrics.is_none() && config.rpc.is_none());
}

#[test]
fn a_misspelt_field_is_named_with_the_one_that_was_meant() {
    let text = errors_with("[transport]\nqueue_dept = 64\n");
    assert!(
        text.starts_with("t.toml:2:1: unknown field `queue_dept`, expected one of `provider`, `device`, `queue_depth`"),
        "{text}"
    );
    assert!(text.ends_with("did you mean `queue_depth`?"), "{text}");
    let text = errors_with("[tarnsport]\n");
    assert!(text.starts_with("t.toml:1:2: unknown field `tarnsport`"), "{text}");
    assert!(text.ends_with("did you mean `transport`?"), "{text}");
}

#[test]
fn static_controllers_have_few_ids() {
    let subsystem =
        |more: &str| SMALLEST.replacen("allow_any_host = true", &format!("allow_any_host = true\n{more}"), 1);
    let config = parse(&subsystem("controller_model = \"static\"\nmin_cntlid = 5\nmax_cntlid = 9")).unwrap();
    assert_eq!(config.subsystems[0].controller_model, ControllerModel::Static);
    assert_eq!(parse(SMALLEST).unwrap().subsystems[0].controller_model, ControllerModel::Dynamic);
    for (more, expected) in [
        ("controller_model = \"fixed\"", "controller_model is \"fixed\": \"dynamic\" or \"static\""),
        ("controller_model = \"static\"", "with min_cntlid and max_cntlid at most 1024 apart"),
    ] {
        let error = parse(&subsystem(more)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let with_file = subsystem("controller_model = \"static\"\nmax_cntlid = 9") + "ptpl_file = \"/var/lib/quiesce/r\"\n";
    let error = parse(&with_file).unwrap_err();
    assert!(error.contains("left out where controllers are static"), "{error}");
}

#[test]
fn what_is_no_toml_is_told_as_the_parser_tells_it() {
    let error = parse("[target]\nhugepages = truee\n").unwrap_err();
    assert!(!error.contains("hugepages is"), "{error}");
    assert!(error.starts_with("t.toml:2:"), "{error}");
}

#[test]
fn a_wrong_type_names_field_and_value() {
    assert_eq!(
        errors_with("[transport]\nqueue_depth = \"deep\"\n"),
        "t.toml:2:15: transport.queue_depth is string \"deep\": allowed is a whole number"
    );
    assert_eq!(
        errors("\"64MiB\"", "\"64 megs\""),
        "t.toml:5:8: device.size is string \"64 megs\": allowed is a size such as \"64MiB\", \"1GiB\", \"4K\" \
         (K, M, G, T count in 1024s) or a number of bytes"
    );
    assert_eq!(errors_with("[target\n"), "t.toml:1:8: unclosed table, expected `]`");
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    assert_eq!(
        errors_with("[transport]\nqueue_depth = 100000\n"),
        "t.toml:2:15: transport.queue_depth is 100000: 2 to 1024"
    );
    assert_eq!(errors_with("[transport]\nqueue_depth = -1\n"), "t.toml:2:15: transport.queue_depth is -1: 2 to 1024");
    assert_eq!(
        errors_with("[target]\ndata_memory = \"1K\"\n"),
        "t.toml:2:15: target.data_memory is 1KiB: 1MiB to 64GiB"
    );
    assert_eq!(
        errors_with("[transport]\ntransfer_size = \"100KiB\"\n"),
        "t.toml:2:17: transport.transfer_size is 100KiB: a power of two, such as \"128KiB\""
    );
    assert_eq!(
        errors_with("[transport]\nin_capsule_size = 100\n"),
        "t.toml:2:19: transport.in_capsule_size is 100: a multiple of 16 bytes"
    );
}

/// What the layers below would refuse later, with no word of the file, or not at all.
#[test]
fn what_is_allowed_is_what_the_target_can_do() {
    for (section, field, most) in [
        ("target", "queue_pairs", 4096),
        ("transport", "io_queues", 1023),
        ("transport", "queue_depth", 1024),
        ("transport", "admin_queue_depth", 1024),
    ] {
        assert!(parse(&format!("[{section}]\n{field} = {most}\n{SMALLEST}")).is_ok(), "{field}");
        let text = errors_with(&format!("[{section}]\n{field} = {}\n", most + 1));
        assert!(text.contains(&format!("{section}.{field} is {}: ", most + 1)), "{text}");
        assert!(text.ends_with(&format!(" to {most}")), "{text}");
    }
    for size in ["4KiB", "8MiB"] {
        let text = errors_with(&format!("[transport]\ntransfer_size = \"{size}\"\n"));
        assert!(text.ends_with(&format!("transport.transfer_size is {size}: 8KiB to 4MiB")), "{text}");
    }
    assert_eq!(
        errors_with("[target]\ndata_memory = \"8MiB\"\n[transport]\ntransfer_size = \"4MiB\"\n"),
        "t.toml:2:15: target.data_memory is 8MiB: at least 16MiB for 4 of the largest transfers (transport.transfer_size)"
    );
}

#[test]
fn cpus_are_those_of_this_process() {
    assert_eq!(errors_with("[target]\ncpus = [0, 7]\n"), "t.toml:2:12: target.cpus is 7: this process may use 0-1");
    assert_eq!(errors_with("[target]\ncpus = [-1]\n"), "t.toml:2:9: target.cpus is -1: this process may use 0-1");
    assert_eq!(
        errors_with("[target]\ncpus = [1, 1]\n"),
        "t.toml:2:12: target.cpus is 1: named twice: each CPU polls once (target.reactors has more reactors than CPUs)"
    );
    assert_eq!(errors_with("[target]\ncpus = []\n"), "t.toml:2:8: target.cpus is []: at least one CPU, such as [0]");
}

#[test]
fn reactors_are_pinned_to_cpus_or_counted() {
    let target = |more: &str| parse(&format!("[target]\n{more}\n{SMALLEST}")).unwrap().target;
    let floating = target("reactors = 4");
    assert_eq!(floating.reactors, ReactorSection::Floating(4));
    assert_eq!((floating.reactors.count(), floating.poll_mode), (4, PollMode::Yielding));
    let adaptive = target("reactors = 2\npoll_mode = \"adaptive\"\nspin_us = 0");
    assert_eq!(adaptive.poll_mode, PollMode::Adaptive { spin_ns: 0, pause_ns: 900_000 });
    assert_eq!(
        errors_with("[target]\ncpus = [0]\nreactors = 4\n"),
        "t.toml:3:12: target.reactors is 4: not together with target.cpus: cpus pins one reactor to each, reactors are not \
         pinned; leave one of the two out"
    );
    assert_eq!(errors_with("[target]\nreactors = 0\n"), "t.toml:2:12: target.reactors is 0: 1 to 128");
    assert_eq!(
        errors_with("[target]\nreactors = 4\npoll_mode = \"busy\"\n"),
        "t.toml:3:13: target.poll_mode is \"busy\": \"adaptive\" or \"yielding\" with target.reactors, whose threads share \
         CPUs; pin them with target.cpus to poll without pause"
    );
}

#[test]
fn poll_modes_have_words_and_one_has_times() {
    let mode = |more: &str| parse(&format!("[target]\n{more}\n{SMALLEST}")).unwrap().target.poll_mode;
    assert_eq!(mode("poll_mode = \"busy\""), PollMode::Busy);
    assert_eq!(mode("poll_mode = \"yielding\""), PollMode::Yielding);
    assert_eq!(mode("spin_us = 5\npause_us = 1000000"), PollMode::Adaptive { spin_ns: 5000, pause_ns: 1_000_000_000 });
    assert_eq!(
        errors_with("[target]\npoll_mode = \"lazy\"\nspin_us = 2\n"),
        "t.toml:2:13: target.poll_mode is \"lazy\": \"adaptive\" or \"busy\" or \"yielding\""
    );
    assert_eq!(
        errors_with("[target]\npoll_mode = \"busy\"\npause_us = 2\n"),
        "t.toml:3:12: target.pause_us is 2: only for poll_mode = \"adaptive\", and this is \"busy\""
    );
    assert_eq!(errors_with("[target]\nspin_us = 1000001\n"), "t.toml:2:11: target.spin_us is 1000001: 0 to 1000000");
    assert_eq!(
        errors_with("[target]\nturn_limit_us = 0\nstall_limit_ms = 999\n"),
        "t.toml:2:17: target.turn_limit_us is 0: 1 to 10000000\n\
         t.toml:3:18: target.stall_limit_ms is 999: 1000 to 3600000"
    );
}

#[test]
fn words_are_chosen_from_a_list() {
    assert_eq!(
        errors_with("[transport]\nprovider = \"mlx5\"\n"),
        "t.toml:2:12: transport.provider is \"mlx5\": \"auto\" or \"soft\" or \"ibv\""
    );
    assert_eq!(errors_with("[log]\nformat = \"xml\"\n"), "t.toml:2:10: log.format is \"xml\": \"text\" or \"json\"");
    assert_eq!(
        errors_with("[log]\nlevel = \"loud=9\"\n"),
        "t.toml:2:9: log.level is \"loud=9\": error, warn, info, debug or trace, or a filter such as \"info,bdev=debug\""
    );
    assert_eq!(
        errors("\"memory\"", "\"ramdisk\""),
        "t.toml:4:8: device \"disk0\": type is \"ramdisk\": \"memory\", \"null\", \"file\", \"nvme\", \"rbd\", \"fault\", \"delay\" or \"partition\""
    );
}

#[test]
fn devices_say_what_they_miss_and_what_does_not_belong_to_them() {
    assert_eq!(
        errors("size = \"64MiB\"", ""),
        "t.toml:4:8: device \"disk0\": size is missing: such as size = \"64MiB\""
    );
    assert_eq!(
        errors("size = \"64MiB\"", "size = 1000"),
        "t.toml:5:8: device \"disk0\": size is 1000 bytes: a multiple of the block size, 512, and not 0"
    );
    assert_eq!(
        errors("size = \"64MiB\"", "size = 4096\nblock_size = 1024"),
        "t.toml:6:14: device \"disk0\": block_size is 1024: 512 or 4096"
    );
    assert_eq!(
        errors("size = \"64MiB\"", "size = 4096\npath = \"x\""),
        "t.toml:6:8: device \"disk0\": path: only for types \"file\" and \"nvme\", not for type \"memory\""
    );
    assert_eq!(
        errors("\"memory\"\nsize = \"64MiB\"", "\"nvme\"\npath = \"/dev/ng0n1\"\nblock_size = 512"),
        "t.toml:6:14: device \"disk0\": block_size: only for types \"memory\", \"null\", \"file\" and \"rbd\" (others have their own), not for type \"nvme\""
    );
    assert_eq!(
        errors("\"memory\"\nsize = \"64MiB\"", "\"nvme\""),
        "t.toml:4:8: device \"disk0\": path is missing: such as path = \"/dev/ng0n1\""
    );
    let drive =
        SMALLEST.replacen("\"memory\"\nsize = \"64MiB\"", "\"nvme\"\npath = \"/dev/ng0n1\"\nqueue_depth = 7", 1);
    let drive = &parse(&drive).unwrap().devices[0];
    assert_eq!(drive.kind, DeviceKind::Nvme { path: "/dev/ng0n1".into(), read_only: false, queue_depth: 7 });
    assert_eq!(
        errors("\"memory\"\nsize = \"64MiB\"", "\"file\""),
        "t.toml:4:8: device \"disk0\": path is missing: such as path = \"disk.img\""
    );
}

#[test]
fn an_rbd_device_names_its_image_and_others_do_not() {
    let with = |more: &str| parse(&format!("{SMALLEST}[[device]]\nname = \"ceph\"\ntype = \"rbd\"\n{more}"));
    let devices = with("pool = \"rbd\"\nimage = \"a\"\nconf = \"c.conf\"\nfenced = true\n").unwrap().devices;
    let section = RbdSection {
        pool: "rbd".to_owned(),
        image: "a".to_owned(),
        namespace: None,
        snapshot: None,
        cluster: RbdCluster::Own(ClusterOptions { config_file: Some("c.conf".into()), ..ClusterOptions::default() }),
        read_only: false,
        fenced: true,
        queue_depth: 128,
    };
    assert_eq!(devices[1].kind, DeviceKind::Rbd(section));
    for (text, error) in [
        ("pool = \"rbd\"\n", "t.toml:15:8: device \"ceph\": image is missing: such as image = \"image0\""),
        ("pool = \"rbd\"\nimage = \"\"\n", "t.toml:17:9: device \"ceph\": image is \"\": a name"),
        (
            "pool = \"rbd\"\nimage = \"a\"\nsnapshot = \"s\"\nfenced = true\n",
            "t.toml:19:10: device \"ceph\": fenced is true: false for what takes no writes: it has no lock",
        ),
        (
            "pool = \"rbd\"\nimage = \"a\"\npath = \"x\"\n",
            "t.toml:18:8: device \"ceph\": path: only for types \"file\" and \"nvme\", not for type \"rbd\"",
        ),
    ] {
        assert_eq!(with(text).unwrap_err(), error, "{text}");
    }
    assert_eq!(
        errors("size = \"64MiB\"", "size = 4096\nfenced = true"),
        "t.toml:6:10: device \"disk0\": fenced: only for type \"rbd\", not for type \"memory\""
    );
}

#[test]
fn what_goes_wrong_from_the_start() {
    let devices = |rule: &str| {
        let spare = "[[device]]\nname = \"spare\"\ntype = \"null\"\nsize = \"1G\"\n";
        let fault = "[[device]]\nname = \"faulty\"\ntype = \"fault\"\nbase = \"spare\"\nseed = 7\n";
        parse(&format!("{SMALLEST}{spare}{fault}[[device.fault]]\n{rule}")).map(|config| config.devices)
    };
    let rules = |rule: &str| {
        let kind = &devices(rule).unwrap()[2].kind;
        let DeviceKind::Fault { seed: 7, rules, .. } = kind else { panic!("{kind:?}") };
        rules.clone()
    };
    assert_eq!(
        rules("io_type = \"write\"\nerror_type = \"torn\"\none_in = 10\nstart_block = 8\nnum_blocks = 4"),
        [Rule { one_in: 10, blocks: Some(8..12), ..Rule::always(Affected::Write, Effect::Tear) }]
    );
    assert_eq!(
        rules("io_type = \"read\"\nerror_type = \"pending\"\npending_us = 5\nnum = 3\nqueue_depth = 2"),
        [Rule { count: Some(3), outstanding_min: 2, ..Rule::always(Affected::Read, Effect::StallFor { ns: 5000 }) }]
    );
    assert_eq!(rules("io_type = \"all\"\nerror_type = \"failure\"").len(), 4);
    let faulty = "device \"faulty\": fault.";
    for (rule, error) in [
        (
            "io_type = \"reed\"\nerror_type = \"torn\"",
            "t.toml:23:11: {}io_type is \"reed\": \"read\", \"write\", \"unmap\", \"flush\" or \"all\"",
        ),
        (
            "io_type = \"read\"\nerror_type = \"fail\"",
            "t.toml:24:14: {}error_type is \"fail\": \"failure\", \"pending\", \"nomem\", \"corrupt_data\", \"lost\", \"torn\" or \"unforced\"",
        ),
        (
            "io_type = \"read\"\nerror_type = \"corrupt_data\"",
            "t.toml:24:14: {}corrupt_value is missing: 1 to 255: the bits of the byte that are turned over",
        ),
        ("io_type = \"read\"\nerror_type = \"torn\"\nnum = 0", "t.toml:25:7: {}num is 0: 1 to 4294967295"),
    ] {
        assert_eq!(devices(rule).unwrap_err().to_string(), error.replace("{}", faulty));
    }
}

#[test]
fn a_fault_device_is_made_of_one_that_stands_before_it() {
    let with = |more: &str| parse(&format!("{SMALLEST}{more}")).map(|config| config.devices);
    let fault = "[[device]]\nname = \"faulty\"\ntype = \"fault\"\n";
    let spare = "[[device]]\nname = \"spare\"\ntype = \"null\"\nsize = \"1G\"\n";
    let devices = with(&format!("{spare}{fault}base = \"spare\"\n")).unwrap();
    assert_eq!(devices[2].kind, DeviceKind::Fault { base: "spare".to_owned(), seed: 0, rules: Vec::new() });
    let named = "device \"faulty\": ";
    for (text, error) in [
        (fault.to_owned(), format!("t.toml:15:8: {named}base is missing: the name of a device that stands before this one")),
        (
            format!("{fault}base = \"spare\"\n{spare}"),
            format!("t.toml:16:8: {named}base is \"spare\": a [[device]] that stands before this one"),
        ),
        (
            format!("{spare}{fault}base = \"spare\"\nsize = \"1G\"\n"),
            format!("t.toml:21:8: {named}size: only for types \"memory\", \"null\" and \"partition\" (others have their own), not for type \"fault\""),
        ),
        (
            format!("{spare}{fault}base = \"spare\"\nblock_size = 4096\n"),
            format!("t.toml:21:14: {named}block_size: only for types \"memory\", \"null\", \"file\" and \"rbd\" (others have their own), not for type \"fault\""),
        ),
        (
            format!("{spare}base = \"disk0\"\n"),
            "t.toml:17:8: device \"spare\": base: only for types \"fault\", \"delay\" and \"partition\", not for type \"null\"".to_owned(),
        ),
        (
            format!("{fault}base = \"disk0\"\n"),
            "t.toml:12:10: subsystem \"nqn.2026-11.io.quiesce:demo\": namespace.device is \"disk0\": one use for each device, \
             and device \"faulty\" has it"
                .to_owned(),
        ),
        (
            format!("{spare}{fault}base = \"spare\"\n{}base = \"spare\"\n", fault.replace("faulty", "worse")),
            "t.toml:24:8: device \"worse\": base is \"spare\": one use for each device, and device \"faulty\" has it".to_owned(),
        ),
    ] {
        assert_eq!(with(&text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn partitions_share_a_device_and_delays_have_two_times_for_each_kind() {
    let with = |more: &str| parse(&format!("{SMALLEST}{more}")).map(|config| config.devices);
    let spare = "[[device]]\nname = \"spare\"\ntype = \"null\"\nsize = \"1G\"\nblock_size = 4096\n";
    let part = |name: &str, more: &str| {
        format!("[[device]]\nname = \"{name}\"\ntype = \"partition\"\nbase = \"spare\"\n{more}\n")
    };
    let delay = "[[device]]\nname = \"slow\"\ntype = \"delay\"\nbase = \"b\"\navg_read_latency_us = 7\np99_write_latency_us = 9\nseed = 3\n";
    let (one, two) = (part("a", "size = \"4K\""), part("b", "offset = 4096"));
    let devices = with(&format!("{spare}{one}{two}{delay}")).unwrap();
    let base = || "spare".to_owned();
    assert_eq!(devices[2].kind, DeviceKind::Partition { base: base(), offset: 0, len: Some(4096) });
    assert_eq!(devices[3].kind, DeviceKind::Partition { base: base(), offset: 4096, len: None });
    assert_eq!((devices[3].block_len, devices[4].block_len), (4096, 4096), "that of the device below");
    let latencies = bdev::Latencies { read_us: 7, read_p99_us: 7, write_us: 0, write_p99_us: 9 };
    assert_eq!(devices[4].kind, DeviceKind::Delay { base: "b".to_owned(), latencies, seed: 3 });
    let error = |text: &str| with(text).unwrap_err();
    assert_eq!(
        error(&format!("{spare}{one}{}", part("c", ""))),
        "t.toml:26:8: device \"c\": base is \"spare\": partitions of a device do not overlap, and device \"a\" has some of these bytes"
    );
    assert_eq!(
        error(&format!("{spare}{}", part("c", "offset = 512"))),
        "t.toml:22:10: device \"c\": offset is 512 bytes: a multiple of the block size, 4096"
    );
    assert_eq!(
        error(&format!("{spare}{}", part("c", "size = 0"))),
        "t.toml:22:8: device \"c\": size is 0 bytes: a multiple of the block size, 4096, and not 0"
    );
    let fault = "[[device]]\nname = \"faulty\"\ntype = \"fault\"\nbase = \"spare\"\n";
    assert_eq!(
        error(&format!("{spare}{fault}{one}")),
        "t.toml:25:8: device \"a\": base is \"spare\": one use for each device, and device \"faulty\" has it"
    );
    assert_eq!(
        error(&format!("{spare}{one}{fault}")),
        "t.toml:26:8: device \"faulty\": base is \"spare\": one use for each device, and device \"a\" has it"
    );
    let late = format!("{spare}{}", delay.replace("\"b\"", "\"spare\"").replace("= 9", "= 86400000001"));
    assert_eq!(error(&late), "t.toml:23:24: device \"slow\": p99_write_latency_us is 86400000001: 0 to 86400000000");
}

#[test]
fn limits_are_of_the_device_and_of_each_host() {
    let with = |more: &str| parse(&SMALLEST.replacen("[[subsystem]]", &format!("{more}\n[[subsystem]]"), 1));
    let limits = with(
        "[device.limits]\niops = 5000\nwrite_bandwidth = \"10MiB\"\nburst_ms = 50\n[device.limits.host]\nread_iops = 7\n",
    );
    let expected = bdev::Limits {
        device: bdev::Rates { operations: 5000, write_bytes: 10 << 20, ..bdev::Rates::default() },
        host: bdev::Rates { reads: 7, ..bdev::Rates::default() },
        burst_ms: 50,
    };
    assert_eq!(limits.unwrap().devices[0].limits, expected);
    assert_eq!(parse(SMALLEST).unwrap().devices[0].limits, bdev::Limits::default());
    let error = with("[device.limits]\nburst_ms = 3\n").unwrap_err();
    assert!(error.ends_with("device \"disk0\": limits.burst_ms is 3: 4 to 10000"), "{error}");
}

#[test]
fn names_that_do_not_meet_are_found() {
    assert_eq!(
        errors("device = \"disk0\"", "device = \"dsik0\""),
        "t.toml:12:10: subsystem \"nqn.2026-11.io.quiesce:demo\": namespace.device is \"dsik0\": there is no such [[device]]; \
         did you mean \"disk0\"?"
    );
    assert_eq!(
        errors("device = \"disk0\"", "device = \"image\""),
        "t.toml:12:10: subsystem \"nqn.2026-11.io.quiesce:demo\": namespace.device is \"image\": there is no such [[device]]; \
         there are disk0"
    );
    let twice = format!("{SMALLEST}[[subsystem.namespace]]\ndevice = \"disk0\"\n");
    assert_eq!(
        parse(&twice).unwrap_err(),
        "t.toml:14:10: subsystem \"nqn.2026-11.io.quiesce:demo\": namespace.device is \"disk0\": one use for each device, \
         and namespace 1 of \"nqn.2026-11.io.quiesce:demo\" has it"
    );
    let same_nsid = format!(
        "{SMALLEST}[[subsystem.namespace]]\ndevice = \"disk1\"\nnsid = 1\n[[device]]\nname = \"disk1\"\ntype = \"null\"\nsize = \"1G\"\n"
    );
    assert_eq!(
        parse(&same_nsid).unwrap_err(),
        "t.toml:15:8: subsystem \"nqn.2026-11.io.quiesce:demo\": namespace.nsid is 1: unique in its subsystem, and device \
         \"disk0\" has this one"
    );
}

#[test]
fn subsystems_that_nobody_could_reach_are_refused() {
    assert_eq!(
        errors("allow_any_host = true\n", ""),
        "t.toml:8:7: subsystem \"nqn.2026-11.io.quiesce:demo\": hosts is missing: list host NQNs, or set allow_any_host = true; \
         nobody could connect (hosts = [] says that this is meant)"
    );
    assert_eq!(
        errors("listeners = [\"127.0.0.1:4420\"]\n", ""),
        "t.toml:8:7: subsystem \"nqn.2026-11.io.quiesce:demo\": listeners is missing: such as listeners = [\"127.0.0.1:4420\"] \
         ([] for none yet)"
    );
    assert_eq!(
        errors("127.0.0.1:4420", "localhost"),
        "t.toml:10:14: subsystem \"nqn.2026-11.io.quiesce:demo\": listeners is \"localhost\": an IP address and a port, such as \
         \"127.0.0.1:4420\" or \"[::1]:4420\""
    );
    assert_eq!(
        errors("127.0.0.1:4420", "0.0.0.0:4420"),
        "t.toml:10:14: subsystem \"nqn.2026-11.io.quiesce:demo\": listeners is \"0.0.0.0:4420\": an address that hosts can connect \
         to, not a wildcard"
    );
    assert_eq!(
        errors("nqn.2026-11.io.quiesce:demo", "demo"),
        "t.toml:8:7: subsystem.nqn is \"demo\": such as \"nqn.2026-11.org.example:disks\", at most 223 bytes"
    );
    assert_eq!(
        parse("").unwrap_err(),
        "t.toml: has no [[subsystem]], and no [rpc] by which one could be made: there would be nothing to connect to"
    );
    assert!(parse("[rpc]\nsocket = \"x.sock\"\n").unwrap().subsystems.is_empty(), "it is told by JSON-RPC");
    // Who says so means it.
    let none = SMALLEST.replace("allow_any_host = true", "hosts = []").replace("[\"127.0.0.1:4420\"]", "[]");
    assert!(parse(&none).is_ok());
}

#[test]
fn placement_names_cpus_that_poll() {
    let with = |placement: &str| format!("[target]\nreactors = 2\n{SMALLEST}{placement}");
    let text = with(
        "[[placement]]\nlistener = \"127.0.0.1:4420\"\ncpus = [1]\n[[placement]]\nhost = \"::1\"\ncpus = [0, 1]\n",
    );
    let config = Config::parse(Path::new("t.toml"), &text, &[0]).unwrap();
    assert_eq!(config.placement[0].origin, Origin::Listener("127.0.0.1:4420".parse().unwrap()));
    assert_eq!(
        config.placement[1],
        PlacementSection { origin: Origin::Host("::1".parse().unwrap()), cpus: vec![0, 1] }
    );
    for (placement, expected) in [
        ("cpus = []", "placement.cpus is []: at least one CPU: connections go nowhere else"),
        ("cpus = [2]", "placement.cpus is 2: CPUs that poll (target.cpus or target.reactors): 0-1"),
        (
            "host = \"nqn.x\"\ncpus = [0]",
            "placement.host is \"nqn.x\": the host's IP address, such as \"10.0.0.7\": its NQN is not known yet when it connects",
        ),
        ("host = \"::1\"\nlistener = \"[::1]:1\"\ncpus = [0]", "placement.host is \"::1\": not together with listener"),
    ] {
        let error = parse(&with(&format!("[[placement]]\n{placement}\n"))).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn everything_wrong_is_told_at_once_in_the_files_order() {
    let text = SMALLEST.replace("\"64MiB\"", "5").replace("127.0.0.1:4420", "x");
    let text = format!("[target]\ncpus = [9]\n{text}[rpc]\nsocket = \"\"\n");
    let problems = Config::parse(Path::new("t.toml"), &text, &[0]).unwrap_err().problems;
    let lines: Vec<usize> = problems.iter().map(|problem| problem.place.unwrap().0).collect();
    assert_eq!(lines, [2, 7, 12, 16]);
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let error = Config::load(Path::new("/nowhere/t.toml"), &[0]).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/t.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn namespaces_and_paths_say_what_they_are() {
    let more = "\nnguid = \"00112233445566778899aabbccddeeff\"\neui64 = \"0011223344556677\"\nanagrpid = 3\nno_auto_visible = true\nhosts = [\"nqn.2026-11.io.quiesce:h\"]\n[[subsystem.ana]]\nlistener = \"127.0.0.1:4420\"\nstate = \"non_optimized\"\n";
    let text = SMALLEST.replacen(
        "allow_any_host = true",
        "allow_any_host = true\nana_reporting = true\nmin_cntlid = 5\nmax_cntlid = 9",
        1,
    );
    let subsystem = &parse(&format!("{text}{more}")).unwrap().subsystems[0];
    let namespace = &subsystem.namespaces[0];
    assert_eq!((namespace.nguid.unwrap()[15], namespace.eui64.unwrap()[7], namespace.ana_group), (0xFF, 0x77, Some(3)));
    assert!(!namespace.is_auto_visible && subsystem.reports_ana && !subsystem.is_shared);
    assert_eq!((subsystem.controller_ids.clone(), subsystem.ana.len(), namespace.hosts.len()), (5..=9, 1, 1));
    for (from, to, expected) in [
        (
            "allow_any_host = true",
            "allow_any_host = true\nshared = true",
            "serial is missing, and should be given where shared = true",
        ),
        (
            "allow_any_host = true",
            "allow_any_host = true\nshared = true\nserial = \"1\"",
            "namespace.uuid and nguid should be both given",
        ),
        (
            "allow_any_host = true",
            "allow_any_host = true\nmin_cntlid = 7\nmax_cntlid = 6",
            "max_cntlid is 6: 7 to 65519",
        ),
        (
            "device = \"disk0\"",
            "device = \"disk0\"\neui64 = \"00\"",
            "namespace.eui64 is \"00\": 16 hexadecimal digits, not all zero",
        ),
        (
            "device = \"disk0\"",
            "device = \"disk0\"\nhosts = [\"nqn.2026-11.io.quiesce:h\"]",
            "nothing without no_auto_visible = true",
        ),
        (
            "device = \"disk0\"",
            "device = \"disk0\"\n[[subsystem.ana]]\nlistener = \"127.0.0.1:4420\"\nstate = \"optimized\"",
            "nothing without ana_reporting = true",
        ),
    ] {
        let text = errors(from, to);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn referrals_are_checked_like_addresses() {
    let config = parse(&format!(
        "{SMALLEST}\n[[referral]]\naddress = \"10.0.0.9:8009\"\n[[referral]]\naddress = \"[fd00::9]:4420\"\ntransport = \"tcp\"\nnqn = \"nqn.x:far\"\nsecure_channel = true\n"
    ))
    .unwrap();
    let [service, subsystem] = &config.referrals[..] else { panic!("{:?}", config.referrals) };
    assert_eq!(*service, ReferralSpec::new("10.0.0.9:8009".parse().unwrap()));
    assert_eq!(subsystem.to_string(), "nqn.x:far at [fd00::9]:4420 over Tcp");
    assert!(subsystem.needs_secure_channel);

    let text = parse(&format!(
        "{SMALLEST}\n[[referral]]\naddress = \"0.0.0.0:8009\"\nnqn = \"far\"\ntransport = \"fc\"\n[[referral]]\naddress = \"here\"\n[[referral]]\naddress = \"10.0.0.9:1\"\n[[referral]]\naddress = \"10.0.0.9:1\"\n"
    ))
    .unwrap_err();
    for expected in [
        "t.toml:15:11: referral.address is \"0.0.0.0:8009\": an address that hosts can connect to, not a wildcard",
        "t.toml:16:7: referral.nqn is \"far\": an NVMe qualified name starts with \"nqn.\"",
        "t.toml:17:13: referral.transport is \"fc\": \"rdma\" or \"tcp\"",
        "t.toml:19:11: referral.address is \"here\": an IP address and a port, such as \"10.0.0.9:8009\" or",
        "t.toml:23:11: referral.address is \"10.0.0.9:1\": each address once for each transport and NQN",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}
