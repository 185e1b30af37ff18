//! How many hugepages there are, and what a set of arenas will make of them: [`HugepagePlan`].
//!
//! Numbers for people, read from sysfs before anything is allocated. What really happened an arena says itself: others may take pages
//! meanwhile.

mod control_group;

use std::fmt;
use std::fs;
use std::path::Path;

use super::node::NumaNode;
use super::{ArenaOptions, PageKind};

/// The machine's hugepages of 2 MiB at one moment. All are zero where the kernel has pages of another size only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hugepages {
    /// Pages that are reserved for being hugepages.
    pub total: u64,
    /// Of these, neither used nor promised to anybody.
    pub free: u64,
    /// How many more the control groups of this process allow it. `None`: as many as there are.
    pub group_room: Option<u64>,
    /// The same by node, ascending. Empty where the kernel knows no nodes.
    pub nodes: Vec<NodeHugepages>,
}

/// One node's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeHugepages {
    /// Which.
    pub node: NumaNode,
    /// Reserved there.
    pub total: u64,
    /// Of these, not used; some may be promised.
    pub free: u64,
}

impl Hugepages {
    /// As they are now. Pages that the kernel may make when asked (`nr_overcommit_hugepages`) are not counted: it may fail to.
    #[must_use]
    pub fn now() -> Self {
        let pool = Path::new("/sys/kernel/mm/hugepages").join(SIZE_DIRECTORY);
        let nodes = Path::new(NODES_DIRECTORY);
        let of_node = |node| {
            let pool = node_directory(node);
            Some(NodeHugepages { node, total: number(&pool, "nr_hugepages")?, free: number(&pool, "free_hugepages")? })
        };
        let promised = number(&pool, "resv_hugepages").unwrap_or(0);
        Self {
            total: number(&pool, "nr_hugepages").unwrap_or(0),
            free: number(&pool, "free_hugepages").unwrap_or(0).saturating_sub(promised),
            group_room: control_group::room(),
            nodes: NumaNode::in_directory(nodes).into_iter().filter_map(of_node).collect(),
        }
    }

    /// Pages that this process can have.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.group_room.map_or(self.free, |room| room.min(self.free))
    }
}

/// What a set of arenas, made in this order, will find. An arena is on hugepages whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugepagePlan {
    pool: Hugepages,
    /// Those that want hugepages.
    arena_count: usize,
    ordinary_count: usize,
    needed: u64,
    ordinary_len: u64,
    /// Pages wanted on one node, by node.
    wanted: Vec<(NumaNode, u64)>,
}

impl HugepagePlan {
    /// The plan for these arenas out of this pool.
    #[must_use]
    pub fn new(pool: Hugepages, arenas: &[ArenaOptions]) -> Self {
        let mut left = pool.available();
        let mut plan = Self { pool, arena_count: 0, ordinary_count: 0, needed: 0, ordinary_len: 0, wanted: Vec::new() };
        for arena in arenas {
            if !arena.huge_pages {
                plan.ordinary_len = plan.ordinary_len.saturating_add(arena.len as u64);
                continue;
            }
            let page_count = arena.len.max(1).div_ceil(PageKind::Huge.page_len()) as u64;
            plan.arena_count += 1;
            plan.needed += page_count;
            plan.want(arena.node, page_count);
            match left.checked_sub(page_count) {
                Some(rest) => left = rest,
                None => {
                    plan.ordinary_count += 1;
                    plan.ordinary_len = plan.ordinary_len.saturating_add(arena.len as u64);
                }
            }
        }
        plan
    }

    fn want(&mut self, node: Option<NumaNode>, page_count: u64) {
        let Some(node) = node else { return };
        match self.wanted.iter_mut().find(|(known, _)| *known == node) {
            Some((_, wanted)) => *wanted += page_count,
            None => self.wanted.push((node, page_count)),
        }
    }

    /// The pool that it was made for.
    #[must_use]
    pub fn pool(&self) -> &Hugepages {
        &self.pool
    }

    /// Pages that all arenas together need.
    #[must_use]
    pub fn needed(&self) -> u64 {
        self.needed
    }

    /// Pages that are missing for having all arenas on hugepages.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.needed.saturating_sub(self.pool.available())
    }

    /// Bytes that will be on ordinary pages: of arenas that do not fit, and of those that never wanted hugepages.
    #[must_use]
    pub fn ordinary_len(&self) -> u64 {
        self.ordinary_len
    }

    /// What an administrator types to have all arenas on hugepages; empty if there are enough, or if pages are not what is missing.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        if self.needed <= self.pool.free {
            return Vec::new();
        }
        let all_have_nodes = self.wanted.iter().map(|(_, count)| count).sum::<u64>() == self.needed;
        if self.pool.nodes.len() > 1 && all_have_nodes {
            return self.short_nodes().map(|short| short.command()).collect();
        }
        vec![format!("sudo sysctl -w vm.nr_hugepages={}", self.pool.total + self.needed - self.pool.free)]
    }

    /// Nodes with fewer pages than are wanted there.
    fn short_nodes(&self) -> impl Iterator<Item = ShortNode> {
        self.wanted.iter().filter_map(|&(node, wanted)| {
            let known = self.pool.nodes.iter().find(|known| known.node == node);
            let (total, free) = known.map_or((0, 0), |known| (known.total, known.free));
            (wanted > free).then_some(ShortNode { node, wanted, total, free })
        })
    }
}

/// A node with fewer pages than are wanted there.
struct ShortNode {
    node: NumaNode,
    wanted: u64,
    total: u64,
    free: u64,
}

impl ShortNode {
    fn command(&self) -> String {
        let file = node_directory(self.node).join("nr_hugepages");
        format!("echo {} | sudo tee {}", self.total + self.wanted - self.free, file.display())
    }
}

/// A sentence or a few, on one line.
impl fmt::Display for HugepagePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hugepages { total, free, group_room, nodes } = &self.pool;
        if self.arena_count == 0 {
            return write!(f, "hugepages: none are wanted; {free} of {total} are free");
        }
        write!(f, "hugepages: {} of 2 MiB are needed, {free} of {total} are free", self.needed)?;
        if let Some(room) = group_room.filter(|room| *room < self.needed) {
            write!(f, ", and the control group allows {room} more")?;
        }
        if nodes.len() > 1 {
            for ShortNode { node, wanted, free, .. } in self.short_nodes() {
                write!(f, "; node {} has {free} of the {wanted} that are best there", node.0)?;
            }
        }
        if self.ordinary_count > 0 {
            let (ordinary_count, arena_count) = (self.ordinary_count, self.arena_count);
            write!(f, ": {ordinary_count} of {arena_count} arenas are put on ordinary pages, which is slower")?;
        }
        if let Some(room) = group_room.filter(|room| *room < self.needed) {
            let missing = self.needed - room;
            write!(f, ". The control group's limit (hugetlb.2MB.max) is to be raised by {missing} pages")?;
        }
        let commands = self.commands();
        if !commands.is_empty() {
            write!(f, ". To reserve what is missing: {}", commands.join("; "))?;
        }
        Ok(())
    }
}

const SIZE_DIRECTORY: &str = "hugepages-2048kB";
const NODES_DIRECTORY: &str = "/sys/devices/system/node";

fn node_directory(node: NumaNode) -> std::path::PathBuf {
    Path::new(NODES_DIRECTORY).join(format!("node{}", node.0)).join("hugepages").join(SIZE_DIRECTORY)
}

fn number(directory: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn arena(len: usize, node: Option<u32>) -> ArenaOptions {
        ArenaOptions { len, huge_pages: true, node: node.map(NumaNode) }
    }

    fn pool(total: u64, free: u64) -> Hugepages {
        Hugepages { total, free, ..Hugepages::default() }
    }

    #[test]
    fn missing_pages_are_told_with_the_command_that_reserves_them() {
        let arenas = [arena(64 * MIB, None), arena(1, None), arena(32 * MIB, None)];
        let plan = HugepagePlan::new(pool(10, 4), &arenas);
        assert_eq!((plan.needed(), plan.missing()), (32 + 1 + 16, 45));
        assert_eq!(plan.ordinary_len(), 96 << 20, "the small one fits");
        assert_eq!(plan.commands(), ["sudo sysctl -w vm.nr_hugepages=55"]);
        assert_eq!(
            plan.to_string(),
            "hugepages: 49 of 2 MiB are needed, 4 of 10 are free: 2 of 3 arenas are put on ordinary pages, which is slower. To \
             reserve what is missing: sudo sysctl -w vm.nr_hugepages=55"
        );
        let plan = HugepagePlan::new(pool(64, 49), &arenas);
        assert_eq!((plan.missing(), plan.ordinary_len(), plan.commands().len()), (0, 0, 0));
        assert_eq!(plan.to_string(), "hugepages: 49 of 2 MiB are needed, 49 of 64 are free");
    }

    #[test]
    fn an_arena_that_wants_none_is_counted_as_ordinary_memory() {
        let plan = HugepagePlan::new(pool(9, 9), &[ArenaOptions::new(3 * MIB)]);
        assert_eq!((plan.needed(), plan.missing(), plan.ordinary_len()), (0, 0, 3 << 20));
        assert_eq!(plan.to_string(), "hugepages: none are wanted; 9 of 9 are free");
    }

    #[test]
    fn a_control_groups_limit_is_not_cured_by_reserving() {
        let limited = Hugepages { group_room: Some(3), ..pool(100, 100) };
        let plan = HugepagePlan::new(limited, &[arena(4 * MIB, None), arena(6 * MIB, None)]);
        assert_eq!((plan.missing(), plan.ordinary_len()), (2, 6 << 20));
        assert!(plan.commands().is_empty());
        let text = plan.to_string();
        assert!(text.contains("the control group allows 3 more: 1 of 2 arenas"), "{text}");
        assert!(text.ends_with("(hugetlb.2MB.max) is to be raised by 2 pages"), "{text}");
    }

    #[test]
    fn with_several_nodes_pages_are_reserved_where_they_are_wanted() {
        let node = |number, total, free| NodeHugepages { node: NumaNode(number), total, free };
        let two = Hugepages { nodes: vec![node(0, 10, 10), node(1, 2, 1)], ..pool(12, 11) };
        let arenas = [arena(16 * MIB, Some(0)), arena(16 * MIB, Some(1))];
        let plan = HugepagePlan::new(two.clone(), &arenas);
        let command = "echo 9 | sudo tee /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
        assert_eq!(plan.commands(), [command]);
        assert!(plan.to_string().contains("; node 1 has 1 of the 8 that are best there: 1 of 2 arenas"), "{plan}");

        let anywhere = HugepagePlan::new(two, &[arena(32 * MIB, None)]);
        assert_eq!(anywhere.commands(), ["sudo sysctl -w vm.nr_hugepages=17"]);
    }

    #[test]
    fn this_machines_pool_adds_up() {
        let pool = Hugepages::now();
        assert!(pool.free <= pool.total && pool.available() <= pool.free, "{pool:?}");
        let by_node: u64 = pool.nodes.iter().map(|node| node.total).sum();
        assert!(pool.nodes.is_empty() || by_node == pool.total, "{pool:?}");
    }
}
