//! A small cluster of two tenants, in which objects come, change and go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    load::{self, Loaded},
    policy::PolicySet,
    resource::Kind,
    setting::Setting,
};

mod acceptance;
mod boundary;

/// The objects of a cluster, and what is in force of them.
pub(super) struct Cluster {
    objects: BTreeMap<Key, Object>,
    boundary: Boundary,
    files: String,
    accepted: Accepted,
    setting: Setting,
    made: i64,
}

impl Cluster {
    /// Without objects; the namespace `platform` is the operator's.
    pub(super) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            boundary: Boundary {
                operator_namespace: Some("platform".to_owned()),
                cluster: Some("prod-eu".to_owned()),
            },
            files: "# none".to_owned(),
            accepted: Accepted::default(),
            setting: Setting::default(),
            made: 0,
        }
    }

    /// With a workload, a credential and a policy for Qase in each of these namespaces.
    pub(super) fn with_tenants(namespaces: &[&str]) -> Self {
        let mut cluster = Self::new();
        for namespace in namespaces {
            cluster.apply(Kind::Workload, namespace, "nightly", workload("nightly"));
            cluster.apply(Kind::Credential, namespace, "reader", credential("qase"));
            cluster.apply(
                Kind::AccessPolicy,
                namespace,
                "reads",
                policy("nightly", "qase"),
            );
        }
        cluster.load();
        cluster
    }

    /// As `kubectl apply`: another generation of the same object, or a new one.
    #[expect(clippy::needless_pass_by_value, reason = "the tests write it in place")]
    pub(super) fn apply(&mut self, kind: Kind, namespace: &str, name: &str, spec: Value) {
        let key = key(kind, namespace, name);
        self.made += 1;
        let before = self.objects.get(&key);
        let uid = before.map_or_else(|| format!("uid-{}", self.made), |one| one.uid.clone());
        let created = before.map_or_else(|| format!("{:04}", self.made), |one| one.created.clone());
        let generation = before.map_or(1, |one| one.current.generation + 1);
        let object = json!({
            "metadata": {
                "name": name, "namespace": namespace, "uid": uid, "generation": generation,
                "creationTimestamp": created,
            },
            "spec": spec,
        });
        let object = Object::read(kind, &object).unwrap();
        self.objects.insert(key, object);
    }

    pub(super) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        self.objects.remove(&key(kind, namespace, name)).unwrap();
    }

    /// A gateway that starts knows only what the objects themselves say.
    pub(super) fn forget(&mut self) {
        self.accepted = Accepted::default();
    }

    /// Reads everything again, and keeps what was accepted.
    pub(super) fn load(&mut self) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("0.yaml"), &self.files).unwrap();
        let objects = Objects {
            all: self.objects.values().cloned().collect(),
            boundary: self.boundary.clone(),
        };
        let loaded = load::resources_and_objects(
            &[directory.path()],
            &objects,
            &self.accepted,
            &self.setting,
        )
        .unwrap();
        self.accepted = loaded.accepted.clone();
        loaded
    }

    /// The verdict about one object.
    pub(super) fn verdict(&mut self, kind: Kind, namespace: &str, name: &str) -> Verdict {
        let key = key(kind, namespace, name);
        let loaded = self.load();
        let mut verdicts = loaded.verdicts.into_iter();
        verdicts.find(|verdict| verdict.key == key).unwrap()
    }
}

pub(super) fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    Key {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

pub(super) fn workload(account: &str) -> Value {
    json!({ "owner": "team", "match": [{ "serviceAccount": account }] })
}

pub(super) fn credential(target: &str) -> Value {
    json!({
        "target": target,
        "static": { "token": { "kubernetesSecret": { "name": "token", "key": "token" } } },
    })
}

pub(super) fn policy(workload: &str, target: &str) -> Value {
    json!({
        "owner": "team",
        "workloads": [workload],
        "target": target,
        "credential": "reader",
        "allow": [{ "methods": ["GET"], "paths": ["/v1/run/*"] }],
    })
}

pub(super) fn target(host: &str) -> Value {
    json!({
        "hosts": [host],
        "routes": [{ "attach": { "header": "Authorization", "value": "Bearer {token}" } }],
    })
}

/// The names of the policies in force.
pub(super) fn policies(policies: &PolicySet) -> Vec<String> {
    let all = policies.policies().iter();
    all.map(|policy| policy.name.to_string()).collect()
}

/// The codes and places of what is wrong.
pub(super) fn errors(verdict: &Verdict) -> Vec<(&str, &str)> {
    let all = verdict.findings.iter();
    let errors = all.filter(|finding| finding.severity == Severity::Error);
    errors
        .map(|finding| (finding.code, &*finding.path))
        .collect()
}
