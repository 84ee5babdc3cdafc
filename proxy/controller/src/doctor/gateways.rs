//! Gateways and controller: how many are ready, and why the others are not; and whose tokens gateways expect.

use countersign_config::shown::escaped;
use serde_json::Value;

use super::{
    api::{Api, Resource, Unread},
    install::Installation,
    report::Finding,
};

const PODS: Resource = Resource::new("", "v1", "pods");

/// The issuer that a gateway finds by itself.
const IN_CLUSTER: &str = "in-cluster";

/// The most pods whose trouble is told.
const TOLD: usize = 3;

pub(super) async fn ready(api: &Api, installation: &Installation) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (component, deployment, without) in [
        ("gateway", &installation.gateway, "every request is refused"),
        (
            "controller",
            &installation.controller,
            "nobody injects pods, publishes roots or renews certificates",
        ),
    ] {
        if deployment.is_null() {
            findings.push(Finding::failed(
                "ready",
                format!("there is no Deployment of the {component}, so {without}"),
                "helm upgrade, with the values of the release",
            ));
            continue;
        }
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
        let text = format!("{ready} of {wanted} {component}s are ready");
        if ready >= wanted && wanted > 0 {
            findings.push(Finding::fine("ready", text));
            continue;
        }
        let remedy = format!(
            "kubectl describe pod -n {} -l app.kubernetes.io/component={component}",
            installation.namespace
        );
        findings.push(if ready == 0 {
            Finding::failed("ready", format!("{text}, so {without}"), remedy)
        } else {
            Finding::warning("ready", text, remedy)
        });
        findings.extend(troubles(api, installation, component).await);
    }
    findings
}

/// What the kubelet says of the pods that are not ready.
async fn troubles(api: &Api, installation: &Installation, component: &str) -> Vec<Finding> {
    let labels =
        format!("app.kubernetes.io/component={component},app.kubernetes.io/part-of=countersign");
    let pods = match api.list(PODS, &installation.namespace, &labels).await {
        Ok(pods) => pods,
        Err(why) => return vec![Finding::unknown("pod_trouble", "their pods", &why)],
    };
    let told = pods.iter().filter_map(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let trouble = trouble(pod)?;
        Some(Finding::failed(
            "pod_trouble",
            format!("{name}: {trouble}"),
            format!("kubectl logs -n {} {name}", installation.namespace),
        ))
    });
    told.take(TOLD).collect()
}

/// Why a pod does not run, as its status says it.
pub(super) fn trouble(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let lists = ["initContainerStatuses", "containerStatuses"];
    let containers = lists
        .iter()
        .flat_map(|list| status[*list].as_array().into_iter().flatten());
    for container in containers {
        let name = container["name"].as_str().unwrap_or_default();
        let waiting = &container["state"]["waiting"];
        let terminated = &container["lastState"]["terminated"];
        if let Some(reason) = waiting["reason"].as_str()
            && !["PodInitializing", "ContainerCreating"].contains(&reason)
        {
            let message = [&waiting["message"], &terminated["message"]];
            let message = message
                .iter()
                .find_map(|it| it.as_str())
                .unwrap_or_default();
            let message = escaped(message.lines().next().unwrap_or_default()).into_owned();
            return Some(
                format!("{name} waits: {} {message}", escaped(reason))
                    .trim_end()
                    .to_owned(),
            );
        }
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut unmet = conditions.filter(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    let message = unmet.next()?["message"].as_str()?;
    Some(format!("it is on no node: {}", escaped(message)))
}

/// Whether gateways expect the tokens that this cluster issues.
pub(super) async fn issuer(api: &Api, installation: &Installation) -> Vec<Finding> {
    const CODE: &str = "issuer";
    if installation.gateway_file.is_null() {
        return Vec::new();
    }
    let issuers = &installation.gateway_file["spec"]["identity"]["issuers"];
    let expected: Vec<&str> = match issuers.as_array() {
        Some(issuers) => issuers
            .iter()
            .filter_map(|it| it["issuer"].as_str())
            .collect(),
        None => vec![IN_CLUSTER],
    };
    let issued = match api.path("/.well-known/openid-configuration").await {
        Ok(answer) => answer.body["issuer"]
            .as_str()
            .map(|it| escaped(it).into_owned()),
        Err(Unread::Forbidden(..)) if expected.contains(&IN_CLUSTER) => None,
        Err(why) => {
            return vec![Finding::unknown(
                CODE,
                "the issuer of this cluster's tokens",
                &why,
            )];
        }
    };
    vec![match issued {
        _ if expected.contains(&IN_CLUSTER) => {
            let issued = issued.map(|it| format!(": {it}")).unwrap_or_default();
            Finding::fine(
                CODE,
                format!("gateways find the issuer of their cluster by themselves{issued}"),
            )
        }
        Some(issued) if expected.contains(&&*issued) => Finding::fine(
            CODE,
            format!("gateways expect the tokens of {issued}, and this cluster issues them"),
        ),
        Some(issued) => Finding::failed(
            CODE,
            format!(
                "gateways expect tokens of {}, and this cluster issues those of {issued}, so every caller is refused",
                expected
                    .iter()
                    .map(|it| escaped(it))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            format!("helm upgrade --set gateway.cluster.issuer={issued}"),
        ),
        None => Finding::failed(
            CODE,
            "this cluster does not say who issues its tokens",
            "helm upgrade --set gateway.cluster.issuer=..., with the iss claim of a pod's token",
        ),
    }]
}
