//! `spec.governance` of a `Gateway`: what every resource must say.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{PolicyMode, or_default};

/// What every resource must say, beyond what a gateway needs to work.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GovernanceSpec {
    /// Whether resources that do not comply are refused (the default) or only reported.
    pub mode: Option<PolicyMode>,
    /// What an `owner` must look like: `*@example.com`; `*` is any characters. Default: anything.
    #[serde(default, deserialize_with = "or_default")]
    pub owners: Vec<String>,
    /// Whether a `Workload` must have a `purpose`.
    pub require_purpose: Option<bool>,
    /// Whether a `Workload` must have an `environment`.
    pub require_environment: Option<bool>,
    /// Every `Workload` must have a `reviewBy`, at most so many days away: from 1 to 3650.
    pub review_within_days: Option<u32>,
    /// The environments whose policies must have a `notAfter`: `[production]`.
    #[serde(default, deserialize_with = "or_default")]
    pub require_not_after: Vec<String>,
    /// How many workloads may share a credential: 1 or more.
    pub max_workloads_per_credential: Option<u32>,
    /// Whether an allow rule must name its paths; `/**` is no name.
    pub forbid_any_path: Option<bool>,
    /// Resources that need not comply with one of these for some time.
    #[serde(default, deserialize_with = "or_default")]
    pub exceptions: Vec<GovernanceExceptionSpec>,
}

/// A resource that need not comply with one rule for some time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GovernanceExceptionSpec {
    /// The rule.
    pub rule: GovernanceRuleSpec,
    /// The resource, as `namespace/name`.
    pub resource: String,
    /// Why, and who agreed.
    pub reason: String,
    /// The last day: `2027-06-30`.
    pub until: String,
}

/// A rule of `governance`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GovernanceRuleSpec {
    /// `owners`.
    Owner,
    /// `requirePurpose`.
    Purpose,
    /// `requireEnvironment`.
    Environment,
    /// `reviewWithinDays`.
    ReviewBy,
    /// `requireNotAfter`.
    NotAfter,
    /// `maxWorkloadsPerCredential`.
    SharedCredential,
    /// `forbidAnyPath`.
    AnyPath,
}
