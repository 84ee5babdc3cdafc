//! Why not: the rule that came closest to permitting a request.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Denial, DenyReason, Mismatch, Nearest, NearestRoute, PolicySet, Recognised, RequestFacts,
    index::GovernedTarget,
    parts::{Question, RuleParts, SlotFill, hosts_mismatch, unmet, unmet_all},
};
use crate::{
    host::Host,
    model::{Mode, Policy, Route, Target, Workload},
};

/// How close a rule came: the parts that match (a path counts more than a host, a host more than a
/// method); then, if all match, the conditions that hold and the credential.
type Score = (usize, bool, bool, usize);

impl PolicySet {
    /// The denial of a request that no policy let through. Of equally close rules it names the first
    /// that was checked.
    pub(super) fn refuse(
        &self,
        who: &Recognised,
        found: GovernedTarget<'_>,
        route: &Route,
        ask: Question<'_>,
    ) -> Denial {
        let mut best: Option<(Score, &Arc<Workload>, &Arc<Policy>, usize)> = None;
        for (workload, policy) in self.candidates(who, found) {
            for (index, rule) in policy.allow.iter().enumerate() {
                let parts = RuleParts::of(rule, ask.request);
                let beyond = if parts.all() {
                    MOST_FAILURES.saturating_sub(failures(policy, route, ask))
                } else {
                    0
                };
                let score = (parts.count(), parts.paths, parts.hosts, beyond);
                if best.is_none_or(|(most, ..)| score > most) {
                    best = Some((score, workload, policy, index));
                }
            }
        }
        let Some((_, workload, policy, rule)) = best else {
            return self.denial(who, found, DenyReason::TargetNotGranted);
        };
        let (reason, mismatches) = misses(policy, rule, route, ask);
        Denial {
            workload: Some(workload.clone()),
            nearest: Some(Nearest {
                policy: policy.clone(),
                rule: Some(rule),
                mismatches,
            }),
            ..self.denial(who, found, reason)
        }
    }

    /// The denial of a connection to a host that no rule could match.
    pub(super) fn refuse_host(
        &self,
        who: &Recognised,
        found: GovernedTarget<'_>,
        host: &Host,
    ) -> Denial {
        if self.numbers_of(who).is_empty() {
            return self.denial(who, found, DenyReason::WorkloadUnknown);
        }
        let nearest = self
            .candidates(who, found)
            .find_map(|(workload, policy)| Some((workload, policy, policy.allow.first()?)));
        let Some((workload, policy, rule)) = nearest else {
            return self.denial(who, found, DenyReason::TargetNotGranted);
        };
        Denial {
            workload: Some(workload.clone()),
            nearest: Some(Nearest {
                policy: policy.clone(),
                rule: Some(0),
                mismatches: vec![hosts_mismatch(rule, host)],
            }),
            ..self.denial(who, found, DenyReason::RequestNotAllowed)
        }
    }
}

/// How many bytes of a path the right host counts for: a request that has a route's whole path and another host was
/// probably sent to the wrong host.
const HOST: usize = 8;

/// How many patterns of a route are named.
const NAMED: usize = 4;

/// The route of a target that has most of a request's host and path, for a request that none matches.
pub(super) fn nearest_route(target: &Target, request: &RequestFacts<'_>) -> Option<NearestRoute> {
    let path = request.path.as_str();
    // Of patterns that begin alike, the shorter one says less that the path does not have.
    let common = |pattern: &String| {
        let alike = pattern.bytes().zip(path.bytes());
        let common = alike.take_while(|(ours, theirs)| ours == theirs).count();
        (common, Reverse(pattern.len()))
    };
    let routes = target.routes.iter().enumerate();
    let open = routes.filter(|(_, route)| route.deny.is_none());
    let scored = open.map(|(index, route)| {
        let host = route.host.as_ref();
        let host = if host.is_none_or(|host| host.matches(request.host)) {
            HOST
        } else {
            0
        };
        let paths = route.paths.written().iter().map(common).max();
        let (common, shorter) = paths.unwrap_or((0, Reverse(usize::MAX)));
        ((host + common, shorter), index, route)
    });
    // Of equally close ones the first, as for rules.
    let (_, index, route) = scored.rev().max_by_key(|(score, ..)| *score)?;
    let host = route.host.as_ref().map(|host| format!("host {host}"));
    let paths = route.paths.written();
    let named = paths
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let paths = match paths.len() {
        0 => None,
        count if count > NAMED => Some(format!("paths {named} and {} more", count - NAMED)),
        _ => Some(format!("paths {named}")),
    };
    let parts: Vec<_> = host.into_iter().chain(paths).collect();
    Some(NearestRoute {
        index,
        matches: parts.join(", "),
    })
}

/// Three conditions and the credential.
const MOST_FAILURES: usize = 4;

/// How many conditions do not hold, and whether the credential is missing.
fn failures(policy: &Policy, route: &Route, ask: Question<'_>) -> usize {
    let missing = match SlotFill::of(policy, route) {
        SlotFill::Missing(_) => 1,
        SlotFill::NotNeeded | SlotFill::Filled(..) => 0,
    };
    unmet_all(&policy.conditions, ask, true).len() + missing
}

/// What prevents a rule of a policy from permitting, and the resulting reason. No mismatches means that
/// it permits.
pub(super) fn misses(
    policy: &Policy,
    rule: usize,
    route: &Route,
    ask: Question<'_>,
) -> (DenyReason, Vec<Mismatch>) {
    let parts = RuleParts::of(&policy.allow[rule], ask.request);
    let mut mismatches = parts.mismatches(&policy.allow[rule], ask.request);
    mismatches.extend(unmet_all(&policy.conditions, ask, parts.all()));
    let slot = SlotFill::of(policy, route).mismatch(policy);
    let reason = match policy.mode {
        // An observing policy refuses only if it has no credential.
        Mode::Observe => DenyReason::SlotNotGranted,
        Mode::Enforce if !parts.all() => DenyReason::RequestNotAllowed,
        Mode::Enforce => unmet(&policy.conditions, ask).unwrap_or(DenyReason::SlotNotGranted),
    };
    if reason == DenyReason::SlotNotGranted {
        mismatches.splice(0..0, slot);
    } else {
        mismatches.extend(slot);
    }
    (reason, mismatches)
}
