//! The access review: per workload what it may reach and what it uses of that, and what is not in order.

mod findings;
mod html;
mod ocsf;
mod rows;
mod sign_off;
mod standards;
mod suggest;
mod text;

pub use findings::{Finding, Severity};
pub use rows::{CredentialRow, GrantRow, RuleRow, WorkloadRow};
pub use sign_off::{SignOff, SignOffError, SignOffs};
pub use standards::Standards;
pub use suggest::Suggestion;

use countersign_config::{model::Governance, policy::PolicySet};
use jiff::Timestamp;

use crate::usage::Usage;

/// What a review looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The resources.
    pub policies: &'a PolicySet,
    /// What the gateway's `governance` asks for, if it is known.
    pub governance: Option<&'a Governance>,
    /// What the records say.
    pub usage: &'a Usage,
    /// Earlier sign-offs.
    pub sign_offs: &'a SignOffs,
    /// The time of the review.
    pub now: Timestamp,
    /// A grant that was not used for so many days is a finding.
    pub unused_days: i64,
}

/// An access review.
#[derive(Debug)]
pub struct Review {
    /// The revision that is reviewed.
    pub revision: String,
    /// When.
    pub at: Timestamp,
    /// From when to when there are records.
    pub records: Option<(Timestamp, Timestamp)>,
    /// All workloads, by name.
    pub workloads: Vec<WorkloadRow>,
    /// What is not in order; the worst first.
    pub findings: Vec<Finding>,
}

impl Review {
    /// Reviews the resources.
    pub fn of(subject: Subject<'_>) -> Self {
        let workloads = rows::rows(subject);
        Self {
            revision: subject.policies.revision().to_owned(),
            at: subject.now,
            records: subject.usage.from.zip(subject.usage.to),
            findings: findings::findings(subject),
            workloads,
        }
    }
}

/// Narrower rules for every policy that is wider than what was used.
pub fn suggestions(policies: &PolicySet, usage: &Usage) -> Vec<Suggestion> {
    suggest::suggestions(policies, usage)
}

/// The policies with the suggestions in force, to compare with.
pub fn applied(policies: &PolicySet, suggestions: &[Suggestion]) -> PolicySet {
    suggest::applied(policies, suggestions)
}

#[cfg(test)]
mod tests;
