//! Converts resources as written to usable ones; the only constructor of [`crate::model`].
//!
//! Everything is checked, whatever was found before. A broken resource stays known by its name, so
//! references to it are not reported too.

mod boundary;
mod credential;
mod deadline;
mod fields;
mod gateway;
mod governance;
mod head;
mod names;
mod objects;
mod policy;
mod reach;
mod selectable;
mod table;
mod target;
mod usage;
mod workload;

pub(crate) use gateway::here::NOT_IN_KUBERNETES;

use std::path::Path;

use foldhash::HashSet;

use crate::{
    cluster::{Accepted, Objects},
    governance::Subjects,
    model::{Credential, Gateway, Policy, ResourceName, Target, Workload},
    policy::Resources,
    resource::Kind,
    setting::Setting,
    yaml::{Document, Findings, placeholders},
};
pub(crate) use objects::Outcome;
use table::ResourceTable;

/// Everything that is usable; complete only if no error was found.
#[derive(Debug)]
pub(crate) struct Parts {
    workloads: ResourceTable<Workload>,
    targets: ResourceTable<Target>,
    credentials: ResourceTable<Credential>,
    policies: ResourceTable<Policy>,
    /// The catalog, which targets may extend.
    base: target::Base,
    /// What stands in the operator's files.
    in_files: HashSet<(Kind, ResourceName)>,
}

impl Parts {
    /// Adds the objects of a cluster, each on its own.
    pub(crate) fn add_objects(
        &mut self,
        objects: &Objects,
        accepted: &Accepted,
        setting: &Setting,
    ) -> Outcome {
        objects::add(self, objects, accepted, setting)
    }

    /// All of it.
    pub(crate) fn into_resources(self, revision: String) -> Resources {
        Resources {
            workloads: self.workloads.into_values(),
            targets: self.targets.into_values(),
            credentials: self.credentials.into_values(),
            policies: self.policies.into_values(),
            revision,
        }
    }
}

/// Checks the resources among the documents. If objects of a cluster are added later, they may be what uses them.
pub(crate) fn resources(
    documents: &[Document<'_>],
    setting: &Setting,
    has_objects: bool,
    findings: &Findings,
) -> Parts {
    placeholders::check(documents, findings);
    let heads = head::read_all(documents, findings);

    let workloads = ResourceTable::fill(Kind::Workload, &heads, findings, |written| {
        workload::workload(written, setting, findings)
    });
    let (targets, base) = target::all(&heads, findings);
    let credentials = ResourceTable::fill(Kind::Credential, &heads, findings, |written| {
        credential::credential(written, &targets, setting, findings)
    });
    let known = policy::References {
        workloads: &workloads,
        targets: &targets,
        credentials: &credentials,
        samples: &reach::Samples::default(),
        object: None,
    };
    let policies = ResourceTable::fill(Kind::AccessPolicy, &heads, findings, |written| {
        policy::policy(written, &known, setting.now, findings)
    });
    // A Gateway file may be among its resources; then it is checked with them.
    for written in head::specs(Kind::Gateway, &heads, findings).flatten() {
        gateway::gateway(&written, findings);
    }
    // A broken resource may be the one that uses it.
    if !findings.any_error() && !has_objects {
        usage::unused(&heads, &known, &policies, findings);
    }

    if setting.governance.is_some() {
        let all = Subjects {
            workloads: &workloads.values().cloned().collect::<Vec<_>>(),
            policies: &policies.values().cloned().collect::<Vec<_>>(),
            credentials: &credentials.values().cloned().collect::<Vec<_>>(),
        };
        governance::check(&heads, all, setting, findings);
    }
    let own = heads.iter().filter(|head| !head.document.source.catalog);
    let in_files = own.filter_map(|head| Some((head.kind, head.name.clone()?)));
    Parts {
        in_files: in_files.collect(),
        workloads,
        targets,
        credentials,
        policies,
        base,
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
        gateway::here::check(&first, findings);
    }
    Some(gateway)
}
