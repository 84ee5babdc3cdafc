//! What really happened, decided again under two revisions: what a change would have done to it.
//!
//! Records have no query and no facts about pods. A caller whose selector asks for facts about pods gets those that
//! the selector of the recorded workload asks for; what an expression says of a query is named as unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use countersign_config::{
    host::Host,
    path::{CanonicalPath, EncodedSlash},
    policy::{CallerFacts, Decision, PolicySet, RequestFacts},
};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    diff::{Effect, effect},
    record, request,
};

/// The name and version of the JSON document.
const SCHEMA: &str = "countersign.replay/v1";

/// The most groups; what comes later is only counted.
const MAX_GROUPS: usize = 10_000;

/// The most paths that are named for a group.
const MAX_PATHS: usize = 5;

/// What would change, for records that are given one by one.
#[derive(Debug)]
pub struct Replay<'p> {
    old: &'p PolicySet,
    new: &'p PolicySet,
    requests: u64,
    /// Those that no policy can be asked about: nothing is proven, or nothing is requested.
    skipped: u64,
    /// Those that would change, but in too many different ways.
    more: u64,
    changes: BTreeMap<Key, Change>,
    /// Those that are decided alike without a query, under expressions that differ in what they say of one.
    undecided: u64,
    /// These expressions.
    expressions: BTreeSet<String>,
}

/// What is told together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    who: String,
    method: String,
    authority: String,
    before: String,
    after: String,
}

/// Requests that would have gone another way.
#[derive(Debug)]
struct Change {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    /// The last one's id.
    id: String,
    paths: BTreeSet<String>,
    /// Expressions that may read what the record does not have.
    unknown: BTreeSet<String>,
}

impl<'p> Replay<'p> {
    /// Nothing happened yet.
    pub fn new(old: &'p PolicySet, new: &'p PolicySet) -> Self {
        Self {
            old,
            new,
            requests: 0,
            skipped: 0,
            more: 0,
            changes: BTreeMap::new(),
            undecided: 0,
            expressions: BTreeSet::new(),
        }
    }

    /// Whether it is certain that nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.undecided == 0
    }

    /// Decides one more record again.
    pub fn add(&mut self, decision: &record::Decision<'_>) {
        let Some(asked) = Recorded::of(decision, self.old) else {
            self.skipped += 1;
            return;
        };
        self.requests += 1;
        let facts = asked.facts();
        let effects =
            [self.old, self.new].map(|side| effect(side, &asked.caller, &facts, decision.time));
        let [old, new] = [self.old, self.new].map(|side| about_query(side, &asked));
        if effects[0] == effects[1] {
            if old != new {
                self.undecided += 1;
                self.expressions
                    .extend(old.symmetric_difference(&new).cloned());
            }
            return;
        }
        let [before, after] =
            [self.old, self.new].map(|side| said(side, &asked.caller, &facts, decision.time));
        let who = decision
            .workload
            .as_ref()
            .map(|workload| workload.name.to_string());
        let subject = decision
            .caller
            .as_ref()
            .and_then(|caller| caller.subject.as_ref());
        let key = Key {
            who: who
                .or_else(|| subject.map(ToString::to_string))
                .unwrap_or_default(),
            method: asked.method.to_string(),
            authority: format!("{}:{}", asked.host, asked.port),
            before,
            after,
        };
        if self.changes.len() >= MAX_GROUPS && !self.changes.contains_key(&key) {
            self.more += 1;
            return;
        }
        let change = self.changes.entry(key).or_insert_with(|| Change {
            count: 0,
            first: decision.time,
            last: decision.time,
            id: String::new(),
            paths: BTreeSet::new(),
            unknown: BTreeSet::new(),
        });
        change.count += 1;
        change.first = change.first.min(decision.time);
        change.last = change.last.max(decision.time);
        decision.id.as_str().clone_into(&mut change.id);
        if change.paths.len() < MAX_PATHS {
            change.paths.insert(asked.path.as_str().to_owned());
        }
        change.unknown.extend(old);
        change.unknown.extend(new);
    }

    /// For a person to read.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        for (key, change) in &self.changes {
            let Key {
                who,
                method,
                authority,
                before,
                after,
            } = key;
            let _ = writeln!(
                text,
                "\n{who}  {method} {authority}  {} times, last {} ({})",
                change.count, change.last, change.id
            );
            let _ = writeln!(text, "  change   {before} -> {after}");
            let paths: Vec<&str> = change.paths.iter().map(String::as_str).collect();
            let _ = writeln!(text, "  paths    {}", paths.join(", "));
            for when in &change.unknown {
                let _ = writeln!(text, "  unknown  when: {when} (records have no query)");
            }
        }
        if self.more > 0 {
            let _ = writeln!(
                text,
                "\n{} more requests would change, in too many ways to list",
                self.more
            );
        }
        if self.undecided > 0 {
            let _ = writeln!(text, "\n{}", self.undecided_text());
        }
        text
    }

    /// What cannot be told, because records have no query.
    fn undecided_text(&self) -> String {
        let expressions: Vec<_> = self.expressions.iter().map(String::as_str).collect();
        format!(
            "unknown for {} more requests: records have no query, and these differ: `when: {}`",
            self.undecided,
            expressions.join("`, `when: ")
        )
    }

    fn headline(&self) -> String {
        let changed: u64 = self
            .changes
            .values()
            .map(|change| change.count)
            .sum::<u64>()
            + self.more;
        format!(
            "{changed} of {} requests would change from revision {} to {} ({} records have nothing to decide)",
            self.requests,
            self.old.revision(),
            self.new.revision(),
            self.skipped
        )
    }

    /// For a comment on a change.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        if !self.changes.is_empty() {
            text.push_str(
                "\n| who | request | change | times | last | id |\n|---|---|---|---|---|---|\n",
            );
        }
        for (key, change) in &self.changes {
            let paths: Vec<&str> = change.paths.iter().map(String::as_str).collect();
            let request = format!("{} {} {}", key.method, key.authority, paths.join(", "));
            let what = format!("{} -> {}", key.before, key.after);
            let cells = [
                key.who.clone(),
                request,
                what,
                change.count.to_string(),
                change.last.to_string(),
                change.id.clone(),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|").replace('*', "\\*"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        if self.undecided > 0 {
            let _ = writeln!(text, "\n{}", self.undecided_text());
        }
        text
    }

    /// For a program to read.
    pub fn json(&self) -> Value {
        let changes = self.changes.iter().map(|(key, change)| {
            json!({
                "workload": key.who,
                "method": key.method,
                "authority": key.authority,
                "paths": change.paths,
                "before": key.before,
                "after": key.after,
                "count": change.count,
                "first": change.first.to_string(),
                "last": change.last.to_string(),
                "lastId": change.id,
                "unknown": change.unknown,
            })
        });
        json!({
            "schema": SCHEMA,
            "old": self.old.revision(),
            "new": self.new.revision(),
            "requests": self.requests,
            "skipped": self.skipped,
            "notListed": self.more,
            "undecided": { "count": self.undecided, "unknown": self.expressions },
            "changes": changes.collect::<Vec<Value>>(),
        })
    }
}

/// The expressions of policies that may apply and that read a query, which no record has.
pub(crate) fn about_query(side: &PolicySet, asked: &Recorded) -> BTreeSet<String> {
    let Some(target) = side.target(&asked.host, asked.port) else {
        return BTreeSet::new();
    };
    let who = side.recognise(&asked.caller);
    let workloads: Vec<_> = side
        .workloads_of(&who)
        .map(|workload| &workload.name)
        .collect();
    let applies = side.policies().iter().filter(|policy| {
        let mut own = policy.workloads.iter();
        policy.target.name == target.name && own.any(|own| workloads.contains(&&own.name))
    });
    let whens = applies.filter_map(|policy| policy.conditions.when.as_ref());
    whens
        .map(ToString::to_string)
        .filter(|when| when.contains("query"))
        .collect()
}

/// What a revision says of a request, in a few words.
pub(crate) fn said(
    policies: &PolicySet,
    caller: &CallerFacts,
    request: &RequestFacts<'_>,
    at: Timestamp,
) -> String {
    let who = policies.recognise(caller);
    match policies.decide(&who, caller, request, at) {
        Decision::Unmatched => Effect::Unmatched.as_str().to_owned(),
        Decision::Deny(denial) => format!("refused ({})", denial.reason),
        decision @ Decision::Permit(grant) => {
            let credential = grant.credential();
            let credential = credential.map_or_else(
                || "without a credential".to_owned(),
                |(_, credential)| format!("with {}", credential.name),
            );
            let effect = Effect::of(&decision);
            format!(
                "{} by {} {credential}",
                effect.as_str(),
                grant.policy().name
            )
        }
    }
}

/// A recorded request, as far as it can be decided again.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) caller: CallerFacts,
    pub(crate) method: Method,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) path: CanonicalPath,
}

impl Recorded {
    /// `None` if nobody was proven, or the record has no request that could be decided.
    pub(crate) fn of(decision: &record::Decision<'_>, policies: &PolicySet) -> Option<Self> {
        let target = decision.target.as_ref()?;
        let (host, port) = target.authority.rsplit_once(':')?;
        let tunnel = target.method.is_none();
        let method = target.method.as_deref().unwrap_or("CONNECT");
        let path = if tunnel { "/" } else { target.path.as_deref()? };
        let path = path.parse().ok()?;
        Some(Self {
            caller: caller(decision, policies)?,
            method: method.parse().ok()?,
            host: Host::parse(host).ok()?,
            port: port.parse().ok()?,
            path: CanonicalPath::check_with(&path, EncodedSlash::Keep).ok()?,
        })
    }

    pub(crate) fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            host: &self.host,
            port: self.port,
            method: &self.method,
            path: &self.path,
        }
    }
}

/// The facts of a recorded caller.
fn caller(decision: &record::Decision<'_>, policies: &PolicySet) -> Option<CallerFacts> {
    let recorded = decision.caller.as_ref()?;
    recorded.proof.as_ref()?;
    let subject = recorded.subject.as_deref()?;
    let mut facts = if subject.starts_with("spiffe://") {
        CallerFacts {
            spiffe_id: Some(subject.into()),
            ..CallerFacts::default()
        }
    } else {
        let mut facts = request::account(subject)?;
        facts.cluster = recorded.issuer.as_deref().map(Into::into);
        facts.pod = recorded.pod.as_deref().map(Into::into);
        facts
    };
    // Records do not have what the Kubernetes API said of the pod; the workload that matched says it.
    let name = decision.workload.as_ref().map(|workload| &*workload.name);
    let mut workloads = policies.workloads().iter();
    if policies.recognise(&facts).is_unknown()
        && let Some(workload) = workloads.find(|workload| Some(workload.name.as_str()) == name)
    {
        let with_pod = workload.selectors.iter().map(|selector| CallerFacts {
            kubernetes: request::example(selector, workload).kubernetes,
            ..facts.clone()
        });
        let mut candidates: Vec<_> = with_pod.collect();
        candidates.retain(|candidate| !policies.recognise(candidate).is_unknown());
        if let Some(found) = candidates.pop() {
            facts = found;
        }
    }
    Some(facts)
}

#[cfg(test)]
mod tests;
