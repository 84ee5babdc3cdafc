//! Where a gateway's resources come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::super::{
    fields::{each, non_blank},
    names::{self, NameRule, is_label_name, is_label_value},
};
use crate::{
    model::{Cluster, Issuer, KubernetesSource, ResourceSource},
    resource::{KubernetesSourceSpec, ObjectSelectorSpec, ResourceSourceSpec},
    yaml::{Findings, Location},
};

/// The sources; the API server of `kubernetes` is `cluster`.
pub(super) fn resources(
    specs: &[ResourceSourceSpec],
    issuers: &[Issuer],
    cluster: &Cluster,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<ResourceSource>> {
    if specs.is_empty() {
        findings.error(
            location,
            "empty-list",
            "the gateway would have no policy and refuse every request",
            "add `- directory: /etc/countersign/policy`",
        );
        return None;
    }
    let sources = each(specs, location, |spec, location| match spec {
        ResourceSourceSpec::Directory(directory) => {
            let directory = non_blank(directory, &location.key("directory"), findings)?;
            Some(ResourceSource::Directory(PathBuf::from(directory)))
        }
        ResourceSourceSpec::Kubernetes(spec) => {
            let location = location.key("kubernetes");
            kubernetes(spec, issuers, cluster, &location, findings).map(ResourceSource::Kubernetes)
        }
    })?;
    let mut objects = sources
        .iter()
        .enumerate()
        .filter(|(_, source)| matches!(source, ResourceSource::Kubernetes(_)));
    if let (Some(_), Some((second, _))) = (objects.next(), objects.next()) {
        findings.error(
            &location.index(second),
            "second-cluster",
            "the resources of a cluster are read once",
            "keep one `kubernetes`, with all namespaces under its `namespaces`",
        );
        return None;
    }
    Some(sources)
}

fn kubernetes(
    spec: &KubernetesSourceSpec,
    issuers: &[Issuer],
    cluster: &Cluster,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<KubernetesSource> {
    let operators = match &spec.operator_namespace {
        None => Some(None),
        Some(name) => {
            let location = location.key("operatorNamespace");
            names::check(name, NameRule::NAMESPACE, &location, findings).then(|| Some(name.clone()))
        }
    };
    let chosen = match &spec.namespaces {
        None => Some(None),
        Some(names) => namespaces(names, &location.key("namespaces"), findings).map(Some),
    };
    let labels = labels(spec.selector.as_ref(), &location.key("selector"), findings);
    let issuer = own_issuer(spec, issuers, cluster, location, findings);
    let (operators, mut chosen) = (operators?, chosen?);
    if let Some(chosen) = &mut chosen {
        chosen.extend(operators.clone());
    }
    Some(KubernetesSource {
        namespaces: chosen,
        labels: labels?,
        operator_namespace: operators,
        cluster: match issuer {
            OwnIssuer::Known(name) => Some(name),
            OwnIssuer::None => None,
            OwnIssuer::Unknown => return None,
        },
    })
}

fn namespaces(
    names: &[String],
    location: &Location<'_>,
    findings: &Findings,
) -> Option<BTreeSet<String>> {
    if names.is_empty() {
        findings.error(
            location,
            "empty-list",
            "no object of any namespace would be read",
            "name the namespaces, or remove the key to read all of them",
        );
        return None;
    }
    let names = each(names, location, |name, location| {
        names::check(name, NameRule::NAMESPACE, location, findings).then(|| name.clone())
    })?;
    Some(names.into_iter().collect())
}

fn labels(
    spec: Option<&ObjectSelectorSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<BTreeMap<String, String>> {
    let Some(spec) = spec else {
        return Some(BTreeMap::default());
    };
    let location = location.key("matchLabels");
    if spec.match_labels.is_empty() {
        findings.error(
            &location,
            "empty-list",
            "this selects nothing in particular",
            "name a label, or remove `selector` to read all objects",
        );
        return None;
    }
    let mut sound = true;
    for (name, value) in &spec.match_labels {
        if !is_label_name(name) || !is_label_value(value) {
            sound = false;
            findings.error(
                &location.key_name(name),
                "bad-selector",
                "no object can have this label",
                "write a label's name and value as Kubernetes takes them: letters, digits, `-`, `_` and `.`",
            );
        }
    }
    sound.then(|| spec.match_labels.clone())
}

/// Whose tokens are this cluster's.
enum OwnIssuer {
    Known(String),
    /// There is no issuer.
    None,
    Unknown,
}

/// Without it a Workload of a namespace would match callers of any cluster that has a namespace of that name.
fn own_issuer(
    spec: &KubernetesSourceSpec,
    issuers: &[Issuer],
    cluster: &Cluster,
    location: &Location<'_>,
    findings: &Findings,
) -> OwnIssuer {
    if let Some(name) = &spec.cluster {
        if issuers.iter().any(|issuer| issuer.name == *name) {
            return OwnIssuer::Known(name.clone());
        }
        findings.error(
            &location.key("cluster"),
            "dangling-reference",
            "no issuer under `identity.issuers` has this name",
            "write the `name` of the issuer of this cluster's tokens",
        );
        return OwnIssuer::Unknown;
    }
    match issuers {
        [] => return OwnIssuer::None,
        [one] => return OwnIssuer::Known(one.name.clone()),
        _ => {}
    }
    let reviewed = issuers.iter().filter(|issuer| {
        let review = issuer.token_review.as_ref();
        review.is_some_and(|review| review.cluster == *cluster)
    });
    let reviewed: Vec<_> = reviewed.collect();
    if let [one] = reviewed.as_slice() {
        return OwnIssuer::Known(one.name.clone());
    }
    findings.error(
        location,
        "which-cluster",
        "there are several issuers, and it is not known which of them is this cluster's",
        "add `cluster:` with the name of the issuer of this cluster's tokens",
    );
    OwnIssuer::Unknown
}
