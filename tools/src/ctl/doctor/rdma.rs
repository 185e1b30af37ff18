//! Checks of RDMA devices: which there are, their links, addresses, sizes of packets, where they are, and who may use them.

use std::path::Path;

use super::Finding;
use super::machine::Machine;
use crate::config::{Config, ProviderKind, ReactorSection};

const CHECK: &str = "RDMA";

/// Where the kernel lists them.
const DEVICES: &str = "sys/class/infiniband";

/// RoCE's largest packets carry 4096 bytes, and need some more for headers.
const ROCE_MTU: u32 = 4200;

pub(super) fn devices(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    let provider = config.map_or(ProviderKind::Auto, |config| config.transport.provider);
    if provider == ProviderKind::Soft {
        return vec![Finding::ok(
            CHECK,
            "not asked for (transport.provider = \"soft\"): hosts are processes of this machine",
        )];
    }
    let names = machine.names(DEVICES);
    let wanted = config.and_then(|config| config.transport.device.as_deref());
    if let Some(wanted) = wanted.filter(|wanted| !names.iter().any(|name| name == wanted)) {
        let finding = format!("there is no device {wanted:?} (transport.device); there is {}", either(&names));
        return vec![Finding::problem(
            CHECK,
            finding,
            "the target does not start without it",
            "rdma link   # lists devices",
        )];
    }
    if names.is_empty() {
        let why = "hosts on other machines need one; without it the software fabric serves processes of this machine";
        let fix = "load the adapter's driver; or soft-RoCE: sudo modprobe rdma_rxe && sudo rdma link add rxe0 type rxe netdev eth0";
        let finding = "no RDMA device";
        return vec![match provider {
            ProviderKind::Ibv => Finding::problem(CHECK, finding, why, fix),
            ProviderKind::Auto | ProviderKind::Soft => Finding::warning(CHECK, finding, why, fix),
        }];
    }
    let chosen = names.iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
    let mut findings: Vec<Finding> = chosen.flat_map(|name| device(machine, config, name)).collect();
    findings.extend(rights(machine));
    findings
}

fn either(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn device(machine: &Machine, config: Option<&Config>, name: &str) -> Vec<Finding> {
    let ports = machine.names(&format!("{DEVICES}/{name}/ports"));
    let mut findings: Vec<Finding> = ports.iter().flat_map(|number| port(machine, name, number)).collect();
    findings.extend(distance(machine, config, name));
    findings
}

fn port(machine: &Machine, name: &str, number: &str) -> Vec<Finding> {
    let of = |file: &str| machine.text(&format!("{DEVICES}/{name}/ports/{number}/{file}")).unwrap_or_default();
    // As `4: ACTIVE`.
    let word = |text: String| text.split_once(':').map_or(text.clone(), |(_, word)| word.trim().to_owned());
    let (state, rate, layer) = (word(of("state")), of("rate"), of("link_layer"));
    let netdevs = machine.names(&format!("{DEVICES}/{name}/device/net"));
    let netdev = of("gid_attrs/ndevs/0");
    let netdev = if netdev.is_empty() { netdevs.first().cloned().unwrap_or_default() } else { netdev };
    let at = format!("{name} port {number}");
    if state != "ACTIVE" {
        let link = if netdev.is_empty() {
            format!("rdma link show {name}/{number}")
        } else {
            format!("sudo ip link set {netdev} up   # and the cable, and the switch")
        };
        let why = "nobody connects over a link that is down; InfiniBand needs a subnet manager too (opensm)";
        return vec![Finding::problem(CHECK, format!("{at} is {state}"), why, link)];
    }
    let mut findings = vec![Finding::ok(CHECK, format!("{at} is active: {layer}, {rate}"))];
    let gids = machine.names(&format!("{DEVICES}/{name}/ports/{number}/gids"));
    let has_gid = |index: &&String| of(&format!("gids/{index}")).chars().any(|digit| !"0:".contains(digit));
    let types: Vec<String> = gids.iter().filter(has_gid).map(|index| of(&format!("gid_attrs/types/{index}"))).collect();
    if layer == "Ethernet" && !types.iter().any(|kind| kind == "RoCE v2") {
        let fix = format!("sudo ip address add 10.0.0.1/24 dev {}", if netdev.is_empty() { "NETDEV" } else { &netdev });
        let why = "RoCE connects by IP addresses: without a RoCE v2 GID there is none to listen on";
        findings.push(Finding::problem(CHECK, format!("{at} has no RoCE v2 address"), why, fix));
    }
    let mtu = machine.text(&format!("sys/class/net/{netdev}/mtu")).and_then(|mtu| mtu.parse::<u32>().ok());
    if let Some(mtu) = mtu.filter(|mtu| layer == "Ethernet" && *mtu < ROCE_MTU) {
        let why = "RoCE's packets carry at most what fits: with 1500 it is 1024 bytes, and four times as many packets as with 4096";
        let fix = format!("sudo ip link set {netdev} mtu {ROCE_MTU}   # or 9000; switch and hosts too");
        findings.push(Finding::warning(CHECK, format!("the MTU of {netdev}, below {at}, is {mtu}"), why, fix));
    }
    findings
}

/// Polling CPUs should be near the device.
fn distance(machine: &Machine, config: Option<&Config>, name: &str) -> Option<Finding> {
    let ReactorSection::Pinned(cpus) = &config?.target.reactors else { return None };
    let node: u32 = machine.text(&format!("{DEVICES}/{name}/device/numa_node"))?.parse().ok()?;
    let far: Vec<String> =
        cpus.iter().filter(|cpu| machine.node_of(**cpu).is_some_and(|of| of != node)).map(usize::to_string).collect();
    if far.is_empty() {
        return None;
    }
    let near = machine.text(&format!("sys/devices/system/node/node{node}/cpulist")).unwrap_or_default();
    let finding = format!("{name} is on NUMA node {node}, and polling CPUs {} are not", far.join(","));
    let why = "each command crosses the link between nodes several times";
    Some(Finding::warning("NUMA", finding, why, format!("choose target.cpus from {near}")))
}

/// The kernel's files by which a process uses RDMA.
fn rights(machine: &Machine) -> Vec<Finding> {
    let mut files = vec!["rdma_cm".to_owned()];
    files.extend(machine.names("dev/infiniband").into_iter().filter(|name| name.starts_with("uverbs")));
    let mut findings = Vec::new();
    for file in &files {
        let path = Path::new("/dev/infiniband").join(file);
        let shown = path.display();
        let why = "a target that may not open it cannot use RDMA devices";
        if !machine.names("dev/infiniband").contains(file) {
            let fix = "sudo modprobe rdma_ucm; in a container: --device /dev/infiniband";
            findings.push(Finding::problem(CHECK, format!("{shown} is not there"), why, fix));
        } else if !machine.is_writable(&path) {
            let fix = "sudo usermod -aG rdma $USER   # and log in again; the group of /dev/infiniband/* is what udev gives it";
            findings.push(Finding::problem(CHECK, format!("{shown} may not be opened by this user"), why, fix));
        }
    }
    findings
}
