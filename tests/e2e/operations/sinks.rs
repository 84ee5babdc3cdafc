//! Sinks that do not take what is written, files that do not answer, and floods of records: the
//! gateway serves on, and what must be recorded is.

use std::{fs, path::Path, process::Stdio};

use countersign_tests::{
    client::read_head,
    process::{Process, Program, binary},
    world::{World, records},
};
use http::{Request, StatusCode};
use http_body_util::Full;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Command};

use crate::harness::site::soon;

/// Requests of an honest caller that are forwarded.
const HONEST: usize = 40;

fn pipe(path: &Path) -> anyhow::Result<()> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    Ok(())
}

/// The gateway's file with another sink of records.
fn record_to(world: &World, sink: &str) -> anyhow::Result<()> {
    let yaml = fs::read_to_string(world.gateway_yaml())?;
    let file = format!("{{ file: {} }}", world.decision_log().display());
    assert!(yaml.contains(&file));
    fs::write(world.gateway_yaml(), yaml.replace(&file, sink))?;
    Ok(())
}

async fn forwarded(gateway: &Process, token: &str, count: usize) -> anyhow::Result<()> {
    let client = gateway.client().bearer(token);
    for _ in 0..count {
        let request = Request::post("https://slack.com/api/auth.test").body(Full::default())?;
        let answer = soon("an answer", client.send(request)).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    Ok(())
}

/// So many refusals of strangers, each on a connection of its own.
async fn strangers(gateway: &Process, count: usize) -> anyhow::Result<()> {
    const AT_ONCE: usize = 50;
    let address = gateway.address();
    for _ in 0..count / AT_ONCE {
        let asking = (0..AT_ONCE).map(|_| async move {
            let mut stream = TcpStream::connect(address).await?;
            let head = b"CONNECT slack.com:443 HTTP/1.1\r\nHost: slack.com:443\r\n\r\n";
            stream.write_all(head).await?;
            let answer = read_head(&mut stream).await?;
            anyhow::ensure!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
            anyhow::Ok(())
        });
        let asking = futures_util::future::try_join_all(asking);
        soon("the refusals", asking).await??;
    }
    Ok(())
}

/// A figure of the metrics.
async fn metric(gateway: &Process, name: &str) -> anyhow::Result<u64> {
    let metrics = gateway.admin("/metrics").await?;
    let figures = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let figures = figures.filter_map(|rest| rest.split(' ').next_back()?.parse::<u64>().ok());
    Ok(figures.sum())
}

fn of_schema(records: &[Value], schema: &str) -> Vec<Value> {
    let of = records.iter().filter(|record| record["schema"] == schema);
    of.cloned().collect()
}

fn counted(records: &[Value]) -> u64 {
    let counts = records.iter().map(|record| record["count"].as_u64());
    counts.map(|count| count.expect("a count")).sum()
}

/// How many refusals the lines stand for: written, summarised, lost.
fn told(records: &[Value]) -> u64 {
    let written = of_schema(records, "countersign.decision/v1").len();
    let summarised = counted(&of_schema(records, "countersign.summary/v1"));
    let lost = counted(&of_schema(records, "countersign.dropped/v1"));
    written as u64 + summarised + lost
}

#[tokio::test]
async fn t64_strangers_cannot_crowd_out_the_records_of_proven_callers() -> anyhow::Result<()> {
    const REFUSALS: usize = 3000;
    let world = World::start().await?;
    let mut gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    let (flood, honest) = tokio::join!(
        strangers(&gateway, REFUSALS),
        forwarded(&gateway, &token, HONEST)
    );
    flood?;
    honest?;
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let known = world.decisions()?;
    assert_eq!(known.len(), HONEST, "one record for each, and no other");
    assert!(known.iter().all(|record| record["outcome"] == "permitted"));
    let strangers = records(&world.strangers_log())?;
    assert_eq!(told(&strangers), REFUSALS as u64);
    let summary = &of_schema(&strangers, "countersign.summary/v1")[0];
    assert_eq!(summary["sources"][0]["address"], "127.0.0.1", "{summary}");
    assert_eq!(summary["reasons"][0]["reason"], "identity_missing");
    let written = of_schema(&strangers, "countersign.decision/v1").len();
    assert!(written <= REFUSALS / 4, "{written} were written whole");
    Ok(())
}

/// The collector takes nothing while strangers flood, and then takes what waits.
#[tokio::test]
async fn t64_a_collector_that_comes_late_gets_every_forwarded_request() -> anyhow::Result<()> {
    let world = World::start().await?;
    record_to(&world, "{ stdout: json }")?;
    let mut gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    gateway.stop_reading();
    for _ in 0..4 {
        strangers(&gateway, 1000).await?;
        forwarded(&gateway, &token, HONEST).await?;
    }
    gateway.read_again();
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let printed = gateway
        .said(|printed| {
            let whole = printed.matches("\"outcome\":\"permitted\"").count() == 4 * HONEST;
            whole.then(|| printed.to_owned())
        })
        .await?;
    let lines = printed
        .lines()
        .filter(|line| line.starts_with("{\"schema\""));
    let records: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(told(&records), 4000 + 4 * HONEST as u64);
    Ok(())
}

#[tokio::test]
async fn t58_records_that_nobody_reads_stop_nobody() -> anyhow::Result<()> {
    let world = World::start().await?;
    record_to(&world, "{ stdout: json }")?;
    let gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    gateway.stop_reading();
    // More than the pipe holds, and then more than the queue of strangers does.
    forwarded(&gateway, &token, 5 * HONEST).await?;
    strangers(&gateway, 6000).await?;
    forwarded(&gateway, &token, HONEST).await?;
    let dropped = metric(&gateway, "countersign_decisions_dropped_total").await?;
    assert!(dropped > 0);
    let known = r#"countersign_decisions_dropped_total{class="identified"}"#;
    assert_eq!(metric(&gateway, known).await?, 0);
    Ok(())
}

/// A file system of 256 KiB, unmounted when it is dropped.
struct Tiny(tempfile::TempDir);

impl Tiny {
    /// `None` where this machine does not let us.
    fn mount() -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status()?;
        if mount.success() {
            return Ok(Some(Self(directory)));
        }
        countersign_tests::skipped("a file system cannot be mounted without root");
        Ok(None)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn t58_a_full_disk_stops_nobody_and_is_told_when_it_has_room_again() -> anyhow::Result<()> {
    let Some(disk) = Tiny::mount()? else {
        return Ok(());
    };
    let log = disk.0.path().join("decisions.jsonl");
    let world = World::start().await?;
    record_to(&world, &format!("{{ file: {} }}", log.display()))?;
    fs::write(disk.0.path().join("filler"), vec![0_u8; 257 * 1024]).unwrap_err();
    let mut gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    forwarded(&gateway, &token, HONEST).await?;
    gateway
        .said(|printed| {
            printed
                .contains("the decision log cannot be written")
                .then_some(())
        })
        .await?;
    fs::remove_file(disk.0.path().join("filler"))?;
    forwarded(&gateway, &token, 1).await?;
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let records = records(&log)?;
    assert_eq!(told(&records), HONEST as u64 + 1);
    assert!(!of_schema(&records, "countersign.dropped/v1").is_empty());
    Ok(())
}

#[tokio::test]
async fn t58_a_pipe_without_a_reader_is_no_file_of_records() -> anyhow::Result<()> {
    let world = World::start().await?;
    let path = world.directory().join("pipe");
    pipe(&path)?;
    record_to(&world, &format!("{{ file: {} }}", path.display()))?;
    let mut command = Command::new(binary()?);
    command
        .args(["run", "--log", "json", "--config"])
        .arg(world.gateway_yaml());
    let mut program = Program::start(command)?;
    assert_eq!(program.ended().await?.code(), Some(1));
    let told = format!("the decision log {} cannot be opened", path.display());
    program
        .said(|printed| printed.contains(&told).then_some(()))
        .await?;
    Ok(())
}

/// A named pipe stands for a disk that does not answer: to open it waits for whoever is at its
/// other end.
#[tokio::test]
async fn t58_a_secret_that_does_not_answer_is_the_fault_of_its_requests_alone() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    let secret = world.secret_directory().join("qase");
    fs::remove_file(&secret)?;
    pipe(&secret)?;
    let client = gateway.client().bearer(&token);
    for _ in 0..20 {
        let request = Request::get("https://api.qase.io/v1/run/DEMO").body(Full::default())?;
        let answer = soon("a refusal", client.send(request)).await??;
        assert!(!answer.status.is_success(), "{}", answer.text());
    }
    forwarded(&gateway, &token, HONEST).await
}

#[tokio::test]
async fn t58_keys_that_do_not_answer_are_no_keys() -> anyhow::Result<()> {
    let world = World::start().await?;
    let keys = world.directory().join("jwks.json");
    fs::remove_file(&keys)?;
    pipe(&keys)?;
    let gateway = Process::start(&world, None).await?;
    let client = gateway
        .client()
        .bearer(&world.token("qa", "nightly-dashboard"));
    for _ in 0..4 {
        let refused = soon("a refusal", client.tls_stream("slack.com")).await?;
        assert!(refused.is_err());
    }
    let ready = soon("the admin endpoint", gateway.admin("/healthz")).await??;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let recorded = soon("a record", async {
        loop {
            if let Some(first) = records(&world.strangers_log())?.first() {
                return anyhow::Ok(first.clone());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    assert_eq!(recorded.await??["reason"], "identity_keys_unavailable");
    Ok(())
}

/// What is read at start waits for nobody either.
#[tokio::test]
async fn t58_roots_that_do_not_answer_are_an_error_at_start() -> anyhow::Result<()> {
    let world = World::start().await?;
    let roots = world.directory().join("upstream-roots.pem");
    fs::remove_file(&roots)?;
    pipe(&roots)?;
    let mut command = Command::new(binary()?);
    command
        .args(["run", "--log", "json", "--config"])
        .arg(world.gateway_yaml());
    let mut program = Program::start(command)?;
    assert_eq!(program.ended().await?.code(), Some(1));
    program
        .said(|printed| printed.contains("it is not a regular file").then_some(()))
        .await?;
    Ok(())
}
