//! What of a pod's object matters here.

use std::{collections::BTreeMap, sync::Arc};

use countersign_config::policy::PodFacts;
use countersign_identity::{ObservedPod, PodEnd};
use kube::core::Object;
use serde::{Deserialize, Serialize};

/// A pod of which only what matters here is read.
pub(super) type Pod = Object<Spec, Status>;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    node_name: Option<String>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    phase: Option<String>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "imageID")]
    image_id: String,
}

/// A pod, without what only its Job tells.
#[derive(Debug, Clone)]
pub(super) struct SeenPod {
    pub(super) uid: Arc<str>,
    /// The uid of its Job.
    pub(super) job: Option<Arc<str>>,
    namespace: Arc<str>,
    facts: PodFacts,
    complete: bool,
    ended: Option<PodEnd>,
}

impl SeenPod {
    /// `None` for an object without a uid, which no API server shows.
    pub(super) fn of(pod: Pod, namespace: &Arc<str>) -> Option<Self> {
        let uid = Arc::from(pod.metadata.uid?);
        let owners = pod.metadata.owner_references.unwrap_or_default();
        let job = owners.into_iter().find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "Job"
                && owner.api_version.starts_with("batch/")
        });
        let status = pod.status.unwrap_or_default();
        let images = images(&pod.spec, &status);
        let ended = match status.phase.as_deref() {
            Some("Succeeded") => Some(PodEnd::Succeeded),
            Some("Failed") => Some(PodEnd::Failed),
            _ => None,
        };
        Some(Self {
            uid,
            namespace: Arc::clone(namespace),
            complete: images.is_some(),
            facts: PodFacts {
                labels: pod.metadata.labels.unwrap_or_default(),
                images: images.unwrap_or_default(),
                node: pod.spec.node_name,
                job: job.as_ref().map(|job| job.name.clone()),
                cron_job: None,
            },
            job: job.map(|job| Arc::from(job.uid)),
            ended,
        })
    }

    /// The pod, given the Jobs that are known: each with its `CronJob`, if it has one.
    pub(super) fn with_jobs(&self, jobs: &BTreeMap<Arc<str>, Option<String>>) -> ObservedPod {
        let known = self.job.as_ref().map(|job| jobs.get(job));
        ObservedPod {
            uid: Arc::clone(&self.uid),
            namespace: Arc::clone(&self.namespace),
            complete: self.complete && known != Some(None),
            facts: PodFacts {
                cron_job: known.flatten().cloned().flatten(),
                ..self.facts.clone()
            },
            ended: self.ended,
        }
    }
}

/// The images of all containers, as they run; `None` while one of them is not known. What is not started
/// yet is known if it is pinned.
fn images(spec: &Spec, status: &Status) -> Option<Vec<String>> {
    let groups = [
        (&spec.containers, &status.container_statuses),
        (&spec.init_containers, &status.init_container_statuses),
        (
            &spec.ephemeral_containers,
            &status.ephemeral_container_statuses,
        ),
    ];
    let mut images = Vec::new();
    for (containers, statuses) in groups {
        for container in containers {
            let runs = statuses.iter().find(|status| status.name == container.name);
            let runs = runs.map(|status| status.image_id.as_str());
            let image = match runs.filter(|id| !id.is_empty()) {
                Some(id) => without_scheme(id).to_owned(),
                None => pinned(&container.image)?,
            };
            images.push(image);
        }
    }
    images.sort_unstable();
    images.dedup();
    (!images.is_empty()).then_some(images)
}

/// Docker's shim put a scheme before it.
fn without_scheme(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, image)| image)
}

/// `repository@sha256:...` of an image that names its digest, without its tag.
fn pinned(image: &str) -> Option<String> {
    let (name, digest) = image.split_once('@')?;
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map_or(0, |(_, tag)| tag.len() + 1);
    Some(format!("{}@{digest}", &name[..name.len() - tag]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const APP: &str = "ghcr.io/acme/app@sha256:aa";

    fn seen(spec: &Value, status: &Value) -> SeenPod {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "qa", "uid": "1", "labels": {"app": "a"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "9"},
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "a-1", "uid": "7", "controller": true},
                ],
            },
            "spec": spec,
            "status": status,
        });
        SeenPod::of(serde_json::from_value(pod).unwrap(), &"qa".into()).unwrap()
    }

    fn images_of(spec: &Value, status: &Value) -> Option<Vec<String>> {
        let seen = seen(spec, status);
        seen.complete.then_some(seen.facts.images)
    }

    #[test]
    fn images_are_those_that_run() {
        let spec = json!({
            "containers": [{"name": "app", "image": "ghcr.io/acme/app:1"}],
            "initContainers": [{"name": "relay", "image": "ghcr.io/acme/relay:1"}],
            "ephemeralContainers": [{"name": "debug", "image": "busybox"}],
        });
        let status = |app: &str| {
            json!({
                "containerStatuses": [{"name": "app", "imageID": app}],
                "initContainerStatuses": [{"name": "relay", "imageID": "ghcr.io/acme/relay@sha256:bb"}],
                "ephemeralContainerStatuses": [{"name": "debug", "imageID": "docker.io/library/busybox@sha256:cc"}],
            })
        };
        let all = [
            "docker.io/library/busybox@sha256:cc",
            APP,
            "ghcr.io/acme/relay@sha256:bb",
        ];
        let expected = Some(all.map(str::to_owned).to_vec());
        assert_eq!(images_of(&spec, &status(APP)), expected);
        let docker = format!("docker-pullable://{APP}");
        assert_eq!(images_of(&spec, &status(&docker)), expected);
        assert_eq!(images_of(&spec, &status("")), None, "one is not known yet");
    }

    #[test]
    fn a_pinned_image_is_known_before_it_runs() {
        for image in [APP, "ghcr.io/acme/app:1.2@sha256:aa"] {
            let spec = json!({"containers": [{"name": "app", "image": image}]});
            assert_eq!(images_of(&spec, &json!({})), Some(vec![APP.to_owned()]));
        }
        let port = json!({"containers": [{"name": "app", "image": "registry:5000/app@sha256:aa"}]});
        assert_eq!(
            images_of(&port, &json!({})),
            Some(vec!["registry:5000/app@sha256:aa".to_owned()])
        );
    }

    /// What runs counts, not what was asked for.
    #[test]
    fn what_runs_is_preferred_to_what_is_pinned() {
        let spec = json!({"containers": [{"name": "app", "image": "ghcr.io/acme/app@sha256:bb"}]});
        let status = json!({"containerStatuses": [{"name": "app", "imageID": APP}]});
        assert_eq!(images_of(&spec, &status), Some(vec![APP.to_owned()]));
    }

    #[test]
    fn the_owner_is_the_controller_alone() {
        let spec = json!({"containers": [{"name": "app", "image": APP}], "nodeName": "node-1"});
        let seen = seen(&spec, &json!({"phase": "Running"}));
        assert_eq!(seen.facts.job.as_deref(), Some("a-1"));
        let unknown = seen.with_jobs(&BTreeMap::new());
        assert!(!unknown.complete && unknown.facts.cron_job.is_none());
        let alone = seen.with_jobs(&BTreeMap::from([("7".into(), None)]));
        assert!(alone.complete && alone.facts.cron_job.is_none());
        let owned = seen.with_jobs(&BTreeMap::from([("7".into(), Some("nightly".to_owned()))]));
        assert!(owned.complete);
        assert_eq!(owned.facts.cron_job.as_deref(), Some("nightly"));
        assert_eq!(owned.facts.node.as_deref(), Some("node-1"));
    }

    #[test]
    fn a_pod_ends_by_its_phase() {
        let phase = |phase: &str| seen(&json!({"containers": []}), &json!({"phase": phase})).ended;
        assert_eq!(phase("Succeeded"), Some(PodEnd::Succeeded));
        assert_eq!(phase("Failed"), Some(PodEnd::Failed));
        assert_eq!(phase("Running"), None);
        assert_eq!(phase("Unknown"), None);
    }
}
