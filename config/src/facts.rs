//! The input of a decision: the caller and the request.

use std::{collections::BTreeMap, sync::Arc};

use http::Method;

use crate::{host::Host, path::CanonicalPath};

/// What is proven about a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerFacts {
    /// The name of the issuer that vouched for its token.
    pub cluster: Option<Arc<str>>,
    /// Its service account's namespace.
    pub namespace: Option<Arc<str>>,
    /// Its service account.
    pub service_account: Option<Arc<str>>,
    /// Its SPIFFE ID.
    pub spiffe_id: Option<Arc<str>>,
    /// Its pod's name.
    pub pod: Option<Arc<str>>,
    /// What the Kubernetes API says about its pod; `None` if it was not asked.
    pub kubernetes: Option<Arc<PodFacts>>,
}

/// What the Kubernetes API says about a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its container images, by digest.
    pub images: Vec<String>,
    /// The node it runs on.
    pub node: Option<String>,
    /// The Job that owns it.
    pub job: Option<String>,
    /// The `CronJob` that owns that Job.
    pub cron_job: Option<String>,
}

/// The request to decide about.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The canonical host.
    pub host: &'a Host,
    /// The port.
    pub port: u16,
    /// The method.
    pub method: &'a Method,
    /// The path, proven canonical, and the query.
    pub path: &'a CanonicalPath,
}
