//! What an object of a cluster may not do that a file may: a namespace is a boundary.
//!
//! Files are the operator's. Who may write in one namespace of a cluster must not reach another one by it, nor the
//! gateway's own files and programs. `docs/namespaces.md` has the table.

use super::head::Parsed;
use crate::{
    cluster::{Boundary, Key},
    model::{Selector, Workload},
    resource::{AccessPolicySpec, WorkloadSpec},
    spiffe::SpiffeId,
    yaml::{Findings, Location, Node, Value},
};

/// Whether a `TargetService` may stand where it stands. Its hosts hold for the whole cluster.
pub(super) fn target(
    key: &Key,
    boundary: &Boundary,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    if boundary.is_operators(&key.namespace) {
        return true;
    }
    let (message, remedy) = match &boundary.operator_namespace {
        Some(operators) => (
            format!("a TargetService holds for the whole cluster, so only those in the namespace `{operators}` are used"),
            "ask who operates the gateway to add it there",
        ),
        None => (
            "a TargetService holds for the whole cluster, and the gateway names no namespace for them".to_owned(),
            "ask who operates the gateway to set `operatorNamespace` under `resources`, or to add it to the gateway's files",
        ),
    };
    findings.error(location, "target-not-allowed", message, remedy);
    false
}

/// Whether a workload selects callers of its own namespace alone.
pub(super) fn workload(
    written: &Parsed<'_, WorkloadSpec>,
    boundary: &Boundary,
    findings: &Findings,
) -> bool {
    let own = written.namespace();
    let location = written.location().key("match");
    let mut sound = true;
    for (index, selector) in written.spec.selectors.iter().enumerate() {
        let location = location.index(index);
        if selector
            .namespace
            .as_ref()
            .is_some_and(|namespace| namespace != own)
        {
            sound = false;
            findings.error(
                &location.key("namespace"),
                "other-namespace",
                format!(
                    "an object of the namespace `{own}` selects callers of that namespace only"
                ),
                "remove the key, or write the Workload in the namespace of its pods",
            );
        }
        if let (Some(named), Some(cluster)) = (&selector.cluster, &boundary.cluster)
            && named != cluster
        {
            sound = false;
            findings.error(
                &location.key("cluster"),
                "other-cluster",
                format!("an object of this cluster selects callers of this cluster only, which is `{cluster}`"),
                "remove the key, or write the Workload in the other cluster",
            );
        }
        let account = format!("/ns/{own}/sa/");
        if let Some(Ok(id)) = selector.spiffe_id.as_deref().map(SpiffeId::parse)
            && !id.path().starts_with(&account)
        {
            sound = false;
            findings.error(
                &location.key("spiffeId"),
                "other-namespace",
                format!("an object of the namespace `{own}` selects SPIFFE IDs of that namespace only"),
                format!(
                    "write `spiffe://{}{account}` and the service account; other IDs can be selected in the gateway's files",
                    id.trust_domain()
                ),
            );
        }
    }
    sound
}

/// Leaves no other cluster whose service account of that name would match too.
pub(super) fn within_cluster(workload: &mut Workload, boundary: &Boundary) {
    let has_account = |selector: &&mut Selector| selector.service_account.is_some();
    for selector in workload.selectors.iter_mut().filter(has_account) {
        if selector.cluster.is_none() {
            selector.cluster.clone_from(&boundary.cluster);
        }
    }
}

/// Whether a policy grants to workloads of its own namespace alone. It is not said which others there are.
pub(super) fn policy(written: &Parsed<'_, AccessPolicySpec>, findings: &Findings) -> bool {
    let own = written.namespace();
    let location = written.location().key("workloads");
    let mut sound = true;
    for (index, reference) in written.spec.workloads.iter().enumerate() {
        if let Some((namespace, _)) = reference.split_once('/')
            && namespace != own
        {
            sound = false;
            findings.error(
                &location.index(index),
                "other-namespace",
                format!(
                    "a policy of the namespace `{own}` grants to workloads of that namespace only"
                ),
                "name a Workload of this namespace, or write the policy in the other one",
            );
        }
    }
    sound
}

/// Whether a credential's secrets are where its namespace may read: in its own Secrets. A file, a path in Vault or a
/// program would be the gateway's own.
pub(super) fn credential(
    spec: &Node,
    location: &Location<'_>,
    is_operators: bool,
    findings: &Findings,
) -> bool {
    let Value::Map(entries) = &spec.value else {
        return true;
    };
    let mut sound = true;
    for (key, value) in entries {
        let location = location.key_name(&key.text);
        match &*key.text {
            "exec" => {
                sound = false;
                findings.error(
                    &location,
                    "secret-source-not-allowed",
                    "an object of a cluster cannot run a program on the gateway",
                    "use `kubernetesSecret`, or write this Credential in the gateway's files",
                );
            }
            "file" | "vault" | "caFile" if !is_operators => {
                sound = false;
                findings.error(
                    &location,
                    "secret-source-not-allowed",
                    "a Credential of this namespace cannot read what the gateway itself can read",
                    match &*key.text {
                        "caFile" => {
                            "remove it; the roots of the gateway's `upstream` hold for all namespaces"
                        }
                        _ => "use `kubernetesSecret`, which is a Secret of this namespace",
                    },
                );
            }
            // Names that the credential's owner chooses.
            "claims" => {}
            _ => sound &= credential(value, &location.at(value), is_operators, findings),
        }
    }
    sound
}
