//! What stands in the status of objects, and who writes it.

use std::sync::Arc;

use countersign_config::host::Host;
use countersign_tests::{environment::Environment, fake::Received, gateway::Gateway};
use http::{Method, StatusCode};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    OPERATORS, bed,
    cluster::{Cluster, everywhere},
    policy, tenant,
    tenants::{condition, until_condition},
    until_asks,
};
use crate::harness::{HOST, TestBed, until};

const READS: [&str; 3] = ["AccessPolicy", "red", "reads"];

#[tokio::test]
async fn an_object_tells_what_became_of_it() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        let bed = bed(env, cluster).await?;
        until_condition(cluster, READS, "Ready", "True").await?;
        let reader = ["Credential", "red", "reader"];
        let [reason, _] = until_condition(cluster, reader, "CredentialReady", "Unknown").await?;
        assert_eq!(reason, "NotUsed");
        let status = cluster.status("Workload", "red", "nightly").await?;
        let access = json!([{ "target": "example", "policy": "reads", "mode": "enforce" }]);
        assert_eq!(
            (&status["access"], &status["targets"]),
            (&access, &json!(["example"]))
        );
        until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
        until_condition(cluster, reader, "CredentialReady", "True").await?;
        for [kind, _, name] in [READS, reader, ["Workload", "red", "nightly"]] {
            until("when it was used", async || {
                let status = cluster.status(kind, "red", name).await;
                status.is_ok_and(|status| status["lastUsedTime"].is_string())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

/// The API server keeps what it does not know, and the reader finds it.
#[tokio::test]
async fn a_misspelt_key_is_told_with_what_was_meant() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        let mut misspelt = policy(&["/runs/**"]);
        misspelt["conditions"] = json!({ "notAftre": "2027-06-30T00:00:00Z" });
        cluster
            .apply("AccessPolicy", "red", "reads", misspelt)
            .await?;
        let bed = bed(env, cluster).await?;
        let [reason, message] = until_condition(cluster, READS, "Accepted", "False").await?;
        assert_eq!(reason, "UnknownKey");
        assert!(
            message.starts_with("spec.conditions.notAftre: unknown-key: ")
                && message.contains("`notAfter`"),
            "{message}"
        );
        // It was never right.
        until_asks(&bed, "red", "/runs/1", StatusCode::FORBIDDEN).await?;
        let status = cluster.status("AccessPolicy", "red", "reads").await?;
        assert_eq!(status["acceptedGeneration"], Value::Null);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_in_force_is_kept_in_the_status_for_gateways_that_start() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        let first = bed(env, cluster).await?;
        until_condition(cluster, READS, "Ready", "True").await?;
        cluster.apply("AccessPolicy", "red", "reads", json!({ "owner": "team", "workloads": ["nightly"], "target": "none", "allow": [{}] })).await?;
        until_condition(cluster, READS, "Ready", "False").await?;
        let status = cluster.status("AccessPolicy", "red", "reads").await?;
        assert_eq!(status["inForce"]["generation"], 1);
        assert_eq!(status["inForce"]["spec"]["allow"][0]["paths"], json!(["/runs/**"]));
        // Another gateway, which knows nothing of the first.
        let second = bed(Environment::start().await?, cluster).await?;
        until_asks(&second, "red", "/runs/1", StatusCode::OK).await?;
        drop(first);
        Ok(())
    })
    .await
}

/// How often an object's status was written by whom.
fn writes(received: &[Arc<Received>], manager: &str) -> usize {
    let query = format!("fieldManager={manager}");
    let is_write = |one: &&Arc<Received>| {
        let asked = one.query.as_deref().unwrap_or_default();
        one.method == Method::PATCH
            && one.path.ends_with("/status")
            && asked.split('&').any(|field| field == query)
    };
    received.iter().filter(is_write).count()
}

#[tokio::test]
async fn of_two_gateways_one_writes_and_the_other_goes_on() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    tenant(&cluster, "red").await?;
    let bed = bed(env, &cluster).await?;
    let second = Gateway::start_with(&bed.env, |gateway| {
        super::configure(gateway, &cluster);
        let host = Host::parse(HOST).expect("a host");
        gateway
            .upstream
            .resolve
            .insert((host, 443), bed.api.address());
    })
    .await?;
    until_condition(&cluster, READS, "Ready", "True").await?;
    let server = &bed.env.api_server;
    let objects = 3;
    until("all statuses", async || {
        writes(&server.received().all(), "countersign") >= objects
    })
    .await?;
    assert_eq!(
        writes(&server.received().all(), "countersign"),
        objects,
        "each is written once"
    );
    // The first one goes.
    let TestBed { env, gateway, .. } = bed;
    drop(gateway.stop().await?);
    cluster
        .apply("AccessPolicy", "red", "reads", policy(&["/results/**"]))
        .await?;
    until("the new status", async || {
        let status = cluster.status("AccessPolicy", "red", "reads").await;
        status.is_ok_and(|status| status["observedGeneration"] == 2)
    })
    .await?;
    let all = writes(&env.api_server.received().all(), "countersign");
    assert_eq!(all, objects + 1, "what stands there is not written again");
    drop(second);
    Ok(())
}

/// Whoever else writes it does not stay.
#[tokio::test]
async fn what_others_write_into_a_status_is_replaced() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        let bed = bed(env, cluster).await?;
        until_condition(cluster, READS, "Ready", "True").await?;
        let lie = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": {"name": "reads", "namespace": "red"},
            "status": {"conditions": [{
                "type": "Ready", "status": "False", "reason": "Other", "message": "of another",
                "lastTransitionTime": "2026-11-30T06:00:00Z",
            }]},
        });
        let how = PatchParams::apply("another").force();
        let api = cluster.api("AccessPolicy", "red");
        api.patch_status("reads", &how, &Patch::Apply(&lie)).await?;
        let [status, ..] = condition(cluster, READS, "Ready").await?;
        assert_eq!(status, "False");
        // With the next change of the object, and otherwise within ten minutes.
        cluster
            .apply("AccessPolicy", "red", "reads", policy(&["/results/**"]))
            .await?;
        until_condition(cluster, READS, "Ready", "True").await?;
        drop(bed);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_its_namespace_nothing_is_written_and_that_is_told() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    tenant(&cluster, "red").await?;
    cluster.grant(super::RULES).await?;
    let bed = super::started(env, &cluster, |gateway| gateway.service = None).await?;
    super::ready(&bed).await?;
    until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
    assert_eq!(
        writes(&bed.env.api_server.received().all(), "countersign"),
        0
    );
    // The file beside the token is enough.
    bed.env.write_secret("namespace", OPERATORS)?;
    let env = bed.env;
    drop(bed.gateway);
    let bed = super::started(env, &cluster, |gateway| gateway.service = None).await?;
    until_condition(&cluster, READS, "Ready", "True").await?;
    drop(bed);
    Ok(())
}
