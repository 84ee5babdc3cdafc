//! What workloads used, from the records: by policy and rule, with the requests themselves.

use std::collections::{BTreeMap, BTreeSet};

use countersign_config::{history, policy::PolicySet};
use jiff::Timestamp;

use crate::{
    record::{self, Outcome},
    replay::Recorded,
};

/// The most different requests that are remembered for a rule. With more, no narrower rule is suggested.
pub(crate) const MAX_REQUESTS: usize = 2_000;

/// The most callers and hosts that are remembered.
const MAX_NAMES: usize = 1_000;

/// A workload, a policy and the index of its rule; no rule if a policy on trial let a request pass.
pub type Grant = (String, String, Option<usize>);

/// How often something was used, and when.
#[derive(Debug, Clone)]
pub struct Used {
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// The id of the last record.
    pub last_id: String,
}

/// One request as it is recorded: method, host and path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    /// Its method.
    pub method: String,
    /// Its host, without the port.
    pub host: String,
    /// Its path, without the query.
    pub path: String,
}

/// What the records say.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// The time of the first record.
    pub from: Option<Timestamp>,
    /// The time of the last record.
    pub to: Option<Timestamp>,
    grants: BTreeMap<Grant, Used>,
    requests: BTreeMap<Grant, BTreeMap<Made, Timestamp>>,
    /// Rules with more different requests than are remembered.
    overflowed: BTreeSet<Grant>,
    credentials: BTreeMap<String, CredentialUse>,
    /// Proven callers that match no workload.
    strangers: BTreeMap<String, Used>,
    /// Hosts of tunnels that were carried without a target.
    tunnelled: BTreeMap<String, Used>,
}

/// What the records say of a credential.
#[derive(Debug, Clone)]
pub struct CredentialUse {
    /// How often it was used, and when.
    pub used: Used,
    /// How old its value was at the last use, in seconds.
    pub age_s: Option<u64>,
    /// How long its value was still valid at the last use, in seconds.
    pub expires_in_s: Option<u64>,
    /// The scopes that it has; empty if its API does not say.
    pub scopes_held: Vec<String>,
    /// Those of which some request needed one.
    pub scopes_used: Vec<String>,
}

impl Used {
    fn new(at: Timestamp) -> Self {
        Self {
            count: 0,
            first: at,
            last: at,
            last_id: String::new(),
        }
    }

    fn add(&mut self, decision: &record::Decision<'_>) {
        self.count += 1;
        self.first = self.first.min(decision.time);
        if decision.time >= self.last {
            self.last = decision.time;
            decision.id.as_str().clone_into(&mut self.last_id);
        }
    }
}

impl From<&history::Used> for Used {
    fn from(kept: &history::Used) -> Self {
        Self {
            count: kept.count,
            first: kept.first,
            last: kept.last,
            last_id: kept.last_id.clone(),
        }
    }
}

impl Used {
    /// The same uses, counted elsewhere too: what is missing on one side is on the other.
    fn merge(&mut self, other: Self) {
        self.count = self.count.max(other.count);
        self.first = self.first.min(other.first);
        if other.last > self.last {
            self.last = other.last;
            self.last_id = other.last_id;
        }
    }
}

impl Usage {
    /// Adds what a gateway has kept, which counts the same requests as its records do.
    pub fn add_kept(&mut self, kept: &history::LastUse) {
        self.from = self.from.into_iter().chain(kept.from).min();
        self.to = self.to.max(kept.to);
        for grant in &kept.grants {
            let rule = grant.rule.and_then(|rule| usize::try_from(rule).ok());
            let key = (grant.workload.clone(), grant.policy.clone(), rule);
            let used = Used::from(&grant.used);
            match self.grants.get_mut(&key) {
                Some(known) => known.merge(used),
                None => drop(self.grants.insert(key, used)),
            }
        }
        for credential in &kept.credentials {
            let used = Used::from(&credential.used);
            let known = self
                .credentials
                .entry(credential.name.clone())
                .or_insert_with(|| CredentialUse {
                    used: used.clone(),
                    age_s: None,
                    expires_in_s: None,
                    scopes_held: Vec::new(),
                    scopes_used: Vec::new(),
                });
            known.used.merge(used);
            known.scopes_held.clone_from(&credential.scopes_held);
            known.scopes_used.clone_from(&credential.scopes_used);
        }
    }

    /// Adds one record.
    pub fn add(&mut self, decision: &record::Decision<'_>) {
        let at = decision.time;
        self.from = Some(self.from.map_or(at, |from| from.min(at)));
        self.to = Some(self.to.map_or(at, |to| to.max(at)));
        let caller = decision.caller.as_ref();
        let subject = caller
            .filter(|caller| caller.proof.is_some())
            .and_then(|caller| caller.subject.as_deref());
        if let (None, Some(subject)) = (&decision.workload, subject)
            && &*decision.reason == "workload_unknown"
        {
            add_bounded(&mut self.strangers, subject, decision);
        }
        let target = decision.target.as_ref();
        if decision.outcome == Outcome::Tunnelled
            && let Some(target) = target.filter(|target| target.name.is_none())
        {
            let host = target
                .authority
                .rsplit_once(':')
                .map_or(&*target.authority, |(host, _)| host);
            add_bounded(&mut self.tunnelled, host, decision);
        }
        let went = matches!(
            decision.outcome,
            Outcome::Permitted | Outcome::Failed | Outcome::Tunnelled
        );
        if let (true, Some(workload), Some(policy)) = (went, &decision.workload, &decision.policy) {
            let rule = policy.rule.and_then(|rule| usize::try_from(rule).ok());
            let grant = (workload.name.to_string(), policy.name.to_string(), rule);
            self.grants
                .entry(grant.clone())
                .or_insert_with(|| Used::new(at))
                .add(decision);
            self.remember(grant, decision);
        }
        if let Some(credential) = &decision.credential {
            let known = self
                .credentials
                .entry(credential.name.to_string())
                .or_insert_with(|| CredentialUse {
                    used: Used::new(at),
                    age_s: None,
                    expires_in_s: None,
                    scopes_held: Vec::new(),
                    scopes_used: Vec::new(),
                });
            known.used.add(decision);
            known.age_s = credential.age_s;
            known.expires_in_s = credential.expires_in_s;
        }
    }

    fn remember(&mut self, grant: Grant, decision: &record::Decision<'_>) {
        let Some(target) = &decision.target else {
            return;
        };
        let host = target
            .authority
            .rsplit_once(':')
            .map_or(&*target.authority, |(host, _)| host);
        let made = Made {
            method: target.method.as_deref().unwrap_or("CONNECT").to_owned(),
            host: host.to_owned(),
            path: target.path.as_deref().unwrap_or("/").to_owned(),
        };
        let requests = self.requests.entry(grant.clone()).or_default();
        if requests.len() >= MAX_REQUESTS && !requests.contains_key(&made) {
            self.overflowed.insert(grant);
            return;
        }
        let last = requests.entry(made).or_insert(decision.time);
        *last = decision.time.max(*last);
    }

    /// The use of one rule by one workload.
    pub fn grant(&self, workload: &str, policy: &str, rule: Option<usize>) -> Option<&Used> {
        self.grants
            .get(&(workload.to_owned(), policy.to_owned(), rule))
    }

    /// The last use of any rule of a policy by a workload, and how often all were used.
    pub fn policy(&self, workload: &str, policy: &str) -> Option<Used> {
        let own = self
            .grants
            .iter()
            .filter(|((own, by, _), _)| own == workload && by == policy);
        own.map(|(_, used)| used.clone()).reduce(|one, other| Used {
            count: one.count + other.count,
            first: one.first.min(other.first),
            last: one.last.max(other.last),
            last_id: if other.last > one.last {
                other.last_id
            } else {
                one.last_id
            },
        })
    }

    /// The different requests that a workload made by a rule; `None` if there were too many to remember.
    pub fn requests(
        &self,
        workload: &str,
        policy: &str,
        rule: Option<usize>,
    ) -> Option<Vec<&Made>> {
        let grant = (workload.to_owned(), policy.to_owned(), rule);
        if self.overflowed.contains(&grant) {
            return None;
        }
        Some(
            self.requests
                .get(&grant)
                .into_iter()
                .flatten()
                .map(|(made, _)| made)
                .collect(),
        )
    }

    /// When a workload last made exactly this request.
    pub fn last_made(&self, workload: &str, made: &Made) -> Option<Timestamp> {
        let own = self
            .requests
            .iter()
            .filter(|((own, ..), _)| own == workload);
        own.filter_map(|(_, requests)| requests.get(made).copied())
            .max()
    }

    /// The use of a credential.
    pub fn credential(&self, name: &str) -> Option<&CredentialUse> {
        self.credentials.get(name)
    }

    /// Proven callers that match no workload.
    pub fn strangers(&self) -> impl Iterator<Item = (&str, &Used)> {
        self.strangers
            .iter()
            .map(|(name, used)| (name.as_str(), used))
    }

    /// Hosts of tunnels that no target has in use.
    pub fn tunnelled(&self) -> impl Iterator<Item = (&str, &Used)> {
        self.tunnelled
            .iter()
            .map(|(name, used)| (name.as_str(), used))
    }

    /// How many days the records cover; 0 without records.
    pub fn days(&self) -> i64 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => to.duration_since(from).as_secs() / 86_400,
            _ => 0,
        }
    }
}

fn add_bounded(all: &mut BTreeMap<String, Used>, name: &str, decision: &record::Decision<'_>) {
    if all.len() < MAX_NAMES || all.contains_key(name) {
        all.entry(name.to_owned())
            .or_insert_with(|| Used::new(decision.time))
            .add(decision);
    }
}

/// The requests of all records that policy permits, to prove that a change would lose none.
#[derive(Debug)]
pub struct Observed<'p> {
    policies: &'p PolicySet,
    requests: BTreeMap<String, (Recorded, Timestamp)>,
}

impl<'p> Observed<'p> {
    /// None yet.
    pub fn new(policies: &'p PolicySet) -> Self {
        Self {
            policies,
            requests: BTreeMap::new(),
        }
    }

    /// Adds one record that was sent on.
    pub fn add(&mut self, decision: &record::Decision<'_>) {
        let went = matches!(
            decision.outcome,
            Outcome::Permitted | Outcome::Failed | Outcome::Tunnelled
        );
        if !went {
            return;
        }
        if let Some(request) = Recorded::of(decision, self.policies) {
            let key = format!(
                "{:?}{} {}:{}{}",
                request.caller,
                request.method,
                request.host,
                request.port,
                request.path.as_str()
            );
            self.requests.entry(key).or_insert((request, decision.time));
        }
    }

    /// How many different requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Those that were permitted when they were made, and would not be so, or with another credential, under
    /// another revision.
    pub fn lost_in(&self, other: &PolicySet) -> Vec<String> {
        let lost = self.requests.values().filter(|(request, at)| {
            let facts = request.facts();
            crate::diff::effect(self.policies, &request.caller, &facts, *at)
                != crate::diff::effect(other, &request.caller, &facts, *at)
        });
        let text = |(request, _): &(Recorded, Timestamp)| {
            format!(
                "{} https://{}{}",
                request.method,
                request.host,
                request.path.as_str()
            )
        };
        lost.map(text).collect()
    }
}
