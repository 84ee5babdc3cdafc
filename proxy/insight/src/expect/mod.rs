//! Operators' expectations: requests in a YAML file, each with the decision that is expected, so that their CI
//! finds what a change to policy breaks.

mod report;

use std::collections::BTreeMap;

use countersign_config::policy::{Decision, DenyReason, PodFacts, PolicySet};
use jiff::Timestamp;
use serde::Deserialize;
use serde_saphyr::Spanned;

pub use report::{Case, Results};

use crate::request::{Asked, caller};

/// A mistake in a file of expectations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1.
    pub line: u64,
    /// The column, counted from 1.
    pub column: u64,
    /// What is wrong, and what to write.
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tests: Vec<Spanned<Written>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(rename = "as")]
    subject: Spanned<String>,
    cluster: Option<String>,
    cron_job: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    images: Vec<String>,
    request: Spanned<String>,
    at: Option<Spanned<String>>,
    expect: Spanned<String>,
    reason: Option<Spanned<String>>,
    policy: Option<Spanned<String>>,
    rule: Option<usize>,
    credential: Option<Spanned<String>>,
}

/// What is expected.
#[derive(Debug)]
enum Expected {
    Permit {
        policy: Option<String>,
        rule: Option<usize>,
        credential: Option<String>,
    },
    Deny {
        reason: Option<DenyReason>,
    },
    Unmatched,
}

/// Decides every request of a file and compares. `now` is the time of requests that name none.
///
/// # Errors
/// With every mistake in the file. Then no expectation counts.
pub fn run(policies: &PolicySet, text: &str, now: Timestamp) -> Result<Results, Vec<Mistake>> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| vec![syntax(&error)])?;
    if file.tests.is_empty() {
        return Err(vec![Mistake {
            line: 1,
            column: 1,
            message: "there are no tests; a file without one proves nothing".to_owned(),
        }]);
    }
    let (mut cases, mut mistakes) = (Vec::new(), Vec::new());
    for written in &file.tests {
        let mut reader = CaseReader {
            policies,
            now,
            mistakes: &mut mistakes,
        };
        if let Some(case) = reader.case(written) {
            cases.push(case);
        }
    }
    if !mistakes.is_empty() {
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        return Err(mistakes);
    }
    Ok(Results {
        revision: policies.revision().to_owned(),
        cases,
    })
}

fn syntax(error: &serde_saphyr::Error) -> Mistake {
    let (line, column) = error
        .location()
        .map_or((1, 1), |at| (at.line(), at.column()));
    let said = error.without_snippet().to_string();
    let said = said.lines().next().unwrap_or_default();
    Mistake {
        line,
        column,
        message: said
            .split(" at line ")
            .next()
            .unwrap_or(said)
            .trim()
            .to_owned(),
    }
}

struct CaseReader<'a> {
    policies: &'a PolicySet,
    now: Timestamp,
    mistakes: &'a mut Vec<Mistake>,
}

impl CaseReader<'_> {
    fn mistake<T>(&mut self, at: &Spanned<String>, message: impl Into<String>) -> Option<T> {
        self.mistakes.push(Mistake {
            line: at.referenced.line(),
            column: at.referenced.column(),
            message: message.into(),
        });
        None
    }

    fn case(&mut self, spanned: &Spanned<Written>) -> Option<Case> {
        let written = &spanned.value;
        let subject = &written.subject;
        let caller = caller(&subject.value, written.cluster.as_deref(), self.policies);
        let caller = caller
            .or_else(|message| self.mistake(subject, message).ok_or(()))
            .ok();
        let request = self.request(&written.request);
        let at = match &written.at {
            None => Some(self.now),
            Some(at) => at.value.parse().ok().or_else(|| {
                self.mistake(
                    at,
                    "this is not a time; write one such as `2026-11-23T05:10:00Z`",
                )
            }),
        };
        let expected = self.expected(written);
        let (mut caller, request, at, expected) = (caller?, request?, at?, expected?);
        if written.cron_job.is_some() || !written.labels.is_empty() || !written.images.is_empty() {
            caller.kubernetes = Some(std::sync::Arc::new(PodFacts {
                labels: written.labels.clone(),
                images: written.images.clone(),
                cron_job: written.cron_job.clone(),
                ..PodFacts::default()
            }));
        }
        let expects_nobody = matches!(
            expected,
            Expected::Deny {
                reason: Some(DenyReason::WorkloadUnknown)
            } | Expected::Unmatched
        );
        if self.policies.recognise(&caller).is_unknown() && !expects_nobody {
            // A name that nobody has would be denied everything, which looks like success.
            return self.mistake(
                subject,
                "no workload matches this caller; correct the name, or expect `reason: workload_unknown`",
            );
        }
        let explanation = self.policies.explain(&caller, &request.facts(), at);
        Some(Case {
            name: written.name.clone().unwrap_or_else(|| {
                format!(
                    "{} {} at line {}",
                    subject.value,
                    written.request.value,
                    spanned.referenced.line()
                )
            }),
            line: spanned.referenced.line(),
            failure: failure(&expected, &explanation.decision),
            explanation: explanation.to_string(),
        })
    }

    fn request(&mut self, written: &Spanned<String>) -> Option<Asked> {
        let Some((method, url)) = written.value.trim().split_once(char::is_whitespace) else {
            return self.mistake(
                written,
                "write a method and a URL, such as `GET https://api.qase.io/v1/run/DEMO`",
            );
        };
        match Asked::read(method, url.trim(), self.policies) {
            Ok(request) => Some(request),
            Err(message) => self.mistake(written, message),
        }
    }

    fn expected(&mut self, written: &Written) -> Option<Expected> {
        let expect = &written.expect;
        let is_permit = match expect.value.as_str() {
            "permit" => true,
            "deny" | "unmatched" => false,
            _ => return self.mistake(expect, "write `permit`, `deny` or `unmatched`"),
        };
        let of_permit = [&written.policy, &written.credential]
            .into_iter()
            .flatten()
            .next();
        if let (false, Some(extra)) = (is_permit, of_permit) {
            return self.mistake(
                extra,
                "only a request that is permitted has a policy and a credential",
            );
        }
        if !is_permit && written.rule.is_some() {
            return self.mistake(expect, "only a request that is permitted has a rule");
        }
        if let (true, Some(reason)) = (expect.value != "deny", &written.reason) {
            return self.mistake(reason, "only a request that is denied has a reason");
        }
        if is_permit {
            return self.permit(written);
        }
        if expect.value == "unmatched" {
            return Some(Expected::Unmatched);
        }
        let reason = match &written.reason {
            None => None,
            Some(text) => Some(self.reason(text)?),
        };
        Some(Expected::Deny { reason })
    }

    /// A policy or credential that is not there would never be the one.
    fn permit(&mut self, written: &Written) -> Option<Expected> {
        if let Some(policy) = &written.policy {
            let known = self.policies.policies();
            if !known.iter().any(|one| one.name.as_str() == policy.value) {
                return self.mistake(policy, "there is no AccessPolicy of this name");
            }
        }
        if let Some(credential) = &written.credential {
            let known = self.policies.credentials();
            if !known
                .iter()
                .any(|one| one.name.as_str() == credential.value)
            {
                return self.mistake(credential, "there is no Credential of this name");
            }
        }
        let text =
            |spanned: &Option<Spanned<String>>| spanned.as_ref().map(|text| text.value.clone());
        Some(Expected::Permit {
            policy: text(&written.policy),
            rule: written.rule,
            credential: text(&written.credential),
        })
    }

    fn reason(&mut self, text: &Spanned<String>) -> Option<DenyReason> {
        let known = DenyReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text.value);
        known.or_else(|| {
            let names = DenyReason::ALL.map(DenyReason::as_str);
            let close = countersign_config::closest(&text.value, names);
            let remedy = close.map_or_else(
                || names.join(", "),
                |close| format!("did you mean `{close}`?"),
            );
            self.mistake(text, format!("policy denies for no such reason; {remedy}"))
        })
    }
}

/// How the decision differs from what is expected.
fn failure(expected: &Expected, decision: &Decision<'_>) -> Option<String> {
    let is_met = match (expected, decision) {
        (Expected::Unmatched, Decision::Unmatched) => true,
        (Expected::Deny { reason }, Decision::Deny(denial)) => {
            reason.is_none_or(|reason| denial.reason == reason)
        }
        (
            Expected::Permit {
                policy,
                rule,
                credential,
            },
            Decision::Permit(grant),
        ) => {
            let sent = grant.credential().map(|(_, own)| own.name.as_str());
            let is = |wanted: &Option<String>, got: Option<&str>| {
                wanted.is_none() || wanted.as_deref() == got
            };
            is(policy, Some(grant.policy().name.as_str()))
                && is(credential, sent)
                && rule.is_none_or(|rule| grant.rule() == Some(rule))
        }
        _ => false,
    };
    (!is_met).then(|| format!("expected {}, but {}", expected.text(), got(decision)))
}

impl Expected {
    fn text(&self) -> String {
        match self {
            Self::Unmatched => "unmatched".to_owned(),
            Self::Deny { reason: None } => "deny".to_owned(),
            Self::Deny {
                reason: Some(reason),
            } => format!("deny: {reason}"),
            Self::Permit {
                policy,
                rule,
                credential,
            } => {
                let by = policy.as_ref().map(|policy| format!(" by {policy}"));
                let rule = rule.map(|rule| format!(" allow[{rule}]"));
                let with = credential.as_ref().map(|own| format!(" with {own}"));
                let parts = [by, rule, with].into_iter().flatten();
                format!("permit{}", parts.collect::<String>())
            }
        }
    }
}

fn got(decision: &Decision<'_>) -> String {
    let grant = match decision {
        Decision::Deny(denial) => return format!("it is denied: {}", denial.reason),
        Decision::Unmatched => return "no target in use has this host and port".to_owned(),
        Decision::Permit(grant) => grant,
    };
    let rule = grant.rule().map(|rule| format!(" allow[{rule}]"));
    let credential = grant.credential().map_or_else(
        || "no credential".to_owned(),
        |(_, credential)| credential.name.to_string(),
    );
    let trial = grant
        .would_deny()
        .map(|reason| format!(", though only on trial: enforced it would be denied ({reason})"));
    format!(
        "it is permitted by {}{} with {credential}{}",
        grant.policy().name,
        rule.unwrap_or_default(),
        trial.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
