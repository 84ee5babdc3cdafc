//! Resources that nothing uses: often a name that was changed in only one place.

use foldhash::HashSet;

use super::{head::Head, policy::References, table::ResourceTable};
use crate::{model::Policy, resource::Kind, yaml::Findings};

pub(super) fn unused(
    heads: &[Head<'_>],
    known: &References<'_>,
    policies: &ResourceTable<Policy>,
    findings: &Findings,
) {
    let mut used_names = HashSet::default();
    for policy in policies.values() {
        used_names.insert((Kind::TargetService, &policy.target.name));
        let workloads = policy.workloads.iter();
        used_names.extend(workloads.map(|workload| (Kind::Workload, &workload.name)));
        let credentials = policy.credentials.iter();
        used_names.extend(credentials.map(|(_, credential)| (Kind::Credential, &credential.name)));
    }
    for head in heads {
        let Some(name) = &head.name else { continue };
        if head.duplicate || head.document.source.catalog {
            continue;
        }
        let (code, remedy) = match head.kind {
            Kind::Workload if known.workloads.get(name).is_some() => {
                ("unused-workload", "write a policy for it, or remove it")
            }
            Kind::Credential if known.credentials.get(name).is_some() => (
                "unused-credential",
                "name it in a policy, or remove it and the secret",
            ),
            Kind::TargetService if known.targets.get(name).is_some() => (
                "unused-target",
                "write a policy for it, or remove it; until then its hosts are not governed",
            ),
            Kind::Workload
            | Kind::Credential
            | Kind::TargetService
            | Kind::AccessPolicy
            | Kind::Gateway => continue,
        };
        if !used_names.contains(&(head.kind, name)) {
            findings.warning(
                &head.document.location().key("metadata").key("name"),
                code,
                format!("no policy uses the {} `{name}`", head.kind),
                remedy,
            );
        }
    }
}
