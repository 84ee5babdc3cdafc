//! The attacks of `memory` on the binary in a container of the chart's size: its own cgroup of
//! 256 MiB, which the kernel would kill it for leaving.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_tests::{
    client::{Client, Session},
    environment::{Environment, Options},
    fake::Protocol,
    process::{Process, binary},
    resources::Resource,
    skipped, told,
};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    process::Command,
};

use crate::{
    harness::soon,
    limits::memory::{Endless, endless_form},
};

const MIB: u64 = 1024 * 1024;
const CONTAINER: u64 = 256 * MIB;

/// As many connections as `limits.connections` permits unless it is written.
const ATTACKERS: usize = 10_000;

/// A cgroup with a limit of memory.
struct Container {
    directory: PathBuf,
    peak: &'static str,
}

impl Container {
    /// `None` where this user can make no such group.
    fn new() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let of = |controllers: &str| {
            let line = groups.lines().find_map(|line| line.split_once(controllers));
            line.map(|(_, path)| path.trim_start_matches('/').to_owned())
        };
        let (mount, path, limit, peak) = match of(":memory:") {
            Some(path) => (
                "/sys/fs/cgroup/memory",
                path,
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
            None => ("/sys/fs/cgroup", of("0::")?, "memory.max", "memory.peak"),
        };
        let name = format!("countersign-{}", uuid());
        let directory = Path::new(mount).join(path).join(name);
        fs::create_dir(&directory).ok()?;
        let container = Self { directory, peak };
        fs::write(container.directory.join(limit), CONTAINER.to_string()).ok()?;
        container.peak().ok()?;
        Some(container)
    }

    /// Starts the environment's gateway in it.
    async fn run(&self, env: &Environment) -> anyhow::Result<Process> {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("echo $$ > \"$0/cgroup.procs\" && exec \"$@\"")
            .arg(&self.directory)
            .arg(binary()?)
            .args(["run", "--log", "json", "--config"])
            .arg(env.gateway_yaml())
            .env_remove("RUST_LOG");
        Process::launch(command, env).await
    }

    /// The most that it has used, in bytes.
    fn peak(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.directory.join(self.peak))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Whatever is left in it keeps it; the next boot does not.
        drop(fs::remove_dir(&self.directory));
    }
}

/// Apart from whatever else runs here.
fn uuid() -> String {
    let directory = tempfile::Builder::new().tempdir().expect("a directory");
    let name = directory.path().file_name().expect("it has a name");
    name.to_string_lossy().into_owned()
}

/// A container with a gateway in an environment where strangers may have all the places that fit.
async fn contained() -> anyhow::Result<Option<(Process, Container, Environment)>> {
    let Some(container) = Container::new() else {
        skipped("no memory cgroup can be made here");
        return Ok(None);
    };
    let extra = "  limits: { unidentified: { connections: 1800, perSource: 1800 } }\n";
    let env = Environment::with(Options {
        extra: extra.to_owned(),
        ..Options::default()
    })
    .await?;
    env.write_policy(
        "other.yaml",
        [
            Resource::workload("other"),
            Resource::access("other-reads-qase", "other", "qase")
                .credential_named("qase-reader")
                .allow(json!({"methods": ["GET"], "paths": ["/v1/project/*"]})),
        ],
    )?;
    let process = container.run(&env).await?;
    Ok(Some((process, container, env)))
}

/// A connection from an address that honest clients do not share, as another pod has one.
async fn from_elsewhere(gateway: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    socket.connect(gateway).await
}

/// So many honest requests one after the other, each on a connection of its own; all are answered.
async fn honest(client: &Client, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let request = Request::get("https://api.qase.io/v1/project/DEMO").body(Full::default())?;
        let answer = soon("an answer", client.send(request)).await??;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    Ok(())
}

/// The peak is within the container, with an eighth to spare. Ends the gateway.
async fn fits(container: Container, mut process: Process, what: &str) -> anyhow::Result<()> {
    let peak = container.peak()?;
    process.signal("KILL").await?;
    process.ended().await?;
    let (peak_mib, of) = (peak / MIB, CONTAINER / MIB);
    told(&format!("{what}: peak {peak_mib} MiB of {of}"));
    assert!(peak < CONTAINER / 8 * 7, "{peak} bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t60_heads_that_never_end_in_a_container() -> anyhow::Result<()> {
    let Some((process, container, env)) = contained().await? else {
        return Ok(());
    };
    let client = process.client().bearer(&env.token("qa", "other"));
    let head = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(15 * 1024));
    let attack = async {
        let mut open = Vec::new();
        for _ in 0..ATTACKERS {
            let mut stream = from_elsewhere(process.address()).await?;
            // One that is closed for another takes no more.
            let _ = stream.write_all(head.as_bytes()).await;
            open.push(stream);
            if open.len() > 3000 {
                open.drain(..500);
            }
        }
        anyhow::Ok(open)
    };
    let (open, served) = futures_util::join!(attack, honest(&client, 100));
    served?;
    honest(&client, 20).await?;
    drop(open?);
    fits(container, process, "heads that never end").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t62_forms_that_never_end_in_a_container() -> anyhow::Result<()> {
    let Some((process, container, env)) = contained().await? else {
        return Ok(());
    };
    let attacker = process
        .client()
        .bearer(&env.token("qa", "nightly-dashboard"));
    let attacker = attacker.over(Protocol::Http2);
    let client = process.client().bearer(&env.token("qa", "other"));
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let stream = attacker.tls_stream("slack.com").await?;
        sessions.push(Session::<Endless>::over(stream).await?);
    }
    let streams = sessions.iter().flat_map(|session| {
        (0..128).map(|_| {
            let mut stream = session.another().expect("it is HTTP/2");
            async move {
                let started = stream.start(endless_form(1000 * 1024));
                drop(tokio::time::timeout(Duration::from_secs(10), started).await);
            }
        })
    });
    let attack = async {
        join_all(streams).await;
    };
    let ((), served) = futures_util::join!(attack, honest(&client, 100));
    served?;
    honest(&client, 20).await?;
    fits(container, process, "forms that never end").await
}
