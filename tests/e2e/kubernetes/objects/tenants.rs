//! Tenants beside each other: one's mistake, another's change; what is deleted; a namespace that goes.

use std::fmt::Write as _;

use countersign_tests::{environment::Environment, shown};
use http::StatusCode;
use serde_json::json;

use super::{
    asks, bed,
    cluster::{Cluster, everywhere},
    policy, tenant, until_asks,
};
use crate::harness::until;

/// The status of the condition of an object, its reason and its message.
pub(super) async fn condition(
    cluster: &Cluster,
    object: [&str; 3],
    name: &str,
) -> anyhow::Result<[String; 3]> {
    let [kind, namespace, object] = object;
    let status = cluster.status(kind, namespace, object).await?;
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == name);
    let text = |field: &str| {
        let value = found.and_then(|condition| condition[field].as_str());
        value.unwrap_or_default().to_owned()
    };
    Ok(["status", "reason", "message"].map(text))
}

/// Waits until a condition of an object has this status; returns its reason and its message.
pub(super) async fn until_condition(
    cluster: &Cluster,
    object: [&str; 3],
    name: &str,
    expected: &str,
) -> anyhow::Result<[String; 2]> {
    until("the condition", async || {
        let found = condition(cluster, object, name).await;
        found.is_ok_and(|[status, ..]| status == expected)
    })
    .await?;
    let [_, reason, message] = condition(cluster, object, name).await?;
    Ok([reason, message])
}

#[tokio::test]
async fn one_tenants_mistake_and_anothers_change() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        tenant(cluster, "blue").await?;
        let bed = bed(env, cluster).await?;
        for namespace in ["red", "blue"] {
            until_asks(&bed, namespace, "/runs/1", StatusCode::OK).await?;
        }
        let mut broken = policy(&["/defects/**"]);
        broken["allow"][0]["methods"] = json!(["get"]);
        cluster.apply("AccessPolicy", "red", "reads", broken).await?;
        let changed = policy(&["/results/**"]);
        cluster.apply("AccessPolicy", "blue", "reads", changed).await?;
        until_asks(&bed, "blue", "/results/1", StatusCode::OK).await?;
        let reads = |namespace| ["AccessPolicy", namespace, "reads"];
        let [reason, message] = until_condition(cluster, reads("red"), "Accepted", "False").await?;
        assert_eq!(reason, "BadMethod");
        assert!(
            message.starts_with("spec.allow[0].methods[0]: bad-method: "),
            "{message}"
        );
        let mut table = String::from("one tenant's broken object beside another's change:\n");
        for (namespace, expected) in [
            ("red", [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::FORBIDDEN]),
            ("blue", [StatusCode::FORBIDDEN, StatusCode::FORBIDDEN, StatusCode::OK]),
        ] {
            let mut decided = Vec::new();
            for path in ["/runs/1", "/defects/1", "/results/1"] {
                decided.push(asks(&bed, namespace, path).await?);
            }
            assert_eq!(decided, expected, "{namespace}");
            let status = cluster.status("AccessPolicy", namespace, "reads").await?;
            let [accepted, reason, message] =
                condition(cluster, reads(namespace), "Accepted").await?;
            writeln!(
                table,
                "  {namespace}/reads: generation {}, in force {}; Accepted={accepted} {reason}: {message}\n    \
                 GET /runs/1 {}, /defects/1 {}, /results/1 {}",
                status["observedGeneration"], status["acceptedGeneration"], decided[0], decided[1], decided[2],
            )?;
        }
        shown(&table);
        cluster.apply("AccessPolicy", "red", "reads", policy(&["/defects/**"])).await?;
        until_asks(&bed, "red", "/defects/1", StatusCode::OK).await?;
        until_condition(cluster, reads("red"), "Ready", "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_object_permits_nothing_more_whatever_else_is_wrong() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        let bed = bed(env, cluster).await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
        let broken = json!({ "owner": "team", "match": [{ "cronJob": "nightly", "serviceAccount": "a b" }] });
        cluster.apply("Workload", "red", "other", broken).await?;
        cluster.delete("AccessPolicy", "red", "reads").await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::FORBIDDEN).await?;
        // One of the same name is another object.
        cluster.apply("AccessPolicy", "red", "reads", policy(&["/runs/**"])).await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::OK).await
    })
    .await
}

/// Only the stand-in has who empties a namespace.
#[tokio::test]
async fn a_namespace_is_deleted_while_it_is_in_use() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    tenant(&cluster, "red").await?;
    tenant(&cluster, "blue").await?;
    let bed = bed(env, &cluster).await?;
    until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
    bed.env.api_server.finish_namespace("red");
    until_asks(&bed, "red", "/runs/1", StatusCode::FORBIDDEN).await?;
    until_asks(&bed, "blue", "/runs/1", StatusCode::OK).await?;
    // What was to be written about it is no longer, and nothing waits for it.
    cluster
        .apply("AccessPolicy", "blue", "reads", policy(&["/results/**"]))
        .await?;
    until("the status", async || {
        let status = cluster.status("AccessPolicy", "blue", "reads").await;
        status.is_ok_and(|status| status["observedGeneration"] == 2)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn objects_of_other_namespaces_are_not_read() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    cluster.grant(super::RULES).await?;
    for namespace in ["red", "blue"] {
        tenant(&cluster, namespace).await?;
    }
    let bed = super::started(env, &cluster, |gateway| {
        let source = super::of_objects(gateway);
        source.namespaces = Some(["blue".to_owned(), super::OPERATORS.to_owned()].into());
    })
    .await?;
    super::ready(&bed).await?;
    until_asks(&bed, "blue", "/runs/1", StatusCode::OK).await?;
    assert_eq!(asks(&bed, "red", "/runs/1").await?, StatusCode::FORBIDDEN);
    assert_eq!(bed.env.api_server.watches_of("accesspolicies"), 2);
    Ok(())
}
