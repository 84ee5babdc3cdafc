//! `spec.governance`.

use crate::{
    model::{Governance, GovernanceException, GovernanceRule},
    resource::{GovernanceExceptionSpec, GovernanceRuleSpec, GovernanceSpec, PolicyMode},
    validate::fields::{date, each, non_blank},
    yaml::{Findings, Location},
};

/// The most days until a review.
const MAX_DAYS: u32 = 3650;

pub(super) fn governance(
    spec: &GovernanceSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Governance> {
    let texts = |texts: &[String], key| {
        each(texts, &location.key(key), |text, location| {
            non_blank(text, location, findings)
        })
    };
    let owners = texts(&spec.owners, "owners");
    let require_not_after = texts(&spec.require_not_after, "requireNotAfter");
    let number = |value: Option<u32>, key, most: u32| match value {
        Some(value) if value == 0 || value > most => {
            findings.error(
                &location.key(key),
                "out-of-range",
                format!("this must be from 1 to {most}"),
                "write a number in this range, or remove the key",
            );
            None
        }
        value => Some(value),
    };
    let review_within_days = number(spec.review_within_days, "reviewWithinDays", MAX_DAYS);
    let most = number(
        spec.max_workloads_per_credential,
        "maxWorkloadsPerCredential",
        u32::MAX,
    );
    let exceptions = each(
        &spec.exceptions,
        &location.key("exceptions"),
        |written, location| exception(written, location, findings),
    );
    Some(Governance {
        only_warn: matches!(spec.mode, Some(PolicyMode::Observe)),
        owners: owners?,
        require_purpose: spec.require_purpose.unwrap_or(false),
        require_environment: spec.require_environment.unwrap_or(false),
        review_within_days: review_within_days?,
        require_not_after: require_not_after?,
        max_workloads_per_credential: most?,
        forbid_any_path: spec.forbid_any_path.unwrap_or(false),
        exceptions: exceptions?,
    })
}

fn exception(
    spec: &GovernanceExceptionSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<GovernanceException> {
    let resource = non_blank(&spec.resource, &location.key("resource"), findings);
    let reason = non_blank(&spec.reason, &location.key("reason"), findings);
    let until = date(&spec.until, &location.key("until"), findings);
    Some(GovernanceException {
        rule: match spec.rule {
            GovernanceRuleSpec::Owner => GovernanceRule::Owner,
            GovernanceRuleSpec::Purpose => GovernanceRule::Purpose,
            GovernanceRuleSpec::Environment => GovernanceRule::Environment,
            GovernanceRuleSpec::ReviewBy => GovernanceRule::ReviewBy,
            GovernanceRuleSpec::NotAfter => GovernanceRule::NotAfter,
            GovernanceRuleSpec::SharedCredential => GovernanceRule::SharedCredential,
            GovernanceRuleSpec::AnyPath => GovernanceRule::AnyPath,
        },
        resource: resource?,
        reason: reason?,
        until: until?,
    })
}
