//! What triage found, as data: the schema `countersign.triage/v1`.

use jiff::Timestamp;
use serde::Serialize;

use super::{causes::Blame, changes::Change};
use crate::reader::Counts;

/// A failure that is over, and had at most this many requests, is brief.
const BRIEF: u64 = 3;

/// What the records of some time say about what failed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `countersign.triage/v1`.
    pub schema: &'static str,
    /// The first record.
    pub from: Option<Timestamp>,
    /// The last record.
    pub to: Option<Timestamp>,
    /// One sentence that says it all.
    pub verdict: String,
    /// Causes of failures: what goes on first, then what is over; the larger first.
    pub findings: Vec<Finding>,
    /// Errors of the APIs themselves to requests that were permitted: nothing is wrong with access.
    pub api_errors: Vec<Finding>,
    /// Requests that were looked at.
    pub requests: u64,
    /// Those that went through.
    pub permitted: u64,
    /// Refusals that have no record of their own.
    pub summarized: u64,
    /// Records that the gateway lost.
    pub lost: u64,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// One cause.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// One word for the kind: `POLICY`, `SCOPE`, `CREDENTIAL`...
    pub kind: &'static str,
    /// The reason code of most of its records.
    pub reason: String,
    /// What is wrong, in one line.
    pub what: String,
    /// On whose side it is.
    pub blame: Blame,
    /// The same in words, such as "your access, not your code".
    pub blame_words: String,
    /// `high`, `medium` or `low`.
    pub confidence: Confidence,
    /// Whether it goes on at the end of the records.
    pub ongoing: bool,
    /// The first failure.
    pub first: Timestamp,
    /// The last failure.
    pub last: Timestamp,
    /// When it was first seen to work again.
    pub recovered: Option<Timestamp>,
    /// How many requests failed.
    pub count: u64,
    /// The last time that the same worked before.
    pub last_worked: Option<Timestamp>,
    /// Who is affected; the most affected first.
    pub affected: Vec<AffectedWorkload>,
    /// What changed just before; the likeliest first.
    pub changes: Vec<Change>,
    /// Facts that led to this.
    pub because: Vec<String>,
    /// The one thing to do.
    pub action: String,
    /// Whom to ask.
    pub ask: String,
    /// Records that show it.
    pub evidence: Vec<String>,
    /// The next command to type.
    pub next: String,
}

/// A workload or address that is affected.
#[derive(Debug, Clone, Serialize)]
pub struct AffectedWorkload {
    /// `NAMESPACE/NAME`; or the caller's subject, or its address if it proved nothing.
    pub name: String,
    /// Who is responsible for it.
    pub owner: Option<String>,
    /// A request that failed.
    pub request: String,
    /// How many failed.
    pub count: u64,
    /// The first failure.
    pub first: Timestamp,
    /// The last failure.
    pub last: Timestamp,
    /// The last time that this request worked before.
    pub last_worked: Option<Timestamp>,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The record says so, or nothing else fits.
    High,
    /// It is the likeliest cause.
    Medium,
    /// Look at the evidence before you act.
    Low,
}

impl Confidence {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::High => "sure",
            Self::Medium => "likely",
            Self::Low => "a guess",
        }
    }
}

impl Finding {
    /// Whether it is over and had few requests, so that there is most likely nothing to do.
    pub fn is_brief(&self) -> bool {
        !self.ongoing && self.count <= BRIEF
    }
}

impl Report {
    /// Whether anything failed for another reason than the API's own answers.
    pub fn has_findings(&self) -> bool {
        !self.findings.is_empty()
    }

    pub(super) fn note(&mut self, counts: &Counts) {
        self.notes.extend(counts.notes());
        if self.lost > 0 {
            let lost = self.lost;
            self.notes.push(format!("the gateway lost {lost} records: see \"When records are lost\" in docs/decision-record.md"));
        }
    }
}
