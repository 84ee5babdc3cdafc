//! Accepts the objects of a cluster, each on its own.
//!
//! Kind by kind, in the order in which they refer to each other: targets, workloads, credentials, policies. What is
//! wrong with one is told in its own verdict, and its last accepted version stays in force. That version is read
//! again with everything else as it is now, so what was deleted has no effect any more, at once.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Parts, boundary, credential, governance,
    head::{self, Head, Parsed},
    policy::{self, ObjectReferences, References},
    reach,
    table::ResourceTable,
    target, workload,
};
use crate::{
    cluster::{Accepted, Finding, Object, Objects, Verdict, Version, path_at, to_node},
    governance::Subjects,
    model::Target,
    problem::Problem,
    resource::Kind,
    setting::Setting,
    yaml::{Document, Findings, Source, placeholders},
};

/// What became of the objects.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) verdicts: Vec<Verdict>,
    /// The versions in force.
    pub(crate) accepted: Accepted,
}

/// Adds the objects to the resources of the files.
pub(super) fn add(
    parts: &mut Parts,
    objects: &Objects,
    accepted: &Accepted,
    setting: &Setting,
) -> Outcome {
    let mut all = Pass {
        objects,
        accepted,
        setting,
        outcome: Outcome::default(),
    };
    all.targets(parts);
    all.workloads(parts);
    all.credentials(parts);
    all.policies(parts);
    all.outcome
        .verdicts
        .sort_by(|one, other| one.key.cmp(&other.key));
    all.outcome
}

struct Pass<'o> {
    objects: &'o Objects,
    accepted: &'o Accepted,
    setting: &'o Setting,
    outcome: Outcome,
}

/// A version that is read, and whether it is the one that was accepted last.
#[derive(Clone, Copy)]
struct Attempt<'v> {
    version: &'v Version,
    is_fallback: bool,
}

impl<'o> Pass<'o> {
    fn targets(&mut self, parts: &mut Parts) {
        let candidates = self.candidates(Kind::TargetService);
        let mut claims = target::Claims::default();
        // A target of the catalog with the name of an object is not used, whatever is wrong with the object.
        let is_replaced = |target: &Target| {
            candidates.iter().any(|object| {
                object.key.name == target.name.name()
                    && self.objects.boundary.is_operators(&object.key.namespace)
            })
        };
        for target in parts.targets.values().filter(|target| !is_replaced(target)) {
            claims.add(target);
        }
        parts.targets.among_objects();
        for object in candidates {
            let Parts { base, in_files, .. } = &*parts;
            let mut may_stand = true;
            let read = |head: &Head<'_>, _: Attempt<'_>, findings: &Findings| {
                let place = head.document.location().key("metadata").key("name");
                if in_files.contains(&(Kind::TargetService, object.key.resource_name())) {
                    duplicate(head, findings);
                    return None;
                }
                if !boundary::target(&object.key, &self.objects.boundary, &place, findings) {
                    return None;
                }
                let target = target::one(head, base, findings)?;
                claims.check(&target, head, findings);
                Some(target)
            };
            let (found, verdict) = judge(object, self.accepted, read);
            // What is not the operator's must not hide what is.
            for code in ["target-not-allowed", DUPLICATE] {
                may_stand &= !verdict.findings.iter().any(|finding| finding.code == code);
            }
            let found = self.keep(object, found, verdict);
            if may_stand {
                parts.targets.put(object.key.resource_name(), found);
                if let Some(target) = parts.targets.get(&object.key.resource_name()) {
                    claims.add(target);
                }
            }
        }
    }

    fn workloads(&mut self, parts: &mut Parts) {
        let (setting, boundary) = (self.setting, &self.objects.boundary);
        let check = |written: &Parsed<'_, _>, _: Attempt<'_>, findings: &Findings| {
            let within = boundary::workload(written, boundary, findings);
            let mut workload = workload::workload(written, setting, findings)?;
            boundary::within_cluster(&mut workload, boundary);
            if setting.governance.is_some() {
                let one = [Arc::new(workload)];
                let subject = Subjects {
                    workloads: &one,
                    policies: &[],
                    credentials: &[],
                };
                governance::check_object(written.document, subject, setting, findings);
                let [one] = one;
                workload = Arc::unwrap_or_clone(one);
            }
            within.then_some(workload)
        };
        let table = self.fill(Kind::Workload, parts, check);
        put(table, &mut parts.workloads);
    }

    fn credentials(&mut self, parts: &mut Parts) {
        let (setting, boundary) = (self.setting, &self.objects.boundary);
        let targets = &parts.targets;
        let check = |written: &Parsed<'_, _>, _: Attempt<'_>, findings: &Findings| {
            let is_operators = boundary.is_operators(written.namespace());
            let (_, spec) = written.document.root.entry("spec")?;
            let location = written.document.location().at(spec);
            let within = boundary::credential(spec, &location, is_operators, findings);
            let credential = credential::credential(written, targets, setting, findings)?;
            within.then_some(credential)
        };
        let table = self.fill(Kind::Credential, parts, check);
        put(table, &mut parts.credentials);
    }

    fn policies(&mut self, parts: &mut Parts) {
        let (setting, samples) = (self.setting, reach::Samples::default());
        let Parts {
            workloads,
            targets,
            credentials,
            ..
        } = &*parts;
        let check = |written: &Parsed<'_, _>, attempt: Attempt<'_>, findings: &Findings| {
            let known = References {
                workloads,
                targets,
                credentials,
                samples: &samples,
                object: Some(ObjectReferences {
                    without_missing_workloads: attempt.is_fallback,
                }),
            };
            let within = boundary::policy(written, findings);
            let mut policy = policy::policy(written, &known, setting.now, findings)?;
            if setting.governance.is_some() {
                let one = [Arc::new(policy)];
                let subject = Subjects {
                    workloads: &[],
                    policies: &one,
                    credentials: &[],
                };
                governance::check_object(written.document, subject, setting, findings);
                let [one] = one;
                policy = Arc::unwrap_or_clone(one);
            }
            within.then_some(policy)
        };
        let table = self.fill(Kind::AccessPolicy, parts, check);
        put(table, &mut parts.policies);
    }

    /// Reads and checks all objects of a kind that has a namespace.
    fn fill<S, T>(
        &mut self,
        kind: Kind,
        parts: &Parts,
        check: impl Fn(&Parsed<'_, S>, Attempt<'_>, &Findings) -> Option<T>,
    ) -> Vec<(&'o Object, Option<T>)>
    where
        S: for<'d> Deserialize<'d>,
    {
        let mut filled = Vec::new();
        for object in self.candidates(kind) {
            let name = object.key.resource_name();
            let in_files = parts.in_files.contains(&(kind, name.clone()));
            let read = |head: &Head<'_>, attempt: Attempt<'_>, findings: &Findings| {
                if in_files {
                    duplicate(head, findings);
                    return None;
                }
                let written = Parsed {
                    name: head.name.clone()?,
                    document: head.document,
                    spec: head::spec(head, findings)?,
                };
                check(&written, attempt, findings)
            };
            let (found, verdict) = judge(object, self.accepted, read);
            let found = self.keep(object, found, verdict);
            if !in_files {
                filled.push((object, found));
            }
        }
        filled
    }

    /// The objects of a kind: those that are in force, then the older ones first. So of two that exclude each other
    /// the later one is wrong.
    fn candidates(&self, kind: Kind) -> Vec<&'o Object> {
        let all = self.objects.all.iter();
        let mut all: Vec<_> = all.filter(|object| object.key.kind == kind).collect();
        all.sort_by_cached_key(|object| {
            let is_new = self.accepted.of(object).is_none();
            (is_new, object.created.clone(), object.key.clone())
        });
        all
    }

    fn keep<T>(
        &mut self,
        object: &Object,
        found: Option<(T, Version)>,
        verdict: Verdict,
    ) -> Option<T> {
        self.outcome.verdicts.push(verdict);
        let accepted = &mut self.outcome.accepted;
        if let Some((value, version)) = found {
            accepted.put(object, version);
            return Some(value);
        }
        if let Some(last) = self.accepted.of(object) {
            accepted.put_off(object, last.clone());
        }
        None
    }
}

fn put<T>(filled: Vec<(&Object, Option<T>)>, table: &mut ResourceTable<T>) {
    table.among_objects();
    for (object, found) in filled {
        table.put(object.key.resource_name(), found);
    }
}

const DUPLICATE: &str = "duplicate-name";

fn duplicate(head: &Head<'_>, findings: &Findings) {
    findings.error(
        &head.document.location().key("metadata").key("name"),
        DUPLICATE,
        format!(
            "the gateway's files have a {} of this name, which is used",
            head.kind
        ),
        "give it another name",
    );
}

/// Reads what an object says now; if that is wrong, what it said when it was accepted last.
fn judge<T>(
    object: &Object,
    accepted: &Accepted,
    read: impl Fn(&Head<'_>, Attempt<'_>, &Findings) -> Option<T>,
) -> (Option<(T, Version)>, Verdict) {
    let current = Attempt {
        version: &object.current,
        is_fallback: false,
    };
    let (mut found, findings) = attempt(object, current, &read);
    let is_accepted = found.is_some();
    let mut in_force = &object.current;
    if let (None, Some(last)) = (&found, accepted.of(object)) {
        let again = Attempt {
            version: last,
            is_fallback: true,
        };
        found = attempt(object, again, &read).0;
        in_force = if last.says_the_same(&object.current) {
            &object.current
        } else {
            last
        };
    }
    let verdict = Verdict {
        key: object.key.clone(),
        uid: object.uid.clone(),
        generation: object.current.generation,
        in_force: found.as_ref().map(|_| in_force.generation),
        accepted: is_accepted,
        findings,
    };
    (found.map(|found| (found, in_force.clone())), verdict)
}

fn attempt<T>(
    object: &Object,
    attempt: Attempt<'_>,
    read: &impl Fn(&Head<'_>, Attempt<'_>, &Findings) -> Option<T>,
) -> (Option<T>, Vec<Finding>) {
    let source = Source {
        path: object.key.to_string().into(),
        text: String::new(),
        catalog: false,
    };
    let document = attempt.version.document();
    let documents = [Document {
        source: &source,
        root: to_node(document),
    }];
    let findings = Findings::of_object();
    placeholders::check(&documents, &findings);
    let heads = head::read_all(&documents, &findings);
    let found = heads
        .first()
        .and_then(|head| read(head, attempt, &findings));
    let found = found.filter(|_| !findings.any_error());
    let mut problems = findings.into_problems();
    problems.drop_consequences(placeholders::CODE);
    problems.sort();
    let findings = problems
        .0
        .into_iter()
        .map(|problem| finding(problem, document))
        .collect();
    (found, findings)
}

fn finding(problem: Problem, document: &serde_json::Value) -> Finding {
    Finding {
        severity: problem.severity,
        code: problem.code,
        path: problem
            .place
            .map(|place| path_at(document, place.line))
            .unwrap_or_default(),
        message: problem.message,
        remedy: problem.remedy,
    }
}
