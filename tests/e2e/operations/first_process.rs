//! The gateway as process 1 of a container, which inherits whatever its helpers leave behind.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use countersign_tests::{
    process::{self, Process},
    world::World,
};
use http::Request;
use http_body_util::Full;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

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
async fn contained(world: &World) -> anyhow::Result<Option<Process>> {
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
        .arg(world.gateway_yaml())
        .env_remove("RUST_LOG");
    Process::launch(command, world).await.map(Some)
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
    let world = World::start().await?;
    let (helper, left) = (
        world.directory().join("helper"),
        world.directory().join("left"),
    );
    fs::write(&helper, HELPER)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let policy = world.policy_directory().join("nightly-dashboard.yaml");
    let secrets = world.secret_directory().display().to_string();
    let file = format!("token: {{ file: {secrets}/qase }}");
    let written = fs::read_to_string(&policy)?;
    anyhow::ensure!(written.contains(&file), "the world's policy has changed");
    let exec = format!(
        "token: {{ exec: {{ command: [{}, {}, \"{secrets}/qase\"] }} }}",
        helper.display(),
        left.display()
    );
    world.write_policy("nightly-dashboard.yaml", &written.replace(&file, &exec))?;
    let Some(process) = contained(&world).await? else {
        return Ok(());
    };
    let gateway = only_child(process.id().context("it runs")?)?;
    let client = process
        .client()
        .bearer(&world.token("qa", "nightly-dashboard"));
    for run in 1..=4 {
        // A token that Qase does not take any more makes the helper run again: had its end been
        // taken from whoever waits for it, there would be no token.
        let token = world.qase.replace_token();
        world.write_secret("qase", &token)?;
        let request = Request::get("https://api.qase.io/v1/run/DEMO?limit=1");
        let sent = client.send(request.body(Full::<Bytes>::default())?);
        let answer = timeout(PATIENCE, sent).await??;
        assert_eq!(answer.status, 200, "run {run}: {}", answer.text());
        let all_reaped = async {
            loop {
                let done = fs::read_to_string(&left)
                    .unwrap_or_default()
                    .lines()
                    .count();
                if done >= LEFT * run && children(gateway)?.is_empty() {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let reaped = timeout(PATIENCE, all_reaped).await;
        anyhow::ensure!(reaped.is_ok(), "run {run}: {:?}", children(gateway)?);
        reaped??;
    }
    Ok(())
}
