//! From an empty cluster to the first record: the commands of the example's README, typed by real Helm, kubectl and
//! `countersign`; gateways, controllers and the relay run as the cluster's objects say, as processes of their own.

mod cluster;

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, ensure};
use countersign_tests::told;
use serde_json::Value;

use self::cluster::{Cluster, Typed};
use crate::harness::tests_directory;

/// What stands before the commands in the README, and before what the last but one of them prints.
const MARK: &str = "<!-- A test types these. -->\n```sh\n";
const PRINTED: &str = "<!-- A test compares this. -->\n```text\n";

fn block(mark: &str) -> anyhow::Result<Vec<String>> {
    let readme = tests_directory().join("../examples/nightly-dashboard/README.md");
    let readme = fs::read_to_string(readme)?;
    let (_, block) = readme
        .split_once(mark)
        .context("the README has the block")?;
    let (block, _) = block.split_once("```").context("it ends")?;
    Ok(block.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_commands_lead_from_an_empty_cluster_to_the_first_record() -> anyhow::Result<()>
{
    let Some(mut cluster) = Cluster::start().await? else {
        return Ok(());
    };
    let commands = block(MARK)?;
    ensure!(commands.len() == 7, "the README says seven: {commands:?}");
    let mut transcript = String::new();
    for (number, command) in commands.iter().enumerate() {
        let Typed { printed, code } = cluster.typed(command).await?;
        write!(transcript, "$ {command}\n{printed}")?;
        ensure!(
            code == 0,
            "{transcript}\nit ended with {code}\n{}",
            cluster.printed()
        );
        if command.starts_with("kubectl apply") && command.contains("namespace.yaml") {
            cluster.published("qa").await?;
        }
        if command.ends_with("/policy") {
            cluster.in_force("qa").await?;
        }
        if number + 1 == commands.len() {
            told(&format!("{} commands:\n{transcript}", commands.len()));
        }
    }
    for line in block(PRINTED)? {
        ensure!(transcript.contains(&line), "{line}\n{transcript}");
    }
    let pod = cluster.first_pod("qa", "nightly-dashboard").await?;
    is_as_promised(&pod)?;
    let answer = cluster.calls_slack(&pod).await?;
    ensure!(answer["ok"] == true, "{answer}\n{}", cluster.printed());
    let record = cluster.record().await?;
    ensure!(record["outcome"] == "permitted", "{record}");
    ensure!(
        record["policy"]["name"] == "qa/dashboard-posts-to-slack",
        "{record}"
    );
    told(&format!("the first record: {record}"));
    Ok(())
}

/// The pod has a relay, and nothing that is a token.
fn is_as_promised(pod: &Value) -> anyhow::Result<()> {
    let relay = &pod["spec"]["initContainers"][0];
    ensure!(relay["name"] == "countersign-relay", "{pod}");
    let variables = pod["spec"]["containers"][0]["env"].as_array();
    for name in ["SLACK_BOT_TOKEN", "QASE_TOKEN"] {
        let mut found = variables
            .into_iter()
            .flatten()
            .filter(|it| it["name"] == name);
        let found = found.next().context("it is set")?;
        ensure!(found["valueFrom"].is_null(), "{found}");
    }
    Ok(())
}
