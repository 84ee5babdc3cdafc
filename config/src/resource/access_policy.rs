//! `AccessPolicy`: under which rule.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_default;

/// Which workloads may reach which target with which credential, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPolicySpec {
    /// Who is responsible for it.
    pub owner: String,
    /// Names of `Workload`s: `name` in the policy's namespace, or `namespace/name`.
    pub workloads: Vec<String>,
    /// The `TargetService`'s name.
    pub target: String,
    /// The credential for the target's default slot.
    pub credential: Option<String>,
    /// Credentials by slot, instead of `credential`.
    pub credentials: Option<BTreeMap<String, String>>,
    /// Any one of these permits a request.
    pub allow: Vec<AllowRule>,
    /// All of these must hold too.
    pub conditions: Option<ConditionsSpec>,
    /// Whether it is enforced (the default) or only recorded.
    pub mode: Option<PolicyMode>,
    /// Who approved it: a person or a group. For people; it changes no decision.
    pub approved_by: Option<String>,
    /// Where the approval can be read, such as `SEC-1234`. For people; it changes no decision.
    pub ticket: Option<String>,
    /// Whether it is kept for emergencies: `countersign review` does not report it as unused. It changes no
    /// decision.
    pub break_glass: Option<bool>,
}

/// One allow rule; every part that is given must match.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// Hosts of the target. Default: any of them.
    #[serde(default, deserialize_with = "or_default")]
    pub hosts: Vec<String>,
    /// Methods. Default: any.
    #[serde(default, deserialize_with = "or_default")]
    pub methods: Vec<String>,
    /// Path patterns, `*` for one segment and `**` for any number. Default: any path.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Vec<String>,
}

/// What must hold in addition to the rules.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionsSpec {
    /// Recurring windows in which requests are permitted.
    pub schedule: Option<ScheduleSpec>,
    /// From this time on it permits nothing: `2027-06-30T00:00:00Z`.
    pub not_after: Option<String>,
    /// A CEL expression over `request` and `caller` that must be true.
    pub when: Option<String>,
    /// The most requests in a period, for each workload: `60/m`; `s`, `m` or `h`.
    pub rate: Option<String>,
    /// How long a request waits for the end of the API's own rate limit (its 429 with `Retry-After`)
    /// instead of being refused at once: `5s`; at most a minute.
    pub wait_for_rate_limit: Option<String>,
}

/// A window that opens whenever a cron expression fires.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Minute, hour, day of month, month, day of week; as in a Kubernetes `CronJob`, `@daily` and the like
    /// included.
    pub cron: String,
    /// How long the window stays open: `45m`.
    pub duration: String,
    /// The time zone of the expression, as an IANA name; as in a Kubernetes `CronJob`.
    pub time_zone: String,
}

/// Whether a policy is enforced.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PolicyMode {
    /// A request that no rule permits is refused.
    Enforce,
    /// A request that no rule permits is recorded and passed on.
    Observe,
}
