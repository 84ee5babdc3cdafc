//! The policy on a real API server from 1.36 on: what it makes of a pod is what the function makes.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context as _, ensure};
use countersign_controller::admission::{NamespaceFacts, Settings, inject, names, policy};
use countersign_tests::{environment::Environment, kube_apiserver::KubeApiServer};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Sends an object with curl; the answer.
async fn post(
    server: &KubeApiServer,
    ca: &str,
    path: &str,
    object: &Value,
) -> anyhow::Result<Value> {
    let mut curl = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            ca,
            "-H",
            "Content-Type: application/json",
        ])
        .args(["-H", &format!("Authorization: Bearer {}", server.token())])
        .args(["--data-binary", "@-", &format!("{}{path}", server.url())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = curl.stdin.take().context("it was piped")?;
    stdin.write_all(object.to_string().as_bytes()).await?;
    drop(stdin);
    let output = curl.wait_with_output().await?;
    ensure!(output.status.success(), "curl failed for {path}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn a_real_api_server_injects_by_the_policy_as_the_function_does() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let Some(server) = KubeApiServer::start(&env.authority).await? else {
        return Ok(());
    };
    let ca = env
        .directory()
        .join("upstream-roots.pem")
        .display()
        .to_string();
    let settings = Settings::parse("gateways: [\"countersign-headless.egress.svc:3128\"]")?;
    let labels = json!({names::INJECT: names::ENABLED});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "qa", "labels": labels}});
    post(&server, &ca, "/api/v1/namespaces", &namespace).await?;
    for object in policy::objects(&settings) {
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let plural = if kind.ends_with("policy") {
            format!("{}ies", &kind[..kind.len() - 1])
        } else {
            format!("{kind}s")
        };
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        let answer = post(&server, &ca, &path, &object).await?;
        ensure!(answer["metadata"]["uid"].is_string(), "{kind}: {answer:#}");
    }
    let pod = |more: Value| {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "dashboard", "namespace": "qa"},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "dashboard", "image": "dashboard:1",
                "env": [{"name": "NO_PROXY", "value": "db.corp"}]}]},
        });
        if let Some(more) = more.as_object() {
            pod["spec"]
                .as_object_mut()
                .expect("it is an object")
                .extend(more.clone());
        }
        pod
    };
    let dry = "/api/v1/namespaces/qa/pods?dryRun=All";
    let looked = async {
        // A policy is in force a moment after it was stored.
        loop {
            let made = post(&server, &ca, dry, &pod(json!({}))).await?;
            if made["spec"]["initContainers"].is_array() {
                return anyhow::Ok(made);
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let patience = std::time::Duration::from_mins(1);
    let made = tokio::time::timeout(patience, looked)
        .await
        .context("the policy is not in force")??;
    let facts = NamespaceFacts {
        name: "qa".to_owned(),
        labels: BTreeMap::from([(names::INJECT.to_owned(), names::ENABLED.to_owned())]),
        annotations: BTreeMap::new(),
    };
    // The API server has added its defaults to it; else the function would have something to do.
    let again = inject(&made, &facts, &settings).expect_err("nothing is missing");
    ensure!(again.to_string().contains("has all"), "{again}: {made:#}");
    let refused = post(&server, &ca, dry, &pod(json!({"hostNetwork": true}))).await?;
    ensure!(
        refused["message"]
            .as_str()
            .unwrap_or_default()
            .contains("host_network"),
        "{refused:#}"
    );
    Ok(())
}
