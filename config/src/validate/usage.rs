//! What is written but used by nothing: often a name that was changed in one place only.

use super::{head::Head, policy::Known, shelf::Shelf};
use crate::{model::Policy, resource::Kind, yaml::Findings};

pub(super) fn unused(
    heads: &[Head<'_>],
    known: &Known<'_>,
    policies: &Shelf<Policy>,
    findings: &Findings,
) {
    for head in heads {
        let Some(name) = &head.name else { continue };
        if head.duplicate || head.document.source.catalog {
            continue;
        }
        let mut policies = policies.values();
        let (used, code, remedy) = match head.kind {
            Kind::Workload if known.workloads.get(name).is_some() => (
                policies.any(|policy| policy.workloads.iter().any(|w| w.name == *name)),
                "unused-workload",
                "write a policy for it, or remove it",
            ),
            Kind::Credential if known.credentials.get(name).is_some() => (
                policies.any(|policy| policy.credentials.iter().any(|(_, c)| c.name == *name)),
                "unused-credential",
                "name it in a policy, or remove it and the secret",
            ),
            Kind::TargetService if known.targets.get(name).is_some() => (
                policies.any(|policy| policy.target.name == *name),
                "unused-target",
                "write a policy for it, or remove it; until then its hosts are not governed",
            ),
            Kind::Workload
            | Kind::Credential
            | Kind::TargetService
            | Kind::AccessPolicy
            | Kind::Gateway => continue,
        };
        if !used {
            findings.warning(
                &head.document.spot().key("metadata").key("name"),
                code,
                format!("no policy uses the {} `{name}`", head.kind),
                remedy,
            );
        }
    }
}
