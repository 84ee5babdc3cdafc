//! What a cluster's own controllers do: the kubelet with pods, the controller of namespaces, and whoever
//! else writes objects without asking.

use serde_json::{Value, json};

use super::{KubernetesApi, request::Target, storage::Key, text};
use crate::{fake::TokenRequest, random};

impl KubernetesApi {
    /// Lets the pod of a token exist, and run.
    pub fn add_pod(&self, request: &TokenRequest) {
        let Some((name, uid)) = &request.pod else {
            return;
        };
        let node = request.node.as_ref().map(|(name, _)| name.clone());
        self.set_object(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": request.namespace, "uid": uid},
            "spec": {
                "serviceAccountName": request.service_account,
                "nodeName": node.unwrap_or_else(|| "node-1".to_owned()),
                "containers": [{"name": "app", "image": "ghcr.io/acme/app:1"}],
            },
            "status": {"phase": "Running"},
        }));
    }

    /// Deletes a pod.
    pub fn delete_pod(&self, request: &TokenRequest) {
        if let Some((name, _)) = &request.pod {
            self.delete_object("v1", "pods", &request.namespace, name);
        }
    }

    /// Writes an object as it stands: no rule is asked, and a uid is made up if there is none. Its
    /// namespace is made, too.
    ///
    /// # Panics
    /// If its kind is none of the server's.
    pub fn set_object(&self, object: &Value) {
        let mut state = self.state();
        let namespace = text(&object["metadata"]["namespace"]);
        if !namespace.is_empty() {
            state.ensure_namespace(&namespace);
        }
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let found = state
            .kinds()
            .find(|known| known.api_version() == api_version && known.kind == kind)
            .cloned();
        let found = found.unwrap_or_else(|| panic!("the server has no {api_version} {kind}"));
        let mut object = object.clone();
        let key = Key::new(&found, &namespace, &text(&object["metadata"]["name"]));
        let before = state.storage.get(&key).cloned();
        let kept = |field: &str| {
            before
                .as_ref()
                .map(|before| before["metadata"][field].clone())
        };
        if object["metadata"]["uid"].is_null() {
            let uid = kept("uid").unwrap_or_else(|| random::uuid().into());
            object["metadata"]["uid"] = uid;
        }
        let made = kept("creationTimestamp").unwrap_or_else(|| self.now().into());
        object["metadata"]["creationTimestamp"] = made;
        state.put(key, Some(object));
    }

    /// Deletes an object at once, whatever its finalizers; whether it was there.
    ///
    /// # Panics
    /// If the resource is none of the server's.
    pub fn delete_object(
        &self,
        api_version: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let mut state = self.state();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            ..Target::default()
        };
        let kind = state.kind(&target);
        let kind = kind.unwrap_or_else(|| panic!("the server has no {api_version} {resource}"));
        let key = Key::new(&kind, namespace, name);
        let there = state.storage.get(&key).is_some();
        if there {
            state.put(key, None);
        }
        there
    }

    /// An object as it is kept.
    pub fn object(
        &self,
        api_version: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let state = self.state();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            ..Target::default()
        };
        let kind = state.kind(&target)?;
        let object = state.storage.get(&Key::new(&kind, namespace, name))?;
        Some(Value::clone(object))
    }

    /// The objects of a namespace as they are kept; of all with an empty one.
    pub fn objects(&self, api_version: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let state = self.state();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            ..Target::default()
        };
        let Some(kind) = state.kind(&target) else {
            return Vec::new();
        };
        let collection = kind.collection();
        let found = state.storage.all(&collection, namespace);
        found.map(|(_, object)| Value::clone(object)).collect()
    }

    /// What the controller of namespaces does with one that is deleted: everything in it goes, then the
    /// namespace itself.
    pub fn finish_namespace(&self, name: &str) {
        let mut state = self.state();
        let kinds: Vec<_> = state.kinds().cloned().collect();
        for kind in kinds.iter().filter(|kind| kind.namespaced) {
            let collection = kind.collection();
            let keys: Vec<Key> = state
                .storage
                .all(&collection, name)
                .map(|(key, _)| key.clone())
                .collect();
            for key in keys {
                state.put(key, None);
            }
        }
        let kind = state.built_in("", "namespaces");
        state.put(Key::new(&kind, "", name), None);
    }
}
