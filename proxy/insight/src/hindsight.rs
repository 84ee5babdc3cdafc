//! A recorded request, decided again: as it was then, as it would be now, and which revision made the difference.

use std::{collections::BTreeSet, rc::Rc};

use countersign_config::{
    policy::{Decision, Denial, PolicySet},
    resource::Kind,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    diff::{diff, effect},
    history::{History, HistoryError, Revision, RevisionChange},
    record,
    replay::{Recorded, about_query},
    smallest::smallest,
};

/// The most differences that are listed.
const MOST_DIFFERENCES: usize = 10;

/// What hindsight says of a record.
#[derive(Debug, Clone, Serialize)]
pub struct Hindsight {
    /// How policy decided it then; `None` if that revision is not kept.
    pub then: Option<Side>,
    /// How policy would decide it now; `None` if nothing says what is in force.
    pub now: Option<Side>,
    /// The revision since which it was decided as it was then.
    pub caused_by: Option<RevisionChange>,
    /// The first later revision that decides it otherwise.
    pub changed_by: Option<RevisionChange>,
    /// If it would be refused now: the rule that comes nearest, and what it would have to cover.
    pub nearest: Vec<String>,
    /// If it would be refused now: the smallest change that would permit it.
    pub smallest: Option<Remedy>,
    /// What could not be told, and why.
    pub notes: Vec<String>,
}

/// A decision by one revision.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// The revision.
    pub revision: String,
    /// From when on it was in force.
    pub since: Option<Timestamp>,
    /// The time for which it was decided.
    pub at: Timestamp,
    /// Whether the request is sent on.
    pub sent: bool,
    /// In words: `permitted by qa/posts`, `refused (request_not_allowed)`.
    pub decision: String,
}

/// The smallest change that would permit a request.
#[derive(Debug, Clone, Serialize)]
pub struct Remedy {
    /// What to write where.
    pub steps: Vec<String>,
    /// Whether that is enough.
    pub is_enough: bool,
    /// Everything that it would permit, the request itself among it; ten at most.
    pub permits: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// Looks back at a record. `current` is what is in force now; without it, it is the newest revision that is kept.
///
/// # Errors
/// When a kept revision cannot be read.
pub fn hindsight(
    decision: &record::Decision<'_>,
    history: &History,
    current: Option<Revision>,
    now: Timestamp,
) -> Result<Hindsight, HistoryError> {
    let newest = history.len().checked_sub(1);
    let current = match (current, newest) {
        (Some(current), _) => Some(Rc::new(current)),
        (None, Some(newest)) => Some(history.revision(newest)?),
        (None, None) => None,
    };
    let mut told = Hindsight {
        then: None,
        now: None,
        caused_by: None,
        changed_by: None,
        nearest: Vec::new(),
        smallest: None,
        notes: Vec::new(),
    };
    let asked = Asked {
        decision,
        at: decision.time,
    };
    if let Some(place) = told.place(decision, history) {
        told.look_around(place, &asked, history, current.as_ref())?;
    }
    if let Some(current) = &current {
        told.look_at_now(&asked, current, now);
    }
    Ok(told)
}

/// The recorded request, and the time for which revisions are compared.
struct Asked<'a> {
    decision: &'a record::Decision<'a>,
    at: Timestamp,
}

impl Asked<'_> {
    fn under(&self, policies: &PolicySet) -> Option<Recorded> {
        Recorded::of(self.decision, policies)
    }

    /// Whether a revision sends it on; `None` if it has nothing that could be decided.
    fn is_sent(&self, revision: &Revision) -> Option<bool> {
        let policies = &revision.loaded.policies;
        let asked = self.under(policies)?;
        let effect = effect(policies, &asked.caller, &asked.facts(), self.at);
        Some(effect.sent().is_some())
    }

    fn side(&self, revision: &Revision, at: Timestamp) -> Option<Side> {
        let policies = &revision.loaded.policies;
        let asked = self.under(policies)?;
        let effect = effect(policies, &asked.caller, &asked.facts(), at);
        Some(Side {
            revision: revision.name.clone(),
            since: revision.since,
            at,
            sent: effect.sent().is_some(),
            decision: crate::replay::said(policies, &asked.caller, &asked.facts(), at),
        })
    }

    /// What `after` changed, as far as it concerns this request.
    fn change(&self, before: &Revision, after: &Revision) -> RevisionChange {
        let mut own = BTreeSet::new();
        for side in [before, after] {
            self.concerned(&side.loaded.policies, &mut own);
        }
        RevisionChange::between(before, after, |kind, name| {
            own.contains(&(kind, name.to_owned()))
        })
    }

    /// The resources by which a revision decides it.
    fn concerned(&self, policies: &PolicySet, own: &mut BTreeSet<(Kind, String)>) {
        let Some(asked) = self.under(policies) else {
            return;
        };
        let who = policies.recognise(&asked.caller);
        let workloads = policies.workloads_of(&who);
        let workloads: BTreeSet<_> = workloads.map(|workload| &workload.name).collect();
        own.extend(
            workloads
                .iter()
                .map(|name| (Kind::Workload, name.to_string())),
        );
        let Some(target) = policies.target(&asked.host, asked.port) else {
            return;
        };
        own.insert((Kind::TargetService, target.name.to_string()));
        for policy in policies.policies() {
            let mut named = policy.workloads.iter();
            if policy.target.name == target.name && named.any(|one| workloads.contains(&one.name)) {
                own.insert((Kind::AccessPolicy, policy.name.to_string()));
                let credentials = policy.credentials.iter();
                own.extend(credentials.map(|(_, one)| (Kind::Credential, one.name.to_string())));
            }
        }
    }
}

impl Hindsight {
    /// Where the revision is that decided a record.
    fn place(&mut self, decision: &record::Decision<'_>, history: &History) -> Option<usize> {
        let policy = decision.policy.as_ref();
        let named = policy.and_then(|policy| policy.revision.as_deref());
        let named = named.or(decision.revision.as_deref());
        let place = match named {
            Some(named) => history.of_record(named, decision.time),
            None => history.in_force(decision.time),
        };
        if place.is_none() && !history.is_empty() {
            let named = named.unwrap_or("that was in force");
            self.notes.push(format!(
                "the revision {named} is not kept; the oldest one is {} of {}",
                history.heads()[0].revision,
                history.heads()[0].since
            ));
        }
        place
    }

    /// Decides it as it was decided then, and looks for the revisions between which it is decided otherwise.
    fn look_around(
        &mut self,
        place: usize,
        asked: &Asked<'_>,
        history: &History,
        current: Option<&Rc<Revision>>,
    ) -> Result<(), HistoryError> {
        let revision = history.revision(place)?;
        let Some(then) = asked.side(&revision, asked.at) else {
            self.notes
                .push("nobody was proven, or nothing was asked for that a policy decides".into());
            return Ok(());
        };
        self.check(asked.decision, &then, &revision);
        let sent = then.sent;
        self.then = Some(then);
        let differs = |other: &Revision| asked.is_sent(other).is_some_and(|other| other != sent);
        let mut after = Rc::clone(&revision);
        for earlier in (0..place).rev() {
            let before = history.revision(earlier)?;
            if differs(&before) {
                self.caused_by = Some(asked.change(&before, &after));
                break;
            }
            after = before;
        }
        let mut before = revision;
        for later in place + 1..history.len() {
            let after = history.revision(later)?;
            if differs(&after) {
                self.changed_by = Some(asked.change(&before, &after));
                return Ok(());
            }
            before = after;
        }
        if let Some(current) = current.filter(|current| differs(current)) {
            self.changed_by = Some(asked.change(&before, current));
        }
        Ok(())
    }

    /// Says where deciding again cannot be trusted.
    fn check(&mut self, decision: &record::Decision<'_>, then: &Side, revision: &Revision) {
        if revision.redacted {
            self.notes.push(format!(
                "something in revision {} looked like a secret and was not kept; it may say something else than what was in force",
                revision.name
            ));
        }
        let policies = &revision.loaded.policies;
        let expressions = Recorded::of(decision, policies)
            .map(|asked| about_query(policies, &asked))
            .unwrap_or_default();
        for when in expressions {
            self.notes.push(format!(
                "records have no query, which this reads: when: {when}"
            ));
        }
        let was_sent = !matches!(decision.outcome, record::Outcome::Refused);
        if then.sent && !was_sent {
            self.notes.push(format!(
                "policy permitted it then; it was refused for another reason: {}",
                &*decision.reason
            ));
        } else if !then.sent && was_sent {
            self.notes.push(
                "it was sent on then, though these resources would refuse it: it depended on what records do not have"
                    .into(),
            );
        }
    }

    fn look_at_now(&mut self, asked: &Asked<'_>, current: &Revision, now: Timestamp) {
        let policies = &current.loaded.policies;
        let (Some(side), Some(request)) = (asked.side(current, now), asked.under(policies)) else {
            return;
        };
        let refused = !side.sent;
        self.now = Some(side);
        if !refused {
            return;
        }
        let facts = request.facts();
        let who = policies.recognise(&request.caller);
        if let Decision::Deny(denial) = policies.decide(&who, &request.caller, &facts, now) {
            self.nearest = nearest(&denial);
        }
        let change = smallest(policies, &request.caller, &facts, now);
        self.smallest = change.map(|change| {
            let report = change
                .policies
                .as_ref()
                .map(|changed| diff(policies, changed, now));
            let all: Vec<String> = report
                .iter()
                .flat_map(|report| report.differences.iter().map(|one| one.line(report)))
                .collect();
            Remedy {
                steps: change.steps,
                is_enough: change.policies.is_some(),
                more: all.len().saturating_sub(MOST_DIFFERENCES),
                permits: all.into_iter().take(MOST_DIFFERENCES).collect(),
            }
        });
    }
}

/// The rule that comes nearest, a sentence for each thing that does not match.
fn nearest(denial: &Denial) -> Vec<String> {
    let Some(nearest) = &denial.nearest else {
        return Vec::new();
    };
    let rule = nearest
        .rule
        .map_or_else(String::new, |rule| format!(", allow rule {rule}"));
    let place = format!(
        "AccessPolicy {}{rule} (of {})",
        nearest.policy.name, nearest.policy.owner
    );
    let mismatches = nearest.mismatches.iter();
    mismatches
        .map(|one| {
            format!(
                "{place}: `{}` is {}, and would have to cover {}",
                one.what, one.expected, one.actual
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;
