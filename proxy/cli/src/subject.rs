//! Whom `--as` names: the same forms for every command.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use countersign_config::{
    closest,
    model::{Selector, Workload},
    policy::{CallerFacts, PolicySet},
    spiffe::SpiffeId,
};

/// The cluster's name if no selector names one.
const LOCAL: &str = "local";

/// The beginning of a service account's subject.
const ACCOUNT: &str = "system:serviceaccount:";

/// A service account, and the cluster that policy expects for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// The issuer's name, as in selectors.
    pub(super) cluster: String,
    /// The service account's namespace.
    pub(super) namespace: String,
    /// The service account's name.
    pub(super) service_account: String,
}

/// What a text after `--as` means.
#[derive(Debug, Clone)]
pub(super) enum Named<'w> {
    /// One of the workloads.
    Workload(&'w Workload),
    /// A namespace and the name of a service account.
    Account(String, String),
    /// The SPIFFE ID of a certificate.
    Spiffe(SpiffeId),
}

impl Subject {
    /// The `sub` claim.
    pub(super) fn claim(&self) -> String {
        format!("{ACCOUNT}{}:{}", self.namespace, self.service_account)
    }

    /// What a policy knows of a caller with only this token.
    pub(super) fn facts(&self) -> CallerFacts {
        CallerFacts {
            cluster: Some(self.cluster.as_str().into()),
            namespace: Some(self.namespace.as_str().into()),
            service_account: Some(self.service_account.as_str().into()),
            ..CallerFacts::default()
        }
    }
}

/// Reads a name: that of a workload, otherwise `NAMESPACE/NAME` or `system:serviceaccount:NAMESPACE:NAME` of a
/// service account, or a SPIFFE ID.
pub(super) fn read<'w>(name: &str, workloads: &'w [Arc<Workload>]) -> anyhow::Result<Named<'w>> {
    if let Some(workload) = workloads
        .iter()
        .find(|workload| workload.name.as_str() == name)
    {
        return Ok(Named::Workload(workload));
    }
    if name.starts_with("spiffe://") {
        let id = SpiffeId::parse(name);
        return id
            .map(Named::Spiffe)
            .map_err(|error| anyhow!("--as {name:?} is not a SPIFFE ID: {error}"));
    }
    let (rest, separator) = match name.strip_prefix(ACCOUNT) {
        Some(rest) => (rest, ':'),
        None => (name, '/'),
    };
    match rest.split_once(separator) {
        Some((namespace, account)) if is_label(namespace) && is_label(account) => {
            Ok(Named::Account(namespace.to_owned(), account.to_owned()))
        }
        Some(_) | None => bail!(
            "--as {name:?} is neither a workload nor a service account; write NAMESPACE/NAME{}",
            suggestion(name, workloads)
        ),
    }
}

/// Resolves a name to the service account that a command outside of the cluster acts as.
pub(super) fn resolve<'a>(
    name: &str,
    workloads: &[Arc<Workload>],
    mut clusters: impl Iterator<Item = &'a str>,
) -> anyhow::Result<Subject> {
    let (namespace, account, selector) = match read(name, workloads)? {
        Named::Workload(workload) => {
            let (namespace, account, selector) = of_workload(workload)?;
            (namespace.to_owned(), account.to_owned(), Some(selector))
        }
        Named::Account(namespace, account) => {
            let selector = workloads.iter().find_map(|workload| {
                let mut selectors = workload.selectors.iter();
                selectors.find(|selector| means(selector, workload, &namespace, &account))
            });
            (namespace, account, selector)
        }
        Named::Spiffe(_) => bail!(
            "a command outside the cluster cannot prove a SPIFFE ID; name a workload or a service account as NAMESPACE/NAME"
        ),
    };
    let cluster = selector.and_then(|selector| selector.cluster.as_deref());
    Ok(Subject {
        cluster: cluster
            .or_else(|| clusters.next())
            .unwrap_or(LOCAL)
            .to_owned(),
        namespace,
        service_account: account,
    })
}

/// A sentence if no workload matches: then every request to a governed host is refused.
pub(super) fn nobody(name: &str, subject: &Subject, policies: &PolicySet) -> Option<String> {
    let who = policies.recognise(&subject.facts());
    who.is_unknown().then(|| {
        format!(
            "no workload matches {name:?} ({} of the cluster {:?}), so every request to a governed host will be refused{}",
            subject.claim(),
            subject.cluster,
            suggestion(name, policies.workloads())
        )
    })
}

/// The workload that was probably meant, or some that there are.
pub(super) fn suggestion(name: &str, workloads: &[Arc<Workload>]) -> String {
    const MOST: usize = 5;
    let names = || workloads.iter().map(|workload| workload.name.as_str());
    let written = name.replacen(ACCOUNT, "", 1).replace(':', "/");
    // Somebody may have left out the namespace.
    let elsewhere = names().find(|known| known.split_once('/').is_some_and(|(_, n)| n == written));
    if let Some(close) = elsewhere.or_else(|| closest(&written, names())) {
        return format!("; did you mean {close}?");
    }
    let some: Vec<_> = names().take(MOST).collect();
    match (some.as_slice(), workloads.len().saturating_sub(MOST)) {
        ([], _) => "; there is no workload at all".to_owned(),
        (_, 0) => format!("; the workloads are {}", some.join(", ")),
        (_, more) => format!("; workloads are {} and {more} more", some.join(", ")),
    }
}

/// The selector by which a caller is most easily recognised: one that a token alone can match, or the first.
pub(super) fn selector(workload: &Workload) -> &Selector {
    let by_token = of_workload(workload).map(|(_, _, selector)| selector);
    by_token.unwrap_or(&workload.selectors[0])
}

/// The first of its selectors that a token alone can match.
fn of_workload(workload: &Workload) -> anyhow::Result<(&str, &str, &Selector)> {
    for selector in &workload.selectors {
        if let Some(account) = &selector.service_account
            && needs_token_only(selector)
            && let Some(namespace) = namespace(selector, workload)
        {
            return Ok((namespace, account, selector));
        }
    }
    bail!(
        "workload {} has only selectors that a command outside the cluster cannot prove (a SPIFFE ID, CronJob, pod labels or images); copy the resources, add a selector with only a service account, and give the copy's directory with --resources",
        workload.name
    )
}

/// A Kubernetes name (RFC 1123 subdomain), checked roughly: we issue the token ourselves.
fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(allowed)
}

fn means(selector: &Selector, workload: &Workload, in_namespace: &str, account: &str) -> bool {
    selector.service_account.as_deref() == Some(account)
        && namespace(selector, workload) == Some(in_namespace)
}

/// The namespace of the service account that a selector means.
pub(super) fn namespace<'a>(selector: &'a Selector, workload: &'a Workload) -> Option<&'a str> {
    selector
        .namespace
        .as_deref()
        .or_else(|| workload.name.namespace())
}

fn needs_token_only(selector: &Selector) -> bool {
    // Destructured, so that a new kind of proof must be handled here.
    let Selector {
        cluster: _,
        namespace: _,
        service_account: _,
        cron_job,
        pod_labels,
        images,
        spiffe_id,
    } = selector;
    cron_job.is_none() && pod_labels.is_empty() && images.is_empty() && spiffe_id.is_none()
}

#[cfg(test)]
mod tests;
