//! The real binary, `countersign run`, as a process of its own: for what only a process shows,
//! such as its memory, its files, its signals and everything it prints.

use std::{
    fs, io,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
};
use tokio_util::task::TaskTracker;

use crate::{client::Client, environment::Environment, provoked, sentences::shows_a_number};

/// The longest that the process may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway process. It is killed when this is dropped.
pub struct Process {
    program: Program,
    address: SocketAddr,
    admin: SocketAddr,
    roots: String,
}

impl Process {
    /// Starts the environment's gateway and waits until it listens.
    pub async fn start(env: &Environment, rust_log: Option<&str>) -> anyhow::Result<Self> {
        let mut command = Command::new(binary()?);
        command
            .args(["run", "--log", "json", "--config"])
            .arg(env.gateway_yaml())
            .env_remove("RUST_LOG");
        if let Some(filter) = rust_log {
            command.env("RUST_LOG", filter);
        }
        Self::launch(command, env).await
    }

    /// Runs a command that starts a gateway of the environment's, and waits until it listens.
    pub async fn launch(command: Command, env: &Environment) -> anyhow::Result<Self> {
        let mut program = Program::start(command)?;
        let listening = |printed: &str| {
            let address = logged(printed, "listening")?;
            Some((address, logged(printed, "admin endpoint")?))
        };
        let (address, admin) = program.said(listening).await?;
        Ok(Self {
            program,
            address,
            admin,
            roots: fs::read_to_string(env.ca_directory().join("root.pem"))?,
        })
    }

    /// A client that goes through it, with no proof of who it is yet.
    pub fn client(&self) -> Client {
        Client::through(self.address, &self.roots)
    }

    /// The address of its listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its admin endpoint.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What a path of the admin endpoint answers, head and all.
    pub async fn admin(&self, path: &str) -> io::Result<String> {
        admin(self.admin, path).await
    }
}

impl Deref for Process {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// What a process says is for people.
impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        provoked::note_text(&printed);
        let mut lines = printed.lines();
        let told = lines.find(|line| shows_a_number(line));
        assert_eq!(told, None, "the number of a system's error");
    }
}

/// Any running process whose output is gathered. It is killed when this is dropped.
pub struct Program {
    child: Child,
    printed: Arc<Mutex<String>>,
    /// Ends when both streams have.
    gathering: TaskTracker,
    /// Whether what it prints is read.
    reading: watch::Sender<bool>,
}

impl Program {
    /// Starts it, with nothing on its standard input.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let (printed, gathering) = (Arc::default(), TaskTracker::new());
        let reading = watch::Sender::new(true);
        gather(child.stdout.take(), &printed, &reading, &gathering);
        gather(child.stderr.take(), &printed, &reading, &gathering);
        gathering.close();
        Ok(Self {
            child,
            printed,
            gathering,
            reading,
        })
    }

    /// From now on nobody reads what it prints, until [`Self::read_again`]: pipes fill up.
    pub fn stop_reading(&self) {
        self.reading.send_replace(false);
    }

    /// Reads what waits in the pipes, and whatever comes.
    pub fn read_again(&self) {
        self.reading.send_replace(true);
    }

    /// Waits until something is found in what it printed.
    ///
    /// # Errors
    /// When it ends, or takes too long.
    pub async fn said<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(found) = find(&self.printed()) {
                    return Ok(found);
                }
                if let Some(status) = self.child.try_wait()? {
                    // What it said last may still be on its way.
                    self.gathering.wait().await;
                    match find(&self.printed()) {
                        Some(found) => return Ok(found),
                        None => bail!("it ended with {status}: {}", self.printed()),
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        match waiting.await {
            Ok(found) => found,
            Err(_) => bail!("it did not say that in time: {}", text(&self.printed)),
        }
    }

    /// Everything that it printed so far, on both streams.
    pub fn printed(&self) -> String {
        text(&self.printed)
    }

    /// Sends a signal: `TERM`, `HUP`.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.child.id().context("the process has ended")?;
        let sent = Command::new("kill")
            .args([format!("-{name}"), id.to_string()])
            .status()
            .await?;
        anyhow::ensure!(sent.success(), "kill failed");
        Ok(())
    }

    /// Ends it with SIGKILL, before this returns.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await??)
    }

    /// Its number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// A figure of `/proc/PID/status`, such as `VmRSS`, in KiB or as a count.
    pub fn status(&self, name: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        Ok(figure.context("no such figure")?.parse()?)
    }

    /// Starts `VmHWM`, the most memory ever resident, anew.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(fs::write(self.proc("clear_refs")?, "5")?)
    }

    /// The files and sockets that it has open.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(self.proc("fd")?)?.count())
    }

    fn proc(&self, name: &str) -> anyhow::Result<PathBuf> {
        let id = self.child.id().context("the process has ended")?;
        Ok(Path::new("/proc").join(id.to_string()).join(name))
    }
}

/// What a path of an admin endpoint answers, head and all.
pub async fn admin(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The binary: `COUNTERSIGN_BIN`, or built now, beside the running test.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(given) = std::env::var_os("COUNTERSIGN_BIN") {
        return Ok(given.into());
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> anyhow::Result<PathBuf> {
    // TARGET/PROFILE/deps/TEST
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("no profile directory")?;
    let target = profile.parent().context("no target directory")?;
    let mut command = std::process::Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--locked"])
        // The relay's own binary beside it, for images.
        .args(["-p", "countersign", "-p", "countersign-relay"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output()?;
    anyhow::ensure!(
        output.status.success(),
        "cargo build failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(profile.join("countersign"))
}

fn gather(
    stream: Option<impl AsyncRead + Send + Unpin + 'static>,
    into: &Arc<Mutex<String>>,
    reading: &watch::Sender<bool>,
    gathering: &TaskTracker,
) {
    let Some(stream) = stream else { return };
    let (into, mut reading) = (Arc::clone(into), reading.subscribe());
    gathering.spawn(async move {
        let mut lines = BufReader::new(stream).split(b'\n');
        // An error is that nobody can stop the reading any more.
        while reading.wait_for(|on| *on).await.is_ok() {
            let line = tokio::select! {
                biased;
                Ok(()) = reading.changed() => continue,
                line = lines.next_segment() => line,
            };
            // An error is the end of the process, like the end of its output.
            let Ok(Some(line)) = line else { return };
            let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
        }
    });
}

fn text(printed: &Mutex<String>) -> String {
    printed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Where the listener of this name listens, by the process log.
pub fn logged_by(printed: &str, listener: &str) -> Option<SocketAddr> {
    printed.lines().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let of = event["message"] == "listening" && event["listener"] == listener;
        of.then(|| event["address"].as_str()?.parse().ok())?
    })
}

/// The address in a line of the process log.
fn logged(printed: &str, message: &str) -> Option<SocketAddr> {
    printed.lines().find_map(|line| {
        // Not every line is an event.
        let event: Value = serde_json::from_str(line).ok()?;
        let address = event["address"].as_str()?;
        (event["message"] == message).then(|| address.parse().ok())?
    })
}
