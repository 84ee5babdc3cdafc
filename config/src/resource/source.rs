//! Where a gateway's resources come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where resources come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ResourceSourceSpec {
    /// A directory of YAML files, or one file.
    Directory(String),
    /// The custom resources of the cluster of `kubernetes`.
    Kubernetes(KubernetesSourceSpec),
}

/// Which of a cluster's custom resources, and what holds for them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesSourceSpec {
    /// The namespaces whose objects are read. Default: all.
    pub namespaces: Option<Vec<String>>,
    /// The objects that are read. Default: all.
    pub selector: Option<ObjectSelectorSpec>,
    /// The namespace that the operator of the gateway trusts with more: its `TargetService`s hold for all namespaces.
    /// It is read even if `namespaces` does not have it. Default: none.
    pub operator_namespace: Option<String>,
    /// The issuer of this cluster's tokens: objects select no callers of another. Default: the only issuer, or the one
    /// whose tokens this API server reviews.
    pub cluster: Option<String>,
}

/// Objects by their labels.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectSelectorSpec {
    /// All of these.
    pub match_labels: BTreeMap<String, String>,
}
