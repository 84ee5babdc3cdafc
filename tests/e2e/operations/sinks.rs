//! Sinks that do not take what is written, files that do not answer, and floods of records: the
//! gateway serves on, and what must be recorded is.

use std::fs;

use countersign_tests::{
    client::read_head,
    environment::{Environment, records},
    process::{Process, Program, binary},
};
use http::StatusCode;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Command};

use crate::harness::{SmallDisk, auth_test, list_runs, named_pipe, soon, until};

/// Requests of an honest caller that are forwarded.
const HONEST: usize = 40;

/// The gateway's file with another sink of records.
fn record_to(env: &Environment, sink: &str) -> std::io::Result<()> {
    let file = format!("{{ file: {} }}", env.decision_log().display());
    env.edit_gateway(&file, sink)
}

/// A gateway that cannot start.
async fn ended_at_start(env: &Environment) -> anyhow::Result<Program> {
    let mut command = Command::new(binary()?);
    command
        .args(["run", "--log", "json", "--config"])
        .arg(env.gateway_yaml());
    let mut program = Program::start(command)?;
    assert_eq!(program.ended().await?.code(), Some(2));
    Ok(program)
}

async fn forwarded(gateway: &Process, token: &str, count: usize) -> anyhow::Result<()> {
    let client = gateway.client().bearer(token);
    for _ in 0..count {
        let answer = soon("an answer", client.send(auth_test())).await??;
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
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
    let (flood, honest) = tokio::join!(
        strangers(&gateway, REFUSALS),
        forwarded(&gateway, &token, HONEST)
    );
    flood?;
    honest?;
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let known = env.decisions()?;
    assert_eq!(known.len(), HONEST, "one record for each, and no other");
    assert!(known.iter().all(|record| record["outcome"] == "permitted"));
    let strangers = records(&env.strangers_log())?;
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
    let env = Environment::start().await?;
    record_to(&env, "{ stdout: json }")?;
    let mut gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
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
    let env = Environment::start().await?;
    record_to(&env, "{ stdout: json }")?;
    let gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
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

#[tokio::test]
async fn t58_a_full_disk_stops_nobody_and_is_told_when_it_has_room_again() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let Some(disk) = SmallDisk::mount(env.directory().join("disk"), "size=256k")? else {
        return Ok(());
    };
    let log = disk.path().join("decisions.jsonl");
    record_to(&env, &format!("{{ file: {} }}", log.display()))?;
    fs::write(disk.path().join("filler"), vec![0_u8; 257 * 1024]).unwrap_err();
    let mut gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
    forwarded(&gateway, &token, HONEST).await?;
    gateway
        .said(|printed| {
            printed
                .contains("the decision log cannot be written")
                .then_some(())
        })
        .await?;
    fs::remove_file(disk.path().join("filler"))?;
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
    let env = Environment::start().await?;
    let path = env.directory().join("pipe");
    named_pipe(&path)?;
    record_to(&env, &format!("{{ file: {} }}", path.display()))?;
    let mut program = ended_at_start(&env).await?;
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
    let env = Environment::start().await?;
    let gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
    let secret = env.secret_directory().join("qase");
    fs::remove_file(&secret)?;
    named_pipe(&secret)?;
    let client = gateway.client().bearer(&token);
    for _ in 0..20 {
        let answer = soon("a refusal", client.send(list_runs())).await??;
        assert!(!answer.status.is_success(), "{}", answer.text());
    }
    forwarded(&gateway, &token, HONEST).await
}

#[tokio::test]
async fn t58_keys_that_do_not_answer_are_no_keys() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let keys = env.directory().join("jwks.json");
    fs::remove_file(&keys)?;
    named_pipe(&keys)?;
    let gateway = Process::start(&env, None).await?;
    let client = gateway
        .client()
        .bearer(&env.token("qa", "nightly-dashboard"));
    for _ in 0..4 {
        let refused = soon("a refusal", client.tls_stream("slack.com")).await?;
        assert!(refused.is_err());
    }
    let ready = soon("the admin endpoint", gateway.admin("/healthz")).await??;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let strangers = || records(&env.strangers_log()).unwrap_or_default();
    until("a record", async || !strangers().is_empty()).await?;
    assert_eq!(strangers()[0]["reason"], "identity_keys_unavailable");
    Ok(())
}

/// What is read at start waits for nobody either.
#[tokio::test]
async fn t58_roots_that_do_not_answer_are_an_error_at_start() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let roots = env.directory().join("upstream-roots.pem");
    fs::remove_file(&roots)?;
    named_pipe(&roots)?;
    let mut program = ended_at_start(&env).await?;
    program
        .said(|printed| printed.contains("it is not a regular file").then_some(()))
        .await?;
    Ok(())
}
