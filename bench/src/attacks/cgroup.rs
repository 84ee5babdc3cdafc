//! Cgroups for the gateway and the attacker, of version 1 or 2, as two pods on a node have them: each has as much right to
//! the CPU as the other, however many threads it has, and the gateway has a memory limit. Removed when dropped.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

const MOUNT: &str = "/sys/fs/cgroup";

/// A group: one directory for each hierarchy.
#[derive(Debug)]
pub(super) struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Makes a group beneath this process's own, with the kernel's usual weight for the CPU; fails without root, or without a
    /// controller of the CPU or, with a limit, of memory.
    pub(super) fn new(name: &str, mebibytes: Option<u64>) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let name = format!("countersign-attacks-{name}-{}", std::process::id());
        let first_version = Path::new(MOUNT).join("memory/memory.limit_in_bytes");
        let controllers: &[&str] = match (first_version.exists(), mebibytes) {
            (false, _) => &[""],
            (true, None) => &["cpu"],
            (true, Some(_)) => &["cpu", "memory"],
        };
        let mut group = Self(Vec::new());
        for controller in controllers {
            let directory = beneath(controller, &own).join(&name);
            fs::create_dir_all(&directory)?;
            group.0.push(directory);
        }
        if let Some(mebibytes) = mebibytes {
            let limit = match controllers {
                [""] => "memory.max",
                _ => "memory.limit_in_bytes",
            };
            group.write(limit, &(mebibytes << 20).to_string())?;
        }
        match controllers {
            [""] => group.write("cpu.weight", "100")?,
            _ => group.write("cpu.shares", "1024")?,
        }
        Ok(group)
    }

    /// Writes to the hierarchy that has the file; it is an error if none has.
    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let of_controller = self.0.iter().map(|directory| directory.join(file));
        match of_controller.into_iter().find(|path| path.exists()) {
            Some(path) => fs::write(path, value),
            None => Err(io::Error::other(format!("no cgroup has {file}"))),
        }
    }

    /// A command that runs `program` inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        const ENTER: &str =
            r#"for it in $0; do echo $$ >"$it/cgroup.procs" || exit; done; exec "$@""#;
        let directories: Vec<_> = self.0.iter().map(|it| it.to_string_lossy()).collect();
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER, &directories.join(" ")])
            .arg(program);
        command
    }

    /// Whether the kernel has killed somebody inside for want of memory.
    pub(super) fn has_killed(&self) -> bool {
        let files = ["memory.oom_control", "memory.events"];
        let paths = self.0.iter().flat_map(|it| files.map(|file| it.join(file)));
        paths.into_iter().any(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines()
                .filter_map(|line| line.strip_prefix("oom_kill "))
                .any(|count| count.trim() != "0")
        })
    }
}

/// This process's own group in a hierarchy, or the hierarchy's root where that is hidden.
fn beneath(controller: &str, own: &str) -> PathBuf {
    let line = match controller {
        "" => "0::".to_owned(),
        controller => format!(":{controller}:"),
    };
    let own = own.lines().find_map(|it| it.split_once(&line));
    let own = own.map_or("", |(_, path)| path.trim_start_matches('/'));
    let mount = Path::new(MOUNT).join(controller);
    let below = mount.join(own);
    if below.is_dir() { below } else { mount }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.0 {
            // The process inside was waited for; if one is left the group stays, which harms nobody.
            let _ = fs::remove_dir(directory);
        }
    }
}
