//! The gateway as process 1 of a container, which inherits whatever its helpers leave behind.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::Context as _;
use countersign_tests::{
    environment::{DASHBOARD_FILE, Environment},
    process::{self, Process},
};
use serde_json::json;
use tokio::process::Command;

use crate::harness::{list_runs, soon, until};

/// How many processes each run of the helper leaves behind.
const LEFT: usize = 5;

/// A helper that leaves processes behind: some in its own group, which is killed, and some that have
/// left it. `setsid` forks, so that its parent is gone at once.
const HELPER: &str = r#"#!/bin/sh
for i in 1 2 3 4 5; do
    setsid -f sh -c 'echo left >> "$0"' "$1"
    sleep 600 &
done
printf '{"secret": "%s"}' "$(cat "$2")"
"#;

/// `None` where there can be no such container, which was then said loudly.
async fn contained(env: &Environment) -> anyhow::Result<Option<Process>> {
    let tried = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .output()
        .await;
    if !tried.is_ok_and(|output| output.status.success()) {
        countersign_tests::skipped("no namespace of processes: that takes root and unshare");
        return Ok(None);
    }
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(process::binary()?)
        .args(["run", "--log", "json", "--config"])
        .arg(env.gateway_yaml())
        .env_remove("RUST_LOG");
    Process::launch(command, env).await.map(Some)
}

/// The states of the children of a process: `Z` is one that ended and that nobody has asked.
fn children(of: u32) -> anyhow::Result<Vec<String>> {
    let mut states = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let stat = fs::read_to_string(entry?.path().join("stat"));
        let stat = stat.unwrap_or_default();
        let mut fields = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split(' ');
        let state = fields.next().unwrap_or_default().to_owned();
        if fields.next().and_then(|parent| parent.parse().ok()) == Some(of) {
            states.push(state);
        }
    }
    Ok(states)
}

fn only_child(of: u32) -> anyhow::Result<u32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
    text.trim().parse().context("unshare has one child")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_helpers_leave_behind_is_reaped_and_their_own_end_is_seen() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let (helper, left) = (env.directory().join("helper"), env.directory().join("left"));
    fs::write(&helper, HELPER)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let secret = env.secret_directory().join("qase");
    let exec = json!({"exec": {"command": [helper, left, secret]}});
    env.edit_policy(DASHBOARD_FILE, |policy| {
        policy.credential("qase-reader")["static"]["token"] = exec;
    })?;
    let Some(process) = contained(&env).await? else {
        return Ok(());
    };
    let gateway = only_child(process.id().context("it runs")?)?;
    let client = process
        .client()
        .bearer(&env.token("qa", "nightly-dashboard"));
    for run in 1..=4 {
        // A token that Qase does not take any more makes the helper run again: had its end been
        // taken from whoever waits for it, there would be no token.
        let token = env.qase.replace_token();
        env.write_secret("qase", &token)?;
        let answer = soon("an answer", client.send(list_runs())).await??;
        assert_eq!(answer.status, 200, "run {run}: {}", answer.text());
        let reaped = until("the end of all", async || {
            let done = fs::read_to_string(&left)
                .unwrap_or_default()
                .lines()
                .count();
            done >= LEFT * run && children(gateway).is_ok_and(|children| children.is_empty())
        });
        let reaped = reaped.await;
        anyhow::ensure!(reaped.is_ok(), "run {run}: {:?}", children(gateway)?);
    }
    Ok(())
}
