//! The one place that compares a request with a rule, a policy's conditions and a route.
//!
//! The decision, the closest rule and the explanation all use these functions, so they cannot differ.

use std::sync::Arc;

use jiff::Timestamp;

use super::{CallerFacts, DenyReason, Mismatch, RequestFacts};
use crate::{
    condition::ConditionError,
    host::HostPattern,
    model::{Attach, Conditions, Credential, Policy, Route, Rule},
};

/// The input of a decision: who, what, when.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub caller: &'a CallerFacts,
    pub request: &'a RequestFacts<'a>,
    pub now: Timestamp,
}

/// Which parts of a rule match.
#[derive(Clone, Copy)]
pub(super) struct RuleParts {
    pub hosts: bool,
    pub methods: bool,
    pub paths: bool,
}

impl RuleParts {
    pub(super) fn of(rule: &Rule, request: &RequestFacts<'_>) -> Self {
        Self {
            methods: rule.methods.is_empty() || rule.methods.contains(request.method),
            hosts: allows_host(rule, |pattern| pattern.matches(request.host)),
            paths: rule.paths.matches(request.path),
        }
    }

    pub(super) fn all(self) -> bool {
        self.hosts && self.methods && self.paths
    }

    pub(super) fn count(self) -> usize {
        usize::from(self.hosts) + usize::from(self.methods) + usize::from(self.paths)
    }

    pub(super) fn mismatches(self, rule: &Rule, request: &RequestFacts<'_>) -> Vec<Mismatch> {
        let mut all = Vec::new();
        if !self.hosts {
            all.push(hosts_mismatch(rule, request.host));
        }
        if !self.methods {
            let wanted: Vec<_> = rule.methods.iter().map(http::Method::as_str).collect();
            all.push(Mismatch::new(
                "methods",
                &wanted.join(", "),
                request.method.as_str(),
            ));
        }
        if !self.paths {
            all.push(Mismatch::new(
                "paths",
                &rule.paths.written().join(", "),
                request.path.as_str(),
            ));
        }
        all
    }
}

/// Whether a rule names no hosts, or one for which `test` holds.
pub(super) fn allows_host(rule: &Rule, test: impl Fn(&HostPattern) -> bool) -> bool {
    rule.hosts.is_empty() || rule.hosts.iter().any(test)
}

pub(super) fn hosts_mismatch(rule: &Rule, host: &crate::host::Host) -> Mismatch {
    let wanted: Vec<_> = rule.hosts.iter().map(ToString::to_string).collect();
    Mismatch::new("hosts", &wanted.join(", "), &host.to_string())
}

/// Whether a route matches this request.
pub(super) fn route_matches(route: &Route, request: &RequestFacts<'_>) -> bool {
    route.is_for(request.host, request.path)
}

/// The first condition that does not hold.
pub(super) fn unmet(conditions: &Conditions, ask: Question<'_>) -> Option<DenyReason> {
    if !in_schedule(conditions, ask.now) {
        return Some(DenyReason::OutsideSchedule);
    }
    if expired(conditions, ask.now) {
        return Some(DenyReason::PolicyExpired);
    }
    match when(conditions, ask) {
        Ok(true) => None,
        Ok(false) => Some(DenyReason::ConditionFalse),
        Err(_) => Some(DenyReason::ConditionError),
    }
}

/// Every condition that does not hold. `when` is evaluated only if a rule matched, because it is written
/// for requests that some rule allows.
pub(super) fn unmet_all(
    conditions: &Conditions,
    ask: Question<'_>,
    rule_matched: bool,
) -> Vec<Mismatch> {
    let mut all = Vec::new();
    if let Some(schedule) = &conditions.schedule
        && !in_schedule(conditions, ask.now)
    {
        let next = match schedule.next_open(ask.now) {
            Some(next) => format!("{}, next open at {}", ask.now, schedule.in_zone(next)),
            None => format!("{}, and it does not open again", ask.now),
        };
        all.push(Mismatch::new("schedule", &schedule.to_string(), &next));
    }
    if let Some(end) = conditions.not_after
        && expired(conditions, ask.now)
    {
        all.push(Mismatch::new(
            "notAfter",
            &format!("before {end}"),
            &ask.now.to_string(),
        ));
    }
    if let Some(condition) = &conditions.when
        && rule_matched
    {
        match when(conditions, ask) {
            Ok(true) => {}
            Ok(false) => all.push(Mismatch::new("when", condition.written(), "false")),
            Err(error) => all.push(Mismatch::new(
                "when",
                condition.written(),
                &format!("an error: {error}"),
            )),
        }
    }
    all
}

fn in_schedule(conditions: &Conditions, now: Timestamp) -> bool {
    conditions
        .schedule
        .as_ref()
        .is_none_or(|schedule| schedule.is_open(now))
}

fn expired(conditions: &Conditions, now: Timestamp) -> bool {
    conditions.not_after.is_some_and(|end| now >= end)
}

fn when(conditions: &Conditions, ask: Question<'_>) -> Result<bool, ConditionError> {
    conditions.when.as_ref().map_or(Ok(true), |condition| {
        condition.holds(ask.caller, ask.request, ask.now)
    })
}

/// The credential that a policy has for a route.
#[derive(Clone, Copy)]
pub(super) enum SlotFill<'s> {
    /// The route sends none.
    NotNeeded,
    Filled(&'s Attach, &'s Arc<Credential>),
    /// The policy has none, but the route needs one.
    Missing(&'s Attach),
}

impl<'s> SlotFill<'s> {
    pub(super) fn of(policy: &'s Policy, route: &'s Route) -> Self {
        let Some(attach) = &route.attach else {
            return Self::NotNeeded;
        };
        policy
            .credentials
            .iter()
            .find(|(slot, _)| *slot == attach.slot)
            .map_or(Self::Missing(attach), |(_, credential)| {
                Self::Filled(attach, credential)
            })
    }

    pub(super) fn mismatch(self, policy: &Policy) -> Option<Mismatch> {
        let Self::Missing(attach) = self else {
            return None;
        };
        let filled: Vec<_> = policy.credentials.iter().map(|(slot, _)| &**slot).collect();
        let filled = if filled.is_empty() {
            "none".to_owned()
        } else {
            filled.join(", ")
        };
        Some(Mismatch::new("credentials", &attach.slot, &filled))
    }
}

/// The result of one policy for one request.
#[derive(Clone, Copy)]
pub(super) struct Verdict<'s> {
    /// The first rule that matches.
    pub rule: Option<usize>,
    /// What prevents it, except the credential.
    pub against: Option<DenyReason>,
    pub fill: SlotFill<'s>,
}

impl<'s> Verdict<'s> {
    pub(super) fn of(policy: &'s Policy, route: &'s Route, ask: Question<'_>) -> Self {
        let rule = policy
            .allow
            .iter()
            .position(|rule| RuleParts::of(rule, ask.request).all());
        Self {
            rule,
            against: match rule {
                None => Some(DenyReason::RequestNotAllowed),
                Some(_) => unmet(&policy.conditions, ask),
            },
            fill: SlotFill::of(policy, route),
        }
    }

    /// Whether the policy would permit if it were enforced.
    pub(super) fn permits(self) -> bool {
        self.against.is_none() && !matches!(self.fill, SlotFill::Missing(_))
    }
}
