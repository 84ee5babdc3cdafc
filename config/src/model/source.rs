//! Where a gateway's resources come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// Where resources come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceSource {
    /// Every `*.yaml` and `*.yml` file in a directory, without subdirectories.
    Directory(PathBuf),
    /// The custom resources of the cluster that is [`Gateway::kubernetes`](super::Gateway::kubernetes); at most one
    /// source is.
    Kubernetes(KubernetesSource),
}

/// Which of a cluster's custom resources, and what holds for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesSource {
    /// The namespaces whose objects are read, the operator's among them; `None`: all.
    pub namespaces: Option<BTreeSet<String>>,
    /// The labels that an object must have to be read.
    pub labels: BTreeMap<String, String>,
    /// The namespace whose `TargetService`s hold for all, and whose credentials may read what the gateway can.
    pub operator_namespace: Option<String>,
    /// The issuer of this cluster's tokens; `None` if there is no issuer.
    pub cluster: Option<String>,
}
