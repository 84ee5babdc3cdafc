//! What is not in order, why that matters, and what to do.

mod credentials;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_config::{
    governance::{self, Subjects},
    host::Host,
    model::{Policy, Workload},
};
use jiff::{civil::Date, tz::TimeZone};
use serde::Serialize;

use super::{Standards, Subject, rows::rule_text, suggest};

/// How urgent a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// To be changed now.
    High,
    /// To be changed with the next change.
    Medium,
    /// To know.
    Low,
}

/// Something that is not in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How urgent it is.
    pub severity: Severity,
    /// Its stable name.
    pub code: &'static str,
    /// The resource or caller: `Workload qa/a`.
    pub subject: String,
    /// Whom to ask.
    pub owner: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// What the standards say.
    pub standards: Standards,
}

pub(super) fn findings(subject: Subject<'_>) -> Vec<Finding> {
    let find = Find {
        subject,
        today: subject.now.to_zoned(TimeZone::UTC).date(),
    };
    let mut all = Vec::new();
    for workload in subject.policies.workloads() {
        all.extend(find.workload(workload));
    }
    for policy in subject.policies.policies() {
        all.extend(find.policy(policy));
    }
    all.extend(find.credentials());
    all.extend(find.shared_accounts());
    all.extend(find.records());
    all.extend(find.governance());
    all.sort_by(|one, two| {
        (one.severity, one.code, &one.subject).cmp(&(two.severity, two.code, &two.subject))
    });
    all.dedup();
    all
}

struct Find<'a> {
    subject: Subject<'a>,
    today: Date,
}

impl Find<'_> {
    fn workload(&self, workload: &Workload) -> Vec<Finding> {
        let finding = |severity, code, message: String, remedy: &str, standards| Finding {
            severity,
            code,
            subject: format!("Workload {}", workload.name),
            owner: Some(workload.owner.clone()),
            message,
            remedy: remedy.to_owned(),
            standards,
        };
        let mut found = Vec::new();
        match workload.review_by {
            Some(day) if day < self.today => found.push(finding(
                Severity::High,
                "review-overdue",
                format!("the review was due on {day}"),
                "ask the owner whether the access is still needed, sign off, and write the next day under `reviewBy`",
                Standards::REVIEW,
            )),
            Some(_) => {}
            None => found.push(finding(
                Severity::Low,
                "no-review-date",
                "no review is planned".to_owned(),
                "write the day of the next review under `reviewBy`",
                Standards::REVIEW,
            )),
        }
        let blank = |text: &str| {
            let text = text.trim().to_ascii_lowercase();
            [
                "", "-", "?", "unknown", "none", "nobody", "tbd", "todo", "n/a",
            ]
            .contains(&text.as_str())
        };
        if blank(&workload.owner) {
            found.push(finding(
                Severity::High,
                "no-owner",
                "nobody is responsible for it".to_owned(),
                "write a person or group that answers under `owner`",
                Standards::OWNERSHIP,
            ));
        }
        if workload.purpose.as_deref().is_none_or(blank) {
            found.push(finding(
                Severity::Low,
                "no-purpose",
                "it does not say what it needs its access for".to_owned(),
                "write it under `purpose`",
                Standards::OWNERSHIP,
            ));
        }
        found
    }

    fn policy(&self, policy: &Arc<Policy>) -> Vec<Finding> {
        let finding = |severity, code, message: String, remedy: String, standards| Finding {
            severity,
            code,
            subject: format!("AccessPolicy {}", policy.name),
            owner: Some(policy.owner.clone()),
            message,
            remedy,
            standards,
        };
        let mut found = Vec::new();
        if let Some(end) = policy
            .conditions
            .not_after
            .filter(|end| *end <= self.subject.now)
        {
            let message = format!("it ended at {end}");
            let remedy = "remove it, and its credential if nothing else uses that".to_owned();
            found.push(finding(
                Severity::Medium,
                "policy-ended",
                message,
                remedy,
                Standards::UNUSED,
            ));
        }
        for workload in &policy.workloads {
            let name = workload.name.as_str();
            if let Some(message) = self.unused(policy, name) {
                let remedy = format!(
                    "take {name} out of it, or say `breakGlass: true` if it is kept for emergencies"
                );
                found.push(finding(
                    Severity::Medium,
                    "grant-unused",
                    message,
                    remedy,
                    Standards::UNUSED,
                ));
            }
        }
        for (index, rule) in policy.allow.iter().enumerate() {
            let text = rule_text(rule);
            if let Some(narrower) = suggest::narrower(policy, index, self.subject.usage) {
                let narrower: Vec<String> = narrower.iter().map(rule_text).collect();
                let message = format!(
                    "allow[{index}] permits `{text}`, but only `{}` was used",
                    narrower.join("`, `")
                );
                let remedy = "narrow it; `countersign review --suggest` writes the YAML, and `countersign diff` shows what it takes away".to_owned();
                found.push(finding(
                    Severity::Medium,
                    "rule-too-wide",
                    message,
                    remedy,
                    Standards::TOO_WIDE,
                ));
            }
        }
        found
    }

    /// What is wrong if a workload did not use a policy for long, as far as the records can tell.
    fn unused(&self, policy: &Policy, workload: &str) -> Option<String> {
        let Subject {
            usage,
            now,
            unused_days,
            ..
        } = self.subject;
        if policy.approval.break_glass {
            return None;
        }
        let from = usage.from?;
        let days = |since: jiff::Timestamp| now.duration_since(since).as_secs() / 86_400;
        match usage.policy(workload, policy.name.as_str()) {
            Some(used) => (days(used.last) >= unused_days)
                .then(|| format!("{workload} last used it {} days ago", days(used.last))),
            None => (days(from) >= unused_days).then(|| {
                format!(
                    "{workload} has not used it in {} days of records",
                    days(from)
                )
            }),
        }
    }

    fn credentials(&self) -> Vec<Finding> {
        let users = governance::users(self.subject.policies.policies());
        let mut found = Vec::new();
        for credential in self.subject.policies.credentials() {
            found.extend(self.long_lived(credential));
            found.extend(self.unused_scopes(credential));
            if let Some(names) = users.get(&credential.name) {
                found.extend(self.shared(credential, names));
            }
        }
        found
    }

    fn shared_accounts(&self) -> Vec<Finding> {
        let mut by_account: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for workload in self.subject.policies.workloads() {
            for selector in &workload.selectors {
                if let (Some(namespace), Some(account)) =
                    (&selector.namespace, &selector.service_account)
                {
                    let key = format!("{namespace}/{account}");
                    by_account
                        .entry(key)
                        .or_default()
                        .insert(workload.name.as_str());
                }
            }
        }
        let shared = by_account.into_iter().filter(|(_, names)| names.len() > 1);
        let found = shared.map(|(account, names)| Finding {
            severity: Severity::Medium,
            code: "account-shared",
            subject: format!("ServiceAccount {account}"),
            owner: None,
            message: format!(
                "{} workloads share it: {}",
                names.len(),
                names.into_iter().collect::<Vec<_>>().join(", ")
            ),
            remedy: "give each workload a service account of its own".to_owned(),
            standards: Standards::REUSE,
        });
        found.collect()
    }

    fn records(&self) -> Vec<Finding> {
        let Subject {
            usage, policies, ..
        } = self.subject;
        let strangers = usage.strangers().map(|(name, used)| Finding {
            severity: Severity::Medium,
            code: "caller-unknown",
            subject: format!("caller {name}"),
            owner: None,
            message: format!(
                "it is proven and no policy knows it; {} requests, last at {} ({})",
                used.count, used.last, used.last_id
            ),
            remedy: "write a Workload for it, or find out why it calls".to_owned(),
            standards: Standards::UNKNOWN,
        });
        let tunnelled = usage.tunnelled().filter_map(|(name, used)| {
            let host = Host::parse(name).ok()?;
            let target = policies
                .targets()
                .iter()
                .find(|target| target.hosts.iter().any(|pattern| pattern.matches(&host)))?;
            Some(Finding {
                severity: Severity::High,
                code: "host-tunnelled",
                subject: format!("host {name}"),
                owner: None,
                message: format!(
                    "it is tunnelled unseen, though there is the target {}; {} times, last at {}",
                    target.name, used.count, used.last
                ),
                remedy: format!("write a policy for the target {}", target.name),
                standards: Standards::UNSEEN,
            })
        });
        strangers.chain(tunnelled).collect()
    }

    fn governance(&self) -> Vec<Finding> {
        let Subject {
            policies,
            governance,
            now,
            ..
        } = self.subject;
        let Some(governance) = governance else {
            return Vec::new();
        };
        let all = Subjects {
            workloads: policies.workloads(),
            policies: policies.policies(),
            credentials: policies.credentials(),
        };
        let breaches = governance::check(governance, all, Some(now)).into_iter();
        let found = breaches.map(|breach| Finding {
            severity: Severity::High,
            code: breach.rule.code(),
            subject: format!("{} {}", breach.kind, breach.name),
            owner: None,
            message: breach.message,
            remedy: breach.remedy,
            standards: Standards::OWNERSHIP,
        });
        found.collect()
    }
}
