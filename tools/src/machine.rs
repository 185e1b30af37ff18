//! What this machine offers: CPUs, memory, RDMA devices.

use std::fs;
use std::path::Path;

/// The CPUs that this process may use, ascending.
#[must_use]
pub fn cpus_allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(|list| cpu_list(list.trim())).filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| {
        // No /proc: as many as the standard library counts.
        (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
    })
}

/// Reads a list such as `0-3,8`. What it cannot read it leaves out.
pub(crate) fn cpu_list(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

/// Bytes of ordinary memory that could be had without swapping. `None` where the kernel does not say.
#[must_use]
pub fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The names of the RDMA devices that the kernel knows, sorted.
#[must_use]
pub fn rdma_devices() -> Vec<String> {
    devices_in(Path::new("/sys/class/infiniband"))
}

fn devices_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpu_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(cpu_list("5"), [5]);
        assert_eq!(cpu_list(""), [] as [usize; 0]);
        assert!(!cpus_allowed().is_empty());
        assert!(memory_available().is_none_or(|len| len > 1 << 20));
    }
}
