//! `NetworkPolicies`: whether they are there; and, by a probe, whether somebody enforces them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    api::{Api, Resource, Unread},
    gateways::trouble,
    install::Installation,
    report::Finding,
};
use crate::admission::names::{CLIENT, MODE};

const POLICIES: Resource = Resource::new("networking.k8s.io", "v1", "networkpolicies");
const PODS: Resource = Resource::new("", "v1", "pods");

/// How long the probe's pod may take: its image may have to be fetched, and its relay waits for a gateway.
const PROBE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(500);

/// The gateways' port of health and metrics, which pods must not reach.
const ADMIN_PORT: u16 = 9901;

pub(super) async fn check(
    api: &Api,
    installation: &Installation,
    namespace: Option<&str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let gateway = &installation.gateway["spec"]["template"]["metadata"]["labels"];
    match api.list(POLICIES, &installation.namespace, "").await {
        Ok(policies) => findings.push(if selects(&policies, gateway, "Ingress") {
            Finding::fine(
                "gateway_policy",
                "a NetworkPolicy says who may reach gateways",
            )
        } else {
            Finding::warning(
                "gateway_policy",
                "no NetworkPolicy is about gateways: every pod can read their metrics",
                "helm upgrade --set networkPolicy.enabled=true",
            )
        }),
        Err(why) => findings.push(Finding::unknown("gateway_policy", "NetworkPolicies", &why)),
    }
    let Some(namespace) = namespace else {
        return findings;
    };
    let client = json!({ CLIENT: "true" });
    match api.list(POLICIES, namespace, "").await {
        Ok(policies) => findings.push(if selects(&policies, &client, "Egress") {
            Finding::fine(
                "client_policy",
                format!("a NetworkPolicy keeps injected pods of {namespace} to the ways that it names"),
            )
        } else {
            Finding::warning(
                "client_policy",
                format!("no NetworkPolicy confines injected pods of {namespace}: they can pass gateways by, without a credential"),
                format!("helm upgrade --set 'clientPolicy.namespaces={{{namespace}}}'"),
            )
        }),
        Err(why) => findings.push(Finding::unknown("client_policy", "NetworkPolicies", &why)),
    }
    findings
}

/// Whether a policy of this direction selects pods with these labels.
fn selects(policies: &[Value], labels: &Value, direction: &str) -> bool {
    policies.iter().any(|policy| {
        let mut directions = policy["spec"]["policyTypes"]
            .as_array()
            .into_iter()
            .flatten();
        let wanted = &policy["spec"]["podSelector"]["matchLabels"];
        let mut wanted = wanted.as_object().into_iter().flatten();
        directions.any(|it| it == direction) && wanted.all(|(key, value)| labels[key] == *value)
    })
}

/// Runs a pod in a namespace that tries what it may and what it may not.
pub(super) async fn probe(api: &Api, installation: &Installation, namespace: &str) -> Vec<Finding> {
    let made = match api.create(PODS, namespace, &pod(installation), false).await {
        Ok(answer) if answer.status.is_success() => answer.body,
        Ok(answer) => {
            return vec![Finding::failed(
                "probe",
                format!("the probe's pod is refused: {}", answer.message()),
                "see above what is wrong with injection, or probe another namespace",
            )];
        }
        Err(why) => return vec![Finding::unknown("probe", "the network", &why)],
    };
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    let ended = until_ended(api, namespace, name).await;
    let deleted = api.delete(PODS, namespace, name).await;
    let mut findings = match ended {
        Ok(pod) => judge(&pod, installation, namespace),
        Err(why) => vec![Finding::unknown("probe", "the network", &why)],
    };
    if let Err(why) = deleted {
        findings.push(Finding::warning(
            "probe",
            format!("the probe's pod is still there: {why}"),
            format!("kubectl delete pod -n {namespace} {name}"),
        ));
    }
    findings
}

async fn until_ended(api: &Api, namespace: &str, name: &str) -> Result<Value, Unread> {
    let end = Instant::now() + PROBE;
    loop {
        let pod = api.get(PODS, namespace, name).await?.unwrap_or_default();
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        if ["Succeeded", "Failed"].contains(&phase) || pod.is_null() || Instant::now() >= end {
            return Ok(pod);
        }
        sleep(LOOK).await;
    }
}

/// Where the probe goes: the host and port, and whether it may get there.
fn places(installation: &Installation) -> [(String, bool); 3] {
    let gateways = &installation.settings.gateways;
    let gateway = gateways.first().cloned().unwrap_or_default();
    let host = gateway.rsplit_once(':').map_or(&*gateway, |(host, _)| host);
    [
        (format!("{host}:{ADMIN_PORT}"), false),
        ("kubernetes.default.svc:443".to_owned(), false),
        (gateway, true),
    ]
}

fn pod(installation: &Installation) -> Value {
    let container = &installation.gateway["spec"]["template"]["spec"]["containers"][0];
    let mut arguments = vec!["doctor".to_owned()];
    for (place, _) in places(installation) {
        arguments.push(format!("--reach={place}"));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "countersign-doctor-",
            "labels": {"app.kubernetes.io/name": "countersign-doctor", CLIENT: "true"},
            // Connections of its own must not be redirected.
            "annotations": {MODE: "proxy"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": PROBE.as_secs(),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe",
                "image": container["image"],
                "imagePullPolicy": container["imagePullPolicy"],
                "args": arguments,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"cpu": "100m", "memory": "64Mi"},
                },
            }],
        },
    })
}

fn judge(pod: &Value, installation: &Installation, namespace: &str) -> Vec<Finding> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    let probe = statuses.find(|it| it["name"] == "probe");
    let message = probe.and_then(|it| it["state"]["terminated"]["message"].as_str());
    let Some(reached) = message.and_then(|it| serde_json::from_str::<Value>(it).ok()) else {
        let trouble = trouble(pod).unwrap_or_else(|| "its relay waits for a gateway".to_owned());
        return vec![Finding::failed(
            "probe",
            format!(
                "the probe's pod {name} did not come to its end in {} s: {trouble}",
                PROBE.as_secs()
            ),
            format!("countersign doctor -n {namespace}, and: kubectl get events -n {namespace}"),
        )];
    };
    let places = places(installation).into_iter();
    places
        .map(|(place, may)| reach(&place, may, reached[&place] == true, namespace))
        .collect()
}

fn reach(place: &str, may: bool, does: bool, namespace: &str) -> Finding {
    const CODE: &str = "probe";
    match (may, does) {
        (true, true) => Finding::fine(CODE, format!("a pod of {namespace} reaches {place}")),
        (false, false) => Finding::fine(
            CODE,
            format!("a pod of {namespace} does not reach {place}, as it must be"),
        ),
        (true, false) => Finding::failed(
            CODE,
            format!("a pod of {namespace} does not reach {place}"),
            "add its namespace to networkPolicy.clients, and allow the way in its own NetworkPolicies",
        ),
        (false, true) => Finding::failed(
            CODE,
            format!(
                "a pod of {namespace} reaches {place}: nobody enforces NetworkPolicies there, or none is about it"
            ),
            "set networkPolicy.enabled and clientPolicy.namespaces, and use a network plugin that enforces them",
        ),
    }
}
