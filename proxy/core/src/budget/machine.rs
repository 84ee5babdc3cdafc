//! How much memory this process can have.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_types::{
    Limits,
    memory::{self, PART},
};

/// The limit that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The memory that the process can have, in bytes.
    pub bytes: u64,
    /// The source of the limit.
    pub by: String,
}

/// The budget of a gateway with these limits: the configured one, or a part of the limit that was found.
/// Reduces the number of connections to what fits.
pub fn size(limits: &mut Limits) -> u64 {
    let found = MemoryLimit::here();
    let memory = limits.memory.unwrap_or_else(|| {
        let found = found
            .as_ref()
            .map_or(memory::CHART / PART, MemoryLimit::budget);
        found.max(memory::LEAST)
    });
    if let Some(found) = found {
        tracing::info!(memory, of = found.bytes, by = %found.by, "the memory budget");
        if memory > found.budget() {
            tracing::warn!(
                memory,
                of = found.bytes,
                "limits.memory is more than half of the available memory: the rest may not be enough for the process"
            );
        }
    }
    memory::fit(limits, memory);
    for excess in memory::excesses(limits, memory) {
        tracing::warn!(
            key = excess.key,
            product = excess.product,
            room = excess.room,
            most = excess.most,
            "a bound under `limits` needs more memory than is available for it"
        );
    }
    memory
}

/// In cgroup v1, unlimited is a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

impl MemoryLimit {
    /// The least of the limits of the process's own cgroup, of those above it, and of the machine's
    /// memory. `None` if there is no limit anywhere.
    pub fn here() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// The budget: a fixed part of the limit.
    pub fn budget(&self) -> u64 {
        self.bytes / PART
    }

    /// The same below another root directory.
    fn under(root: &Path) -> Option<Self> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let files = groups
            .lines()
            .filter_map(group)
            .flat_map(|(hierarchy, path)| {
                let (mount, file) = match hierarchy {
                    Hierarchy::Unified => {
                        (["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max")
                    }
                    Hierarchy::Memory => (
                        ["sys/fs/cgroup/memory", "sys/fs/cgroup"],
                        "memory.limit_in_bytes",
                    ),
                };
                mount
                    .into_iter()
                    .flat_map(move |mount| files(mount, path, file))
            });
        let limits = files.filter_map(|file| {
            let text = fs::read_to_string(root.join(&file)).ok()?;
            let bytes = text
                .trim()
                .parse()
                .ok()
                .filter(|bytes| *bytes < UNLIMITED)?;
            let by = format!("/{}", file.display());
            Some(Self { bytes, by })
        });
        limits.chain(machine(root)).min_by_key(|found| found.bytes)
    }
}

#[derive(Clone, Copy)]
enum Hierarchy {
    Unified,
    Memory,
}

/// One line of `/proc/self/cgroup`: `number:controllers:path`.
fn group(line: &str) -> Option<(Hierarchy, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    if controllers.is_empty() {
        return Some((Hierarchy::Unified, path));
    }
    let memory = controllers.split(',').any(|name| name == "memory");
    memory.then_some((Hierarchy::Memory, path))
}

/// The file in the group's directory and in each one above. A container may see its own group as the
/// root, whatever its path says.
fn files(mount: &str, path: &str, file: &'static str) -> Vec<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors()
        .map(|group| Path::new(mount).join(group).join(file))
        .collect()
}

fn machine(root: &Path) -> Option<MemoryLimit> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(MemoryLimit {
        bytes: kib.checked_mul(1024)?,
        by: "MemTotal of /proc/meminfo".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[rstest]
    #[case::v2("0::/kubepods/pod1/c1\n", &[("sys/fs/cgroup/kubepods/pod1/c1/memory.max", "268435456\n")], 256 * MIB)]
    #[case::v2_in_its_own_namespace("0::/\n", &[("sys/fs/cgroup/memory.max", "268435456\n")], 256 * MIB)]
    #[case::v2_parent_is_less("0::/pod/c\n",
        &[("sys/fs/cgroup/pod/c/memory.max", "max\n"), ("sys/fs/cgroup/pod/memory.max", "134217728\n")], 128 * MIB)]
    #[case::v2_child_is_less("0::/pod/c\n",
        &[("sys/fs/cgroup/pod/c/memory.max", "67108864"), ("sys/fs/cgroup/pod/memory.max", "134217728\n")], 64 * MIB)]
    #[case::v1("4:cpu,memory:/docker/c\n0::/\n",
        &[("sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes", "268435456\n")], 256 * MIB)]
    #[case::v1_seen_as_the_root("4:memory:/docker/c\n",
        &[("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n")], 256 * MIB)]
    #[case::v1_unlimited("4:memory:/\n",
        &[("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")], 1024 * MIB)]
    #[case::hybrid("4:memory:/a\n0::/b\n",
        &[("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "268435456\n"), ("sys/fs/cgroup/unified/b/memory.max", "max")], 256 * MIB)]
    #[case::more_than_the_machine("0::/\n", &[("sys/fs/cgroup/memory.max", "99999999999999")], 1024 * MIB)]
    #[case::no_group("", &[], 1024 * MIB)]
    #[case::garbage("x\n:\n0::/\n", &[("sys/fs/cgroup/memory.max", "many")], 1024 * MIB)]
    fn the_least_limit_counts(
        #[case] groups: &str,
        #[case] files: &[(&str, &str)],
        #[case] bytes: u64,
    ) {
        let root = tempfile::tempdir().unwrap();
        let meminfo = "MemTotal:        1048576 kB\nMemFree: 1 kB\n";
        let own = [("proc/self/cgroup", groups), ("proc/meminfo", meminfo)];
        for (path, text) in own.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(MemoryLimit::under(root.path()).unwrap().bytes, bytes);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(
            MemoryLimit::under(tempfile::tempdir().unwrap().path()),
            None
        );
    }
}
