//! Pods that run without a relay though their namespace has opted in: they were there before, or came in while
//! something let them pass. They have no token for a gateway, so they are no danger; but nobody looks at a job until it
//! fails. Told by a metric, and by an Event on the owner.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, ListParams},
    core::DynamicObject,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::admission::{
    NamespaceFacts, NotInjected, Settings,
    events::{Events, NoRelay, Notice, owner_or_self},
    inject,
    names::{ENABLED, INJECT, RELAY},
};

/// How often all pods of opted-in namespaces are looked at.
const EVERY: Duration = Duration::from_mins(5);

/// How long it waits if the API server did not tell.
const RETRY: Duration = Duration::from_secs(20);

/// How long an owner is not told again.
const QUIET: Duration = Duration::from_hours(1);

/// The pods of one page of a list.
const PAGE: u32 = 500;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Labels {
    /// `namespace` is what Prometheus calls that of the controller.
    namespace_of_pods: String,
    reason: &'static str,
}

/// What is counted. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counters(Family<Labels, Gauge>);

impl Counters {
    /// Counters of this registry, whose prefix is `countersign`.
    pub fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register(
            "pods_without_relay",
            "Pods of opted-in namespaces that run without a relay, by namespace and reason; the leading controller counts",
            counters.0.clone(),
        );
        counters
    }
}

/// Takes the numbers away when another controller leads.
struct Counting<'c>(&'c Counters);

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.0.clear();
    }
}

/// Looks at the pods of opted-in namespaces again and again, and never ends. One controller of several does so: the
/// one that leads.
pub async fn watch(
    client: Client,
    settings: Settings,
    events: Events,
    counters: Counters,
    leads: impl Fn() -> bool + Send,
) {
    let counting = Counting(&counters);
    let mut told = HashMap::new();
    loop {
        if !leads() {
            counting.0.0.clear();
            sleep(RETRY).await;
            continue;
        }
        let wait = match look(&client, &settings).await {
            Ok(found) => {
                report(&found, &mut told, &events, counting.0);
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look for pods without a relay; a role must grant the controller to list pods and namespaces");
                RETRY
            }
        };
        sleep(wait).await;
    }
}

/// Pods of one owner.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    namespace: String,
    owner: ObjectReference,
    reason: NoRelay,
    pods: usize,
}

async fn look(client: &Client, settings: &Settings) -> kube::Result<Vec<Found>> {
    let opted_in = ListParams::default().labels(&format!("{INJECT}={ENABLED}"));
    let namespaces = Api::<Namespace>::all(client.clone());
    let mut found = Vec::new();
    for namespace in namespaces.list(&opted_in).await? {
        let facts = NamespaceFacts {
            name: namespace.name_any(),
            labels: namespace.labels().clone(),
            annotations: namespace.annotations().clone(),
        };
        // As they are: a type would pass over what it does not know.
        let kind = ApiResource::erase::<Pod>(&());
        let pods = Api::<DynamicObject>::namespaced_with(client.clone(), &facts.name, &kind);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = pods.list(&page).await?;
            for pod in &list.items {
                add(pod, &facts, settings, &mut found);
            }
            match list.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => break,
            }
        }
    }
    Ok(found)
}

fn add(pod: &DynamicObject, facts: &NamespaceFacts, settings: &Settings, found: &mut Vec<Found>) {
    let Ok(value) = serde_json::to_value(pod) else {
        return;
    };
    let Some(reason) = without_relay(&value, facts, settings) else {
        return;
    };
    let Some(owner) = owner_or_self(&pod.metadata, Some(facts.name.clone())) else {
        return;
    };
    let known = found
        .iter_mut()
        .find(|it| it.owner == owner && it.reason == reason);
    match known {
        Some(known) => known.pods += 1,
        None => found.push(Found {
            namespace: facts.name.clone(),
            owner,
            reason,
            pods: 1,
        }),
    }
}

fn report(
    found: &[Found],
    told: &mut HashMap<String, Instant>,
    events: &Events,
    counters: &Counters,
) {
    let mut counts: BTreeMap<Labels, usize> = BTreeMap::new();
    let owners: HashSet<&str> = found
        .iter()
        .filter_map(|it| it.owner.uid.as_deref())
        .collect();
    told.retain(|uid, at| owners.contains(&**uid) && at.elapsed() < QUIET);
    for it in found {
        let labels = Labels {
            namespace_of_pods: it.namespace.clone(),
            reason: it.reason.code(),
        };
        *counts.entry(labels).or_default() += it.pods;
        let uid = it.owner.uid.clone().unwrap_or_default();
        if let Entry::Vacant(entry) = told.entry(uid) {
            entry.insert(Instant::now());
            let notice = Notice::WithoutRelay {
                pods: it.pods,
                reason: it.reason,
            };
            events.tell(it.owner.clone(), notice);
        }
    }
    counters.0.clear();
    for (labels, count) in counts {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        counters.0.get_or_create(&labels).set(count);
    }
}

/// The relay's container in a pod.
pub(crate) fn relay_of(pod: &Value) -> Option<&Value> {
    let mut containers = pod["spec"]["initContainers"].as_array()?.iter();
    containers.find(|it| it["name"] == RELAY)
}

/// Why a pod runs, or is going to, without a relay; `None` if it has one, needs none, or has ended.
pub(crate) fn without_relay(
    pod: &Value,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> Option<NoRelay> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let ends = !pod["metadata"]["deletionTimestamp"].is_null();
    if ends || ["Succeeded", "Failed"].contains(&phase) || relay_of(pod).is_some() {
        return None;
    }
    match inject(pod, namespace, settings) {
        Ok(_) => Some(NoRelay::NotInjected),
        Err(NotInjected::Refused(_)) => Some(NoRelay::WouldBeRefused),
        Err(NotInjected::LeftAlone(_)) => None,
    }
}

/// What injection knows of a namespace, of the object itself.
pub(crate) fn facts(namespace: &Value) -> NamespaceFacts {
    let metadata = &namespace["metadata"];
    let map = |key: &str| {
        let entries = metadata[key].as_object().into_iter().flatten();
        entries
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    NamespaceFacts {
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        labels: map("labels"),
        annotations: map("annotations"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings::parse("gateways: [\"gateway.test:3128\"]").unwrap()
    }

    fn pod(more: &Value) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "qa"},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
            "status": {"phase": "Running"},
        });
        json_merge(&mut pod, more);
        pod
    }

    fn json_merge(into: &mut Value, more: &Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                for (key, value) in more {
                    json_merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, more) => *into = more.clone(),
        }
    }

    #[rstest]
    #[case::plain(json!({}), Some(NoRelay::NotInjected))]
    #[case::pending(json!({"status": {"phase": "Pending"}}), Some(NoRelay::NotInjected))]
    #[case::on_the_host(json!({"spec": {"hostNetwork": true}}), Some(NoRelay::WouldBeRefused))]
    #[case::ended(json!({"status": {"phase": "Succeeded"}}), None)]
    #[case::failed(json!({"status": {"phase": "Failed"}}), None)]
    #[case::ends(json!({"metadata": {"deletionTimestamp": "2026-12-01T06:00:00Z"}}), None)]
    #[case::has_one(json!({"spec": {"initContainers": [{"name": RELAY, "image": "relay"}]}}), None)]
    #[case::similar(
        json!({"spec": {"initContainers": [{"name": "countersign-relay-2", "image": "relay"}]}}),
        Some(NoRelay::NotInjected)
    )]
    #[case::opted_out(json!({"metadata": {"annotations": {"countersign.dev/inject": "disabled"}}}), None)]
    fn pods_without_a_relay_are_known(#[case] more: Value, #[case] expected: Option<NoRelay>) {
        let namespace = json!({"metadata": {"name": "qa", "labels": {
            INJECT: ENABLED, "countersign.dev/opt-out": "allowed",
        }}});
        let found = without_relay(&pod(&more), &facts(&namespace), &settings());
        assert_eq!(found, expected);
    }

    #[test]
    fn a_namespace_that_has_not_opted_in_is_none_of_ours() {
        let namespace = json!({"metadata": {"name": "qa"}});
        assert_eq!(
            without_relay(&pod(&json!({})), &facts(&namespace), &settings()),
            None
        );
    }
}
