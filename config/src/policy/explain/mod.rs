//! A decision with all its steps, for people.

mod text;

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    CallerFacts, Decision, Mismatch, PolicySet, RequestFacts,
    answer::printable,
    decide::Trace,
    nearest::misses,
    parts::{Question, Verdict},
    recognise::{compare, nearness, recognises},
};
use crate::model::{Policy, Route, Workload};

/// How a decision came about. [`std::fmt::Display`] renders it as text.
#[derive(Debug)]
pub struct Explanation<'s> {
    /// The decision, from the same code that decides requests.
    pub decision: Decision<'s>,
    question: String,
    caller: String,
    revision: &'s str,
    selectors: Vec<SelectorTrace<'s>>,
    /// The number of selectors that do not resemble the caller.
    other_selectors: usize,
    routes: Vec<RouteTrace<'s>>,
    policies: Vec<PolicyTrace<'s>>,
}

#[derive(Debug)]
struct SelectorTrace<'s> {
    workload: &'s Arc<Workload>,
    entry: usize,
    /// Empty if the selector matches the caller.
    mismatches: Vec<Mismatch>,
}

#[derive(Debug)]
struct RouteTrace<'s> {
    index: usize,
    route: &'s Route,
    matches: bool,
}

#[derive(Debug)]
struct PolicyTrace<'s> {
    workload: &'s Arc<Workload>,
    policy: &'s Arc<Policy>,
    /// Whether it would permit if it were enforced.
    permits: bool,
    /// For each rule that was checked, what did not match.
    rules: Vec<Vec<Mismatch>>,
}

impl PolicySet {
    /// The decision for one request, by the same code as [`PolicySet::decide`], with all its steps. For
    /// people: it allocates freely.
    pub fn explain(
        &self,
        caller: &CallerFacts,
        request: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Explanation<'_> {
        let ask = Question {
            caller,
            request,
            now,
        };
        let mut seen = Recorder {
            ask,
            route: None,
            routes: Vec::new(),
            policies: Vec::new(),
        };
        let decision = self.judge(&self.recognise(caller), ask, &mut seen);
        let Recorder {
            routes, policies, ..
        } = seen;
        let (selectors, other_selectors) = self.selectors_seen(caller);
        Explanation {
            decision,
            question: question(request, now),
            caller: describe(caller),
            revision: self.revision(),
            selectors,
            other_selectors,
            routes,
            policies,
        }
    }

    fn selectors_seen(&self, caller: &CallerFacts) -> (Vec<SelectorTrace<'_>>, usize) {
        let mut near = Vec::new();
        let mut others = 0;
        for workload in &self.workloads {
            for (entry, selector) in workload.selectors.iter().enumerate() {
                if recognises(selector, caller) || nearness(selector, caller).is_some() {
                    near.push(SelectorTrace {
                        workload,
                        entry,
                        mismatches: compare(selector, caller)
                            .filter_map(|part| part.mismatch())
                            .collect(),
                    });
                } else {
                    others += 1;
                }
            }
        }
        (near, others)
    }
}

/// Records the steps of a decision.
struct Recorder<'a, 's> {
    ask: Question<'a>,
    route: Option<&'s Route>,
    routes: Vec<RouteTrace<'s>>,
    policies: Vec<PolicyTrace<'s>>,
}

impl<'s> Trace<'s> for Recorder<'_, 's> {
    fn route(&mut self, index: usize, route: &'s Route, matches: bool) {
        if matches {
            self.route = Some(route);
        }
        self.routes.push(RouteTrace {
            index,
            route,
            matches,
        });
    }

    fn policy(
        &mut self,
        workload: &'s Arc<Workload>,
        policy: &'s Arc<Policy>,
        verdict: Verdict<'s>,
    ) {
        let route = self.route.expect("policies are checked for a route");
        // Rules after the one that matched were not checked.
        let looked_at = verdict.rule.map_or(policy.allow.len(), |rule| rule + 1);
        let rules: Vec<_> = (0..looked_at)
            .map(|rule| misses(policy, rule, route, self.ask).1)
            .collect();
        self.policies.push(PolicyTrace {
            workload,
            policy,
            permits: verdict.permits(),
            rules,
        });
    }
}

/// The request as a URL without its query, and the time.
fn question(request: &RequestFacts<'_>, now: Timestamp) -> String {
    let RequestFacts {
        host,
        port,
        method,
        path,
    } = request;
    let port = match port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let path = printable(path.as_str());
    format!("{method} https://{host}{port}{path} at {now}")
}

/// The caller's facts on one line.
fn describe(caller: &CallerFacts) -> String {
    let mut parts = Vec::new();
    if let (Some(namespace), Some(account)) = (&caller.namespace, &caller.service_account) {
        parts.push(format!("system:serviceaccount:{namespace}:{account}"));
    }
    parts.extend(caller.spiffe_id.as_deref().map(str::to_owned));
    let facts = [
        ("cluster", caller.cluster.as_deref()),
        ("pod", caller.pod.as_deref()),
        (
            "cronJob",
            caller
                .kubernetes
                .as_ref()
                .and_then(|pod| pod.cron_job.as_deref()),
        ),
    ];
    for (name, value) in facts {
        parts.extend(value.map(|value| format!("{name} {value}")));
    }
    if parts.is_empty() {
        parts.push("nobody (no proven facts)".to_owned());
    }
    printable(&parts.join(", "))
}
