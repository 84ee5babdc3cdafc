//! The job's first run.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, bail, ensure};
use countersign_tests::process::Program;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Cluster, LOOK, PATIENCE, answers};

/// The pod's address; its relay is where apps expect it.
const POD: &str = "127.0.0.1";
const HEALTH: u16 = 15021;

impl Cluster {
    /// Creates the pod of a `CronJob`'s next run, as its controllers would.
    pub(crate) async fn first_pod(&self, namespace: &str, name: &str) -> anyhow::Result<Value> {
        let server = &self.env.api_server;
        let job = server.object("batch/v1", "cronjobs", namespace, name);
        let job = job.context("the CronJob is there")?;
        let template = &job["spec"]["jobTemplate"]["spec"]["template"];
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-1-abcde"), "namespace": namespace,
                "labels": template["metadata"]["labels"],
            },
            "spec": template["spec"],
        });
        let file = self.at("pod.json");
        fs::write(&file, pod.to_string())?;
        let line = format!("kubectl create -f {} -o json", file.display());
        let output = self.command(&line).output().await?;
        ensure!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.printed()
        );
        let mut pod: Value = serde_json::from_slice(&output.stdout)?;
        pod["status"] = json!({"phase": "Running", "podIP": POD});
        pod["spec"]["nodeName"] = "node-1".into();
        server.set_object(&pod);
        Ok(pod)
    }

    /// Starts the pod's relay, and makes a call as the app would: as its user, with its variables and its volumes.
    pub(crate) async fn calls_slack(&mut self, pod: &Value) -> anyhow::Result<Value> {
        let relay = &pod["spec"]["initContainers"][0];
        let program = Program::start(self.contained(pod, relay, POD)?)?;
        self.programs.push(("relay".to_owned(), program));
        let health = SocketAddr::new(POD.parse()?, HEALTH);
        let ready = timeout(PATIENCE, async {
            while !answers(health, "/readyz").await {
                sleep(LOOK).await;
            }
        });
        if ready.await.is_err() {
            bail!("the relay does not get ready:\n{}", self.printed());
        }
        let app = &pod["spec"]["containers"][0];
        let variables = app["env"].as_array().context("it has variables")?;
        let token = variables.iter().find(|it| it["name"] == "SLACK_BOT_TOKEN");
        let token = token.and_then(|it| it["value"].as_str());
        let token = token.context("the token's variable has a value")?;
        let output = self
            .running(pod, app, "/curl", POD)?
            .args(["-sS", "--max-time", "30"])
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .args(["-d", "channel=C0FIRST", "-d", "text=2 of 14 failed"])
            .arg("https://slack.com/api/chat.postMessage")
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.printed()
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The first decision record of a gateway about a call to Slack.
    pub(crate) async fn record(&self) -> anyhow::Result<Value> {
        let found = timeout(PATIENCE, async {
            loop {
                let gateways = self.programs.iter();
                let gateways = gateways.filter(|(name, _)| name.starts_with("gateway"));
                let lines: Vec<String> = gateways
                    .flat_map(|(_, program)| {
                        let printed = program.printed();
                        printed.lines().map(str::to_owned).collect::<Vec<_>>()
                    })
                    .collect();
                let records = lines.iter().filter_map(|it| serde_json::from_str(it).ok());
                let mut ours = records.filter(|it: &Value| {
                    it["schema"] == "countersign.decision/v1" && it["outcome"].is_string()
                });
                if let Some(record) = ours.next() {
                    return record;
                }
                sleep(LOOK).await;
            }
        });
        found
            .await
            .map_err(|_| anyhow::anyhow!("there is no record:\n{}", self.printed()))
    }
}
