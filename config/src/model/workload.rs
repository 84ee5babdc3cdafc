//! Who: a governed non-human identity and the selectors that match it.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::ResourceName;

/// A governed non-human identity.
#[derive(Debug, Clone)]
pub struct Workload {
    /// `namespace/name`.
    pub name: ResourceName,
    /// Who is responsible for it.
    pub owner: String,
    /// Its purpose, in the owner's words.
    pub purpose: Option<String>,
    /// For example `production`.
    pub environment: Option<String>,
    /// The day by which its access must be reviewed.
    pub review_by: Option<Date>,
    /// One of these must match; never empty.
    pub selectors: Vec<Selector>,
}

/// One way to recognise a workload: every part that is present must match. At least one of
/// `service_account` and `spiffe_id` is present.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The name of the issuer that vouches for the token.
    pub cluster: Option<String>,
    /// The namespace of the service account. Default: the resource's own.
    pub namespace: Option<String>,
    /// The service account's name.
    pub service_account: Option<String>,
    /// The `CronJob` that owns the pod's Job. Known only with access to the Kubernetes API.
    pub cron_job: Option<String>,
    /// Labels the pod must carry. Known only with access to the Kubernetes API.
    pub pod_labels: BTreeMap<String, String>,
    /// Image references by digest; the pod's container images must all be in this list. Known
    /// only with access to the Kubernetes API. Empty: any.
    pub images: Vec<String>,
    /// The exact SPIFFE ID of an X.509-SVID.
    pub spiffe_id: Option<String>,
}

impl Selector {
    /// Whether it asks what only the Kubernetes API knows.
    pub fn asks_about_pods(&self) -> bool {
        self.cron_job.is_some() || !self.pod_labels.is_empty() || !self.images.is_empty()
    }
}
