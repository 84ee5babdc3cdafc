//! Rules that are impossible for a target that is not decrypted.

use crate::{
    condition::Condition,
    model::Target,
    resource::AccessPolicySpec,
    yaml::{Findings, Location},
};

/// Reports everything that needs decrypted requests.
pub(super) fn check(
    spec: &AccessPolicySpec,
    target: &Target,
    location: &Location<'_>,
    findings: &Findings,
) {
    let report = |location: &Location<'_>, what: &str| {
        findings.error(
            location,
            "not-decrypted",
            format!(
                "the target `{}` is not decrypted (`intercept: false`), so {what}",
                target.name
            ),
            "remove it; such a policy decides about tunnels, by workload, host, port and time",
        );
    };
    if spec.credential.is_some() {
        report(
            &location.key_name("credential"),
            "no credential can be attached",
        );
    }
    if spec.credentials.is_some() {
        report(
            &location.key_name("credentials"),
            "no credential can be attached",
        );
    }
    for (index, rule) in spec.allow.iter().enumerate() {
        let location = location.key("allow").index(index);
        if !rule.methods.is_empty() {
            report(&location.key_name("methods"), "methods are not visible");
        }
        if !rule.paths.is_empty() {
            report(&location.key_name("paths"), "paths are not visible");
        }
    }
    let Some(conditions) = &spec.conditions else {
        return;
    };
    let location = location.key("conditions");
    if conditions.wait_for_rate_limit.is_some() {
        let location = location.key_name("waitForRateLimit");
        report(&location, "rate limits of its API are not visible");
    }
    let when = conditions.when.as_deref().map(Condition::parse);
    if let Some(Ok(condition)) = when
        && condition.reads_requests()
    {
        let what = "`when` cannot use the method, path or query of a request";
        report(&location.key_name("when"), what);
    }
}
