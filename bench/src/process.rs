//! The gateway and the stand-in as processes of their own, and what the kernel says of them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::{affinity::Cores, files::Files};

/// A process of ours; killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts the stand-in API and reads its address.
    pub(crate) fn upstream(files: &Files) -> anyhow::Result<(Self, SocketAddr)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("upstream")
            .arg(files.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the stand-in API")?;
        let stdout = child.stdout.take().context("the stand-in has no output")?;
        let process = Self(child);
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        let address = address.trim().parse();
        Ok((process, address.context("the stand-in told no address")?))
    }

    /// Starts the gateway on its cores, with a worker to each.
    pub(crate) fn gateway(
        binary: &Path,
        config: &Path,
        files: &Files,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        Self::gateway_with(None, binary, config, files, cores)
    }

    /// Starts it with so many workers.
    pub(crate) fn gateway_with(
        threads: Option<usize>,
        binary: &Path,
        config: &Path,
        files: &Files,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let log = File::create(files.process_log())?;
        let mut command = Command::new(binary);
        command
            .arg("run")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
        Self::launch(command, cores).with_context(|| format!("cannot start {}", binary.display()))
    }

    /// Starts a gateway that will be attacked. If `slow`, its records go to whoever takes 1 MiB of them
    /// a second.
    pub(crate) fn attacked(
        mut command: Command,
        files: &Files,
        cores: &Cores,
        slow: bool,
    ) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(if slow { Stdio::piped() } else { Stdio::null() })
            .stderr(File::create(files.process_log())?);
        let mut process = Self::launch(command, cores).context("cannot start the gateway")?;
        if let Some(records) = process.0.stdout.take() {
            let kept = File::create(files.directory().join("decisions-collected.jsonl"))?;
            thread::spawn(move || collect(records, kept));
        }
        Ok(process)
    }

    /// Starts a peer on the gateway's cores.
    pub(crate) fn pinned(mut command: Command, log: &Path, cores: &Cores) -> anyhow::Result<Self> {
        let log = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let program = command.get_program().to_owned();
        Self::launch(command, cores).with_context(|| format!("cannot start {}", program.display()))
    }

    fn launch(mut command: Command, cores: &Cores) -> anyhow::Result<Self> {
        // A child inherits the cores of the thread that starts it.
        let child = thread::scope(|scope| {
            scope
                .spawn(|| {
                    cores.take_gateway()?;
                    anyhow::Ok(command.spawn()?)
                })
                .join()
                .map_err(|_| anyhow::anyhow!("the thread that starts the gateway panicked"))?
        });
        child.map(Self)
    }

    /// Fails if the process has ended.
    pub(crate) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended: {status}"),
        }
    }

    /// CPU time of its threads and of its children's, as the scheduler counts it, in nanoseconds.
    /// What ended threads had spent is not in it: take differences over a stretch in which none ends.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut spent = 0;
        for process in self.family()? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                // It may end while it is looked at.
                let counted = fs::read_to_string(thread?.path().join("schedstat"));
                let counted = counted.unwrap_or_default();
                let own = counted.split(' ').next().unwrap_or_default();
                spent += own.parse::<u64>().unwrap_or_default();
            }
        }
        ensure!(spent > 0, "the kernel counts no CPU time in schedstat");
        Ok(Duration::from_nanos(spent))
    }

    /// It, and its children.
    fn family(&self) -> anyhow::Result<Vec<u32>> {
        let mut family = vec![self.0.id()];
        for thread in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        Ok(family)
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The part of it that is backed by no file, in bytes.
    pub(crate) fn anonymous(&self) -> anyhow::Result<u64> {
        self.status("RssAnon:")
    }

    /// The most resident memory since [`Self::forget_peak`], in bytes.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    /// Starts measuring the peak anew.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5").context("clear_refs")
    }

    fn status(&self, key: &str) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB"))
            .with_context(|| format!("{key} in /proc/PID/status"))?
            .trim()
            .parse()?;
        Ok(kib * 1024)
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.0.id());
        fs::read_to_string(&path).with_context(|| path.clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to do then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes 1 MiB a second until there is no more.
#[allow(
    clippy::disallowed_methods,
    reason = "a collector is slow by the clock"
)]
fn collect(mut records: impl std::io::Read, mut kept: File) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = records.read(&mut piece) {
        if std::io::Write::write_all(&mut kept, &piece[..length]).is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(1) * u32::try_from(length).unwrap_or(0) / (1 << 20));
    }
}

/// Builds the gateway as it is shipped, and gives its path: beside this program.
pub(crate) fn build_gateway() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let beside = ours
        .with_file_name("countersign")
        .with_extension(std::env::consts::EXE_EXTENSION);
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--package",
                "countersign",
                "--bin",
                "countersign",
            ])
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "the gateway does not build");
    }
    ensure!(
        beside.exists(),
        "{} is not there; build it with `cargo build --release --bin countersign`, or name it with --gateway",
        beside.display()
    );
    Ok(beside)
}
