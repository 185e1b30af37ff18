//! NUMA nodes: which one is a CPU's own, and asking the kernel for memory of one.
//!
//! A preference, not a demand: where the node has no memory left, or the kernel knows no nodes or forbids the call (as containers do by
//! default), memory comes from wherever there is some. An arena says whether the kernel took the preference.

use std::fs;
use std::path::Path;

/// Nodes that a preference can name: the kernel's largest limit.
const NODE_COUNT_MAX: usize = 1024;

/// A NUMA node, by the operating system's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumaNode(pub u32);

impl NumaNode {
    /// The node that the operating system's CPU `os_cpu` is nearest to. `None` where the kernel knows no nodes, or no such CPU.
    #[must_use]
    pub fn of_cpu(os_cpu: usize) -> Option<Self> {
        Self::in_directory(&Path::new("/sys/devices/system/cpu").join(format!("cpu{os_cpu}"))).into_iter().next()
    }

    /// The nodes that a directory of sysfs names, ascending.
    pub(super) fn in_directory(directory: &Path) -> Vec<Self> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let number = |name: &str| name.strip_prefix("node")?.parse().ok();
        let mut nodes: Vec<_> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).map(NumaNode).collect();
        nodes.sort_unstable();
        nodes
    }
}

/// Has pages that `len` bytes from `address` do not have yet come from `node` if it can. False if the kernel did not take the preference.
///
/// # Safety
/// `address` and `len` are of one mapping.
pub(super) unsafe fn prefer(address: *mut u8, len: usize, node: NumaNode) -> bool {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let number = node.0 as usize;
    let mut mask: [libc::c_ulong; NODE_COUNT_MAX / BITS] = [0; _];
    let Some(word) = mask.get_mut(number / BITS) else { return false };
    *word |= 1 << (number % BITS);
    // The kernel looks at one bit less than it is told of.
    let bit_count = NODE_COUNT_MAX + 1;
    let flags: libc::c_uint = 0;
    // SAFETY: the mask has as many bits and lives through the call; the policy changes where pages come from and nothing else.
    let result =
        unsafe { libc::syscall(libc::SYS_mbind, address, len, libc::MPOL_PREFERRED, mask.as_ptr(), bit_count, flags) };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_the_node_that_its_directory_names() {
        let directory = std::env::temp_dir().join(format!("reactor-node-{}", std::process::id()));
        for name in ["node12", "node3", "nodes", "node", "power", "cache"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        assert_eq!(NumaNode::in_directory(&directory), [NumaNode(3), NumaNode(12)]);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(NumaNode::in_directory(&directory), []);
        assert_eq!(NumaNode::of_cpu(1 << 20), None);
    }
}
