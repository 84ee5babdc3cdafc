//! The results of a [`PolicySet`](super::PolicySet).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{Attach, Credential, Mode, Policy, Route, Target, Workload},
    shown::disturbs,
};

/// What may be done with a connection to a host, before its first request.
#[derive(Debug, Clone)]
pub enum Interception {
    /// Decrypt: the host is governed, and requests will be decided one by one.
    Intercept(Arc<Target>),
    /// No target with a policy has this host and port.
    Unmatched,
    /// Tunnel it without decrypting, if policy permits the caller a tunnel there.
    Carry(Arc<Target>),
    /// The host is governed, but not at this port.
    OtherPort(Arc<Target>),
    /// The host matches only a wildcard, and this caller has no grant there, so no certificate is made
    /// for it.
    Refuse(Denial),
}

/// The decision for one request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// It is permitted.
    Permit(Grant<'s>),
    /// It is denied.
    Deny(Denial),
    /// No target with a policy has this host and port.
    Unmatched,
}

impl Decision<'_> {
    /// Whether the request is permitted.
    pub fn is_permit(&self) -> bool {
        matches!(self, Self::Permit(_))
    }
}

/// Why and how a request is permitted. Its fields are private and only the decision makes it, so
/// everything in it was decided.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'s> {
    pub(crate) workload: &'s Arc<Workload>,
    pub(crate) policy: &'s Arc<Policy>,
    pub(crate) rule: Option<usize>,
    pub(crate) would_deny: Option<DenyReason>,
    pub(crate) target: &'s Arc<Target>,
    pub(crate) route: &'s Route,
    pub(crate) credential: Option<(&'s Attach, &'s Arc<Credential>)>,
}

impl<'s> Grant<'s> {
    /// The workload that makes the request.
    pub fn workload(&self) -> &'s Arc<Workload> {
        self.workload
    }

    /// The policy that permits it (or observes it).
    pub fn policy(&self) -> &'s Arc<Policy> {
        self.policy
    }

    /// The index of the allow rule that matched; `None` if none did and an observing policy let
    /// it through.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// Why an enforced policy would have refused; only with [`Mode::Observe`].
    pub fn would_deny(&self) -> Option<DenyReason> {
        self.would_deny
    }

    /// The target.
    pub fn target(&self) -> &'s Arc<Target> {
        self.target
    }

    /// The target's route, already checked not to be a denying one.
    pub fn route(&self) -> &'s Route {
        self.route
    }

    /// The credential to attach and where; `None` sends none.
    pub fn credential(&self) -> Option<(&'s Attach, &'s Arc<Credential>)> {
        self.credential
    }
}

impl DenyReason {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::WorkloadUnknown,
        Self::TargetNotGranted,
        Self::RequestNotAllowed,
        Self::OutsideSchedule,
        Self::PolicyExpired,
        Self::ConditionFalse,
        Self::ConditionError,
        Self::PathDenied,
        Self::NoRoute,
        Self::SlotNotGranted,
    ];

    /// The reason's stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkloadUnknown => "workload_unknown",
            Self::TargetNotGranted => "target_not_granted",
            Self::RequestNotAllowed => "request_not_allowed",
            Self::OutsideSchedule => "outside_schedule",
            Self::PolicyExpired => "policy_expired",
            Self::ConditionFalse => "condition_false",
            Self::ConditionError => "condition_error",
            Self::PathDenied => "path_denied",
            Self::NoRoute => "no_route",
            Self::SlotNotGranted => "slot_not_granted",
        }
    }
}

impl std::fmt::Display for DenyReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Mismatch {
    /// Escapes what could affect a terminal or split a log line, and shortens long texts.
    pub(super) fn new(what: &'static str, expected: &str, actual: &str) -> Self {
        Self {
            what,
            expected: printable(expected),
            actual: printable(actual),
        }
    }
}

/// The longest text of a mismatch, in characters.
const MAX_TEXT: usize = 400;

/// The text with control and direction-changing characters escaped, cut after [`MAX_TEXT`].
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_TEXT));
    for (count, letter) in text.chars().enumerate() {
        if count == MAX_TEXT {
            shown.push_str("...");
            break;
        }
        if disturbs(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// How often an expression that uses the time is evaluated again. It cannot tell when its result
/// changes.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(1);

impl Grant<'_> {
    /// The mode of the policy.
    pub fn mode(&self) -> Mode {
        self.policy.mode
    }

    /// The first time after `now` at which time alone may have ended it; `None` if it has no end. A
    /// policy that only observes refuses nothing, so it has no end.
    pub fn valid_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.mode() == Mode::Observe {
            return None;
        }
        let conditions = &self.policy.conditions;
        let closes = conditions
            .schedule
            .as_ref()
            .and_then(|schedule| schedule.closes(now));
        let again = conditions
            .when
            .as_ref()
            .filter(|condition| condition.depends_on_time())
            .map(|_| now.checked_add(ASK_AGAIN).unwrap_or(Timestamp::MAX));
        [conditions.not_after, closes, again]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Why a request is denied. Each name is stable: it is in records, metrics and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The caller matches no workload.
    WorkloadUnknown,
    /// No policy grants the workload this target.
    TargetNotGranted,
    /// A policy grants the target, but no rule permits this request.
    RequestNotAllowed,
    /// A rule matched outside of the policy's schedule.
    OutsideSchedule,
    /// A rule matched after the policy's `notAfter`.
    PolicyExpired,
    /// A rule matched and `when` was false.
    ConditionFalse,
    /// A rule matched and `when` could not be evaluated.
    ConditionError,
    /// The target denies this path to every workload.
    PathDenied,
    /// The target has no route for this request.
    NoRoute,
    /// The route needs a slot that the policy fills with no credential.
    SlotNotGranted,
}

/// A denial by policy, with the rule that came closest.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// The caller's workload, if any.
    pub workload: Option<Arc<Workload>>,
    /// The target.
    pub target: Arc<Target>,
    /// The rule that came closest, if any policy is for this workload and target.
    pub nearest: Option<Nearest>,
    /// The selector that came closest, if the caller matches no workload but resembles one.
    pub nearest_selector: Option<NearestSelector>,
    /// With [`DenyReason::PathDenied`], the `deny` text of the target's route.
    pub denied_by: Option<String>,
    /// With [`DenyReason::NoRoute`], the route that came closest.
    pub nearest_route: Option<NearestRoute>,
    /// With [`DenyReason::WorkloadUnknown`], the SPIFFE ID of a caller that has nothing else.
    pub spiffe_id: Option<Arc<str>>,
}

/// The route of a target that came closest to matching a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestRoute {
    /// Its index among the target's routes.
    pub index: usize,
    /// What it matches, in short.
    pub matches: String,
}

/// The workload selector that came closest to matching a caller.
#[derive(Debug, Clone)]
pub struct NearestSelector {
    /// Its workload.
    pub workload: Arc<Workload>,
    /// Its index among the workload's `match` entries.
    pub entry: usize,
    /// What did not match; never empty.
    pub mismatches: Vec<Mismatch>,
}

/// The rule that came closest to permitting, and what did not match.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Its policy.
    pub policy: Arc<Policy>,
    /// Its index; `None` if the policy as a whole did not apply.
    pub rule: Option<usize>,
    /// What did not match; never empty.
    pub mismatches: Vec<Mismatch>,
}

/// One thing that did not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The key in the resource: `methods`, `paths`, `hosts`, `schedule`, `notAfter`, `when`...
    pub what: &'static str,
    /// What the policy expects.
    pub expected: String,
    /// What the request has. The values of the query are not shown.
    pub actual: String,
}
