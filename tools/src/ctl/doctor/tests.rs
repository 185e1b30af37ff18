//! Machines made of small trees of files.

use std::fs;

use reactor::{Hugepages, NodeHugepages, NumaNode};

use super::*;

/// A machine in a directory of its own, which goes with it.
struct Bench(Machine);

impl Bench {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("quiesce-doctor-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let hugepages = Hugepages { total: 64, free: 64, group_room: None, nodes: Vec::new() };
        let (io_uring, firewall, target) = (Ok(()), Ok(String::new()), Err("no target".to_owned()));
        let bench = Self(Machine { root, hugepages, io_uring, is_root: false, firewall, target });
        bench
            .with("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-3\n")
            .with(
                "proc/self/limits",
                "Limit Soft Hard Units\nMax locked memory         unlimited   unlimited   bytes\n",
            )
            .with("sys/devices/system/cpu/isolated", "0-1\n")
            .with("sys/devices/system/cpu/nohz_full", "0-1\n")
    }

    fn with(self, path: &str, text: &str) -> Self {
        let path = self.0.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// An adapter with an active RoCE port.
    fn with_adapter(self) -> Self {
        let port = "sys/class/infiniband/mlx5_0/ports/1";
        self.with(&format!("{port}/state"), "4: ACTIVE\n")
            .with(&format!("{port}/rate"), "100 Gb/sec (4X EDR)\n")
            .with(&format!("{port}/link_layer"), "Ethernet\n")
            .with(&format!("{port}/gids/0"), "fe80:0000:0000:0000:0000:0000:0000:0001\n")
            .with(&format!("{port}/gid_attrs/types/0"), "RoCE v2\n")
            .with(&format!("{port}/gid_attrs/ndevs/0"), "eth0\n")
            .with("sys/class/infiniband/mlx5_0/device/numa_node", "1\n")
            .with("sys/class/net/eth0/mtu", "9000\n")
            .with("dev/infiniband/rdma_cm", "")
            .with("dev/infiniband/uverbs0", "")
    }

    fn findings(&self, config: Option<&Config>) -> Vec<Finding> {
        examine(&self.0, config)
    }

    /// What is worse than ok: the finding and the fix.
    fn complaints(&self, config: Option<&Config>) -> Vec<(Level, String, String)> {
        let bad = self.findings(config).into_iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| (finding.level, finding.finding, finding.fix.unwrap_or_default())).collect()
    }

    /// The only complaint has these words in its finding and its fix.
    fn complains(&self, config: Option<&Config>, level: Level, finding: &str, fix: &str) {
        let complaints = self.complaints(config);
        let [(is, found, way_out)] = complaints.as_slice() else { panic!("{complaints:#?}") };
        assert!(*is == level && found.contains(finding) && way_out.contains(fix), "{complaints:#?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.root);
    }
}

fn config(text: &str) -> Config {
    let subsystem =
        "[[subsystem]]\nnqn = \"nqn.2026-11.io.quiesce:t\"\nallow_any_host = true\nlisteners = [\"10.0.0.1:4420\"]\n";
    Config::parse(Path::new("test.toml"), &format!("{text}\n{subsystem}"), &[0, 1, 2, 3]).unwrap()
}

#[test]
fn a_machine_in_order_has_nothing_to_complain_of() {
    let bench = Bench::new("order").with_adapter();
    assert_eq!(bench.complaints(None), []);
    let shown = show(&bench.findings(None));
    assert!(
        shown.contains("mlx5_0 port 1 is active: Ethernet, 100 Gb/sec") && shown.ends_with("0 problems, 0 warnings"),
        "{shown}"
    );
}

#[test]
fn hugepages_are_counted_against_what_is_needed() {
    let mut bench = Bench::new("pages").with_adapter();
    bench.0.hugepages.free = 3;
    bench.complains(None, Level::Warning, "3 of 64", "vm.nr_hugepages=79");
    bench.0.hugepages = Hugepages { total: 64, free: 64, group_room: Some(2), nodes: Vec::new() };
    bench.complains(None, Level::Warning, "allows it 2 more", "hugetlb.2MB.max");
    let node = |node| NodeHugepages { node: NumaNode(node), total: 32, free: 32 };
    bench.0.hugepages = Hugepages { total: 64, free: 64, group_room: None, nodes: vec![node(0), node(1)] };
    assert!(show(&bench.findings(None)).contains("(node 0: 32, node 1: 32)"));
    // Two CPUs' buffers and a memory device: 16 + 16 + 32 pages, and 64 are not more than that.
    let config = config("[target]\ncpus = [0, 1]\n[[device]]\nname = \"m\"\ntype = \"memory\"\nsize = \"64MiB\"\n");
    bench.complains(Some(&config), Level::Warning, "64 are needed", "vm.nr_hugepages=72");
}

#[test]
fn locked_memory_matters_where_there_is_a_device() {
    let limit = "Max locked memory         8388608              8388608              bytes\n";
    let bench = Bench::new("lock").with_adapter().with("proc/self/limits", limit);
    bench.complains(None, Level::Problem, "only 8388608 bytes", "LimitMEMLOCK=infinity");
    let bench = Bench::new("lock-none").with("proc/self/limits", limit);
    bench.complains(None, Level::Warning, "no RDMA device", "rdma link add rxe0");
}

#[test]
fn polling_cpus_are_to_be_alone_and_awake() {
    let bench = Bench::new("cpus").with_adapter().with("sys/devices/system/cpu/isolated", "\n");
    bench.complains(None, Level::Warning, "CPU 0 is not isolated", "isolcpus=managed_irq,domain,0 nohz_full=0");
    let bench = Bench::new("ticks").with_adapter().with("sys/devices/system/cpu/nohz_full", "(null)\n");
    bench.complains(None, Level::Warning, "not free of ticks", "nohz_full=0");
    let bench = Bench::new("governor")
        .with_adapter()
        .with("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    bench.complains(None, Level::Warning, "powersave", "cpupower -c 0 frequency-set -g performance");
    let bench = Bench::new("one").with_adapter().with("proc/self/status", "Cpus_allowed_list:\t0\n");
    bench.complains(None, Level::Warning, "1 may be used", "more CPUs");
    let siblings = "sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
    let bench = Bench::new("siblings").with_adapter().with(siblings, "0-1\n");
    bench.complains(
        Some(&config("[target]\ncpus = [0, 1]\nhugepages = false\n")),
        Level::Warning,
        "0 and 1 are one core",
        "leave 1 out",
    );
}

#[test]
fn polling_cpus_are_to_be_near_the_device() {
    let bench = Bench::new("node").with_adapter().with("sys/devices/system/node/node1/cpulist", "2-3\n");
    fs::create_dir_all(bench.0.root.join("sys/devices/system/cpu/cpu0/node0")).unwrap();
    fs::create_dir_all(bench.0.root.join("sys/devices/system/cpu/cpu1/node1")).unwrap();
    let config = config("[target]\ncpus = [0, 1]\nhugepages = false\n");
    bench.complains(Some(&config), Level::Warning, "polling CPUs 0 are not", "choose target.cpus from 2-3");
}

#[test]
fn links_addresses_and_packets_are_looked_at() {
    let port = "sys/class/infiniband/mlx5_0/ports/1";
    let bench = Bench::new("down").with_adapter().with(&format!("{port}/state"), "1: DOWN\n");
    bench.complains(None, Level::Problem, "port 1 is DOWN", "ip link set eth0 up");
    let bench = Bench::new("gid").with_adapter().with(&format!("{port}/gid_attrs/types/0"), "IB/RoCE v1\n");
    bench.complains(None, Level::Problem, "no RoCE v2 address", "ip address add 10.0.0.1/24 dev eth0");
    let bench = Bench::new("mtu").with_adapter().with("sys/class/net/eth0/mtu", "1500\n");
    bench.complains(None, Level::Warning, "MTU of eth0", "mtu 4200");
    let bench = Bench::new("cm").with_adapter();
    fs::remove_file(bench.0.root.join("dev/infiniband/rdma_cm")).unwrap();
    bench.complains(None, Level::Problem, "/dev/infiniband/rdma_cm is not there", "modprobe rdma_ucm");
}

#[test]
fn the_configuration_decides_what_is_needed() {
    let bench = Bench::new("asked");
    let none = |text: &str| config(&format!("[target]\nhugepages = false\n{text}"));
    bench.complains(Some(&none("[transport]\nprovider = \"ibv\"\n")), Level::Problem, "no RDMA device", "rdma_rxe");
    bench.complains(
        Some(&none("[transport]\ndevice = \"mlx5_9\"\n")),
        Level::Problem,
        "no device \"mlx5_9\"",
        "rdma link",
    );
    let soft = none("[transport]\nprovider = \"soft\"\n");
    assert_eq!(bench.complaints(Some(&soft)), []);
    let file =
        none("[transport]\nprovider = \"soft\"\n[[device]]\nname = \"f\"\ntype = \"file\"\npath = \"/srv/f.img\"\n");
    bench.complains(
        Some(&file),
        Level::Problem,
        "/srv/f.img of device \"f\" is not there",
        "truncate -s 1G /srv/f.img",
    );
    let bench = Bench::new("asked-there").with("srv/f.img", "");
    assert_eq!(bench.complaints(Some(&file)), []);
    let socket = none("[transport]\nprovider = \"soft\"\n[rpc]\nsocket = \"/run/quiesce/t.sock\"\n");
    bench.complains(Some(&socket), Level::Problem, "/run/quiesce, where the JSON-RPC socket goes", "install -d");
}

#[test]
fn a_firewall_is_asked_for_the_ports_that_pass_it() {
    const DROPS: &str = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\ttcp dport 22 accept\n\t}\n}\n";
    let config = config(
        "[target]\nhugepages = false\n[transport]\nprovider = \"soft\"\n[metrics]\nlisten = \"10.0.0.1:9420\"\n",
    );
    let mut bench = Bench::new("wall");
    bench.0.firewall = Ok(DROPS.to_owned());
    bench.complains(Some(&config), Level::Problem, "tcp port 9420", "tcp dport 9420 accept");
    bench.0.firewall = Ok(DROPS.replace("dport 22", "dport { 22, 9420 }"));
    assert_eq!(bench.complaints(Some(&config)), []);
    bench.0.firewall = Err("Operation not permitted (you must be root)".to_owned());
    bench.complains(Some(&config), Level::Warning, "cannot be read", "sudo nvmf-ctl doctor");
}

#[test]
fn io_uring_that_is_switched_off_is_switched_on() {
    let mut bench = Bench::new("uring").with_adapter().with("proc/sys/kernel/io_uring_disabled", "2\n");
    bench.0.io_uring = Err("Operation not permitted (os error 1)".to_owned());
    bench.complains(None, Level::Warning, "may not be used", "kernel.io_uring_disabled=0");
}
