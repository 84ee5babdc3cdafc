//! One row per workload: what it may reach, and what it uses of that.

use std::collections::BTreeSet;

use countersign_config::{
    governance,
    model::{Credential, JwtExchange, Mode, Policy, Provider, Rule, Workload},
};
use jiff::Timestamp;
use serde::Serialize;

use super::Subject;

/// One workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRow {
    /// Its name.
    pub name: String,
    /// Who is responsible.
    pub owner: String,
    /// What for.
    pub purpose: Option<String>,
    /// For example `production`.
    pub environment: Option<String>,
    /// When the next review is due.
    pub review_by: Option<String>,
    /// Who signed the last review off, and when.
    pub signed_off: Option<String>,
    /// What it may reach.
    pub grants: Vec<GrantRow>,
}

/// One policy for one workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRow {
    /// Its policy.
    pub policy: String,
    /// The target.
    pub target: String,
    /// Whether it only observes.
    pub on_trial: bool,
    /// The rules.
    pub rules: Vec<RuleRow>,
    /// When, and on which further conditions.
    pub conditions: Vec<String>,
    /// From when on it permits nothing.
    pub ends: Option<String>,
    /// Who approved it, and where that is written.
    pub approved: Option<String>,
    /// Whether it is kept for emergencies.
    pub break_glass: bool,
    /// The credentials.
    pub credentials: Vec<CredentialRow>,
    /// When it was last used.
    pub last_used: Option<String>,
    /// How often it was used.
    pub uses: u64,
}

/// One rule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleRow {
    /// What it permits.
    pub text: String,
    /// How often it was used.
    pub uses: u64,
    /// When it was last used.
    pub last_used: Option<String>,
}

/// One credential.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRow {
    /// Its name.
    pub name: String,
    /// How it is obtained.
    pub kind: String,
    /// The day by which a person must replace it.
    pub rotate_by: Option<String>,
    /// How old its value was when it was last used, in seconds.
    pub age_seconds: Option<u64>,
    /// For how long its value was still valid then, in seconds.
    pub expires_in_seconds: Option<u64>,
    /// The scopes that are asked for; `None` if the resource does not say them.
    pub scopes: Option<Vec<String>>,
    /// The scopes that it has, as its API says; `None` if that is not known.
    pub scopes_held: Option<Vec<String>>,
    /// Those of which some request needed one; `None` if that is not known.
    pub scopes_used: Option<Vec<String>>,
    /// When it was last used.
    pub last_used: Option<String>,
    /// How often it was used.
    pub uses: u64,
    /// How many workloads use it.
    pub shared_by: usize,
}

pub(super) fn rows(subject: Subject<'_>) -> Vec<WorkloadRow> {
    let all = subject.policies.workloads().iter();
    all.map(|workload| row(workload, subject)).collect()
}

fn row(workload: &Workload, subject: Subject<'_>) -> WorkloadRow {
    let own = subject.policies.policies().iter().filter(|policy| {
        policy
            .workloads
            .iter()
            .any(|other| other.name == workload.name)
    });
    let signed = subject.sign_offs.of(workload.name.as_str());
    WorkloadRow {
        name: workload.name.to_string(),
        owner: workload.owner.clone(),
        purpose: workload.purpose.clone(),
        environment: workload.environment.clone(),
        review_by: workload.review_by.map(|day| day.to_string()),
        signed_off: signed.map(|signed| format!("{} by {}", signed.at, signed.by)),
        grants: own.map(|policy| grant(workload, policy, subject)).collect(),
    }
}

fn grant(workload: &Workload, policy: &Policy, subject: Subject<'_>) -> GrantRow {
    let (name, by) = (workload.name.as_str(), policy.name.as_str());
    let rules = policy.allow.iter().enumerate().map(|(index, rule)| {
        let used = subject.usage.grant(name, by, Some(index));
        RuleRow {
            text: rule_text(rule),
            uses: used.map_or(0, |used| used.count),
            last_used: used.map(|used| text(used.last)),
        }
    });
    let used = subject.usage.policy(name, by);
    let approval = &policy.approval;
    let approved: Vec<&str> = [&approval.by, &approval.ticket]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let names: BTreeSet<_> = policy
        .credentials
        .iter()
        .map(|(_, one)| &one.name)
        .collect();
    let credentials = policy.credentials.iter().map(|(_, one)| one);
    let credentials = credentials.filter(|one| names.contains(&one.name));
    GrantRow {
        policy: by.to_owned(),
        target: policy.target.name.to_string(),
        on_trial: policy.mode == Mode::Observe,
        rules: rules.collect(),
        conditions: conditions(policy),
        ends: policy.conditions.not_after.map(text),
        approved: (!approved.is_empty()).then(|| approved.join(", ")),
        break_glass: approval.break_glass,
        credentials: credentials.map(|one| credential(one, subject)).collect(),
        last_used: used.as_ref().map(|used| text(used.last)),
        uses: used.map_or(0, |used| used.count),
    }
}

fn conditions(policy: &Policy) -> Vec<String> {
    let conditions = &policy.conditions;
    let schedule = conditions.schedule.as_ref().map(ToString::to_string);
    let when = conditions.when.as_ref().map(|when| format!("when {when}"));
    let rate = conditions
        .rate
        .map(|rate| format!("{} in {:?}", rate.requests, rate.period));
    [schedule, when, rate].into_iter().flatten().collect()
}

fn credential(credential: &Credential, subject: Subject<'_>) -> CredentialRow {
    let used = subject.usage.credential(credential.name.as_str());
    let held = used.filter(|used| !used.scopes_held.is_empty());
    let users = governance::users(subject.policies.policies());
    CredentialRow {
        name: credential.name.to_string(),
        kind: credential.provider.kind().to_owned(),
        rotate_by: credential.rotate_by.map(|day| day.to_string()),
        age_seconds: used.and_then(|used| used.age_s),
        expires_in_seconds: used.and_then(|used| used.expires_in_s),
        scopes: scopes(&credential.provider),
        scopes_held: held.map(|used| used.scopes_held.clone()),
        scopes_used: held.map(|used| used.scopes_used.clone()),
        last_used: used.map(|used| text(used.used.last)),
        uses: used.map_or(0, |used| used.used.count),
        shared_by: users.get(&credential.name).map_or(0, BTreeSet::len),
    }
}

fn scopes(provider: &Provider) -> Option<Vec<String>> {
    match provider {
        Provider::ClientCredentials { scopes, .. }
        | Provider::TokenExchange { scopes, .. }
        | Provider::Jwt {
            exchange: Some(JwtExchange::Grant { scopes, .. }),
            ..
        } => Some(scopes.clone()),
        Provider::Static { .. }
        | Provider::Basic { .. }
        | Provider::SlackRotation { .. }
        | Provider::Jwt { .. } => None,
    }
}

/// A rule on one line.
pub(super) fn rule_text(rule: &Rule) -> String {
    let or_any = |texts: Vec<String>, any: &str| {
        if texts.is_empty() {
            any.to_owned()
        } else {
            texts.join(" ")
        }
    };
    let methods = rule.methods.iter().map(ToString::to_string).collect();
    let hosts = rule.hosts.iter().map(ToString::to_string).collect();
    format!(
        "{} {} {}",
        or_any(methods, "any method"),
        or_any(hosts, "any host"),
        or_any(rule.paths.written().to_vec(), "any path")
    )
}

/// A time to the second.
pub(super) fn text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
