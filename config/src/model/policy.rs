//! Under which rule: workloads x target x credential, allow rules and conditions.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::Method;
use jiff::Timestamp;

use super::{Credential, ResourceName, SlotName, Target, Workload};
use crate::{condition::Condition, host::HostPattern, path::PathPatterns, schedule::Schedule};

/// An access policy with its references resolved.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `namespace/name`.
    pub name: ResourceName,
    /// Who is responsible for it.
    pub owner: String,
    /// The workloads that it applies to; never empty.
    pub workloads: Vec<Arc<Workload>>,
    /// Where they may go.
    pub target: Arc<Target>,
    /// What fills the target's slots; each slot at most once.
    pub credentials: Vec<(SlotName, Arc<Credential>)>,
    /// Any one of these permits a request; never empty.
    pub allow: Vec<Rule>,
    /// All of these must hold too.
    pub conditions: Conditions,
    /// Whether it is enforced.
    pub mode: Mode,
    /// Who approved it, and what for. No decision depends on it.
    pub approval: Approval,
}

/// What people want to know of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approval {
    /// Who approved it.
    pub by: Option<String>,
    /// Where the approval can be read.
    pub ticket: Option<String>,
    /// Whether it is kept for emergencies, so that it may be unused.
    pub break_glass: bool,
}

/// One allow rule: every part must match.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Empty is any host of the target.
    pub hosts: Vec<HostPattern>,
    /// Empty is any method.
    pub methods: Vec<Method>,
    /// Empty is any path.
    pub paths: PathPatterns,
}

/// What must hold in addition to the rules.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// Recurring windows in which requests are permitted.
    pub schedule: Option<Schedule>,
    /// From this time on the policy permits nothing.
    pub not_after: Option<Timestamp>,
    /// A CEL expression that must be true.
    pub when: Option<Condition>,
    /// The most requests in a period, for each workload on its own.
    pub rate: Option<Rate>,
    /// If the API's own rate limit applies, a request waits for this time instead of being refused at
    /// once. At most a minute.
    pub wait_for_rate_limit: Option<Duration>,
}

/// A rate: `60/m` is a burst of at most 60, refilled evenly over a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many requests.
    pub requests: NonZeroU32,
    /// The period: a second, a minute or an hour.
    pub period: Duration,
}

/// Whether a policy is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// A request that no rule permits is refused.
    Enforce,
    /// A request that no rule permits is recorded and passed on.
    Observe,
}
