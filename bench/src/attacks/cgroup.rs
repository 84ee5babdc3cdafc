//! A memory cgroup for the gateway, of version 1 or 2, removed when it is dropped.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A group with a limit.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a group beneath this process's own; fails without root or a memory controller.
    pub(super) fn new(mebibytes: u64) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let (parent, limit) = if Path::new(V1).join("memory.limit_in_bytes").exists() {
            let own = own.lines().find_map(|line| line.split_once(":memory:"));
            (
                beneath(V1, own.map(|(_, path)| path)),
                "memory.limit_in_bytes",
            )
        } else {
            let own = own.lines().find_map(|line| line.strip_prefix("0::"));
            (beneath(V2, own), "memory.max")
        };
        let group = Self(parent.join(format!("countersign-attacks-{}", std::process::id())));
        fs::create_dir_all(&group.0)?;
        fs::write(group.0.join(limit), (mebibytes << 20).to_string())?;
        Ok(group)
    }

    /// A command that runs `program` inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo $$ >"$0/cgroup.procs" && exec "$@""#])
            .arg(&self.0)
            .arg(program);
        command
    }

    /// Whether the kernel has killed somebody inside for want of memory.
    pub(super) fn has_killed(&self) -> bool {
        let files = ["memory.oom_control", "memory.events"];
        files.iter().any(|file| {
            let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
            text.lines()
                .filter_map(|line| line.strip_prefix("oom_kill "))
                .any(|count| count.trim() != "0")
        })
    }
}

fn beneath(mount: &str, own: Option<&str>) -> PathBuf {
    let own = own.unwrap_or_default().trim_start_matches('/');
    let below = Path::new(mount).join(own);
    if below.is_dir() { below } else { mount.into() }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The process inside was waited for; if one is left the group stays, which harms nobody.
        let _ = fs::remove_dir(&self.0);
    }
}
