//! Callers and requests as people write them.

use std::sync::Arc;

use countersign_config::{
    host::Host,
    model::{Selector, Workload},
    path::CanonicalPath,
    policy::{CallerFacts, PodFacts, PolicySet, RequestFacts},
    spiffe::SpiffeId,
};
use http::{Method, Uri, uri::PathAndQuery};

/// The port of `https`.
const HTTPS: u16 = 443;

/// The beginning of a service account's subject.
const ACCOUNT: &str = "system:serviceaccount:";

/// A request that may be sent.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Its path and query.
    pub path: CanonicalPath,
}

impl Asked {
    /// Reads a method and a URL. Encoded slashes are read if the target keeps them.
    ///
    /// # Errors
    /// With a sentence that says what is wrong and what to write.
    pub fn read(method: &str, url: &str, policies: &PolicySet) -> Result<Self, String> {
        let method: Method = method
            .parse()
            .map_err(|_| "this is not a method; write one such as `GET`".to_owned())?;
        let url: Uri = url.parse().map_err(|_| "this is not a URL".to_owned())?;
        if url.scheme_str() != Some("https") {
            return Err(
                "the URL must start with https://; only HTTPS requests get a credential".to_owned(),
            );
        }
        let authority = url.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL has a user name".to_owned());
        }
        let host = Host::parse(authority.host()).map_err(|error| error.to_string())?;
        let port = authority.port_u16().unwrap_or(HTTPS);
        let root = PathAndQuery::from_static("/");
        let path = url.path_and_query().unwrap_or(&root);
        let path = policies
            .path(&host, port, path)
            .map_err(|problem| problem.to_string())?;
        Ok(Self {
            method,
            host,
            port,
            path,
        })
    }

    /// What a decision takes.
    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            host: &self.host,
            port: self.port,
            method: &self.method,
            path: &self.path,
        }
    }
}

/// The caller that a name means: a workload's, `NAMESPACE/NAME` or `system:serviceaccount:NAMESPACE:NAME` of a
/// service account, or a SPIFFE ID. Of a workload it is a caller that matches its first entry.
///
/// # Errors
/// With a sentence that says what is wrong.
pub fn caller(
    name: &str,
    cluster: Option<&str>,
    policies: &PolicySet,
) -> Result<CallerFacts, String> {
    let mut workloads = policies.workloads().iter();
    let mut facts = if let Some(workload) =
        workloads.find(|workload| workload.name.as_str() == name)
    {
        example(&workload.selectors[0], workload)
    } else if name.starts_with("spiffe://") {
        let id =
            SpiffeId::parse(name).map_err(|error| format!("this is not a SPIFFE ID: {error}"))?;
        CallerFacts {
            spiffe_id: Some(id.shared()),
            ..CallerFacts::default()
        }
    } else {
        account(name).ok_or_else(|| {
            let names = policies
                .workloads()
                .iter()
                .map(|workload| workload.name.as_str());
            let close = countersign_config::closest(name, names);
            let close = close.map_or_else(String::new, |close| format!("; did you mean {close}?"));
            format!("this is neither a workload nor NAMESPACE/NAME of a service account{close}")
        })?
    };
    if let Some(cluster) = cluster {
        facts.cluster = Some(cluster.into());
    }
    if facts.service_account.is_some() && facts.cluster.is_none() {
        facts.cluster = only_cluster(policies);
    }
    Ok(facts)
}

/// A service account, by its subject or as `NAMESPACE/NAME`.
pub(crate) fn account(name: &str) -> Option<CallerFacts> {
    let (rest, separator) = match name.strip_prefix(ACCOUNT) {
        Some(rest) => (rest, ':'),
        None => (name, '/'),
    };
    let (namespace, account) = rest.split_once(separator)?;
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(allowed);
    (is_name(namespace) && is_name(account)).then(|| CallerFacts {
        namespace: Some(namespace.into()),
        service_account: Some(account.into()),
        ..CallerFacts::default()
    })
}

/// A caller with the facts that a selector asks for.
pub(crate) fn example(selector: &Selector, workload: &Workload) -> CallerFacts {
    let shared = |text: &Option<String>| text.as_deref().map(Into::into);
    let account = selector.service_account.is_some();
    let namespace = selector
        .namespace
        .as_deref()
        .or_else(|| workload.name.namespace());
    let asks_pod = selector.cron_job.is_some()
        || !selector.pod_labels.is_empty()
        || !selector.images.is_empty();
    CallerFacts {
        cluster: shared(&selector.cluster),
        namespace: namespace.filter(|_| account).map(Into::into),
        service_account: shared(&selector.service_account),
        spiffe_id: shared(&selector.spiffe_id),
        pod: None,
        kubernetes: asks_pod.then(|| {
            Arc::new(PodFacts {
                labels: selector.pod_labels.clone(),
                images: selector.images.clone(),
                cron_job: selector.cron_job.clone(),
                ..PodFacts::default()
            })
        }),
    }
}

/// The cluster that selectors name, if they all name the same.
fn only_cluster(policies: &PolicySet) -> Option<Arc<str>> {
    let selectors = policies
        .workloads()
        .iter()
        .flat_map(|workload| &workload.selectors);
    let mut clusters = selectors.filter_map(|selector| selector.cluster.as_deref());
    let first = clusters.next()?;
    clusters
        .all(|cluster| cluster == first)
        .then(|| first.into())
}
