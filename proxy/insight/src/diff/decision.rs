//! The decision for a class of requests, before it is known what time it is and what `when` yields.

use std::{collections::BTreeMap, sync::Arc};

use countersign_config::{
    model::{Mode, Policy, ResourceName, Target},
    path::EncodedSlash,
};

use super::{
    atoms::{Atoms, RequestClass},
    effect::{Effect, Outcome, Sent, rate},
    revision::Revision,
};
use crate::space::times::Window;

/// A policy that permits a request, if its conditions hold.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'p> {
    policy: &'p Arc<Policy>,
    rule: Option<usize>,
    sent: Sent,
    window: Option<u32>,
    when: Option<u32>,
}

/// What decides, in the order in which it does.
#[derive(Debug, Clone)]
pub(crate) enum Pending<'p> {
    Known(Outcome),
    Candidates(Vec<Candidate<'p>>),
}

/// The conditions in some decisions, each once.
#[derive(Debug, Default)]
pub(crate) struct Clauses {
    pub(crate) windows: Vec<Window>,
    pub(crate) whens: Vec<String>,
}

impl Clauses {
    fn window(&mut self, policy: &Policy) -> Option<u32> {
        let window = Window::of(&policy.conditions)?;
        let known = self
            .windows
            .iter()
            .position(|known| known.key() == window.key());
        let index = known.unwrap_or_else(|| {
            self.windows.push(window);
            self.windows.len() - 1
        });
        u32::try_from(index).ok()
    }

    fn when(&mut self, policy: &Policy) -> Option<u32> {
        let when = policy.conditions.when.as_ref()?.written();
        let known = self.whens.iter().position(|known| known == when);
        let index = known.unwrap_or_else(|| {
            self.whens.push(when.to_owned());
            self.whens.len() - 1
        });
        u32::try_from(index).ok()
    }
}

/// One revision's view of one class of callers at one target.
pub(crate) struct Decider<'p, 'a> {
    pub(crate) revision: &'a Revision<'p>,
    pub(crate) workloads: &'a [&'p ResourceName],
    pub(crate) atoms: &'a Atoms,
    pub(crate) target: Option<&'p Arc<Target>>,
}

impl<'p> Decider<'p, '_> {
    pub(crate) fn decide(&self, request: RequestClass<'_>, clauses: &mut Clauses) -> Pending<'p> {
        let refused = || Pending::Known(Outcome::refused());
        let slash = self.atoms.has_encoded_slash(request.paths);
        let keeps = |target: &Target| target.encoded_slash == EncodedSlash::Keep;
        if slash && !self.target.is_some_and(|target| keeps(target)) {
            // Its path is refused before policy is asked.
            return refused();
        }
        let Some(target) = self.target else {
            return Pending::Known(Outcome::unmatched());
        };
        if self.workloads.is_empty() {
            return refused();
        }
        let Some(route) = target
            .routes
            .iter()
            .find(|route| self.atoms.route(route, request))
        else {
            return refused();
        };
        if route.deny.is_some() {
            return refused();
        }
        let policies = self.revision.candidates(self.workloads, &target.name);
        if policies.is_empty() {
            return refused();
        }
        let mut candidates = Vec::new();
        for policy in policies {
            let credential = match &route.attach {
                None => None,
                Some(attach) => {
                    let mut filled = policy.credentials.iter();
                    let Some((_, credential)) = filled.find(|(slot, _)| *slot == attach.slot)
                    else {
                        continue;
                    };
                    Some((attach, &**credential))
                }
            };
            let rule = policy
                .allow
                .iter()
                .position(|rule| self.atoms.rule(rule, request));
            if rule.is_none() && policy.mode == Mode::Enforce {
                continue;
            }
            candidates.push(Candidate {
                policy,
                rule,
                sent: Sent::of(target, credential),
                window: rule.and_then(|_| clauses.window(policy)),
                when: rule.and_then(|_| clauses.when(policy)),
            });
        }
        if candidates.is_empty() {
            return refused();
        }
        Pending::Candidates(candidates)
    }
}

impl Pending<'_> {
    /// The outcome when these windows are open and these expressions are true.
    pub(crate) fn resolve(&self, open: &[u32], holds: impl Fn(u32) -> bool) -> Outcome {
        let candidates = match self {
            Self::Known(outcome) => return outcome.clone(),
            Self::Candidates(candidates) => candidates,
        };
        let mut observed: Option<(bool, Outcome)> = None;
        for candidate in candidates {
            let permits = candidate.rule.is_some()
                && candidate
                    .window
                    .is_none_or(|window| open.binary_search(&window).is_ok())
                && candidate.when.is_none_or(&holds);
            match (candidate.policy.mode, permits) {
                (Mode::Enforce, true) => return candidate.outcome(true),
                (Mode::Enforce, false) => {}
                (Mode::Observe, permits) => {
                    if observed
                        .as_ref()
                        .is_none_or(|(earlier, _)| permits && !earlier)
                    {
                        observed = Some((permits, candidate.outcome(permits)));
                    }
                }
            }
        }
        observed.map_or_else(Outcome::refused, |(_, outcome)| outcome)
    }

    /// The same, as far as it bears on a difference.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(one), Self::Known(two)) => one.effect == two.effect,
            (Self::Candidates(one), Self::Candidates(two)) => {
                one.len() == two.len()
                    && one.iter().zip(two).all(|(one, two)| {
                        one.sent == two.sent
                            && one.window == two.window
                            && one.when == two.when
                            && one.rule.is_some() == two.rule.is_some()
                            && one.policy.mode == two.policy.mode
                            && one.policy.conditions.rate == two.policy.conditions.rate
                    })
            }
            _ => false,
        }
    }
}

impl Candidate<'_> {
    fn outcome(&self, permits: bool) -> Outcome {
        let sent = self.sent.clone();
        let enforced = self.policy.mode == Mode::Enforce;
        Outcome {
            effect: if permits {
                Effect::Permitted(sent)
            } else {
                Effect::Observed(sent)
            },
            policy: Some(self.policy.name.to_string()),
            rule: self.rule,
            reason: None,
            // A policy that only observes refuses nothing.
            rate: self.policy.conditions.rate.filter(|_| enforced).map(rate),
        }
    }
}

/// Two outcomes that differ, by whether and how the `when` expressions decide.
pub(crate) type Pairs = BTreeMap<(Outcome, Outcome), Vec<String>>;

/// The most expressions in one decision that are looked at together.
const MAX_WHENS: usize = 10;

/// The pairs of outcomes that differ while these windows are open, each with the clauses on which it depends.
pub(crate) fn differing(
    before: &Pending<'_>,
    after: &Pending<'_>,
    clauses: &Clauses,
    open: &[u32],
) -> Pairs {
    let count = clauses.whens.len().min(MAX_WHENS);
    let unknown = || {
        clauses
            .whens
            .iter()
            .map(|when| format!("when: {when}"))
            .collect::<Vec<_>>()
    };
    let mut found: BTreeMap<(Outcome, Outcome), bool> = BTreeMap::new();
    let mut same = clauses.whens.len() > MAX_WHENS;
    for values in 0..1_u32 << count {
        let holds = |when: u32| values >> when & 1 == 1;
        let pair = (before.resolve(open, holds), after.resolve(open, holds));
        let rates = pair.0.rate != pair.1.rate;
        if pair.0.effect != pair.1.effect {
            found.insert(pair, false);
        } else if rates {
            found.insert(pair, true);
        } else {
            same = true;
        }
    }
    let depends = same || found.len() > 1;
    let pairs = found.into_iter().map(|(pair, only_rates)| {
        let mut clauses = if depends { unknown() } else { Vec::new() };
        if only_rates {
            clauses.push(format!(
                "rate: {} -> {}",
                pair.0.rate_text(),
                pair.1.rate_text()
            ));
        }
        (pair, clauses)
    });
    pairs.collect()
}
