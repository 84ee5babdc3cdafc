//! The identity of the command.

use std::sync::Arc;

use anyhow::bail;
use countersign_config::model::{Selector, Workload};

/// The cluster's name if no selector names one.
const LOCAL: &str = "local";

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

impl Subject {
    /// The `sub` claim.
    pub(super) fn claim(&self) -> String {
        format!(
            "system:serviceaccount:{}:{}",
            self.namespace, self.service_account
        )
    }
}

/// Resolves `name` to a service account: that of the workload with this name, or the service account
/// itself, also as `system:serviceaccount:NAMESPACE:NAME`.
pub(super) fn resolve<'a>(
    name: &str,
    workloads: &[Arc<Workload>],
    mut clusters: impl Iterator<Item = &'a str>,
) -> anyhow::Result<Subject> {
    let workload = workloads
        .iter()
        .find(|workload| workload.name.as_str() == name);
    let (namespace, service_account, selector) = if let Some(workload) = workload {
        of_workload(workload)?
    } else {
        let (namespace, account) = split(name)?;
        let selector = workloads.iter().find_map(|workload| {
            let mut selectors = workload.selectors.iter();
            selectors.find(|selector| means(selector, workload, namespace, account))
        });
        (namespace, account, selector)
    };
    let cluster = selector.and_then(|selector| selector.cluster.as_deref());
    Ok(Subject {
        cluster: cluster
            .or_else(|| clusters.next())
            .unwrap_or(LOCAL)
            .to_owned(),
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
    })
}

/// The first of its selectors that a token alone can match.
fn of_workload(workload: &Workload) -> anyhow::Result<(&str, &str, Option<&Selector>)> {
    for selector in &workload.selectors {
        if let Some(account) = &selector.service_account
            && needs_token_only(selector)
            && let Some(namespace) = namespace(selector, workload)
        {
            return Ok((namespace, account, Some(selector)));
        }
    }
    bail!(
        "workload {} has only selectors that a command outside the cluster cannot prove (a SPIFFE ID, CronJob, pod labels or images); copy the resources, add a selector with only a service account, and give the copy's directory with --resources",
        workload.name
    )
}

fn split(name: &str) -> anyhow::Result<(&str, &str)> {
    let (rest, separator) = match name.strip_prefix("system:serviceaccount:") {
        Some(rest) => (rest, ':'),
        None => (name, '/'),
    };
    match rest.split_once(separator) {
        Some((namespace, account)) if is_label(namespace) && is_label(account) => {
            Ok((namespace, account))
        }
        Some(_) | None => {
            bail!("--as {name:?} is neither a workload nor a service account; write NAMESPACE/NAME")
        }
    }
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

fn namespace<'a>(selector: &'a Selector, workload: &'a Workload) -> Option<&'a str> {
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
mod tests {
    use std::collections::BTreeMap;

    use countersign_config::model::ResourceName;
    use rstest::rstest;

    use super::*;

    fn selector(cluster: Option<&str>, account: &str) -> Selector {
        Selector {
            cluster: cluster.map(Into::into),
            namespace: None,
            service_account: Some(account.into()),
            cron_job: None,
            pod_labels: BTreeMap::new(),
            images: Vec::new(),
            spiffe_id: None,
        }
    }

    fn workload(name: &str, selectors: Vec<Selector>) -> Arc<Workload> {
        Arc::new(Workload {
            name: ResourceName::namespaced("qa", name),
            owner: "qa@example.com".into(),
            purpose: None,
            environment: None,
            review_by: None,
            selectors,
        })
    }

    fn workloads() -> Vec<Arc<Workload>> {
        let in_pods = Selector {
            cron_job: Some("nightly".into()),
            ..selector(Some("prod-us"), "in-pods")
        };
        let elsewhere = Selector {
            namespace: Some("ops".into()),
            ..selector(None, "elsewhere")
        };
        vec![
            workload(
                "dashboard",
                vec![in_pods.clone(), selector(Some("prod-eu"), "dash")],
            ),
            workload("elsewhere", vec![elsewhere]),
            workload("pods-only", vec![in_pods]),
        ]
    }

    #[rstest]
    #[case::workload("qa/dashboard", "prod-eu system:serviceaccount:qa:dash")]
    #[case::its_account("qa/dash", "prod-eu system:serviceaccount:qa:dash")]
    #[case::in_full(
        "system:serviceaccount:qa:dash",
        "prod-eu system:serviceaccount:qa:dash"
    )]
    #[case::other_namespace("qa/elsewhere", "first system:serviceaccount:ops:elsewhere")]
    #[case::nobody("qa/nobody", "first system:serviceaccount:qa:nobody")]
    fn a_name_means_a_service_account(#[case] name: &str, #[case] expected: &str) {
        let found = resolve(name, &workloads(), ["first", "second"].into_iter()).unwrap();
        assert_eq!(format!("{} {}", found.cluster, found.claim()), expected);
    }

    #[rstest]
    #[case("dashboard")]
    #[case("qa/")]
    #[case("qa/a/b")]
    #[case("system:serviceaccount:qa")]
    #[case::what_only_a_pod_can_prove("qa/pods-only")]
    fn what_cannot_be_proven_is_refused(#[case] name: &str) {
        resolve(name, &workloads(), std::iter::empty()).unwrap_err();
    }

    #[test]
    fn without_any_cluster_it_is_the_local_one() {
        assert_eq!(
            resolve("a/b", &[], std::iter::empty()).unwrap().cluster,
            "local"
        );
    }
}
