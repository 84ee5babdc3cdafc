//! The API server is away, slow, flapping, starting, forgetful, or does not let the gateway read.

use std::time::Duration;

use countersign_tests::{environment::Environment, fake::Fault};
use http::StatusCode;
use rstest::rstest;
use serde_json::json;

use super::{
    OPERATORS, RULES, asks, bed, cluster::Cluster, configured, policy, readiness, started,
    until_asks, workload,
};
use crate::harness::{TestBed, pass, until};

/// A tenant whose credential is in a file of the gateway, so that it is there while the API server is not.
async fn independent(cluster: &Cluster, env: &Environment) -> anyhow::Result<()> {
    for namespace in ["red", OPERATORS] {
        cluster.namespace(namespace).await?;
    }
    let file = env.secret_directory().join("example").display().to_string();
    let credential = json!({
        "target": "example", "static": { "token": { "file": file } }, "allowedNamespaces": ["red"],
    });
    cluster
        .apply("Credential", OPERATORS, "reader", credential)
        .await?;
    cluster
        .apply("Workload", "red", "nightly", workload("nightly"))
        .await?;
    cluster
        .apply("AccessPolicy", "red", "reads", reads(&["/runs/**"]))
        .await
}

fn reads(paths: &[&str]) -> serde_json::Value {
    let mut policy = policy(paths);
    policy["credential"] = json!(format!("{OPERATORS}/reader"));
    policy
}

async fn independent_bed() -> anyhow::Result<(Cluster, TestBed)> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    independent(&cluster, &env).await?;
    let bed = bed(env, &cluster).await?;
    until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
    Ok((cluster, bed))
}

/// Waits for what takes the watches' patience: their time passes, and what they do takes its own.
async fn until_later(what: &str, mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    for _ in 0..1_000 {
        if holds().await {
            return Ok(());
        }
        pass(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("{what} did not happen in time")
}

#[rstest]
#[case::away(Fault::Status(StatusCode::SERVICE_UNAVAILABLE))]
#[case::starting(Fault::Starting)]
#[case::flooded(Fault::TooManyRequests)]
#[tokio::test]
async fn what_was_read_stays_in_force_for_hours(#[case] fault: Fault) -> anyhow::Result<()> {
    let (cluster, bed) = independent_bed().await?;
    let server = &bed.env.api_server;
    server.set_fault(Some(fault));
    server.end_watches();
    until("the trouble", async || {
        readiness(&bed)
            .await
            .is_ok_and(|(_, body)| body["resources_waiting_for"].is_array())
    })
    .await?;
    let asked = server.received().count();
    for _ in 0..36 {
        pass(Duration::from_mins(5)).await;
        assert_eq!(asks(&bed, "red", "/runs/1").await?, StatusCode::OK);
    }
    let (status, body) = readiness(&bed).await?;
    assert_eq!(status, 200, "it serves: {body}");
    let asked = server.received().count() - asked;
    // Four watches and their credentials, each of which asks every ten to twenty seconds.
    assert!(asked < 1_000, "{asked} requests in three hours");
    server.set_fault(None);
    cluster
        .apply("AccessPolicy", "red", "reads", reads(&["/results/**"]))
        .await?;
    until_later("the change", async || {
        asks(&bed, "red", "/results/1")
            .await
            .is_ok_and(|status| status == StatusCode::OK)
    })
    .await?;
    until_later("the end of the trouble", async || {
        readiness(&bed)
            .await
            .is_ok_and(|(_, body)| body["resources_waiting_for"].is_null())
    })
    .await
}

/// What changed meanwhile is in the list that is read instead.
#[tokio::test]
async fn changes_that_the_api_server_has_forgotten_are_not_lost() -> anyhow::Result<()> {
    let (cluster, bed) = independent_bed().await?;
    let server = &bed.env.api_server;
    server.set_fault(Some(Fault::Status(StatusCode::SERVICE_UNAVAILABLE)));
    server.end_watches();
    until("the trouble", async || {
        readiness(&bed)
            .await
            .is_ok_and(|(_, body)| body["resources_waiting_for"].is_array())
    })
    .await?;
    server.delete_object("countersign.dev/v1alpha1", "accesspolicies", "red", "reads");
    server.forget_changes();
    server.set_fault(None);
    until_later("the deletion", async || {
        asks(&bed, "red", "/runs/1")
            .await
            .is_ok_and(|status| status == StatusCode::FORBIDDEN)
    })
    .await?;
    cluster
        .apply("AccessPolicy", "red", "reads", reads(&["/runs/**"]))
        .await?;
    until_later("the new one", async || {
        asks(&bed, "red", "/runs/1")
            .await
            .is_ok_and(|status| status == StatusCode::OK)
    })
    .await
}

#[rstest]
#[case::slow(Fault::Slow(Duration::from_millis(200)))]
#[case::flapping(Fault::Flapping)]
#[tokio::test]
async fn it_starts_with_a_server_that_is_unwell(#[case] fault: Fault) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    independent(&cluster, &env).await?;
    cluster.grant(RULES).await?;
    env.api_server.set_fault(Some(fault));
    let bed = configured(TestBed::builder().within(env), &cluster)
        .start()
        .await?;
    until_later("readiness", async || {
        readiness(&bed).await.is_ok_and(|(status, _)| status == 200)
    })
    .await?;
    until_asks(&bed, "red", "/runs/1", StatusCode::OK).await
}

/// It answers 403 to everything until it has read its roles.
#[tokio::test]
async fn a_server_that_starts_is_waited_for() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    independent(&cluster, &env).await?;
    cluster.grant(RULES).await?;
    cluster.namespace(OPERATORS).await?;
    env.api_server.set_fault(Some(Fault::Starting));
    let bed = configured(TestBed::builder().within(env), &cluster)
        .start()
        .await?;
    until("the trouble", async || {
        readiness(&bed).await.is_ok_and(|(status, body)| {
            status == 503
                && body["resources_waiting_for"]
                    .to_string()
                    .contains("does not let the gateway read")
        })
    })
    .await?;
    bed.env.api_server.set_fault(None);
    until_later("readiness", async || {
        readiness(&bed).await.is_ok_and(|(status, _)| status == 200)
    })
    .await?;
    until_asks(&bed, "red", "/runs/1", StatusCode::OK).await
}

#[tokio::test]
async fn missing_rights_are_told_by_verb_and_resource() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    independent(&cluster, &env).await?;
    let granted: Vec<_> = RULES
        .iter()
        .filter(|(_, resource, _)| *resource != "accesspolicies")
        .copied()
        .collect();
    cluster.grant(&granted).await?;
    let bed = started(env, &cluster, |_| {}).await?;
    let missing = "a ClusterRole must grant it to list accesspolicies.countersign.dev, watch accesspolicies.countersign.dev";
    until("the trouble", async || {
        readiness(&bed).await.is_ok_and(|(status, body)| {
            status == 503 && body["resources_waiting_for"].to_string().contains(missing)
        })
    })
    .await?;
    cluster.grant(RULES).await?;
    until_later("readiness", async || {
        readiness(&bed).await.is_ok_and(|(status, _)| status == 200)
    })
    .await
}

#[tokio::test]
async fn a_cluster_without_the_definitions_is_told_of() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    cluster.grant(RULES).await?;
    let definitions = "apiextensions.k8s.io/v1";
    let name = "workloads.countersign.dev";
    env.api_server
        .delete_object(definitions, "customresourcedefinitions", "", name);
    let bed = started(env, &cluster, |_| {}).await?;
    until("the trouble", async || {
        readiness(&bed).await.is_ok_and(|(status, body)| {
            let told = body["resources_waiting_for"].to_string();
            status == 503
                && told.contains("does not know workloads.countersign.dev")
                && told.contains("schema --crds")
        })
    })
    .await
}

/// A gateway that restarts during an outage goes on with what it knew.
#[tokio::test]
async fn a_restart_during_an_outage_goes_on_with_what_was_known() -> anyhow::Result<()> {
    let (cluster, bed) = independent_bed().await?;
    let TestBed { env, gateway, .. } = bed;
    gateway.stop().await?;
    env.api_server
        .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    let bed = configured(TestBed::builder().within(env), &cluster)
        .start()
        .await?;
    assert_eq!(asks(&bed, "red", "/runs/1").await?, StatusCode::OK);
    let (status, body) = readiness(&bed).await?;
    assert_eq!(status, 503, "it waits for the API server first: {body}");
    until_later("readiness", async || {
        readiness(&bed).await.is_ok_and(|(status, _)| status == 200)
    })
    .await?;
    // What it learns then counts.
    bed.env.api_server.set_outage(None);
    cluster.delete("AccessPolicy", "red", "reads").await?;
    until_later("the deletion", async || {
        asks(&bed, "red", "/runs/1")
            .await
            .is_ok_and(|status| status == StatusCode::FORBIDDEN)
    })
    .await
}
