//! What the control groups of this process allow it of hugepages.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::PageKind;

/// Limit and use, in bytes: version 2, then version 1, each for pages used and for pages promised.
const FILES: [(&str, &str); 4] = [
    ("hugetlb.2MB.max", "hugetlb.2MB.current"),
    ("hugetlb.2MB.rsvd.max", "hugetlb.2MB.rsvd.current"),
    ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.usage_in_bytes"),
    ("hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.usage_in_bytes"),
];

/// Pages that they leave. `None` without a limit.
pub(super) fn room() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    room_in(Path::new("/sys/fs/cgroup"), &groups)
}

/// The tightest limit of the groups (lines of `/proc/self/cgroup`: number, controllers, path) and of those above them.
fn room_in(root: &Path, groups: &str) -> Option<u64> {
    let places = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = path.trim_start_matches('/');
        let root = match controllers {
            // Beside groups of version 1, those of version 2 have a directory of their own.
            "" if root.join("unified").is_dir() => root.join("unified"),
            "" => root.to_path_buf(),
            _ if controllers.split(',').any(|controller| controller == "hugetlb") => root.join("hugetlb"),
            _ => return None,
        };
        Some((root.join(path), root))
    });
    places.flat_map(|(group, root)| group_and_those_above(&group, &root)).filter_map(|group| room_of(&group)).min()
}

fn group_and_those_above(group: &Path, root: &Path) -> Vec<PathBuf> {
    group.ancestors().take_while(|group| group.starts_with(root)).map(Path::to_path_buf).collect()
}

/// A file that is missing, or says `max`, is no limit.
fn room_of(group: &Path) -> Option<u64> {
    let bytes = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let rooms = FILES.iter().filter_map(|(limit, used)| Some(bytes(limit)?.saturating_sub(bytes(used).unwrap_or(0))));
    rooms.min().map(|room| room / PageKind::Huge.page_len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_of_all_groups_counts() {
        let root = std::env::temp_dir().join(format!("reactor-groups-{}", std::process::id()));
        let write = |group: &str, name: &str, text: &str| {
            fs::create_dir_all(root.join(group)).unwrap();
            fs::write(root.join(group).join(name), text).unwrap();
        };
        write("a/b", "hugetlb.2MB.max", "max\n");
        assert_eq!(room_in(&root, "0::/a/b\n"), None);
        write("a", "hugetlb.2MB.max", "20971520\n");
        write("a", "hugetlb.2MB.current", "4194304\n");
        assert_eq!(room_in(&root, "0::/a/b\n"), Some(8));
        write("a/b", "hugetlb.2MB.rsvd.max", "10485760\n");
        assert_eq!(room_in(&root, "0::/a/b\n"), Some(5));
        write("a", "hugetlb.2MB.current", "41943040\n");
        assert_eq!(room_in(&root, "0::/a/b\n"), Some(0), "more is used than the limit, which was lowered");

        write("hugetlb/old", "hugetlb.2MB.limit_in_bytes", "6291456\n");
        write("hugetlb/old", "hugetlb.2MB.usage_in_bytes", "2097152\n");
        assert_eq!(room_in(&root, "4:memory:/a\n3:blkio,hugetlb:/old\n"), Some(2));

        write("unified", "hugetlb.2MB.max", "2097152\n");
        assert_eq!(room_in(&root, "4:memory:/a\n0::/\n"), Some(1));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(room_in(&root, "0::/a/b\n"), None);
        assert_eq!(room_in(&root, "no such line"), None);
    }
}
