//! One network namespace, with files of its own where it needs them.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// As whom a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
}

/// What the holder runs: its own `resolv.conf`, a loopback, and then nothing until we are gone.
const HOLD: &str =
    "mount --bind \"$1\" /etc/resolv.conf && ip link set lo up && echo held && exec cat";

/// A network namespace and a mount namespace, gone when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    net: File,
}

impl Namespace {
    /// An empty one, whose names are looked up as `resolv_conf` says.
    pub fn new(resolv_conf: &Path) -> anyhow::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", HOLD, "sh"])
            .arg(resolv_conf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare")?;
        let mut said = String::new();
        let stdout = holder.stdout.take().context("it was piped")?;
        BufReader::new(stdout).read_line(&mut said)?;
        let net = File::open(format!("/proc/{}/ns/net", holder.id()))?;
        let namespace = Self { holder, net };
        ensure!(said == "held\n", "no namespace can be made: {said}");
        Ok(namespace)
    }

    /// Runs `work` on a thread in this namespace. Sockets made there stay there.
    ///
    /// # Panics
    /// If `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into this network, for good.
    pub fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.net.as_fd(), network)?)
    }

    /// Runs a future on a thread of its own in this namespace; everything it opens is there.
    pub fn spawn<T, F>(&self, future: F) -> io::Result<thread::JoinHandle<io::Result<T>>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let net = self.net.try_clone()?;
        Ok(thread::spawn(move || {
            move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))?;
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            Ok(runtime.enable_all().build()?.block_on(future))
        }))
    }

    /// A program in here, as root.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.entering();
        command.arg("--").arg(program.as_ref());
        command
    }

    /// A program in here as somebody else, who may read every file (the checkout may lie where
    /// only root can look) and has no other privilege.
    pub fn command_as(&self, owner: Owner, program: impl AsRef<Path>) -> Command {
        let mut command = self.entering();
        command.args(["--", "setpriv", "--clear-groups", "--pdeathsig", "KILL"]);
        command.args(["--reuid", &owner.uid.to_string()]);
        command.args(["--regid", &owner.gid.to_string()]);
        for kind in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
            command.args([kind, "-all,+dac_read_search"]);
        }
        command.arg(program.as_ref());
        command
    }

    /// Shows `file` at `place` to everything in here, as a mounted Secret would be.
    pub fn mount(&self, file: &Path, place: &Path) -> anyhow::Result<()> {
        let mut mount = self.command("mount");
        mount.arg("--bind").args([file, place]);
        run(mount, "")
    }

    /// Gives `ip` these commands, one a line.
    pub fn ip(&self, commands: &str) -> anyhow::Result<()> {
        let mut ip = self.command("ip");
        ip.args(["-batch", "-"]);
        run(ip, commands)
    }

    /// Sets a `sysctl` of this network.
    pub fn sysctl(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let path = Path::new("/proc/sys/net").join(name);
        self.inside(|| std::fs::write(&path, value))?
            .with_context(|| path.display().to_string())
    }

    /// A file of the kernel about its holder, such as `ns/net`.
    pub fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.id().to_string()).join(name)
    }

    /// A file as programs in here see it; the path has no leading slash.
    pub fn file(&self, path: &str) -> PathBuf {
        self.proc("root").join(path)
    }

    /// By which `ip link` finds it.
    pub(super) fn id(&self) -> u32 {
        self.holder.id()
    }

    fn entering(&self) -> Command {
        let mut command = Command::new("nsenter");
        for (kind, file) in [("net", "net"), ("mount", "mnt")] {
            command.arg(format!("--{kind}=/proc/{}/ns/{file}", self.id()));
        }
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It has ended already, or ends now; there is nobody to tell otherwise.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Runs a command that must succeed.
fn run(mut command: Command, input: &str) -> anyhow::Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("it was piped")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}
