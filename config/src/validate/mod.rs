//! Converts resources as written to usable ones; the only constructor of [`crate::model`].
//!
//! Everything is checked, whatever was found before. A broken resource stays known by its name, so
//! references to it are not reported too.

mod credential;
mod deadline;
mod fields;
mod gateway;
mod head;
mod names;
mod policy;
mod reach;
mod selectable;
mod table;
mod target;
mod usage;
mod workload;

pub(crate) use gateway::here::NOT_IN_KUBERNETES;

use std::{path::Path, sync::Arc};

use crate::{
    model::{Credential, Gateway, Policy, Target, Workload},
    resource::Kind,
    setting::Setting,
    yaml::{Document, Findings, placeholders},
};
use table::ResourceTable;

/// Everything that is usable; complete only if no error was found.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) workloads: Vec<Arc<Workload>>,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) credentials: Vec<Arc<Credential>>,
    pub(crate) policies: Vec<Arc<Policy>>,
}

/// Checks the resources among the documents.
pub(crate) fn resources(
    documents: &[Document<'_>],
    setting: &Setting,
    findings: &Findings,
) -> Parts {
    placeholders::check(documents, findings);
    let heads = head::read_all(documents, findings);

    let workloads = ResourceTable::fill(Kind::Workload, &heads, findings, |written| {
        workload::workload(written, setting, findings)
    });
    let targets = target::all(&heads, findings);
    let credentials = ResourceTable::fill(Kind::Credential, &heads, findings, |written| {
        credential::credential(written, &targets, setting, findings)
    });
    let known = policy::References {
        workloads: &workloads,
        targets: &targets,
        credentials: &credentials,
        samples: &reach::Samples::default(),
    };
    let policies = ResourceTable::fill(Kind::AccessPolicy, &heads, findings, |written| {
        policy::policy(written, &known, setting.now, findings)
    });
    // A Gateway file may be among its resources; then it is checked with them.
    for written in head::specs(Kind::Gateway, &heads, findings).flatten() {
        gateway::gateway(&written, findings);
    }
    // A broken resource may be the one that uses it.
    if !findings.any_error() {
        usage::unused(&heads, &known, &policies, findings);
    }

    Parts {
        workloads: workloads.into_values(),
        targets: targets.into_values(),
        credentials: credentials.into_values(),
        policies: policies.into_values(),
    }
}

/// Checks the one gateway among the documents of its file; with `here`, also whether this machine has what it
/// names.
pub(crate) fn gateway(
    path: &Path,
    documents: &[Document<'_>],
    here: bool,
    findings: &Findings,
) -> Option<Gateway> {
    placeholders::check(documents, findings);
    let heads = head::read_all(documents, findings);
    for head in heads.iter().filter(|head| head.kind != Kind::Gateway) {
        findings.error(
            &head.document.location().key("kind"),
            "wrong-kind",
            format!("a {} does not belong in the Gateway file", head.kind),
            "move it to a directory named under `spec.resources`",
        );
    }
    let mut gateways = head::specs(Kind::Gateway, &heads, findings);
    let Some(first) = gateways.next() else {
        if findings.count() == 0 {
            head::no_gateway(path, findings);
        }
        return None;
    };
    for second in gateways.flatten() {
        findings.error(
            &second.document.location().key("kind"),
            "second-gateway",
            "the file has a second Gateway",
            "keep one; each gateway is started from a file of its own",
        );
    }
    let first = first?;
    let gateway = gateway::gateway(&first, findings)?;
    if here {
        gateway::here::check(&first, &gateway, findings);
    }
    Some(gateway)
}
