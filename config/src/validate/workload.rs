//! `Workload`: who.

use std::collections::BTreeMap;

use super::{
    deadline::Deadline,
    fields::{date, each, non_blank},
    head::Parsed,
    names::{self, NameRule},
    selectable,
};
use crate::{
    model::{Selector, Workload},
    resource::{SelectorSpec, WorkloadSpec},
    setting::Setting,
    spiffe::SpiffeId,
    yaml::{Findings, Location},
};

pub(super) fn workload(
    written: &Parsed<'_, WorkloadSpec>,
    setting: &Setting,
    findings: &Findings,
) -> Option<Workload> {
    let spec = &written.spec;
    let location = written.location();
    let owner = non_blank(&spec.owner, &location.key("owner"), findings);
    let review_by = match &spec.review_by {
        Some(text) => date(text, &location.key("reviewBy"), findings).map(Some),
        None => Some(None),
    };
    if let (Some(Some(day)), Some(now)) = (review_by, setting.now) {
        Deadline::REVIEW.check(day, now, &location.key("reviewBy"), findings);
    }
    if spec.selectors.is_empty() {
        findings.error(
            &location.key("match"),
            "empty-list",
            "nothing matches this workload",
            "add an entry with `serviceAccount` or `spiffeId`",
        );
    }
    let selectors = each(
        &spec.selectors,
        &location.key("match"),
        |selector, location| {
            let usable = self::selector(selector, written.namespace(), location, findings)?;
            selectable::check(&usable, setting, location, findings);
            Some(usable)
        },
    );
    Some(Workload {
        name: written.name.clone(),
        owner: owner?,
        purpose: spec.purpose.clone(),
        environment: spec.environment.clone(),
        review_by: review_by?,
        selectors: selectors.filter(|selectors| !selectors.is_empty())?,
    })
}

fn selector(
    spec: &SelectorSpec,
    namespace: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Selector> {
    let mut sound = true;
    if spec.service_account.is_none() && spec.spiffe_id.is_none() {
        sound = false;
        findings.error(
            location,
            "selector-too-wide",
            "this entry has no identity that can be proven",
            "add `serviceAccount` or `spiffeId`",
        );
    }
    if let Some(cluster) = &spec.cluster {
        sound &= exact(cluster, &location.key("cluster"), findings);
    }
    for (key, value, rule) in [
        ("namespace", &spec.namespace, NameRule::SELECTED_NAMESPACE),
        (
            "serviceAccount",
            &spec.service_account,
            NameRule::SERVICE_ACCOUNT,
        ),
        ("cronJob", &spec.cron_job, NameRule::CRON_JOB),
    ] {
        if let Some(value) = value {
            sound &= names::check(value, rule, &location.key(key), findings);
        }
    }
    sound &= pod_labels(&spec.pod_labels, &location.key("podLabels"), findings);
    if let Some(id) = &spec.spiffe_id {
        sound &= spiffe_id(id, &location.key("spiffeId"), findings);
    }
    for (index, image) in spec.images.iter().enumerate() {
        sound &= self::image(image, &location.key("images").index(index), findings);
    }
    sound.then(|| Selector {
        cluster: spec.cluster.clone(),
        // A SPIFFE ID is complete by itself; a service account belongs to a namespace.
        namespace: spec
            .namespace
            .clone()
            .or_else(|| spec.service_account.is_some().then(|| namespace.to_owned())),
        service_account: spec.service_account.clone(),
        cron_job: spec.cron_job.clone(),
        pod_labels: spec.pod_labels.clone(),
        images: spec.images.clone(),
        spiffe_id: spec.spiffe_id.clone(),
    })
}

/// Selectors compare exactly; a value that looks like a pattern would match nothing, or the wrong thing.
fn exact(value: &str, location: &Location<'_>, findings: &Findings) -> bool {
    let exact = !value.is_empty() && !value.contains(['*', '?', ' ', '/']);
    if !exact {
        findings.error(
            location,
            "bad-selector",
            "this is not one exact name",
            "write one name; for several, add an entry for each",
        );
    }
    exact
}

/// Names and values of labels, as the API server accepts them.
fn pod_labels(
    labels: &BTreeMap<String, String>,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    let mut sound = true;
    for (name, value) in labels {
        if !names::is_label_name(name) {
            sound = false;
            findings.error(
                &location.key_name(name),
                "bad-selector",
                "this is not the name of a label",
                "write it as the pod has it, such as `app` or `app.kubernetes.io/name`",
            );
        }
        if !names::is_label_value(value) {
            sound = false;
            findings.error(
                &location.key(name),
                "bad-selector",
                "this is not the value of a label",
                "use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
            );
        }
    }
    sound
}

fn spiffe_id(id: &str, location: &Location<'_>, findings: &Findings) -> bool {
    SpiffeId::parse(id)
        .inspect_err(|error| {
            findings.error(
                location,
                "bad-selector",
                format!("this is not a SPIFFE ID: {error}"),
                "write `spiffe://`, the trust domain in lower case, and the path",
            );
        })
        .is_ok()
}

/// An image by digest. An incomplete digest is only a warning: it cannot match.
fn image(image: &str, location: &Location<'_>, findings: &Findings) -> bool {
    let Some((_, digest)) = image.split_once("@sha256:") else {
        findings.error(
            location,
            "image-not-pinned",
            "the image has no digest",
            "write it as `registry/name@sha256:...`; a tag can change",
        );
        return false;
    };
    if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        findings.warning(
            location,
            "digest-incomplete",
            "the digest is not 64 hex digits, so no image can match it",
            "write the whole digest",
        );
    }
    true
}
