//! What somebody with rights in one namespace can do: the table of `docs/namespaces.md`, with an API server. Each rule
//! has its own test in `config`.

use std::fmt::Write as _;

use countersign_tests::{environment::Environment, shown};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    OPERATORS, asks, bed, cluster::everywhere, credential, policy, tenant,
    tenants::until_condition, until_asks, workload,
};

/// What somebody writes in `red`, and the reason for which it is not accepted.
fn attempts() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let policy_with = |key: &str, value: Value| {
        let mut policy = policy(&["/**"]);
        policy[key] = value;
        policy
    };
    let select = |entry: Value| json!({ "owner": "team", "match": [entry] });
    let from = |source: Value| json!({ "target": "example", "static": { "token": source } });
    vec![
        (
            "a policy for a Workload of blue",
            "AccessPolicy",
            policy_with("workloads", json!(["blue/nightly"])),
            "OtherNamespace",
        ),
        (
            "a policy with a Credential of blue",
            "AccessPolicy",
            policy_with("credential", json!("blue/reader")),
            "CredentialNotAllowed",
        ),
        (
            "a Workload that selects pods of blue",
            "Workload",
            select(json!({ "serviceAccount": "nightly", "namespace": "blue" })),
            "OtherNamespace",
        ),
        (
            "a Workload of another cluster",
            "Workload",
            select(json!({ "serviceAccount": "nightly", "cluster": "other" })),
            "OtherCluster",
        ),
        (
            "a Workload by a SPIFFE ID of blue",
            "Workload",
            select(json!({ "spiffeId": "spiffe://prod.example.com/ns/blue/sa/nightly" })),
            "OtherNamespace",
        ),
        (
            "a Credential from a file of the gateway",
            "Credential",
            from(json!({ "file": "/etc/passwd" })),
            "SecretSourceNotAllowed",
        ),
        (
            "a Credential from Vault",
            "Credential",
            from(json!({ "vault": { "path": "secret/data/a", "key": "b" } })),
            "SecretSourceNotAllowed",
        ),
        (
            "a Credential by a program",
            "Credential",
            from(json!({ "exec": { "command": ["/bin/true"] } })),
            "SecretSourceNotAllowed",
        ),
        (
            "a Credential from a Secret of blue",
            "Credential",
            from(
                json!({ "kubernetesSecret": { "name": "example", "key": "token", "namespace": "blue" } }),
            ),
            "UnknownKey",
        ),
        (
            "a TargetService",
            "TargetService",
            json!({ "hosts": ["api.example.test"], "routes": [{ "attach": { "header": "Authorization", "value": "Bearer {token}" } }] }),
            "TargetNotAllowed",
        ),
    ]
}

#[tokio::test]
async fn somebody_with_rights_in_one_namespace() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        tenant(cluster, "blue").await?;
        let bed = bed(env, cluster).await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
        let mut table = String::from("somebody who may write in `red` alone:\n");
        for (number, (what, kind, spec, reason)) in attempts().into_iter().enumerate() {
            let name = format!("attempt-{number}");
            cluster.apply(kind, "red", &name, spec).await?;
            let object = [kind, "red", name.as_str()];
            let [found, message] = until_condition(cluster, object, "Accepted", "False").await?;
            assert_eq!(found, reason, "{what}: {message}");
            let said = message.split('\n').next().unwrap_or_default();
            writeln!(table, "  {what}: {found}\n    {said}")?;
        }
        shown(&table);
        // Nothing came of it.
        assert_eq!(asks(&bed, "blue", "/other").await?, StatusCode::FORBIDDEN);
        assert_eq!(asks(&bed, "red", "/other").await?, StatusCode::FORBIDDEN);
        assert_eq!(asks(&bed, "blue", "/runs/1").await?, StatusCode::OK);
        Ok(())
    })
    .await
}

/// Until its owner allows it no longer.
#[tokio::test]
async fn a_credential_is_shared_by_its_owner() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "blue").await?;
        cluster.namespace("red").await?;
        let mut shared = credential();
        shared["allowedNamespaces"] = json!(["red"]);
        cluster
            .apply("Credential", "blue", "reader", shared)
            .await?;
        cluster
            .apply("Workload", "red", "nightly", workload("nightly"))
            .await?;
        let mut uses = policy(&["/runs/**"]);
        uses["credential"] = json!("blue/reader");
        cluster.apply("AccessPolicy", "red", "reads", uses).await?;
        let bed = bed(env, cluster).await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
        cluster
            .apply("Credential", "blue", "reader", credential())
            .await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::FORBIDDEN).await
    })
    .await
}

/// The operator's TargetService holds for all, also instead of the catalog's.
#[tokio::test]
async fn a_target_of_the_operators_namespace_holds_for_all() -> anyhow::Result<()> {
    everywhere(async |env: Environment, cluster| {
        tenant(cluster, "red").await?;
        cluster.namespace(OPERATORS).await?;
        let mut other = policy(&["/**"]);
        other["target"] = json!("qase");
        other["credential"] = json!("qase");
        let mut secret = credential();
        secret["target"] = json!("qase");
        cluster.apply("Credential", "red", "qase", secret).await?;
        cluster.apply("AccessPolicy", "red", "qase", other).await?;
        let bed = bed(env, cluster).await?;
        let object = ["AccessPolicy", "red", "qase"];
        until_condition(cluster, object, "Accepted", "True").await?;
        let wrong = json!({ "hosts": ["*"] });
        cluster
            .apply("TargetService", OPERATORS, "qase", wrong)
            .await?;
        // It hides the catalog's: nothing wider is in force.
        let [reason, _] = until_condition(cluster, object, "Accepted", "False").await?;
        assert_eq!(reason, "NotAccepted");
        assert_eq!(asks(&bed, "red", "/runs/1").await?, StatusCode::OK);
        Ok(())
    })
    .await
}
