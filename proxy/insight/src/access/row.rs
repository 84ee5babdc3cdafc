//! Who may make a request, in words, for a table.

use super::{Grant, Since, WhoCan};

/// One grant in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// The workload.
    pub workload: String,
    /// Who is responsible for it.
    pub owner: String,
    /// The policy and its rule.
    pub by: String,
    /// Who approved it.
    pub approved: String,
    /// Since when it may, as far as revisions are kept.
    pub since: String,
    /// The credential that is sent.
    pub credential: String,
    /// What must hold besides.
    pub only: Vec<String>,
    /// Whether it may now.
    pub now: String,
    /// When that ends.
    pub ends: String,
    /// When it was last used.
    pub used: String,
}

impl WhoCan {
    /// How many may, or why nobody may.
    pub fn summary(&self) -> String {
        self.headline()
    }

    /// All grants in words.
    pub fn rows(&self) -> impl Iterator<Item = GrantRow> {
        self.grants.iter().map(|grant| self.row(grant))
    }

    fn row(&self, grant: &Grant) -> GrantRow {
        GrantRow {
            workload: grant.workload.name.to_string(),
            owner: grant.workload.owner.clone(),
            by: grant.rule_text(),
            approved: grant.approval(),
            since: grant.since.as_ref().map(Since::text).unwrap_or_default(),
            credential: grant
                .credential
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
            only: grant.conditions(),
            now: grant.now(),
            ends: grant.ends(),
            used: self.used(grant),
        }
    }
}
