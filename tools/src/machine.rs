//! What this machine offers: CPUs, hugepages, RDMA devices.

use std::fs;
use std::path::Path;

/// Bytes of a hugepage as this project uses them.
const HUGEPAGE_LEN: u64 = 2 << 20;

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
fn cpu_list(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

/// The kernel's hugepages of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hugepages {
    /// Reserved.
    pub total: u64,
    /// Of these, free.
    pub free: u64,
}

impl Hugepages {
    /// As they are now. None at all where the kernel has pages of another size.
    #[must_use]
    pub fn now() -> Self {
        let number = |name: &str| {
            let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
            fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        Self { total: number("nr_hugepages"), free: number("free_hugepages") }
    }

    /// Bytes of those that are free.
    #[must_use]
    pub fn free_len(self) -> u64 {
        self.free.saturating_mul(HUGEPAGE_LEN)
    }

    /// How many hold each of these regions, which do not share pages.
    pub fn needed_for(regions: impl Iterator<Item = u64>) -> u64 {
        regions.map(|len| len.div_ceil(HUGEPAGE_LEN)).sum()
    }

    /// One line: what there is, what is needed, and what to do about it.
    #[must_use]
    pub fn describe(self, needed: u64, wanted: bool) -> String {
        if !wanted {
            return format!("hugepages: not used (target.hugepages = false); {} are free", self.free);
        }
        if self.free >= needed {
            return format!("hugepages: {needed} of 2 MiB are needed, {} are free", self.free);
        }
        let reserve = self.total + needed - self.free;
        format!(
            "hugepages: {needed} of 2 MiB are needed, {} are free: ordinary pages are used for what does not fit (slower). To reserve \
             them: sudo sysctl vm.nr_hugepages={reserve}",
            self.free
        )
    }
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

    #[test]
    fn missing_hugepages_are_told_with_the_command_that_reserves_them() {
        let needed = Hugepages::needed_for([64 << 20, 1, 32 << 20].into_iter());
        assert_eq!(needed, 32 + 1 + 16);
        let text = Hugepages { total: 10, free: 4 }.describe(needed, true);
        assert!(text.contains("49 of 2 MiB are needed, 4 are free: ordinary pages"), "{text}");
        assert!(text.ends_with("sudo sysctl vm.nr_hugepages=55"), "{text}");
        assert_eq!(
            Hugepages { total: 64, free: 64 }.describe(needed, true),
            "hugepages: 49 of 2 MiB are needed, 64 are free"
        );
    }
}
