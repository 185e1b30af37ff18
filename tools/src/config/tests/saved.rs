//! Configurations that are written, and ways from one to another.

use super::*;
use crate::config::{Step, Way, to_spdk, to_toml, way, whole};

/// Something of everything.
const WHOLE: &str = r#"
[target]
reactors = 2
poll_mode = "adaptive"
spin_us = 7
turn_limit_us = 900
hugepages = false
data_memory = "16MiB"
queue_pairs = 77
state_directory = "state"
save_changes = true

[limits]
host_queue_pairs = 9
host_commands = 64
host_data = "1MiB"

[log]
level = "debug"
format = "json"

[transport]
provider = "soft"
queue_depth = 64
in_capsule_size = "8KiB"
shared_receives = 128
runtime_dir = "run"

[metrics]
listen = "127.0.0.1:9420"

[rpc]
socket = "x.sock"

[authentication]
digests = ["sha512"]
dhgroups = ["ffdhe3072", "null"]

[[placement]]
listener = "127.0.0.1:4420"
cpus = [1]

[[placement]]
cpus = [0, 1]

[[key]]
name = "k"
path = "/keys/k"

[[referral]]
address = "10.0.0.9:8009"

[[referral]]
address = "[fd00::9]:4420"
transport = "tcp"
nqn = "nqn.2026-11.io.quiesce:far"
secure_channel = true

[[cluster]]
name = "c"
conf = "ceph.conf"
user = "u"
key_file = "key"
settings = { client_mount_timeout = "3" }

[[device]]
name = "mem"
type = "memory"
size = "64MiB"
block_size = 4096

[[device]]
name = "null"
type = "null"
size = 1536

[[device]]
name = "file"
type = "file"
path = "a \"b\".img"
read_only = true
queue_depth = 9
limits = { iops = 5, read_bandwidth = "512KiB", burst_ms = 20, host = { write_iops = 7 } }

[[device]]
name = "drive"
type = "nvme"
path = "/dev/ng0n1"

[[device]]
name = "image"
type = "rbd"
pool = "p"
image = "i"
namespace = "n"
cluster = "c"
fenced = true

[[device]]
name = "own"
type = "rbd"
pool = "p"
image = "j"
snapshot = "s"
read_only = true
conf = "other.conf"
settings = { a = "b" }

[[device]]
name = "part"
type = "partition"
base = "mem"
offset = "1MiB"
size = "4MiB"

[[device]]
name = "rest"
type = "partition"
base = "mem"
offset = "8MiB"

[[device]]
name = "slow"
type = "delay"
base = "part"
avg_read_latency_us = 5
p99_read_latency_us = 50
seed = 3

[[device]]
name = "bad"
type = "fault"
base = "slow"
seed = 4

[[device.fault]]
io_type = "read"
error_type = "corrupt_data"
corrupt_value = 3
num = 2
one_in = 10
start_block = 5
num_blocks = 6

[[device.fault]]
io_type = "all"
error_type = "pending"
pending_us = 1000

[[subsystem]]
nqn = "nqn.2026-11.io.quiesce:a"
serial = "S"
model = "M"
hosts = ["nqn.2026-11.io.quiesce:h"]
listeners = ["127.0.0.1:4420", "[::1]:4421"]
max_namespaces = 8
min_cntlid = 5
max_cntlid = 9
controller_model = "static"
ana_reporting = true
host = [{ nqn = "nqn.2026-11.io.quiesce:k", dhchap_key = "k", dhchap_ctrlr_key = "k" }]
ana = [
    { listener = "127.0.0.1:4420", state = "non_optimized" },
    { listener = "[::1]:4421", group = 2, state = "inaccessible" },
]

[[subsystem.namespace]]
device = "bad"
nsid = 2
uuid = "6f1c2d9e-8f0b-4d5c-9a3b-0c1d2e3f4a5b"
nguid = "000102030405060708090a0b0c0d0e0f"
eui64 = "0001020304050607"
anagrpid = 3
no_auto_visible = true
hosts = ["nqn.2026-11.io.quiesce:h"]

[[subsystem]]
nqn = "nqn.2026-11.io.quiesce:b"
allow_any_host = true
listeners = []
namespace = [{ device = "file", ptpl_file = "resv" }]
"#;

fn parse(text: &str) -> Config {
    Config::parse(Path::new("x.toml"), text, &[0, 1]).unwrap()
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for text in [WHOLE, include_str!("../../../../examples/demo.toml"), "[rpc]\nsocket = \"x\"\n"] {
        let config = parse(text);
        let written = to_toml(&config);
        let again = Config::parse(Path::new("written.toml"), &written, &[0, 1]);
        assert_eq!(again.unwrap_or_else(|error| panic!("{error}\n{written}")), config, "{written}");
    }
}

fn calls(way: &Way) -> Vec<String> {
    way.steps.iter().map(|Step { method, params, .. }| format!("{method} {params}")).collect()
}

#[test]
fn from_a_configuration_to_itself_nothing_is_done() {
    let config = parse(WHOLE);
    assert_eq!(way(&config, &config), Way::default());
}

#[test]
fn all_of_it_in_spdks_shape() {
    let steps = whole(&parse(WHOLE));
    let file = to_spdk(&steps);
    let names: Vec<&str> =
        file["subsystems"].as_array().unwrap().iter().map(|part| part["subsystem"].as_str().unwrap()).collect();
    assert_eq!(names, ["keyring", "bdev", "nvmf"]);
    assert_eq!(file["subsystems"][0]["config"][0]["params"], serde_json::json!({ "name": "k", "path": "/keys/k" }));
    let text = file.to_string();
    for expected in [
        r#"{"method":"bdev_null_create","params":{"block_size":512,"name":"null","num_blocks":3}}"#,
        r#""r_mbytes_per_sec":0.5"#,
        r#""rules":[{"#,
        r#""anagrpid":2,"ana_state":"inaccessible""#,
    ] {
        let unordered = |text: &str| text.replace(['{', '}'], "");
        assert!(expected.split(',').all(|part| unordered(&text).contains(&unordered(part))), "{expected} in {text}");
    }
}

#[test]
fn what_differs_is_done_in_an_order_that_can_be() {
    let from = parse(WHOLE);
    let mut to = from.clone();
    // A namespace with its devices goes, all the way down; the memory stays.
    to.subsystems[0].namespaces.clear();
    to.devices.retain(|device| !["bad", "slow"].contains(&device.name.as_str()));
    to.subsystems[1].listeners.push("127.0.0.1:4430".parse().unwrap());
    to.subsystems[0].ana.remove(0);
    to.target.queue_pair_count_max = 5;
    to.subsystems[1].serial_number = "OTHER".into();
    let way = way(&from, &to);
    let methods: Vec<&str> = way.steps.iter().map(|step| &*step.method).collect();
    assert_eq!(
        methods,
        [
            "nvmf_subsystem_remove_ns",
            "bdev_error_delete",
            "bdev_delay_delete",
            "nvmf_subsystem_listener_set_ana_state",
            "nvmf_subsystem_add_listener",
        ],
        "{:?}",
        calls(&way)
    );
    assert!(calls(&way)[3].contains("\"optimized\""), "{:?}", calls(&way));
    assert_eq!(way.left.len(), 2, "{:?}", way.left);
    assert!(way.left[0].contains("target.queue_pairs") && way.left[1].contains("serial"), "{:?}", way.left);
    // The way back: from below.
    let back: Vec<String> = super::way(&to, &from).steps.iter().map(|step| step.method.to_string()).collect();
    assert_eq!(
        back,
        [
            "nvmf_subsystem_remove_listener",
            "bdev_delay_create",
            "bdev_error_create",
            "nvmf_subsystem_add_ns",
            "nvmf_ns_add_host",
            "nvmf_subsystem_listener_set_ana_state",
        ]
    );
}
