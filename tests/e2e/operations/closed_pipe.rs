//! What commands do when nobody reads what they print: they end without a word, as
//! `countersign schema | head -1` should; what goes on serves on.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::fd::OwnedFd,
    process::{Command, Output, Stdio},
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use countersign::Cli;
use countersign_tests::{
    environment::Environment,
    process::{self, Process, admin},
};
use serde_json::Value;

use crate::harness::{soon, until};

const SUBJECT: &str = "system:serviceaccount:qa:nightly-dashboard";

/// The code of a command that SIGPIPE has ended.
const ENDED_BY_PIPE: i32 = 141;

/// A pipe that nobody reads.
/// Settings of injection that are enough to print from.
const INJECTION: &str = "{gateways: [\"gateway.countersign:3129\"], relayImage: \"relay:1\", redirectImage: \"redirect:1\"}";

/// Expectations of a policy, which need not be met.
const EXPECTATIONS: &str = "tests:
  - as: qa/nightly-dashboard
    request: POST https://slack.com/api/chat.postMessage
    at: 2026-11-23T05:10:00Z
    expect: permit
";

fn unread() -> io::Result<Stdio> {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    Ok(OwnedFd::from(writer).into())
}

/// Runs a command with nobody at its standard output; what it says elsewhere.
fn run(arguments: &[OsString]) -> anyhow::Result<Output> {
    let mut command = Command::new(process::binary()?);
    let command = command.args(arguments).stdin(Stdio::null());
    Ok(command.stdout(unread()?).stderr(Stdio::piped()).output()?)
}

fn line(words: &[&str], rest: &[&std::path::Path]) -> Vec<OsString> {
    let words = words.iter().map(Into::into);
    words.chain(rest.iter().map(Into::into)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_quietly_when_nobody_reads_it() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let gateway = Process::start(&env, None).await?;
    let (ca, policy) = (env.ca_directory(), env.policy_directory());
    let url = "https://slack.com/api/chat.postMessage";
    let explain = |url: &str| {
        let mut line = line(&["explain"], &[&policy]);
        line.extend(["--as", SUBJECT, "POST", url].map(OsString::from));
        line
    };
    let at = gateway.admin_address().to_string();
    let key = env.directory().join("audit.pub");
    let signing =
        countersign_audit::SigningKey::new("gateway", &countersign_audit::SigningKey::generate()?)?;
    fs::write(&key, signing.verifying_key().encode())?;
    let expectations = env.directory().join("expectations.yaml");
    fs::write(&expectations, EXPECTATIONS)?;
    let injection = env.directory().join("injection.yaml");
    fs::write(&injection, INJECTION)?;
    let receipt = env.directory().join("receipt.json");
    let empty = countersign_insight::receipt::Receipt::default();
    fs::write(&receipt, serde_json::to_vec(&empty)?)?;
    let mut check = line(&["audit", "check"], &[&key, &key]);
    check.extend([OsString::from("--key"), key.into()]);
    let lines = [
        line(&["schema"], &[]),
        line(&["schema", "Gateway"], &[]),
        line(&["check"], &[&policy]),
        explain(url),
        explain("https://slack.com/api/auth.revoke"),
        line(&["ca", "show", "--directory"], &[&ca]),
        line(&["ca", "export", "--directory"], &[&ca]),
        line(&["credentials", "--admin", &at], &[]),
        line(&["credentials", "--json", "--admin", &at], &[]),
        check,
        line(&["receipt", "--check"], &[&receipt, &env.decision_log()]),
        line(&["tail", "--once", "-o", "json", "--admin", &at], &[]),
        line(&["diff"], &[&policy, &policy]),
        line(&["who-can", "POST", url, "--resources"], &[&policy]),
        line(&["review"], &[&policy]),
        line(&["test", "--resources"], &[&policy, &expectations]),
        line(&["controller", "webhooks", "--injection"], &[&injection]),
        line(&["controller", "policy", "--injection"], &[&injection]),
        line(&["triage", "--admin", &at], &[]),
        line(&["redirect"], &[]),
        line(&["reasons"], &[]),
        line(&["reasons", "rate_limited", "-o", "json"], &[]),
        line(&["completions", "bash"], &[]),
        line(&["man"], &[&env.directory().join("man")]),
        line(&["redirect", "--format", "iptables"], &[]),
    ];
    for line in &lines {
        let ended = run(line)?;
        assert_eq!(
            ended.status.code(),
            Some(ENDED_BY_PIPE),
            "{line:?}: {ended:?}"
        );
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{line:?}");
    }
    // What a further command prints is tried here too.
    let tried = lines.iter().filter_map(|line| line.first()?.to_str());
    let tried: BTreeSet<_> = tried.chain(["run", "relay", "exec", "doctor"]).collect();
    let command = Cli::command();
    let known: BTreeSet<_> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    assert_eq!(tried, known);
    Ok(())
}

#[test]
fn help_that_nobody_reads_is_no_failure() -> anyhow::Result<()> {
    let command = Cli::command();
    let names = command.get_subcommands().map(clap::Command::get_name);
    let mut lines: Vec<_> = names.map(|name| line(&[name, "--help"], &[])).collect();
    lines.extend([line(&["--help"], &[]), line(&["--version"], &[])]);
    for line in lines {
        let ended = run(&line)?;
        assert_eq!(ended.status.code(), Some(0), "{line:?}: {ended:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{line:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_output_that_cannot_take_it_is_a_failure_that_is_told() -> anyhow::Result<()> {
    let full = File::options().write(true).open("/dev/full")?;
    let ended = Command::new(process::binary()?)
        .arg("schema")
        .stdout(full)
        .output()?;
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("No space left on device"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_that_nobody_reads_still_count() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    env.write_yaml(
        "wrong.yaml",
        "apiVersion: countersign.dev/v1alpha1\nkind: Workloat\n",
    )?;
    let policy = env.policy_directory();
    let config = env.gateway_yaml();
    let mut explain = line(&["explain"], &[&policy]);
    explain.extend(["--as", SUBJECT, "GET", "https://slack.com/"].map(OsString::from));
    let lines = [
        (line(&["check"], &[&policy]), 1),
        (explain, 2),
        (line(&["run", "--config"], &[&config]), 2),
        (
            line(
                &["exec", "--as", "qa/nightly-dashboard", "--resources"],
                &[&policy],
            ),
            2,
        ),
    ];
    for (mut line, code) in lines {
        if line.first().is_some_and(|word| word == "exec") {
            line.extend(["--", "true"].map(OsString::from));
        }
        let mut command = Command::new(process::binary()?);
        let command = command.args(&line).stdin(Stdio::null());
        let ended = command.stderr(unread()?).stdout(unread()?).status()?;
        assert_eq!(ended.code(), Some(code), "{line:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_log_nobody_reads_any_more_serves_on() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut child = Command::new(process::binary()?)
        .args(["run", "--log", "json", "--config"])
        .arg(env.gateway_yaml())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = child.stderr.take().context("piped")?;
    let mut lines = BufReader::new(log).lines();
    let address = lines.find_map(|line| {
        let event: Value = serde_json::from_str(&line.ok()?).ok()?;
        let of_admin = event["message"] == "admin endpoint";
        of_admin.then(|| event["address"].as_str()?.parse().ok())?
    });
    let address = address.context("it did not say where it listens")?;
    drop(lines);
    let send = |signal: &str| {
        Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
    };
    // It has just said where it listens.
    until("it to be ready", async || {
        let answer = admin(address, "/readyz").await;
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .await?;
    // Each reload is told, to nobody.
    for _ in 0..3 {
        send("-HUP")?;
        let answer = soon("an answer", admin(address, "/readyz")).await??;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    send("-TERM")?;
    let ended = tokio::task::spawn_blocking(move || child.wait()).await??;
    assert_eq!(ended.code(), Some(0), "{ended}");
    Ok(())
}
