//! The resources as objects of a cluster: read, decided by, and reported about.

mod boundary;
mod cluster;
mod kubectl;
mod outage;
mod statuses;
mod tenants;

use countersign_config::model::{self, KubernetesSource, ResourceSource};
use countersign_tests::environment::Environment;
use http::StatusCode;
use serde_json::{Value, json};

use self::cluster::Cluster;
use crate::harness::{Builder, ExampleApi, SECRET, TestBed, get, until};

/// The namespace that the operator of the gateway trusts.
const OPERATORS: &str = "platform";

/// What the chart's roles grant the gateway for this.
const RULES: &[(&str, &str, &[&str])] = &[
    ("countersign.dev", "workloads", &["list", "watch"]),
    ("countersign.dev", "credentials", &["list", "watch"]),
    ("countersign.dev", "accesspolicies", &["list", "watch"]),
    ("countersign.dev", "targetservices", &["list", "watch"]),
    ("countersign.dev", "workloads/status", &["patch"]),
    ("countersign.dev", "credentials/status", &["patch"]),
    ("countersign.dev", "accesspolicies/status", &["patch"]),
    ("countersign.dev", "targetservices/status", &["patch"]),
    (
        "coordination.k8s.io",
        "leases",
        &["get", "create", "update"],
    ),
    ("", "secrets", &["get", "list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
];

/// A gateway that reads objects of this cluster beside its files, once it has read them.
async fn bed(env: Environment, cluster: &Cluster) -> anyhow::Result<TestBed> {
    cluster.grant(RULES).await?;
    let bed = started(env, cluster, |_| {}).await?;
    ready(&bed).await?;
    Ok(bed)
}

/// The same with changes to its configuration; it may never be ready.
async fn started(
    env: Environment,
    cluster: &Cluster,
    change: impl FnOnce(&mut model::Gateway),
) -> anyhow::Result<TestBed> {
    cluster.namespace(OPERATORS).await?;
    let builder = configured(TestBed::builder().within(env), cluster);
    builder.gateway(change).start().await
}

/// Lets a gateway read the objects of a cluster beside its files.
fn configured<'c>(
    builder: Builder<'c, ExampleApi>,
    cluster: &'c Cluster,
) -> Builder<'c, ExampleApi> {
    builder.gateway(|gateway| configure(gateway, cluster))
}

fn configure(gateway: &mut model::Gateway, cluster: &Cluster) {
    gateway.kubernetes = cluster.model();
    gateway.service = Some(model::ServiceName {
        namespace: OPERATORS.to_owned(),
        name: "countersign".to_owned(),
    });
    let objects = ResourceSource::Kubernetes(source());
    gateway.resources.push(objects);
}

fn source() -> KubernetesSource {
    KubernetesSource {
        operator_namespace: Some(OPERATORS.to_owned()),
        cluster: Some("prod-eu".to_owned()),
        ..KubernetesSource::default()
    }
}

/// The source of objects of a gateway's configuration.
fn of_objects(gateway: &mut model::Gateway) -> &mut KubernetesSource {
    let found = gateway
        .resources
        .iter_mut()
        .find_map(|source| match source {
            ResourceSource::Kubernetes(source) => Some(source),
            ResourceSource::Directory(_) => None,
        });
    found.expect("it reads objects")
}

/// Waits until the gateway has read everything.
async fn ready(bed: &TestBed) -> anyhow::Result<()> {
    until("readiness", async || {
        readiness(bed).await.is_ok_and(|(status, _)| status == 200)
    })
    .await
}

/// The status and the body of `/readyz`.
async fn readiness(bed: &TestBed) -> anyhow::Result<(u16, Value)> {
    let (head, body) = bed.ask_admin("/readyz").await?;
    let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
    Ok((status, serde_json::from_str(&body)?))
}

fn workload(account: &str) -> Value {
    json!({ "owner": "team", "match": [{ "serviceAccount": account }] })
}

/// Of the example API, in a Secret of the namespace.
fn credential() -> Value {
    json!({
        "target": "example",
        "static": { "token": { "kubernetesSecret": { "name": "example", "key": "token" } } },
    })
}

fn policy(paths: &[&str]) -> Value {
    json!({
        "owner": "team",
        "workloads": ["nightly"],
        "target": "example",
        "credential": "reader",
        "allow": [{ "methods": ["GET"], "paths": paths }],
    })
}

/// A tenant with a workload, a credential and a policy for the example API.
async fn tenant(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    cluster.namespace(namespace).await?;
    cluster.secret(namespace, "example", SECRET).await?;
    cluster
        .apply("Workload", namespace, "nightly", workload("nightly"))
        .await?;
    cluster
        .apply("Credential", namespace, "reader", credential())
        .await?;
    cluster
        .apply("AccessPolicy", namespace, "reads", policy(&["/runs/**"]))
        .await?;
    Ok(())
}

/// How a request of the tenant's workload is answered.
async fn asks(bed: &TestBed, namespace: &str, path: &str) -> anyhow::Result<StatusCode> {
    use countersign_tests::client::Failure;
    let token = bed.env.token(namespace, "nightly");
    match bed.client_with(&token).send(get(path)).await {
        Ok(answer) => Ok(answer.status),
        Err(Failure::Refused(answer)) => Ok(answer.status),
        Err(other) => Err(other.into()),
    }
}

/// Waits until a request of the tenant's workload is answered so.
async fn until_asks(
    bed: &TestBed,
    namespace: &str,
    path: &str,
    expected: StatusCode,
) -> anyhow::Result<()> {
    until("the decision", async || {
        asks(bed, namespace, path)
            .await
            .is_ok_and(|status| status == expected)
    })
    .await
}
