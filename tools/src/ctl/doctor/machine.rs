//! The machine as the checks see it: files below a root, and what only system calls and other programs say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reactor::Hugepages;

use super::super::client::{Client, places};
use crate::{machine, system};

/// See the module.
pub(super) struct Machine {
    /// `/`, but in tests.
    pub(super) root: PathBuf,
    pub(super) hugepages: Hugepages,
    /// Why this process may make no io_uring.
    pub(super) io_uring: Result<(), String>,
    pub(super) is_root: bool,
    /// The rules of nftables, which iptables' are today too. None: they cannot be read, for this reason.
    pub(super) firewall: Result<String, String>,
    /// Where a target answers, or why none does.
    pub(super) target: Result<String, String>,
}

impl Machine {
    /// This one.
    pub(super) fn this(socket: Option<&Path>) -> Self {
        Self {
            root: "/".into(),
            hugepages: Hugepages::now(),
            io_uring: system::io_uring_is_allowed().map_err(|error| error.to_string()),
            is_root: system::effective_user() == 0,
            firewall: rules(),
            target: answering(socket),
        }
    }

    /// A file's text without blanks around it; none where it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// The names in a directory, sorted; none where there is no such.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A list of CPUs in a file, such as `0-3,8`.
    pub(super) fn cpu_list(&self, path: &str) -> Vec<usize> {
        self.text(path).map(|text| machine::cpu_list(&text)).unwrap_or_default()
    }

    /// The CPUs that this process may use.
    pub(super) fn cpus_allowed(&self) -> Vec<usize> {
        let status = self.text("proc/self/status").unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.map(|list| machine::cpu_list(list.trim())).unwrap_or_default()
    }

    /// The NUMA node that a CPU is on.
    pub(super) fn node_of(&self, cpu: usize) -> Option<u32> {
        let names = self.names(&format!("sys/devices/system/cpu/cpu{cpu}"));
        names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
    }

    /// Whether this process may write there.
    pub(super) fn is_writable(&self, path: &Path) -> bool {
        system::is_writable(&self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }
}

fn rules() -> Result<String, String> {
    let output = Command::new("nft").args(["list", "ruleset"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("nft failed").to_owned()),
        Err(error) => Err(format!("nft: {error}")),
    }
}

fn answering(socket: Option<&Path>) -> Result<String, String> {
    let mut client = Client::connect(socket, Duration::from_secs(5)).map_err(|trouble| trouble.to_string())?;
    let version = client.call("spdk_get_version", &serde_json::Value::Null).map_err(|trouble| trouble.to_string())?;
    let path = socket.map(Path::to_owned).or_else(|| places().into_iter().find(|place| place.exists()));
    let path = path.map_or_else(String::new, |path| path.display().to_string());
    Ok(format!("{} answers at {path}", version["version"].as_str().unwrap_or("a target")))
}
