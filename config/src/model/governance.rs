//! What every resource must say.

use jiff::civil::Date;

/// What every resource must say, beyond what a gateway needs to work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the resource"
)]
pub struct Governance {
    /// Whether resources that do not comply are only reported.
    pub only_warn: bool,
    /// What an owner must look like, with `*` for any characters; empty: anything.
    pub owners: Vec<String>,
    /// Whether a workload must have a purpose.
    pub require_purpose: bool,
    /// Whether a workload must have an environment.
    pub require_environment: bool,
    /// Every workload has a `reviewBy`, which is at most so many days away.
    pub review_within_days: Option<u32>,
    /// The policies of workloads of these environments have a `notAfter`.
    pub require_not_after: Vec<String>,
    /// So many workloads may share a credential.
    pub max_workloads_per_credential: Option<u32>,
    /// Whether a rule must name its paths.
    pub forbid_any_path: bool,
    /// What need not comply, for some time.
    pub exceptions: Vec<GovernanceException>,
}

/// A resource that need not comply with one rule, for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GovernanceException {
    /// With which rule.
    pub rule: GovernanceRule,
    /// The resource: `namespace/name`.
    pub resource: String,
    /// Why.
    pub reason: String,
    /// The last day.
    pub until: Date,
}

/// One rule of governance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GovernanceRule {
    /// The owner looks as it must.
    Owner,
    /// A workload has a purpose.
    Purpose,
    /// A workload has an environment.
    Environment,
    /// A workload's review is not too far away.
    ReviewBy,
    /// A policy has an end.
    NotAfter,
    /// A credential is not shared by too many.
    SharedCredential,
    /// A rule names its paths.
    AnyPath,
}

impl GovernanceRule {
    /// The rule's stable name, as in an exception.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Purpose => "purpose",
            Self::Environment => "environment",
            Self::ReviewBy => "reviewBy",
            Self::NotAfter => "notAfter",
            Self::SharedCredential => "sharedCredential",
            Self::AnyPath => "anyPath",
        }
    }

    /// The code of its findings.
    pub fn code(self) -> &'static str {
        match self {
            Self::Owner => "governance-owner",
            Self::Purpose => "governance-purpose",
            Self::Environment => "governance-environment",
            Self::ReviewBy => "governance-review",
            Self::NotAfter => "governance-end",
            Self::SharedCredential => "governance-shared-credential",
            Self::AnyPath => "governance-any-path",
        }
    }
}
