//! As much of the API's description as kubectl needs: that the server itself checks fields, so that kubectl does not.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{kinds::Kind, state::State};

impl State {
    /// Where the description of each version of a group is.
    pub(super) fn documents(&self) -> Value {
        let mut paths = Map::new();
        let versions: BTreeSet<String> = self.kinds().map(|kind| place(kind)).collect();
        for version in versions {
            let url = format!("/openapi/v3/{version}");
            paths.insert(version, json!({"serverRelativeURL": url}));
        }
        json!({ "paths": paths })
    }

    /// The description of one version: how each resource is patched.
    pub(super) fn document(&self, group: &str, version: &str) -> Option<Value> {
        let mut paths = Map::new();
        let of_version = self
            .kinds()
            .filter(|kind| kind.group == group && kind.version == version);
        for kind in of_version {
            let within = if kind.namespaced {
                "namespaces/{namespace}/"
            } else {
                ""
            };
            let path = format!("/{}/{within}{}/{{name}}", place(kind), kind.resource);
            let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
            let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
            let patch = json!({
                "operationId": format!("patch{}", kind.kind),
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {
                    "group": kind.group, "version": kind.version, "kind": kind.kind,
                },
            });
            paths.insert(path, json!({ "patch": patch }));
        }
        (!paths.is_empty()).then(|| {
            json!({
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": "v1.36.0"},
                "paths": paths,
            })
        })
    }
}

/// `api/v1`, `apis/apps/v1`.
fn place(kind: &Kind) -> String {
    match kind.group.as_str() {
        "" => format!("api/{}", kind.version),
        group => format!("apis/{group}/{}", kind.version),
    }
}
