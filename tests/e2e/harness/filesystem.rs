//! Files that tests need and cannot simply write.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A file system in memory, unmounted when this is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one with these options; `None` where none can be mounted, which is then said loudly.
    pub(crate) fn mount(at: PathBuf, options: &str) -> io::Result<Option<Self>> {
        fs::create_dir_all(&at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Ok(Some(Self(at)));
        }
        countersign_tests::skipped("a file system cannot be mounted without root");
        Ok(None)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Mounts it anew with other options; what is on it stays.
    pub(crate) fn remount(&self, options: &str) -> anyhow::Result<()> {
        let mut mount = Command::new("mount");
        mount
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0);
        anyhow::ensure!(mount.status()?.success(), "it cannot be remounted");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a gateway may still have a file open.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// A pipe with a name, which stands for a file that does not answer.
pub(crate) fn named_pipe(path: &Path) -> io::Result<()> {
    Ok(mknodat(
        CWD,
        path,
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )?)
}
