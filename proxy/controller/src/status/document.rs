//! What stands in the status of an object.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use countersign_config::{
    cluster::{Access, CredentialStanding, Finding, Key, Report, Verdict},
    model::Mode,
    problem::Severity,
    resource::Kind,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The most findings that are written; the message of the condition has the first ones too.
const FINDINGS: usize = 20;

/// The longest message of a condition, in bytes. Kubernetes' own bound is 32 KiB.
const MESSAGE: usize = 2_000;

/// The most targets and policies that are written of a workload.
const ACCESS: usize = 100;

/// A condition, without the time since when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Condition {
    name: &'static str,
    /// `None` is unknown.
    holds: Option<bool>,
    reason: String,
    message: String,
}

impl Condition {
    fn status(&self) -> &'static str {
        match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// Since when a condition is as it is: by its type, its status and the time.
pub(super) type Transitions = BTreeMap<String, (String, String)>;

/// A status, without the times since when.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    generation: i64,
    conditions: Vec<Condition>,
    rest: Value,
}

impl Document {
    /// What is to be written about an object.
    pub(super) fn new(
        verdict: &Verdict,
        report: &Report,
        credentials: &BTreeMap<String, CredentialStanding>,
    ) -> Self {
        let accepted = accepted(verdict);
        let credential = credential_ready(&verdict.key, report, credentials);
        let ready = ready(&accepted, credential.as_ref());
        let mut conditions = vec![ready, accepted];
        conditions.extend(credential);
        Self {
            generation: verdict.generation,
            conditions,
            rest: rest(verdict, report),
        }
    }

    /// The status as an object's; since `now`, unless it was so before.
    pub(super) fn status(&self, before: &Transitions, now: Timestamp) -> (Value, Transitions) {
        let now = format!("{now:.0}");
        let mut transitions = Transitions::new();
        let conditions = self.conditions.iter().map(|condition| {
            let known = before.get(condition.name);
            let since = known
                .filter(|(status, _)| status == condition.status())
                .map_or_else(|| now.clone(), |(_, since)| since.clone());
            let since_then = (condition.status().to_owned(), since.clone());
            transitions.insert(condition.name.to_owned(), since_then);
            json!({
                "type": condition.name,
                "status": condition.status(),
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": since,
                "observedGeneration": self.generation,
            })
        });
        let conditions: Vec<_> = conditions.collect();
        let mut status = self.rest.clone();
        status["conditions"] = Value::Array(conditions);
        (status, transitions)
    }

    /// Of all that it says.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.conditions.hash(&mut hasher);
        self.rest.to_string().hash(&mut hasher);
        hasher.finish()
    }

    /// Whether nothing is wrong. What is wrong is written first.
    pub(super) fn is_good(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.all(|condition| condition.holds != Some(false))
    }

    /// Whether an object's status says this.
    pub(super) fn stands_in(&self, status: &Value) -> bool {
        let (wanted, _) = self.status(&transitions(status), Timestamp::UNIX_EPOCH);
        let wanted = wanted.as_object().into_iter().flatten();
        let same = wanted.clone().all(|(key, value)| status[key] == *value);
        // What is no longer so must go.
        let known: BTreeSet<&str> = wanted.map(|(key, _)| key.as_str()).collect();
        let gone = [
            "inForce",
            "findings",
            "acceptedGeneration",
            "targets",
            "access",
        ];
        same && gone
            .into_iter()
            .all(|key| known.contains(key) || status[key].is_null())
    }
}

/// Since when the conditions of a status are as they are.
pub(super) fn transitions(status: &Value) -> Transitions {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .map(|condition| {
            let since = (
                text(&condition["status"]),
                text(&condition["lastTransitionTime"]),
            );
            (text(&condition["type"]), since)
        })
        .collect()
}

fn accepted(verdict: &Verdict) -> Condition {
    let errors = verdict.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    let errors: Vec<&Finding> = errors.collect();
    let (reason, message) = match (verdict.accepted, errors.first()) {
        (true, _) | (false, None) => {
            let reason = if verdict.accepted {
                "Accepted"
            } else {
                "NotAccepted"
            };
            (reason.to_owned(), in_force(verdict))
        }
        (false, Some(first)) => {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let message = format!("{}. {}", texts.join("\n"), in_force(verdict));
            (camel_case(first.code), message)
        }
    };
    Condition {
        name: "Accepted",
        holds: Some(verdict.accepted),
        reason,
        message: cut(message),
    }
}

/// Which generation is in force, in words.
fn in_force(verdict: &Verdict) -> String {
    match verdict.in_force {
        None => "No generation is in force.".to_owned(),
        Some(generation) if generation == verdict.generation && !verdict.accepted => {
            format!("Generation {generation} is in force in part.")
        }
        Some(generation) => format!("Generation {generation} is in force."),
    }
}

/// Of a credential, or of those that a policy uses.
fn credential_ready(
    key: &Key,
    report: &Report,
    credentials: &BTreeMap<String, CredentialStanding>,
) -> Option<Condition> {
    let names = match key.kind {
        Kind::Credential => vec![format!("{}/{}", key.namespace, key.name)],
        Kind::AccessPolicy => report.credentials.get(key)?.clone(),
        Kind::Workload | Kind::TargetService | Kind::Gateway => return None,
    };
    let known: Vec<_> = names.iter().map(|name| credentials.get(name)).collect();
    let worst = known.iter().copied().min_by_key(|standing| {
        match standing.and_then(|standing| standing.ready) {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        }
    })?;
    let own = key.kind == Kind::Credential;
    let (holds, reason, message) = match worst {
        Some(standing) if own => (standing.ready, standing.reason, standing.message.clone()),
        Some(standing) => (
            standing.ready,
            standing.reason,
            format!("{}: {}", standing.name, standing.message),
        ),
        None => (None, "NotUsed", "No policy in force uses it.".to_owned()),
    };
    Some(Condition {
        name: "CredentialReady",
        holds,
        reason: reason.to_owned(),
        message: cut(message),
    })
}

/// As kstatus reads it: whether the newest generation does what it says.
fn ready(accepted: &Condition, credential: Option<&Condition>) -> Condition {
    let worst = [Some(accepted), credential]
        .into_iter()
        .flatten()
        .find(|condition| condition.holds == Some(false));
    let (holds, reason, message) = match worst {
        Some(bad) => (false, bad.reason.clone(), bad.message.clone()),
        None => (true, "InForce".to_owned(), accepted.message.clone()),
    };
    Condition {
        name: "Ready",
        holds: Some(holds),
        reason,
        message,
    }
}

fn rest(verdict: &Verdict, report: &Report) -> Value {
    let mut status = json!({ "observedGeneration": verdict.generation });
    if let Some(generation) = verdict.in_force {
        status["acceptedGeneration"] = json!(generation);
    }
    if !verdict.findings.is_empty() {
        let findings = verdict.findings.iter().take(FINDINGS).map(finding);
        status["findings"] = findings.collect();
    }
    let before = report.in_force.get(&verdict.key);
    if let Some(before) = before.filter(|it| it.version.generation != verdict.generation) {
        status["inForce"] = json!({
            "generation": before.version.generation,
            "spec": before.version.spec(),
        });
    }
    if verdict.key.kind == Kind::Workload {
        let access = report.access.get(&verdict.key);
        let access = access.map(Vec::as_slice).unwrap_or_default();
        let targets: BTreeSet<_> = access.iter().map(|it| it.target.as_str()).collect();
        status["targets"] = targets.into_iter().take(ACCESS).collect();
        status["access"] = access.iter().take(ACCESS).map(granted).collect();
    }
    status
}

fn finding(finding: &Finding) -> Value {
    let mut written = json!({
        "severity": match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "code": finding.code,
        "message": cut(finding.message.clone()),
        "remedy": cut(finding.remedy.clone()),
    });
    if !finding.path.is_empty() {
        written["path"] = json!(finding.path);
    }
    written
}

fn granted(access: &Access) -> Value {
    json!({
        "target": access.target,
        "policy": access.policy,
        "mode": match access.mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        },
    })
}

/// `bad-method` as `BadMethod`, which is how Kubernetes writes reasons.
fn camel_case(code: &str) -> String {
    let words = code.split('-').filter_map(|word| {
        let (first, rest) = word.split_at_checked(1)?;
        Some(format!("{}{rest}", first.to_ascii_uppercase()))
    });
    words.collect()
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MESSAGE));
    text
}

#[cfg(test)]
mod tests;
