//! A decision with everything that was looked at on the way, for people.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{
    CallerFacts, Decision, Denial, Grant, Mismatch, PolicySet, RequestFacts,
    answer::printable,
    decide::Trace,
    nearest::misses,
    parts::{Ask, Verdict},
    recognise::{compare, nearness, recognises},
};
use crate::model::{Mode, Place, Policy, Route, Workload};

/// How a decision came about. [`fmt::Display`] tells it as text.
#[derive(Debug)]
pub struct Explanation<'s> {
    /// The decision, from the same code that decides requests.
    pub decision: Decision<'s>,
    question: String,
    caller: String,
    revision: &'s str,
    selectors: Vec<SelectorSeen<'s>>,
    /// Selectors that have nothing to do with the caller.
    other_selectors: usize,
    routes: Vec<RouteSeen<'s>>,
    policies: Vec<PolicySeen<'s>>,
}

#[derive(Debug)]
struct SelectorSeen<'s> {
    workload: &'s Arc<Workload>,
    entry: usize,
    /// Empty if it recognises the caller.
    mismatches: Vec<Mismatch>,
}

#[derive(Debug)]
struct RouteSeen<'s> {
    index: usize,
    route: &'s Route,
    matches: bool,
}

#[derive(Debug)]
struct PolicySeen<'s> {
    workload: &'s Arc<Workload>,
    policy: &'s Arc<Policy>,
    /// Whether it permits, were it enforced.
    permits: bool,
    /// For each rule that was looked at what kept it from permitting.
    rules: Vec<Vec<Mismatch>>,
}

impl PolicySet {
    /// The decision for one request, by the very code of [`PolicySet::decide`], and all that was
    /// looked at for it. For people: it allocates freely.
    pub fn explain(
        &self,
        caller: &CallerFacts,
        request: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Explanation<'_> {
        let ask = Ask {
            caller,
            request,
            now,
        };
        let mut seen = Seen {
            ask,
            route: None,
            routes: Vec::new(),
            policies: Vec::new(),
        };
        let decision = self.judge(&self.recognise(caller), ask, &mut seen);
        let Seen {
            routes, policies, ..
        } = seen;
        let (selectors, other_selectors) = self.selectors_seen(caller);
        Explanation {
            decision,
            question: format!(
                "{} https://{}:{}{} at {now}",
                request.method,
                request.host,
                request.port,
                printable(request.path.as_str()),
            ),
            caller: describe(caller),
            revision: self.revision(),
            selectors,
            other_selectors,
            routes,
            policies,
        }
    }

    fn selectors_seen(&self, caller: &CallerFacts) -> (Vec<SelectorSeen<'_>>, usize) {
        let mut near = Vec::new();
        let mut others = 0;
        for workload in &self.workloads {
            for (entry, selector) in workload.selectors.iter().enumerate() {
                if recognises(selector, caller) || nearness(selector, caller).is_some() {
                    near.push(SelectorSeen {
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

/// Writes down what a judgement looks at.
struct Seen<'a, 's> {
    ask: Ask<'a>,
    route: Option<&'s Route>,
    routes: Vec<RouteSeen<'s>>,
    policies: Vec<PolicySeen<'s>>,
}

impl<'s> Trace<'s> for Seen<'_, 's> {
    fn route(&mut self, index: usize, route: &'s Route, matches: bool) {
        if matches {
            self.route = Some(route);
        }
        self.routes.push(RouteSeen {
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
        let route = self.route.expect("policies are judged for a route");
        // Rules behind the one that matched were not looked at.
        let looked_at = verdict.rule.map_or(policy.allow.len(), |rule| rule + 1);
        let rules: Vec<_> = (0..looked_at)
            .map(|rule| misses(policy, rule, route, self.ask).1)
            .collect();
        self.policies.push(PolicySeen {
            workload,
            policy,
            permits: verdict.permits(),
            rules,
        });
    }
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

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.question)?;
        writeln!(f, "as {}", self.caller)?;
        writeln!(f, "under revision {}", self.revision)?;
        self.write_selectors(f)?;
        self.write_routes(f)?;
        self.write_policies(f)?;
        writeln!(f)?;
        match &self.decision {
            Decision::Permit(grant) => write_grant(f, grant),
            Decision::Deny(denial) => write_denial(f, denial),
            Decision::Unmatched => writeln!(
                f,
                "UNMATCHED: no target that a policy uses has this host and port; the gateway's \
                 `unmatched` setting decides"
            ),
        }
    }
}

impl Explanation<'_> {
    fn write_selectors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nWho is it?")?;
        for seen in &self.selectors {
            let mark = mark(seen.mismatches.is_empty());
            writeln!(
                f,
                "  {mark} Workload {}, match[{}]",
                seen.workload.name, seen.entry
            )?;
            write_mismatches(f, 6, &seen.mismatches)?;
        }
        match (self.selectors.is_empty(), self.other_selectors) {
            (_, 0) => Ok(()),
            (true, count) => writeln!(f, "  - {count} selectors, none of them near"),
            (false, count) => writeln!(f, "  - {count} more selectors, none of them near"),
        }
    }

    fn write_routes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.routes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nWhich route of the target?")?;
        for seen in &self.routes {
            writeln!(
                f,
                "  {} routes[{}] {}",
                mark(seen.matches),
                seen.index,
                RouteText(seen.route)
            )?;
        }
        Ok(())
    }

    fn write_policies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.policies.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nWhich policy?")?;
        for seen in &self.policies {
            let mode = match seen.policy.mode {
                Mode::Enforce => "",
                Mode::Observe => " (observes only)",
            };
            writeln!(
                f,
                "  {} AccessPolicy {}{mode} for {}",
                mark(seen.permits),
                seen.policy.name,
                seen.workload.name
            )?;
            for (index, mismatches) in seen.rules.iter().enumerate() {
                writeln!(f, "      {} allow[{index}]", mark(mismatches.is_empty()))?;
                write_mismatches(f, 10, mismatches)?;
            }
        }
        Ok(())
    }
}

fn mark(good: bool) -> char {
    if good { '+' } else { '-' }
}

fn write_mismatches(
    f: &mut fmt::Formatter<'_>,
    indent: usize,
    mismatches: &[Mismatch],
) -> fmt::Result {
    for mismatch in mismatches {
        writeln!(
            f,
            "{:indent$}{}: expected {}",
            "", mismatch.what, mismatch.expected
        )?;
        let indent = indent + mismatch.what.len() + 2;
        writeln!(f, "{:indent$}     got {}", "", mismatch.actual)?;
    }
    Ok(())
}

fn write_grant(f: &mut fmt::Formatter<'_>, grant: &Grant<'_>) -> fmt::Result {
    match grant.would_deny {
        None => writeln!(f, "PERMITTED")?,
        Some(reason) => writeln!(f, "LET THROUGH (an enforced policy would refuse: {reason})")?,
    }
    writeln!(
        f,
        "  workload    {}, owner {}",
        grant.workload.name,
        printable(&grant.workload.owner)
    )?;
    write!(f, "  policy      {}", grant.policy.name)?;
    if let Some(rule) = grant.rule {
        write!(f, ", allow[{rule}]")?;
    }
    writeln!(f, ", owner {}", printable(&grant.policy.owner))?;
    writeln!(f, "  target      {}", grant.target.name)?;
    match grant.credential {
        None => writeln!(f, "  credential  none is sent"),
        Some((attach, credential)) => writeln!(
            f,
            "  credential  {} as {}, in the {}",
            credential.name,
            attach.slot,
            PlaceText(&attach.place)
        ),
    }
}

fn write_denial(f: &mut fmt::Formatter<'_>, denial: &Denial) -> fmt::Result {
    writeln!(f, "DENIED: {}", denial.reason)?;
    writeln!(f, "  operator    {}", denial.sentence_for_operator())?;
    writeln!(f, "  caller      {}", denial.sentence_for_caller())
}

struct RouteText<'r>(&'r Route);

impl fmt::Display for RouteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(route) = self;
        match &route.host {
            Some(host) => write!(f, "{host}")?,
            None => write!(f, "any host")?,
        }
        if !route.paths.is_any() {
            write!(f, " {}", printable(&route.paths.written().join(" ")))?;
        }
        match (&route.deny, &route.attach) {
            (Some(reason), _) => write!(f, ": denied ({})", printable(reason)),
            (None, Some(attach)) => write!(f, ": sends {}", attach.slot),
            (None, None) => write!(f, ": sends no credential"),
        }
    }
}

struct PlaceText<'p>(&'p Place);

impl fmt::Display for PlaceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Header { name, .. } => write!(f, "header {name}"),
            Place::Query { name, .. } => write!(f, "query field {}", printable(name)),
            Place::Path { .. } => write!(f, "path"),
        }
    }
}
