//! `Workload`: who.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_default;

/// A governed non-human identity.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Who is responsible for it.
    pub owner: String,
    /// Its purpose, in the owner's words.
    pub purpose: Option<String>,
    /// For example `production`.
    pub environment: Option<String>,
    /// The day by which its access must be reviewed: `2027-06-30`.
    pub review_by: Option<String>,
    /// What matches it. One of the entries must match, with all its keys.
    #[serde(rename = "match")]
    pub selectors: Vec<SelectorSpec>,
}

/// One way to recognise a workload.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectorSpec {
    /// The name of the issuer that vouches for the token.
    pub cluster: Option<String>,
    /// The service account's namespace. Default: the resource's own.
    pub namespace: Option<String>,
    /// The service account's name.
    pub service_account: Option<String>,
    /// The `CronJob` that owns the pod's Job. Needs the Kubernetes API.
    pub cron_job: Option<String>,
    /// Labels the pod must carry. Needs the Kubernetes API.
    #[serde(default, deserialize_with = "or_default")]
    pub pod_labels: BTreeMap<String, String>,
    /// Image references by digest; the pod may use no other images. Needs the Kubernetes API.
    #[serde(default, deserialize_with = "or_default")]
    pub images: Vec<String>,
    /// The exact SPIFFE ID of an X.509-SVID.
    pub spiffe_id: Option<String>,
}
