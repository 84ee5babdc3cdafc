//! What two revisions permit differently: computed from their patterns, not sampled.
//!
//! Requests are cut into classes that neither revision can tell apart: by the selectors that match the caller,
//! the host patterns, the methods and the path patterns (as automata), and the windows of time (as intervals).
//! For each class both revisions are decided once. What cannot be computed is named: `when` expressions and
//! rates are compared as texts, and a difference that depends on one is `unknown`.

mod atoms;
mod callers;
mod compare;
mod decision;
mod describe;
mod effect;
mod region;
mod revision;
mod text;

use countersign_config::{
    host::Host,
    path::CanonicalPath,
    policy::{CallerFacts, Decision, PolicySet, RequestFacts},
};
use http::Method;
use jiff::Timestamp;

pub use compare::diff;
pub use describe::Described;
pub use effect::{DenyReasonKey, Effect, Outcome, Sent};
pub use text::DifferenceRow;

use callers::{CallerClass, Selectors};
use region::{Region, Space};

use crate::space::{paths::Atom, times::Interval};

/// What two revisions permit differently.
#[derive(Debug)]
pub struct Report {
    /// The revisions.
    pub revisions: [String; 2],
    /// From when times are compared.
    pub from: Timestamp,
    /// Until when times are compared.
    pub until: Timestamp,
    /// All differences.
    pub differences: Vec<Difference>,
    /// What could not be compared, in sentences.
    pub incomplete: Vec<String>,
    selectors: Selectors,
}

/// Requests with another effect under the new revision than under the old one.
#[derive(Debug)]
pub struct Difference {
    /// Who makes them.
    pub callers: Vec<Callers>,
    /// The target before and after, if the host is one's.
    pub targets: [Option<String>; 2],
    /// What becomes of them before.
    pub before: Outcome,
    /// What becomes of them after.
    pub after: Outcome,
    /// The clauses on which it depends whether there is a difference; empty if there always is.
    pub unknown: Vec<String>,
    /// A request of these; both revisions decide it as said, unless it is `unknown`.
    pub example: Example,
    /// Whether both revisions decide the example as said.
    pub confirmed: bool,
    region: Region,
}

/// Callers that both revisions treat alike.
#[derive(Debug, Clone)]
pub struct Callers {
    /// The workloads that match them before and after, by name.
    pub workloads: [Vec<String>; 2],
    /// One of them.
    pub example: CallerFacts,
    class: CallerClass,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Example {
    /// Who makes it.
    pub caller: CallerFacts,
    /// Its method.
    pub method: Method,
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Its path.
    pub path: CanonicalPath,
    /// When.
    pub at: Timestamp,
}

impl Report {
    /// Whether the revisions permit the same, as far as that can be computed.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty() && self.incomplete.is_empty()
    }

    /// The differences that a request is in.
    pub fn of<'r>(
        &'r self,
        caller: &CallerFacts,
        request: &'r RequestFacts<'_>,
        at: Timestamp,
    ) -> impl Iterator<Item = &'r Difference> {
        let selectors = self.selectors.matching(caller);
        self.differences.iter().filter(move |difference| {
            let mut callers = difference.callers.iter();
            callers.any(|callers| callers.class.selectors == selectors)
                && difference.region.contains(request, at)
        })
    }
}

impl Difference {
    /// The hosts, in patterns; without one, all of the targets.
    pub fn hosts(&self) -> Vec<Described> {
        let Space { atoms, hosts, .. } = &*self.region.space;
        let names: Vec<String> = atoms.hosts.iter().map(ToString::to_string).collect();
        let all: Vec<_> = hosts.iter().map(|(set, _)| set).collect();
        describe::describe(&all, &self.region.hosts, &names, false)
    }

    /// The paths, in patterns.
    pub fn paths(&self) -> Vec<Described> {
        let Space { atoms, paths, .. } = &*self.region.space;
        let name = |atom: &Atom| atom.patterns.join(" or ");
        let names: Vec<String> = atoms.paths.iter().map(name).collect();
        let all: Vec<_> = paths.iter().map(|(set, _)| set).collect();
        describe::describe(&all, &self.region.paths, &names, true)
    }

    /// The methods; `None` is any, and a name in the second list is left out.
    pub fn methods(&self) -> (Option<Vec<String>>, Vec<String>) {
        let Space { atoms, methods, .. } = &*self.region.space;
        let chosen: Vec<_> = self
            .region
            .methods
            .iter()
            .map(|index| &methods[*index])
            .collect();
        if chosen.iter().any(|method| atoms.is_other(method)) {
            let left_out = atoms.methods.iter();
            let left_out =
                left_out.filter(|name| !chosen.iter().any(|method| method.as_str() == *name));
            return (None, left_out.cloned().collect());
        }
        (
            Some(
                chosen
                    .iter()
                    .map(|method| method.as_str().to_owned())
                    .collect(),
            ),
            Vec::new(),
        )
    }

    /// The ports.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.region.ports.iter().copied()
    }

    /// When, as intervals from (inclusive) and until (exclusive).
    pub fn times(&self) -> &[Interval] {
        &self.region.when
    }

    fn order(&self) -> (bool, Vec<[Vec<String>; 2]>, Outcome, Outcome, String) {
        let callers = self.callers.iter().map(|callers| callers.workloads.clone());
        let Example {
            method,
            host,
            port,
            path,
            at,
            ..
        } = &self.example;
        let example = format!("{host}:{port}{} {method} {at}", path.as_str());
        let (after, before) = (self.after.clone(), self.before.clone());
        (
            !self.unknown.is_empty(),
            callers.collect(),
            after,
            before,
            example,
        )
    }
}

impl Callers {
    /// The workloads after, or before if there are none.
    pub fn text(&self) -> String {
        let [before, after] = &self.workloads;
        match (before.is_empty(), after.is_empty()) {
            (true, true) => "callers that match no workload".to_owned(),
            (_, false) if before == after || before.is_empty() => after.join(", "),
            (_, true) => before.join(", "),
            (_, false) => format!("{} (before: {})", after.join(", "), before.join(", ")),
        }
    }
}

impl Example {
    /// The request.
    pub fn request(&self) -> RequestFacts<'_> {
        RequestFacts {
            host: &self.host,
            port: self.port,
            method: &self.method,
            path: &self.path,
        }
    }

    /// Why it is refused, if it is by policy.
    fn reason(&self, policies: &PolicySet) -> Option<DenyReasonKey> {
        let who = policies.recognise(&self.caller);
        match policies.decide(&who, &self.caller, &self.request(), self.at) {
            Decision::Deny(denial) => Some(denial.reason.into()),
            Decision::Permit(_) | Decision::Unmatched => None,
        }
    }

    /// What becomes of it.
    pub fn effect(&self, policies: &PolicySet) -> Effect {
        effect(policies, &self.caller, &self.request(), self.at)
    }
}

/// What becomes of a request under a revision. A path with an encoded slash is refused where its target does
/// not keep these.
pub fn effect(
    policies: &PolicySet,
    caller: &CallerFacts,
    request: &RequestFacts<'_>,
    at: Timestamp,
) -> Effect {
    let path = request.path.path_and_query();
    if policies.path(request.host, request.port, path).is_err() {
        return Effect::Refused;
    }
    Effect::of(&policies.decide(&policies.recognise(caller), caller, request, at))
}

#[cfg(test)]
mod tests;
