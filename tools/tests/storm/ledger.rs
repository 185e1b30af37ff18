//! What the target has, as seen from outside: memory, descriptors, mappings, lives of queue pairs.

use std::fs;

use crate::processes::Target;

/// What a target process holds while nobody is connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holdings {
    /// Resident memory that is its own: neither files' nor peers'.
    pub(crate) private_kib: u64,
    /// Resident memory that is shared: peers' arenas and rings, its own key table.
    pub(crate) shared_kib: u64,
    pub(crate) descriptor_count: usize,
    pub(crate) mapping_count: usize,
}

impl Holdings {
    pub(crate) fn of(target: &Target) -> Self {
        let process = format!("/proc/{}", target.pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        Self {
            private_kib: kib("RssAnon"),
            shared_kib: kib("RssShmem"),
            descriptor_count: fs::read_dir(format!("{process}/fd")).unwrap().count(),
            mapping_count: fs::read_to_string(format!("{process}/maps")).unwrap().lines().count(),
        }
    }

    /// Whether these, at the end, are those of the beginning.
    ///
    /// Shared memory and descriptors are exactly the same: nothing that is left of a host is small change. The allocator keeps some of what it was given back, more
    /// the more was out at a time: `slack_kib` is far below what a leak of one body, one request table or one ring for each life would come to. So are a few mappings:
    /// the allocator's own areas.
    pub(crate) fn assert_flat(&self, before: &Self, slack_kib: u64, context: &str) {
        assert_eq!(self.descriptor_count, before.descriptor_count, "descriptors: {context}");
        assert!(self.shared_kib <= before.shared_kib, "shared memory: {context}");
        assert!(self.private_kib <= before.private_kib + slack_kib, "private memory: {context}");
        assert!(self.mapping_count <= before.mapping_count + 16, "mappings: {context}");
    }
}

/// The sum of a metric over its labels.
pub(crate) fn total(target: &Target, name: &str) -> u64 {
    let metrics = target.metrics();
    let values = metrics.lines().filter_map(|line| {
        let (full, value) = line.rsplit_once(' ')?;
        (full.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
    });
    let sum: f64 = values.sum();
    assert!(metrics.contains(&format!("\n{name}")), "no {name}:\n{metrics}");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let sum = sum as u64;
    sum
}

/// Queue pairs of which nothing is left.
pub(crate) fn life_count(target: &Target) -> u64 {
    total(target, "nvmf_rdma_teardown_seconds_count")
}
