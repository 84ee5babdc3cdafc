//! What ten thousand pods cost a gateway and its API server: a measurement, which prints figures.

use std::time::Duration;

use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE, Environment, Options},
    fake::{Grant, TokenRequest},
    process::Process,
    shown,
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{auth_test, until};

const PODS: usize = 10_000;

/// How long it is watched at rest and during churn.
const WATCHED: Duration = Duration::from_secs(20);

fn pod(request: &TokenRequest) -> Value {
    let (name, uid) = request.pod.clone().unwrap_or_default();
    let image = "ghcr.io/acme/dashboard@sha256:9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "qa", "uid": uid,
            "labels": {"app": "nightly", "team": "qa", "batch.kubernetes.io/job-name": "nightly-1"},
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": "nightly-1", "uid": "job-1", "controller": true,
            }],
        },
        "spec": {
            "nodeName": "node-7", "serviceAccountName": "nightly-dashboard",
            "containers": [{"name": "app", "image": image}],
        },
        "status": {"phase": "Running"},
    })
}

fn job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": "nightly-1", "namespace": "qa", "uid": "job-1",
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "1", "controller": true,
            }],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "app"}]}}},
    })
}

#[ignore = "a measurement, of a minute"]
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_pods() -> anyhow::Result<()> {
    let options = Options {
        token_review: true,
        ..Options::default()
    };
    let env = Environment::with(options).await?;
    env.edit_gateway(
        "        tokenReview:",
        "        podFacts: true\n        tokenReview:",
    )?;
    let process = Process::start(&env, None).await?;
    let alone = process.status("VmRSS")?;
    drop(process);
    env.edit_policy(DASHBOARD_FILE, |policy| {
        policy.workload(DASHBOARD)["match"][0]["cronJob"] = "nightly".into();
    })?;
    let server = &env.api_server;
    server.grant(Grant::on("pods", "qa", &["list", "watch"]));
    server.grant(Grant::on("jobs.batch", "qa", &["list", "watch"]));
    server.grant(Grant::on("namespaces", "", &["list", "watch"]));
    server.set_object(&job());
    let requests: Vec<_> = (0..PODS)
        .map(|_| TokenRequest::new("qa", "nightly-dashboard"))
        .collect();
    for request in &requests {
        server.set_object(&pod(request));
    }
    let before = server.received().count();
    let began = Instant::now();
    let process = Process::start(&env, None).await?;
    let listening = began.elapsed();
    let token = env.issuer.mint(&requests[PODS - 1]);
    until("the last pod's request", async || {
        let answer = process.client().bearer(&token).send(auth_test()).await;
        answer.is_ok_and(|answer| answer.status == StatusCode::OK)
    })
    .await?;
    let known = began.elapsed();
    let memory = process.status("VmRSS")?;
    let to_start = server.received().count() - before;
    let at_rest = server.received().count();
    tokio::time::sleep(WATCHED).await;
    let at_rest = server.received().count() - at_rest;
    let during = server.received().count();
    let churn_began = Instant::now();
    let mut changed = 0;
    while churn_began.elapsed() < WATCHED {
        // A hundred pods a second go, and as many come.
        for request in requests.iter().skip(changed % PODS).take(10) {
            server.delete_pod(request);
            server.set_object(&pod(&TokenRequest::new("qa", "nightly-dashboard")));
            changed += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let during = server.received().count() - during;
    let later = process.status("VmRSS")?;
    shown(&format!(
        "{PODS} pods: listening after {listening:?}, the last pod known after {known:?}, with {to_start} requests \
         to the API server (token reviews among them); VmRSS {alone} KiB without pods, {memory} KiB with them, \
         {later} KiB after {changed} pods were replaced; in {WATCHED:?} at rest {at_rest} requests, while \
         pods were replaced {during}"
    ));
    Ok(())
}
