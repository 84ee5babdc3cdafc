//! A pod: redirection rules by the real `countersign redirect`, the real relay as a user of its own, and
//! unmodified apps as another.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{
    namespace::{Namespace, Owner},
    network::GATEWAYS,
    test_bed::{GATEWAY_PORT, TestBed},
};
use crate::process::{self, Program};

/// The relay's own user, whom the rules let pass.
pub const RELAY: Owner = Owner {
    uid: 1337,
    gid: 1337,
};
/// The apps' user.
pub const APP: Owner = Owner {
    uid: 10001,
    gid: 10001,
};

/// The longest that an app may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the relay answers for its readiness.
const HEALTH: &str = "127.0.0.1:15021";

/// A pod in a test bed.
pub struct Pod<'a> {
    bed: &'a TestBed,
    directory: TempDir,
    relay: Option<Program>,
}

/// What a program left.
#[derive(Debug)]
pub struct Shown {
    /// Whether it ended with 0.
    pub success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Shown {
    /// Fails the test if the program failed.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "mostly nothing else is wanted"
    )]
    pub fn succeeded(self) -> Self {
        assert!(self.success, "it failed: {self:?}");
        self
    }

    /// Fails the test if the program did not fail, or did not say this.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn failed_with(self, text: &str) {
        assert!(
            !self.success && self.stderr.contains(text),
            "it did not fail with `{text}`: {self:?}"
        );
    }

    /// What it printed, as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_default()
    }
}

impl From<Output> for Shown {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl<'a> Pod<'a> {
    /// A pod of the nightly dashboard, with its token and nothing else yet.
    pub fn bare(bed: &'a TestBed) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("countersign-").tempdir()?;
        let pod = Self {
            bed,
            directory,
            relay: None,
        };
        fs::create_dir(pod.home())?;
        chown(pod.home(), Some(APP.uid), Some(APP.gid))?;
        fs::write(pod.token_file(), bed.env.token("qa", "nightly-dashboard"))?;
        Ok(pod)
    }

    /// A pod as it is when its app starts: first its redirection rules, then with a relay that is ready.
    pub async fn start(bed: &'a TestBed, gateways: &[usize]) -> anyhow::Result<Self> {
        let mut pod = Self::bare(bed)?;
        let redirected = pod.redirect(&["--apply", "--check"]).await?;
        ensure!(redirected.success, "{redirected:?}");
        pod.relay(gateways, &[]).await?;
        pod.ready().await?;
        Ok(pod)
    }

    /// The file of the pod's token.
    pub fn token_file(&self) -> PathBuf {
        self.file("token")
    }

    /// The app's own directory, where it starts.
    pub fn home(&self) -> PathBuf {
        self.file("home")
    }

    /// A file of the pod's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.bed.network.pod
    }

    /// Runs `countersign redirect` as root.
    pub async fn redirect(&self, arguments: &[&str]) -> anyhow::Result<Shown> {
        let mut command = Command::from(self.namespace().command(process::binary()?));
        command.arg("redirect").args(arguments);
        run(command, "").await
    }

    /// Starts the relay, or another in its place, as its own user.
    pub async fn relay(&mut self, gateways: &[usize], more: &[&OsStr]) -> anyhow::Result<()> {
        let ca = self.bed.env.directory().join("listener-ca.pem");
        self.relay_trusting(gateways, &ca, more).await
    }

    /// The same with another authority for the gateways' certificates.
    pub async fn relay_trusting(
        &mut self,
        gateways: &[usize],
        ca: &Path,
        more: &[&OsStr],
    ) -> anyhow::Result<()> {
        self.relay = None;
        let mut command = self.namespace().command_as(RELAY, process::binary()?);
        command.args(["relay", "--log", "json", "--health", HEALTH]);
        for number in gateways {
            let address = GATEWAYS[*number].v4();
            command.args(["--gateway", &format!("{address}:{GATEWAY_PORT}")]);
        }
        command.arg("--gateway-ca").arg(ca);
        // By certificate there is no token to show.
        if more.is_empty() {
            command.arg("--token-file").arg(self.token_file());
        }
        command.args(more).env_remove("RUST_LOG");
        let mut relay = Program::start(command.into())?;
        relay
            .said(|printed| printed.contains("\"listening\"").then_some(()))
            .await?;
        self.relay = Some(relay);
        Ok(())
    }

    /// The relay's process.
    ///
    /// # Errors
    /// When none was started.
    pub fn relay_process(&mut self) -> anyhow::Result<&mut Program> {
        self.relay.as_mut().context("there is no relay")
    }

    /// What the relay says about its readiness, the status line first.
    pub fn readiness(&self) -> io::Result<String> {
        self.namespace().inside(|| {
            let address: SocketAddr = HEALTH.parse().map_err(io::Error::other)?;
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: relay\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?
    }

    /// Waits until the relay is ready.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let ready = async {
            while !self.readiness()?.starts_with("HTTP/1.1 200") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            io::Result::Ok(())
        };
        match timeout(PATIENCE, ready).await {
            Ok(result) => Ok(result?),
            Err(_) => bail!("the relay does not get ready: {}", self.readiness()?),
        }
    }

    /// A program as the app runs it: nothing in its environment is about a proxy, only whom to
    /// trust.
    pub fn app(&self, program: impl AsRef<Path>) -> anyhow::Result<Command> {
        self.app_as(APP, program)
    }

    /// The same as another user.
    pub fn app_as(&self, owner: Owner, program: impl AsRef<Path>) -> anyhow::Result<Command> {
        let root = fs::read_to_string(self.bed.env.ca_directory().join("root.pem"))?;
        // The bundle has the system's roots besides: here, the one root of all sites.
        let system = self.bed.env.authority.pem();
        fs::write(self.file("bundle.pem"), format!("{system}{root}"))?;
        fs::write(self.file("root.pem"), root)?;
        // Entering a namespace leads to its root directory.
        let mut command = self.namespace().command_as(owner, "env");
        command
            .arg("--chdir")
            .arg(self.home())
            .arg(program.as_ref());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("NODE_EXTRA_CA_CERTS", self.file("root.pem"));
        for name in [
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
        ] {
            command.env(name, self.file("bundle.pem"));
        }
        Ok(command.into())
    }
}

/// Runs a program to its end, with these words on its standard input.
pub async fn run(mut command: Command, words: &str) -> anyhow::Result<Shown> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("it was piped")?;
    let ending = timeout(PATIENCE, async {
        // A program that does not read them has ended, which shows.
        let _unread = stdin.write_all(words.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    });
    Ok(ending.await.context("it does not end")??.into())
}
