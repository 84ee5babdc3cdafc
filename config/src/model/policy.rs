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
    /// Who answers for it.
    pub owner: String,
    /// The workloads it speaks of; never empty.
    pub workloads: Vec<Arc<Workload>>,
    /// Where they may go.
    pub target: Arc<Target>,
    /// What fills the target's slots; a slot is there at most once.
    pub credentials: Vec<(SlotName, Arc<Credential>)>,
    /// Any one of these permits a request; never empty.
    pub allow: Vec<Rule>,
    /// All of these must hold besides.
    pub conditions: Conditions,
    /// Whether it is enforced.
    pub mode: Mode,
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

/// What must hold besides the rules.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// Recurring windows in which requests are permitted.
    pub schedule: Option<Schedule>,
    /// The first moment at which the policy permits nothing any more.
    pub not_after: Option<Timestamp>,
    /// A CEL expression that must be true.
    pub when: Option<Condition>,
    /// The most requests in a period, for each workload on its own.
    pub rate: Option<Rate>,
    /// While the API's own rate limit holds, a request waits this long for its end instead of being
    /// refused at once. A minute at most.
    pub wait_for_rate_limit: Option<Duration>,
}

/// A rate: `60/m` is a burst of at most 60, refilled evenly over a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many requests.
    pub requests: NonZeroU32,
    /// In which time: a second, a minute or an hour.
    pub period: Duration,
}

/// Whether a policy is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// What no rule permits is refused.
    Enforce,
    /// What no rule permits is recorded, and let through.
    Observe,
}
