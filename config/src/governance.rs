//! Whether resources say what the gateway's `governance` asks of them.
//!
//! `check`, the gateway at every load, admission and the access review all ask here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{Timestamp, Unit, civil::Date, tz::TimeZone};

use crate::{
    model::{
        Credential, Governance, GovernanceException, GovernanceRule, Policy, ResourceName, Workload,
    },
    resource::Kind,
};

/// One way in which a resource does not comply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The rule.
    pub rule: GovernanceRule,
    /// The kind of the resource.
    pub kind: Kind,
    /// Its name.
    pub name: ResourceName,
    /// Where in its `spec`.
    pub field: Field,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Whether it had an exception, which has ended. Then it is only reported: a gateway must not fail to start
    /// because a day has passed.
    pub lapsed: bool,
}

/// A place in a resource's `spec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A key.
    Key(&'static str),
    /// `allow[N].paths`.
    Paths(usize),
    /// The whole resource.
    Whole,
}

/// The resources that are checked.
#[derive(Debug, Clone, Copy)]
pub struct Subjects<'a> {
    /// The workloads.
    pub workloads: &'a [Arc<Workload>],
    /// The policies.
    pub policies: &'a [Arc<Policy>],
    /// The credentials.
    pub credentials: &'a [Arc<Credential>],
}

/// Everything that does not comply and has no exception at `now`. Without a time no exception has ended, and
/// no review is too far away.
pub fn check(governance: &Governance, all: Subjects<'_>, now: Option<Timestamp>) -> Vec<Breach> {
    let today = now.map(|now| now.to_zoned(TimeZone::UTC).date());
    let check = Check { governance, today };
    let mut found = Vec::new();
    for workload in all.workloads {
        found.extend(check.workload(workload));
    }
    for policy in all.policies {
        found.extend(check.policy(policy));
    }
    found.extend(check.credentials(all));
    found
        .into_iter()
        .filter_map(|breach| check.unless_excepted(breach))
        .collect()
}

struct Check<'g> {
    governance: &'g Governance,
    today: Option<Date>,
}

impl Check<'_> {
    fn workload(&self, workload: &Workload) -> Vec<Breach> {
        let Governance {
            require_purpose,
            require_environment,
            ..
        } = self.governance;
        let breach = |rule, key, message: String, remedy: &str| Breach {
            rule,
            kind: Kind::Workload,
            name: workload.name.clone(),
            field: Field::Key(key),
            message,
            remedy: remedy.to_owned(),
            lapsed: false,
        };
        let blank = |text: &Option<String>| text.as_ref().is_none_or(|text| text.trim().is_empty());
        let mut found = Vec::new();
        found.extend(self.owner(Kind::Workload, &workload.name, &workload.owner));
        if *require_purpose && blank(&workload.purpose) {
            let message = "the workload has no purpose".to_owned();
            let remedy = "write in `purpose` what it needs its access for";
            found.push(breach(GovernanceRule::Purpose, "purpose", message, remedy));
        }
        if *require_environment && blank(&workload.environment) {
            let message = "the workload has no environment".to_owned();
            let remedy = "write `environment`, such as `production`";
            found.push(breach(
                GovernanceRule::Environment,
                "environment",
                message,
                remedy,
            ));
        }
        if let Some(message) = self.review(workload.review_by) {
            let remedy = "write the day of the next review under `reviewBy`";
            found.push(breach(
                GovernanceRule::ReviewBy,
                "reviewBy",
                message,
                remedy,
            ));
        }
        found
    }

    fn owner(&self, kind: Kind, name: &ResourceName, owner: &str) -> Option<Breach> {
        let owners = &self.governance.owners;
        if owners.is_empty() || owners.iter().any(|pattern| matches(pattern, owner)) {
            return None;
        }
        Some(Breach {
            rule: GovernanceRule::Owner,
            kind,
            name: name.clone(),
            field: Field::Key("owner"),
            message: "this is not an owner that the gateway's governance accepts".to_owned(),
            remedy: format!("write an owner such as {}", owners.join(" or ")),
            lapsed: false,
        })
    }

    /// What is wrong with the day of the next review.
    fn review(&self, day: Option<Date>) -> Option<String> {
        let within = self.governance.review_within_days?;
        let Some(day) = day else {
            return Some(format!(
                "there is no review, and one is due every {within} days"
            ));
        };
        let today = self.today?;
        let away = today
            .until((Unit::Day, day))
            .map_or(i64::MAX, |span| span.get_days().into());
        (away > i64::from(within))
            .then(|| format!("the review is {away} days away, and {within} are the most"))
    }

    fn policy(&self, policy: &Policy) -> Vec<Breach> {
        let Governance {
            require_not_after,
            forbid_any_path,
            ..
        } = self.governance;
        let breach = |rule, field, message, remedy: &str| Breach {
            rule,
            kind: Kind::AccessPolicy,
            name: policy.name.clone(),
            field,
            message,
            remedy: remedy.to_owned(),
            lapsed: false,
        };
        let mut found = Vec::new();
        found.extend(self.owner(Kind::AccessPolicy, &policy.name, &policy.owner));
        let needs_end = policy.workloads.iter().find(|workload| {
            let environment = workload.environment.as_ref();
            environment.is_some_and(|environment| require_not_after.contains(environment))
        });
        if let (Some(workload), None) = (needs_end, policy.conditions.not_after) {
            let environment = workload.environment.as_deref().unwrap_or_default();
            let message = format!(
                "the policy has no end, and {} is of {environment}",
                workload.name
            );
            let remedy = "write `conditions.notAfter`";
            found.push(breach(
                GovernanceRule::NotAfter,
                Field::Key("conditions"),
                message,
                remedy,
            ));
        }
        // Of a target that is not decrypted, no paths are known.
        if *forbid_any_path && policy.target.intercept {
            for (index, rule) in policy.allow.iter().enumerate() {
                let any = |pattern: &String| {
                    pattern
                        .trim_matches('/')
                        .split('/')
                        .all(|part| part == "**")
                };
                if rule.paths.is_any() || rule.paths.written().iter().any(any) {
                    let message = "the rule permits every path".to_owned();
                    let remedy = "name the paths that the workloads use; `countersign review --suggest` writes them from the records";
                    let field = Field::Paths(index);
                    found.push(breach(GovernanceRule::AnyPath, field, message, remedy));
                }
            }
        }
        found
    }

    fn credentials(&self, all: Subjects<'_>) -> Vec<Breach> {
        let Some(most) = self.governance.max_workloads_per_credential else {
            return Vec::new();
        };
        let users = users(all.policies);
        let too_many = all.credentials.iter().filter_map(|credential| {
            let users = users.get(&credential.name)?;
            (users.len() > most as usize).then(|| Breach {
                rule: GovernanceRule::SharedCredential,
                kind: Kind::Credential,
                name: credential.name.clone(),
                field: Field::Whole,
                message: format!(
                    "{} workloads share it, and {most} are the most: {}",
                    users.len(),
                    some(users)
                ),
                remedy: "make a credential of its own for each workload".to_owned(),
                lapsed: false,
            })
        });
        too_many.collect()
    }

    /// The breach, unless it has an exception. If that has ended, the message says so.
    fn unless_excepted(&self, mut breach: Breach) -> Option<Breach> {
        let is_meant = |exception: &&GovernanceException| {
            exception.rule == breach.rule && exception.resource == breach.name.as_str()
        };
        let exceptions = self.governance.exceptions.iter().filter(is_meant);
        let Some(last) = exceptions.max_by_key(|exception| exception.until) else {
            return Some(breach);
        };
        if self.today.is_none_or(|today| today <= last.until) {
            return None;
        }
        breach.message = format!("{}; its exception ended on {}", breach.message, last.until);
        breach.lapsed = true;
        Some(breach)
    }
}

/// The workloads that use each credential.
pub fn users(policies: &[Arc<Policy>]) -> BTreeMap<&ResourceName, BTreeSet<&ResourceName>> {
    let mut users: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for policy in policies {
        for (_, credential) in &policy.credentials {
            let names = policy.workloads.iter().map(|workload| &workload.name);
            users.entry(&credential.name).or_default().extend(names);
        }
    }
    users
}

/// The first names, and how many more there are.
fn some(names: &BTreeSet<&ResourceName>) -> String {
    const MOST: usize = 5;
    let first: Vec<_> = names.iter().take(MOST).map(|name| name.as_str()).collect();
    match names.len().saturating_sub(MOST) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Whether a text matches a pattern in which `*` is any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_matches_its_pattern_and_not_one_that_resembles_it() {
        for (pattern, text, is_one) in [
            ("*@example.com", "qa@example.com", true),
            ("*@example.com", "qa@example.com.evil.test", false),
            ("*@example.com", "qa@notexample.com", false),
            ("team-*-*@x", "team-a-b@x", true),
            ("team-*-*@x", "team-a@x", false),
            ("a*a", "a", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), is_one, "{pattern} {text}");
        }
    }
}
