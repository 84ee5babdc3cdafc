//! All that the server knows, behind one lock.

use std::{collections::HashMap, sync::Arc};

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    access::ClusterRight,
    failure::Failure,
    grant::Grant,
    kinds::{self, Kind},
    request::Target,
    storage::{Key, Storage},
    user::User,
};

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

pub(super) struct State {
    pub(super) storage: Storage,
    built_in: Vec<Arc<Kind>>,
    custom: Vec<Arc<Kind>>,
    /// By token.
    pub(super) users: HashMap<String, User>,
    /// What the gateway was granted without objects of RBAC.
    pub(super) grants: Vec<Grant>,
    /// What the gateway's `ClusterRole` grants.
    pub(super) cluster_rights: Vec<ClusterRight>,
}

impl State {
    pub(super) fn new(users: HashMap<String, User>) -> Self {
        Self {
            storage: Storage::default(),
            built_in: kinds::built_in().into_iter().map(Arc::new).collect(),
            custom: Vec::new(),
            users,
            grants: Vec::new(),
            cluster_rights: ClusterRight::ALL.to_vec(),
        }
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.built_in.iter().chain(&self.custom)
    }

    pub(super) fn kind(&self, target: &Target) -> Option<Arc<Kind>> {
        self.kinds().find(|kind| kind.serves(target)).cloned()
    }

    pub(super) fn built_in(&self, group: &str, resource: &str) -> Arc<Kind> {
        let found = self
            .built_in
            .iter()
            .find(|kind| kind.group == group && kind.resource == resource);
        Arc::clone(found.expect("it is in the table of built-in resources"))
    }

    /// Keeps an object, or deletes it with `None`.
    pub(super) fn put(&mut self, key: Key, object: Option<Value>) -> Option<Arc<Value>> {
        let defines = key.collection == DEFINITIONS;
        let kept = self.storage.put(key, object);
        if defines {
            let definitions = self.storage.all(DEFINITIONS, "");
            let custom = definitions.flat_map(|(_, it)| kinds::of_definition(it));
            self.custom = custom.map(Arc::new).collect();
        }
        kept
    }

    /// Makes a namespace, if it is not there.
    pub(super) fn ensure_namespace(&mut self, name: &str) {
        let kind = self.built_in("", "namespaces");
        let key = Key::new(&kind, "", name);
        if self.storage.get(&key).is_none() {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "uid": crate::random::uuid(),
                    "creationTimestamp": "2026-11-23T05:00:00Z",
                    "labels": {"kubernetes.io/metadata.name": name},
                },
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            });
            self.put(key, Some(object));
        }
    }

    pub(super) fn namespace(&self, name: &str) -> Option<Arc<Value>> {
        let kind = self.built_in("", "namespaces");
        self.storage.get(&Key::new(&kind, "", name)).cloned()
    }

    /// That objects can be made in a namespace.
    pub(super) fn namespace_takes(&self, target: &Target) -> Result<(), Failure> {
        if target.namespace.is_empty() {
            return Ok(());
        }
        let Some(namespace) = self.namespace(&target.namespace) else {
            let of = Target {
                resource: "namespaces".to_owned(),
                ..Target::default()
            };
            return Err(Failure::not_found(&of, &target.namespace));
        };
        if namespace["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let name = &target.namespace;
        let message = format!(
            "{} is forbidden: unable to create new content in namespace {name} because it is being terminated",
            target.qualified()
        );
        let failure = Failure::new(StatusCode::FORBIDDEN, "Forbidden", &message);
        Err(failure.with_details(json!({
            "kind": target.resource,
            "causes": [{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {name} is being terminated"),
                "field": "metadata.namespace",
            }],
        })))
    }
}
