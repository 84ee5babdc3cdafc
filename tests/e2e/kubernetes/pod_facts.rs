//! What the API server says of pods, in decisions: labels, images, Job and `CronJob`; and the end of
//! access when a pod ends.

use std::time::Duration;

use countersign_tests::{
    client::Failure,
    environment::{DASHBOARD, DASHBOARD_FILE},
    fake::{Fault, Grant, Protocol, TokenRequest},
    shown,
};
use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    harness::{HOST, TestBed, get, soon, until},
    policy::reauthorization::websocket,
};

const APP: &str = "ghcr.io/acme/dashboard@sha256:9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b";
const RELAY: &str =
    "ghcr.io/acme/relay@sha256:0f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b";

/// A gateway that asks the API server about pods of the namespace of the dashboard, whose selector has
/// more to ask.
async fn asking(selector: Value) -> anyhow::Result<TestBed> {
    let bed = without_rights(selector).await?;
    let server = &bed.env.api_server;
    server.grant(Grant::on("pods", "qa", &["list", "watch"]));
    server.grant(Grant::on("jobs.batch", "qa", &["list", "watch"]));
    until("the watches", async || {
        server.watches_of("pods") == 1 && server.watches_of("jobs") == 1
    })
    .await?;
    Ok(bed)
}

async fn without_rights(selector: Value) -> anyhow::Result<TestBed> {
    let bed = TestBed::builder()
        .token_review()
        .gateway(|gateway| {
            for issuer in &mut gateway.issuers {
                let review = issuer.token_review.as_ref();
                issuer.pod_facts = review.map(|review| review.cluster.clone());
            }
        })
        .start()
        .await?;
    bed.env.edit_policy(DASHBOARD_FILE, |policy| {
        let entry = &mut policy.workload(DASHBOARD)["match"][0];
        for (key, value) in selector.as_object().into_iter().flatten() {
            entry[key.as_str()] = value.clone();
        }
    })?;
    bed.reload()?;
    Ok(bed)
}

/// A pod of the nightly `CronJob`, with its Job.
struct NightlyPod {
    request: TokenRequest,
    object: Value,
    job: Value,
}

impl NightlyPod {
    fn new(cron_job: &str) -> Self {
        let request = TokenRequest::new("qa", "nightly-dashboard");
        let (name, uid) = request.pod.clone().expect("it has a pod");
        let job = format!("{cron_job}-{}", &uid[..6]);
        let owner = |version: &str, kind: &str, name: &str, uid: &str| json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}]);
        let job_uid = format!("job-{uid}");
        Self {
            request,
            job: json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {
                    "name": job, "namespace": "qa", "uid": job_uid,
                    "ownerReferences": owner("batch/v1", "CronJob", cron_job, "cron-job"),
                },
                "spec": {"template": {"spec": {"containers": [{"name": "app", "image": APP}]}}},
            }),
            object: json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": "qa", "uid": uid,
                    "labels": {"team": "qa"},
                    "ownerReferences": owner("batch/v1", "Job", &job, &job_uid),
                },
                "spec": {
                    "nodeName": "node-7",
                    "serviceAccountName": "nightly-dashboard",
                    "containers": [{"name": "app", "image": "ghcr.io/acme/dashboard:1"}],
                    "initContainers": [{"name": "relay", "image": RELAY}],
                },
                "status": {
                    "phase": "Running",
                    "containerStatuses": [{
                        "name": "app", "image": "ghcr.io/acme/dashboard:1", "imageID": APP,
                        "ready": true, "restartCount": 0,
                    }],
                },
            }),
        }
    }

    fn exist(&self, bed: &TestBed) {
        bed.env.api_server.set_object(&self.job);
        bed.env.api_server.set_object(&self.object);
    }

    fn token(&self, bed: &TestBed) -> String {
        bed.env.issuer.mint(&self.request)
    }

    fn delete(&self, bed: &TestBed) {
        bed.env.api_server.delete_pod(&self.request);
    }
}

/// The status of one request on a connection of its own, and its record.
async fn ask(bed: &mut TestBed, token: &str) -> anyhow::Result<(StatusCode, Value)> {
    let status = match bed.client_with(token).send(get("/some")).await {
        Ok(answer) => answer.status,
        Err(Failure::Refused(answer)) => answer.status,
        Err(other) => return Err(other.into()),
    };
    Ok((status, bed.record().await?))
}

#[rstest]
#[case::cron_job(json!({"cronJob": "nightly"}), true)]
#[case::other_cron_job(json!({"cronJob": "nightl"}), false)]
#[case::labels(json!({"podLabels": {"team": "qa"}}), true)]
#[case::other_labels(json!({"podLabels": {"team": "qa", "tier": "1"}}), false)]
#[case::images(json!({"images": [APP, RELAY]}), true)]
#[case::not_every_container(json!({"images": [APP]}), false)]
#[tokio::test]
async fn a_pod_is_told_by_what_the_api_server_says(
    #[case] selector: Value,
    #[case] permitted: bool,
) -> anyhow::Result<()> {
    let mut bed = asking(selector).await?;
    let pod = NightlyPod::new("nightly");
    pod.exist(&bed);
    let token = pod.token(&bed);
    let (status, record) = ask(&mut bed, &token).await?;
    assert_eq!(status == StatusCode::OK, permitted, "{record}");
    let known = &record["caller"]["kubernetes"];
    assert_eq!(known["node"], "node-7", "{record}");
    assert_eq!(known["cron_job"], "nightly", "{record}");
    assert_eq!(known["job"], pod.job["metadata"]["name"], "{record}");
    Ok(())
}

/// Another pod of the same service account is another pod.
#[tokio::test]
async fn a_pod_by_hand_is_not_the_cron_job() -> anyhow::Result<()> {
    let mut bed = asking(json!({"cronJob": "nightly"})).await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    bed.env.api_server.add_pod(&request);
    let token = bed.env.issuer.mint(&request);
    let (status, record) = ask(&mut bed, &token).await?;
    assert_ne!(status, StatusCode::OK);
    assert_eq!(record["outcome"], "refused", "{record}");
    Ok(())
}

#[tokio::test]
async fn missing_rights_are_told_by_verb_and_resource() -> anyhow::Result<()> {
    let mut bed = without_rights(json!({"cronJob": "nightly"})).await?;
    bed.env.api_server.grant(Grant::on("pods", "qa", &["list"]));
    let pod = NightlyPod::new("nightly");
    pod.exist(&bed);
    let token = pod.token(&bed);
    let (status, record) = ask(&mut bed, &token).await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(record["reason"], "identity_pod_unknown", "{record}");
    assert_eq!(record["blame"], "platform");
    let detail = record["detail"].as_str().unwrap_or_default();
    let missing = "watch pods, list jobs.batch, watch jobs.batch";
    assert!(detail.contains(missing), "{detail}");
    Ok(())
}

/// Its token is good, and the API server shows no such pod.
#[tokio::test]
async fn a_pod_that_was_never_seen_has_its_own_reason() -> anyhow::Result<()> {
    let mut bed = asking(json!({"cronJob": "nightly"})).await?;
    let token = NightlyPod::new("nightly").token(&bed);
    let (status, record) = ask(&mut bed, &token).await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(record["reason"], "identity_pod_unknown", "{record}");
    Ok(())
}

/// What was known stays known while the API server is away, starts, or is flooded.
#[rstest]
#[case::away(Fault::Status(StatusCode::SERVICE_UNAVAILABLE))]
#[case::starting(Fault::Starting)]
#[case::flooded(Fault::TooManyRequests)]
#[tokio::test]
async fn an_outage_forgets_no_pod(#[case] fault: Fault) -> anyhow::Result<()> {
    let mut bed = asking(json!({"cronJob": "nightly"})).await?;
    let pod = NightlyPod::new("nightly");
    pod.exist(&bed);
    let token = pod.token(&bed);
    assert_eq!(ask(&mut bed, &token).await?.0, StatusCode::OK);
    bed.env.api_server.set_fault(Some(fault));
    bed.env.api_server.end_watches();
    // The review of the token is cached for longer than this takes.
    assert_eq!(ask(&mut bed, &token).await?.0, StatusCode::OK);
    // What went meanwhile is gone once the watch is back, from before a compaction or after.
    pod.delete(&bed);
    bed.env.api_server.forget_changes();
    bed.env.api_server.set_fault(None);
    let mut socket_of = async || ask(&mut bed, &token).await;
    let refused = soon("the loss of access", async {
        loop {
            let (status, record) = socket_of().await?;
            if status != StatusCode::OK {
                return anyhow::Ok(record);
            }
        }
    });
    let record = refused.await??;
    assert_eq!(record["reason"], "identity_revoked", "{record}");
    Ok(())
}

#[rstest]
#[case::succeeded("Succeeded")]
#[case::failed("Failed")]
#[tokio::test]
async fn a_finished_pod_has_no_access(#[case] phase: &str) -> anyhow::Result<()> {
    let mut bed = asking(json!({"cronJob": "nightly"})).await?;
    let mut pod = NightlyPod::new("nightly");
    pod.exist(&bed);
    let token = pod.token(&bed);
    let mut socket = websocket(bed.client_with(&token)).await?;
    pod.object["status"]["phase"] = phase.into();
    pod.exist(&bed);
    socket.ended().await?;
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_revoked", "{record}");
    let (status, record) = ask(&mut bed, &token).await?;
    assert_eq!(
        status,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        "{record}"
    );
    Ok(())
}

/// A pod in its grace period still works: its containers run, and end their work.
#[tokio::test]
async fn a_pod_works_until_its_grace_period_ends() -> anyhow::Result<()> {
    let mut bed = asking(json!({"cronJob": "nightly"})).await?;
    let mut pod = NightlyPod::new("nightly");
    pod.exist(&bed);
    let token = pod.token(&bed);
    let mut socket = websocket(bed.client_with(&token)).await?;
    pod.object["metadata"]["deletionTimestamp"] = "2036-11-23T05:10:00Z".into();
    pod.object["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    pod.exist(&bed);
    assert_eq!(ask(&mut bed, &token).await?.0, StatusCode::OK);
    socket.echo(b"still here").await?;
    pod.delete(&bed);
    socket.ended().await?;
    Ok(())
}

/// Other labels make it another caller: what is open is decided anew.
#[tokio::test]
async fn a_label_that_is_taken_away_takes_access_with_it() -> anyhow::Result<()> {
    let mut bed = asking(json!({"podLabels": {"team": "qa"}})).await?;
    let mut pod = NightlyPod::new("nightly");
    pod.exist(&bed);
    let token = pod.token(&bed);
    let mut socket = websocket(bed.client_with(&token)).await?;
    pod.object["metadata"]["labels"] = json!({"team": "other"});
    pod.exist(&bed);
    socket.ended().await?;
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_pod_changed", "{record}");
    let (status, record) = ask(&mut bed, &token).await?;
    assert_ne!(status, StatusCode::OK, "{record}");
    Ok(())
}

/// From the deletion of a pod to the end of its WebSocket and of its requests, over fifty pods. The API
/// server's reviews are cached for ten seconds meanwhile.
#[tokio::test]
async fn a_deleted_pod_loses_access_at_once() -> anyhow::Result<()> {
    const PODS: usize = 50;
    let bed = asking(json!({"cronJob": "nightly"})).await?;
    let mut socket_times = Vec::new();
    let mut request_times = Vec::new();
    for _ in 0..PODS {
        let pod = NightlyPod::new("nightly");
        pod.exist(&bed);
        let token = pod.token(&bed);
        let mut socket = websocket(bed.client_with(&token)).await?;
        let client = bed.client_with(&token);
        let mut session = client.over(Protocol::Http2).open(HOST).await?;
        assert_eq!(session.send(get("/alive")).await?.status, StatusCode::OK);
        let deleted = Instant::now();
        pod.delete(&bed);
        socket.ended().await?;
        socket_times.push(deleted.elapsed());
        let refused = async {
            while let Ok(answer) = session.send(get("/gone")).await {
                if answer.status != StatusCode::OK {
                    break;
                }
            }
        };
        soon("the loss of access", refused).await?;
        request_times.push(deleted.elapsed());
    }
    let figures = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        format!("median {:?}, worst {:?}", times[PODS / 2], times[PODS - 1])
    };
    shown(&format!(
        "pod deleted to access gone, {PODS} pods: WebSocket closed {}; request refused {}",
        figures(&mut socket_times),
        figures(&mut request_times)
    ));
    Ok(())
}
