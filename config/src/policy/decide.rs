//! Decides about one request, and about one connection before its first request.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    CallerFacts, Decision, Denial, DenyReason, Grant, Interception, PolicySet, Recognised,
    RequestFacts,
    index::GovernedTarget,
    nearest::nearest_route,
    parts::{Question, SlotFill, Verdict, allows_host, route_matches},
};
use crate::{
    host::Host,
    model::{Mode, Policy, ResourceName, Route, Workload},
};

/// Observes each comparison during a decision.
pub(super) trait Trace<'s> {
    fn route(&mut self, index: usize, route: &'s Route, matches: bool);
    fn policy(
        &mut self,
        workload: &'s Arc<Workload>,
        policy: &'s Arc<Policy>,
        verdict: Verdict<'s>,
    );

    /// Whether a grant counts; one that does not is skipped.
    fn counts(&self, _: &Grant<'s>) -> bool {
        true
    }
}

/// Observes nothing, and costs nothing.
struct NoTrace;

impl<'s> Trace<'s> for NoTrace {
    fn route(&mut self, _: usize, _: &'s Route, _: bool) {}
    fn policy(&mut self, _: &'s Arc<Workload>, _: &'s Arc<Policy>, _: Verdict<'s>) {}
}

/// Counts only grants that send the same credential.
struct SameCredential<'c>(Option<&'c ResourceName>);

impl<'s> Trace<'s> for SameCredential<'_> {
    fn route(&mut self, _: usize, _: &'s Route, _: bool) {}
    fn policy(&mut self, _: &'s Arc<Workload>, _: &'s Arc<Policy>, _: Verdict<'s>) {}

    fn counts(&self, grant: &Grant<'s>) -> bool {
        grant.credential.map(|(_, credential)| &credential.name) == self.0
    }
}

impl PolicySet {
    /// Decides again whether a tunnel or a WebSocket, which a request with this credential opened, may
    /// stay open. A policy that would now send another credential does not count.
    pub fn decide_again(
        &self,
        caller: &CallerFacts,
        request: &RequestFacts<'_>,
        credential: Option<&ResourceName>,
        now: Timestamp,
    ) -> Decision<'_> {
        let ask = Question {
            caller,
            request,
            now,
        };
        self.judge(
            &self.recognise(caller),
            ask,
            &mut SameCredential(credential),
        )
    }

    /// The decision for one request. Rates are not counted here: the caller of this function holds the
    /// counters.
    ///
    /// `who` should be from this policy set ([`Recognised::is_of`]); if it is from another, the caller's
    /// workloads are matched again.
    pub fn decide(
        &self,
        who: &Recognised,
        caller: &CallerFacts,
        request: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Decision<'_> {
        let ask = Question {
            caller,
            request,
            now,
        };
        if who.is_of(self) {
            self.judge(who, ask, &mut NoTrace)
        } else {
            self.judge(&self.recognise(caller), ask, &mut NoTrace)
        }
    }

    pub(super) fn judge<'s>(
        &'s self,
        who: &Recognised,
        ask: Question<'_>,
        trace: &mut impl Trace<'s>,
    ) -> Decision<'s> {
        let Some(found) = self.find(ask.request.host, ask.request.port) else {
            return Decision::Unmatched;
        };
        if self.numbers_of(who).is_empty() {
            let caller = ask.caller;
            let alone = caller.service_account.is_none();
            return Decision::Deny(Denial {
                nearest_selector: self.nearest_selector(caller),
                spiffe_id: caller.spiffe_id.clone().filter(|_| alone),
                ..self.denial(who, found, DenyReason::WorkloadUnknown)
            });
        }
        let route = match first_route(found, ask.request, trace) {
            Ok(route) => route,
            Err((reason, denied_by)) => {
                let nearest_route = match reason {
                    DenyReason::NoRoute => nearest_route(found.target, ask.request),
                    _ => None,
                };
                return Decision::Deny(Denial {
                    denied_by,
                    nearest_route,
                    ..self.denial(who, found, reason)
                });
            }
        };
        match self.first_grant(who, found, route, ask, trace) {
            Some(grant) => Decision::Permit(grant),
            None => Decision::Deny(self.refuse(who, found, route, ask)),
        }
    }

    /// The first enforcing policy that permits; otherwise an observing one.
    fn first_grant<'s>(
        &'s self,
        who: &Recognised,
        found: GovernedTarget<'s>,
        route: &'s Route,
        ask: Question<'_>,
        trace: &mut impl Trace<'s>,
    ) -> Option<Grant<'s>> {
        let mut observed: Option<Grant<'s>> = None;
        for (workload, policy) in self.candidates(who, found) {
            let verdict = Verdict::of(policy, route, ask);
            trace.policy(workload, policy, verdict);
            let credential = match verdict.fill {
                SlotFill::NotNeeded => None,
                SlotFill::Filled(attach, credential) => Some((attach, credential)),
                SlotFill::Missing(_) => continue,
            };
            let grant = Grant {
                workload,
                policy,
                rule: verdict.rule,
                would_deny: verdict.against,
                target: found.target,
                route,
                credential,
            };
            if !trace.counts(&grant) {
                continue;
            }
            match (policy.mode, verdict.against) {
                (Mode::Enforce, None) => return Some(grant),
                (Mode::Enforce, Some(_)) => {}
                (Mode::Observe, None) => {
                    // An observing policy that would permit is preferred over one that would not.
                    if observed.is_none_or(|earlier| earlier.would_deny.is_some()) {
                        observed = Some(grant);
                    }
                }
                (Mode::Observe, Some(_)) => observed = observed.or(Some(grant)),
            }
        }
        observed
    }

    /// The policies for the caller's workloads and the target.
    pub(super) fn candidates<'s, 'w>(
        &'s self,
        who: &'w Recognised,
        found: GovernedTarget<'s>,
    ) -> impl Iterator<Item = (&'s Arc<Workload>, &'s Arc<Policy>)> + use<'s, 'w> {
        self.numbers_of(who).iter().flat_map(move |&workload| {
            self.grants(workload, found.index)
                .map(move |policy| (&self.workloads[workload as usize], policy))
        })
    }

    /// Whether a connection to `host` may be decrypted for this caller.
    ///
    /// A host that a target names exactly may be, for any identified caller: there are few of these. A
    /// host that only a wildcard matches may be if some policy for the caller has a rule that could
    /// match it (or observes). So no one can have certificates made for names of their choice (THREATS
    /// 32).
    ///
    /// `who` must be from this policy set; otherwise it counts as unknown.
    pub fn interception(&self, who: &Recognised, host: &Host, port: u16) -> Interception {
        let Some(found) = self.find(host, port) else {
            return match self.governing_target(host) {
                Some(target) => Interception::OtherPort(Arc::clone(target)),
                None => Interception::Unmatched,
            };
        };
        if !found.target.intercept {
            return Interception::Carry(Arc::clone(found.target));
        }
        let could_match = |policy: &Policy| match policy.mode {
            Mode::Observe => true,
            Mode::Enforce => policy
                .allow
                .iter()
                .any(|rule| allows_host(rule, |pattern| pattern.matches(host))),
        };
        if found.exact
            || self
                .candidates(who, found)
                .any(|(_, policy)| could_match(policy))
        {
            return Interception::Intercept(found.target.clone());
        }
        Interception::Refuse(self.refuse_host(who, found, host))
    }

    pub(super) fn denial(
        &self,
        who: &Recognised,
        found: GovernedTarget<'_>,
        reason: DenyReason,
    ) -> Denial {
        Denial {
            reason,
            workload: self.workloads_of(who).next().cloned(),
            target: found.target.clone(),
            nearest: None,
            nearest_selector: None,
            denied_by: None,
            nearest_route: None,
            spiffe_id: None,
        }
    }
}

/// The first matching route, unless it denies.
fn first_route<'s>(
    found: GovernedTarget<'s>,
    request: &RequestFacts<'_>,
    trace: &mut impl Trace<'s>,
) -> Result<&'s Route, (DenyReason, Option<String>)> {
    for (index, route) in found.target.routes.iter().enumerate() {
        let matches = route_matches(route, request);
        trace.route(index, route, matches);
        match (matches, &route.deny) {
            (true, None) => return Ok(route),
            (true, Some(text)) => return Err((DenyReason::PathDenied, Some(text.clone()))),
            (false, _) => {}
        }
    }
    Err((DenyReason::NoRoute, None))
}
