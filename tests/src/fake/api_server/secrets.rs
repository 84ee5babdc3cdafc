//! Secrets, changed by a test itself and not by a request.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{KubernetesApi, storage::Key};
use crate::random;

impl KubernetesApi {
    /// Sets a Secret, as `kubectl apply` would.
    pub fn set_secret(&self, namespace: &str, name: &str, data: &[(&str, &[u8])]) {
        let encoded: Map<String, Value> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), BASE64_STANDARD.encode(value).into()))
            .collect();
        let mut state = self.state();
        state.ensure_namespace(namespace);
        let key = Key::new(&state.built_in("", "secrets"), namespace, name);
        let known = state.storage.get(&key);
        let uid = known.map_or_else(
            || random::uuid().into(),
            |object| object["metadata"]["uid"].clone(),
        );
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "type": "Opaque",
            "data": encoded,
        });
        state.put(key, Some(object));
    }

    /// Deletes a Secret; whether it was there.
    pub fn delete_secret(&self, namespace: &str, name: &str) -> bool {
        let mut state = self.state();
        let key = Key::new(&state.built_in("", "secrets"), namespace, name);
        let there = state.storage.get(&key).is_some();
        if there {
            state.put(key, None);
        }
        there
    }

    /// What a Secret holds.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let state = self.state();
        let key = Key::new(&state.built_in("", "secrets"), namespace, name);
        let object = state.storage.get(&key)?;
        let data = object["data"].as_object()?.iter().map(|(key, value)| {
            let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
            (key.clone(), bytes.unwrap_or_default())
        });
        Some(data.collect())
    }
}
