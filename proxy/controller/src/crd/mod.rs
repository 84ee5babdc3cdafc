//! The custom resource definitions of the four kinds, made from the types that also read files.
//!
//! `countersign schema --crds` prints them, and `deploy/crds` holds what it prints.

mod columns;
mod rules;
mod status;
mod structural;

use countersign_config::{
    resource::{API_VERSION, Kind},
    schema,
};
use serde_json::{Map, Value, json};

/// The API group.
pub const GROUP: &str = "countersign.dev";

/// `kubectl get countersign` shows the resources of all kinds.
const CATEGORY: &str = "countersign";

/// The kinds that a cluster holds. A Gateway is a file.
pub const KINDS: [Kind; 4] = [
    Kind::Workload,
    Kind::Credential,
    Kind::AccessPolicy,
    Kind::TargetService,
];

/// What Kubernetes calls a kind.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// As in URLs and in RBAC rules.
    pub plural: &'static str,
    /// For one object.
    pub singular: &'static str,
    /// With a prefix, since others have kinds of the same name (Kueue has a `Workload`).
    pub short: &'static str,
}

/// The names of a kind; `None` for the kind that no cluster holds.
pub fn names(kind: Kind) -> Option<Names> {
    let (plural, singular, short) = match kind {
        Kind::Workload => ("workloads", "workload", "cswl"),
        Kind::Credential => ("credentials", "credential", "cscred"),
        Kind::AccessPolicy => ("accesspolicies", "accesspolicy", "csap"),
        Kind::TargetService => ("targetservices", "targetservice", "csts"),
        Kind::Gateway => return None,
    };
    Some(Names {
        plural,
        singular,
        short,
    })
}

/// The version of the group, without the group.
pub fn version() -> &'static str {
    API_VERSION
        .split_once('/')
        .map_or(API_VERSION, |(_, version)| version)
}

/// All definitions, in the order of [`KINDS`].
pub fn all() -> Vec<Value> {
    KINDS.into_iter().filter_map(definition).collect()
}

/// The definition of one kind.
pub fn definition(kind: Kind) -> Option<Value> {
    let names = names(kind)?;
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", names.plural),
            // Helm must not delete them: all objects would go with them.
            "annotations": { "helm.sh/resource-policy": "keep" },
            "labels": { "app.kubernetes.io/name": "countersign" },
        },
        "spec": {
            "group": GROUP,
            // A TargetService too: only those of a namespace that the operator names are used, for all.
            "scope": "Namespaced",
            "names": {
                "kind": kind.name(),
                "listKind": format!("{kind}List"),
                "plural": names.plural,
                "singular": names.singular,
                "shortNames": [names.short],
                "categories": [CATEGORY],
            },
            "versions": [{
                "name": version(),
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns::of(kind),
                "schema": { "openAPIV3Schema": object(kind) },
            }],
        },
    }))
}

fn object(kind: Kind) -> Value {
    let document = schema::kind(kind);
    let definitions = document["$defs"].as_object().cloned().unwrap_or_default();
    let mut spec = structural::convert(&document["properties"]["spec"], &definitions);
    rules::bound(kind, &mut spec);
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert(
        "description".to_owned(),
        spec.get("description").cloned().unwrap_or_default(),
    );
    schema.insert("required".to_owned(), json!(["spec"]));
    schema.insert(
        "properties".to_owned(),
        json!({
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status::schema(kind),
        }),
    );
    // A misspelt key is kept, so that the reader finds it and says what was meant.
    schema.insert(structural::PRESERVE.to_owned(), json!(true));
    Value::Object(schema)
}

/// A definition as a document of YAML.
///
/// # Errors
/// When it cannot be written, which the tests rule out.
pub fn yaml(definition: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_says_the_same() {
        for definition in all() {
            let text = yaml(&definition).unwrap();
            let read: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, definition);
        }
    }

    #[test]
    fn every_kind_but_the_gateway_has_a_definition() {
        let defined: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| definition(*kind).is_some())
            .collect();
        assert_eq!(defined.len(), Kind::ALL.len() - 1);
        assert!(KINDS.iter().all(|kind| defined.contains(kind)));
        assert_eq!(version(), "v1alpha1");
    }
}
