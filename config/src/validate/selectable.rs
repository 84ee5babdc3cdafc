//! Whether a caller that a selector describes can come: proven by a gateway, with all that it asks for.

use crate::{
    model::Selector,
    setting::{Proven, Setting},
    spiffe::{SpiffeId, TrustDomainName},
    yaml::{Findings, Location, read::did_you_mean},
};

pub(super) fn check(
    selector: &Selector,
    setting: &Setting,
    location: &Location<'_>,
    findings: &Findings,
) {
    pod_facts(selector, setting.proven.as_ref(), location, findings);
    agree(selector, location, findings);
    let Some(proven) = &setting.proven else {
        return;
    };
    if selector.service_account.is_some() {
        token(
            selector.cluster.as_deref(),
            &proven.clusters,
            location,
            findings,
        );
    }
    if let Some(Ok(id)) = selector.spiffe_id.as_deref().map(SpiffeId::parse) {
        certificate(&id, proven, &location.key("spiffeId"), findings);
    }
}

/// Whether a token can be of the cluster that is named, and of that alone.
fn token(cluster: Option<&str>, known: &[String], location: &Location<'_>, findings: &Findings) {
    match (cluster, known) {
        (_, []) => findings.warning(
            &location.key("serviceAccount"),
            "unknown-cluster",
            "the gateway has no issuer of tokens, so this entry matches nobody",
            "add the cluster to `identity.issuers` of the gateway",
        ),
        (Some(cluster), known) if !known.iter().any(|name| name == cluster) => findings.warning(
            &location.key("cluster"),
            "unknown-cluster",
            format!("the gateway has no issuer `{cluster}`, so this entry matches nobody"),
            did_you_mean(cluster, known.iter().map(String::as_str)),
        ),
        (None, [_, _, ..]) => findings.warning(
            &location.key("serviceAccount"),
            "any-cluster",
            format!(
                "this matches the service account of that name in each of the gateway's {} clusters",
                known.len()
            ),
            "add `cluster:` with the name of an issuer; for several, an entry for each",
        ),
        (Some(_) | None, _) => {}
    }
}

/// Whether a certificate with this ID can be shown and checked.
fn certificate(id: &SpiffeId, proven: &Proven, location: &Location<'_>, findings: &Findings) {
    let domain = id.trust_domain();
    if !proven.trust_domains.contains(domain) {
        let known = proven.trust_domains.iter().map(TrustDomainName::as_str);
        findings.warning(
            location,
            "unknown-trust-domain",
            format!("the gateway has no trust domain `{domain}`, so this entry matches nobody"),
            if proven.trust_domains.is_empty() {
                "add it to `identity.trustDomains` of the gateway".to_owned()
            } else {
                did_you_mean(domain.as_str(), known)
            },
        );
    } else if !proven.asks_for_certificates {
        findings.warning(
            location,
            "matches-nobody",
            "no listener of the gateway asks for certificates, so this entry matches nobody",
            "add `tls.clientTrust: spiffe` to a listener",
        );
    }
}

/// Whether what a selector asks about pods can be known.
fn pod_facts(
    selector: &Selector,
    proven: Option<&Proven>,
    location: &Location<'_>,
    findings: &Findings,
) {
    // Without a gateway it is not known what will be asked.
    let Some(proven) = proven else {
        return;
    };
    let known = match &selector.cluster {
        Some(cluster) => proven.asks_about_pods.contains(cluster),
        None => !proven.asks_about_pods.is_empty(),
    };
    if known && selector.service_account.is_some() {
        return;
    }
    let asked = [
        ("cronJob", selector.cron_job.is_some()),
        ("podLabels", !selector.pod_labels.is_empty()),
        ("images", !selector.images.is_empty()),
    ];
    for (key, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        let (why, remedy) = if known {
            (
                "a certificate does not tell the pod",
                "add `serviceAccount`: the pod is known by its token alone",
            )
        } else {
            (
                "the gateway does not ask the Kubernetes API about pods",
                "set `podFacts: true` at the issuer in `identity.issuers` of the gateway",
            )
        };
        findings.warning(
            &location.key_name(key),
            "matches-nobody",
            format!("{why}, so an entry with `{key}` matches nobody"),
            remedy,
        );
    }
}

/// A caller with a token and a certificate is refused unless both name the same service account.
fn agree(selector: &Selector, location: &Location<'_>, findings: &Findings) {
    let (Some(id), Some(namespace), Some(account)) = (
        selector
            .spiffe_id
            .as_deref()
            .and_then(|id| SpiffeId::parse(id).ok()),
        &selector.namespace,
        &selector.service_account,
    ) else {
        return;
    };
    let path = format!("/ns/{namespace}/sa/{account}");
    if id.path() != path {
        findings.warning(
            &location.key("spiffeId"),
            "matches-nobody",
            format!("no caller has this SPIFFE ID and the service account `{namespace}/{account}`"),
            format!(
                "write `spiffe://{}{path}`; or make two entries, of which one must match",
                id.trust_domain()
            ),
        );
    }
}
