//! One namespace, pod or job: what injection would make of it now, and what it is.

use countersign_config::shown::escaped;
use serde_json::{Value, json};

use super::{
    api::{Answer, Api, Resource, Unread},
    gateways::trouble,
    install::Installation,
    objects::Objects,
    report::Finding,
};
use crate::{
    admission::names::{ENABLED, INJECT, INJECTED, INJECTED_BECAUSE, RELAY},
    uninjected::{self, relay_of},
};

const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
const PODS: Resource = Resource::new("", "v1", "pods");

/// The most pods that are named in one line.
const NAMED: usize = 5;

/// A pod, or what makes pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A pod that is there.
    Pod,
    /// A Job.
    Job,
    /// A `CronJob`.
    CronJob,
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `DaemonSet`.
    DaemonSet,
}

impl TargetKind {
    /// By kubectl's name for it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "pod" | "pods" | "po" => Self::Pod,
            "job" | "jobs" => Self::Job,
            "cronjob" | "cronjobs" | "cj" => Self::CronJob,
            "deployment" | "deployments" | "deploy" => Self::Deployment,
            "statefulset" | "statefulsets" | "sts" => Self::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Self::DaemonSet,
            _ => return None,
        })
    }

    const fn resource(self) -> Resource {
        match self {
            Self::Pod => PODS,
            Self::Job => Resource::new("batch", "v1", "jobs"),
            Self::CronJob => Resource::new("batch", "v1", "cronjobs"),
            Self::Deployment => Resource::new("apps", "v1", "deployments"),
            Self::StatefulSet => Resource::new("apps", "v1", "statefulsets"),
            Self::DaemonSet => Resource::new("apps", "v1", "daemonsets"),
        }
    }

    fn template(self, object: &Value) -> &Value {
        match self {
            Self::CronJob => &object["spec"]["jobTemplate"]["spec"]["template"],
            _ => &object["spec"]["template"],
        }
    }
}

/// The namespace itself.
pub(super) async fn check(api: &Api, installation: &Installation, namespace: &str) -> Vec<Finding> {
    let found = match api.get(NAMESPACES, "", namespace).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return vec![Finding::failed(
                "namespace",
                format!("there is no namespace {namespace}"),
                "kubectl get namespaces",
            )];
        }
        Err(why) => return vec![Finding::unknown("namespace", namespace, &why)],
    };
    if found["metadata"]["labels"][INJECT] != ENABLED {
        return vec![Finding::failed(
            "namespace",
            format!("{namespace} has not opted in, so its pods get no relay"),
            format!("kubectl label namespace {namespace} {INJECT}={ENABLED}"),
        )];
    }
    let mut findings = vec![Finding::fine(
        "namespace",
        format!("{namespace} has opted in"),
    )];
    findings.push(would_be(api, namespace, &smallest(), "a new pod").await);
    findings.extend(without_relay(api, installation, &found, namespace).await);
    match Objects::read(api, namespace).await {
        Ok(objects) => findings.extend(objects.conditions(namespace)),
        Err(why) => findings.push(Finding::unknown("objects", "our objects", &why)),
    }
    findings
}

/// A pod that is admitted everywhere.
fn smallest() -> Value {
    json!({
        "metadata": {},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "app", "image": "countersign-doctor",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                // Quotas may ask for them.
                "resources": {
                    "requests": {"cpu": "1m", "memory": "1Mi"},
                    "limits": {"cpu": "1m", "memory": "1Mi"},
                },
            }],
        },
    })
}

/// What admission makes of a pod; nothing is kept of it.
async fn would_be(api: &Api, namespace: &str, template: &Value, what: &str) -> Finding {
    const CODE: &str = "injection";
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "countersign-doctor-",
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
        },
        "spec": template["spec"],
    });
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    match api.create(PODS, namespace, &pod, true).await {
        Ok(answer) if answer.status.is_success() => {
            let annotations = &answer.body["metadata"]["annotations"];
            match (relay_of(&answer.body), annotations[INJECTED].as_str()) {
                (Some(_), Some(mode)) => {
                    let because = annotations[INJECTED_BECAUSE].as_str().unwrap_or_default();
                    Finding::fine(
                        CODE,
                        format!(
                            "{what} gets a relay, mode {mode}, because {}",
                            escaped(because)
                        ),
                    )
                }
                _ if annotations[INJECT] == "disabled" => Finding::warning(
                    CODE,
                    format!("{what} asks to be left alone, so it reaches no API with a credential"),
                    format!("remove its annotation {INJECT}"),
                ),
                _ => Finding::failed(
                    CODE,
                    format!("{what} gets no relay, so it reaches no API with a credential"),
                    "see above what is wrong with the engine",
                ),
            }
        }
        Ok(answer) => refusal(&answer, what),
        Err(why) => Finding::unknown(CODE, &format!("what becomes of {what}"), &why),
    }
}

fn refusal(answer: &Answer, what: &str) -> Finding {
    const CODE: &str = "injection";
    let message = answer.message();
    if message.contains("failed calling webhook") {
        return Finding::failed(
            CODE,
            format!("{what} is refused, because the API server cannot call the webhook: {message}"),
            "see above what is wrong with the webhook; the API server must reach the controller's port 9443",
        );
    }
    if message.contains("countersign does not admit") {
        return Finding::failed(
            CODE,
            format!("{what} is refused: {message}"),
            "change what the message names (docs/injection.md)",
        );
    }
    match answer.status.as_u16() {
        403 if message.contains("cannot create resource") => {
            let why = Unread::Forbidden("create".into(), "pods".into(), String::new());
            Finding::unknown(CODE, &format!("what becomes of {what}"), &why)
        }
        status => Finding::failed(
            CODE,
            format!("{what} is refused with {status}, and not by Countersign: {message}"),
            "change what the message names",
        ),
    }
}

async fn without_relay(
    api: &Api,
    installation: &Installation,
    found: &Value,
    namespace: &str,
) -> Vec<Finding> {
    let pods = match api.list(PODS, namespace, "").await {
        Ok(pods) => pods,
        Err(why) => return vec![Finding::unknown("without_relay", "its pods", &why)],
    };
    let facts = uninjected::facts(found);
    let names: Vec<&str> = pods
        .iter()
        .filter(|pod| uninjected::without_relay(pod, &facts, &installation.settings).is_some())
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    vec![Finding::warning(
        "without_relay",
        format!(
            "{} run without a relay: {}{more}",
            if names.len() == 1 {
                "1 pod".to_owned()
            } else {
                format!("{} pods", names.len())
            },
            names
                .iter()
                .take(NAMED)
                .copied()
                .collect::<Vec<_>>()
                .join(", ")
        ),
        format!(
            "create them again: kubectl rollout restart deployment -n {namespace}, or delete them"
        ),
    )]
}

/// A pod, or what makes pods.
pub(super) async fn target(
    api: &Api,
    namespace: &str,
    kind: TargetKind,
    name: &str,
) -> Vec<Finding> {
    let resource = kind.resource();
    let found = match api.get(resource, namespace, name).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return vec![Finding::failed(
                "target",
                format!("there is no {} {name} in {namespace}", resource.qualified()),
                format!("kubectl get {} -n {namespace}", resource.qualified()),
            )];
        }
        Err(why) => return vec![Finding::unknown("target", name, &why)],
    };
    let (mut findings, spec) = if kind == TargetKind::Pod {
        (running(&found, namespace), &found["spec"])
    } else {
        let template = kind.template(&found);
        let would_be = would_be(api, namespace, template, "a new pod of it").await;
        (vec![would_be], &template["spec"])
    };
    let account = spec["serviceAccountName"].as_str().unwrap_or("default");
    match Objects::read(api, namespace).await {
        Ok(objects) => findings.extend(objects.about(namespace, account)),
        Err(why) => findings.push(Finding::unknown("objects", "our objects", &why)),
    }
    findings
}

/// A pod as it is.
fn running(pod: &Value, namespace: &str) -> Vec<Finding> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if relay_of(pod).is_none() {
        return vec![Finding::failed(
            "relay",
            "it has no relay, so it reaches no API with a credential",
            format!("create it again, after countersign doctor -n {namespace} finds nothing"),
        )];
    }
    let mode = pod["metadata"]["annotations"][INJECTED]
        .as_str()
        .unwrap_or("unknown");
    let mut findings = vec![Finding::fine(
        "relay",
        format!("it has a relay, mode {mode}"),
    )];
    if let Some(trouble) = trouble(pod) {
        findings.push(Finding::failed(
            "pod_trouble",
            trouble,
            format!("kubectl logs -n {namespace} {name} -c {RELAY}"),
        ));
    }
    let mut statuses = pod["status"]["initContainerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    if let Some(status) = statuses.find(|it| it["name"] == RELAY) {
        let restarts = status["restartCount"].as_u64().unwrap_or(0);
        if status["ready"] == true {
            findings.push(Finding::fine("relay_ready", "its relay reaches a gateway"));
        } else if status["state"]["terminated"].is_null() {
            findings.push(Finding::failed(
                "relay_ready",
                format!(
                    "its relay is not ready, after {restarts} restarts, so its containers wait"
                ),
                format!("kubectl logs -n {namespace} {name} -c {RELAY}"),
            ));
        }
    }
    findings
}
