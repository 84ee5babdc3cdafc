//! Compares two revisions class by class.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use countersign_config::{
    host::Host,
    model::{ResourceName, Target},
    path::{CanonicalPath, EncodedSlash},
    policy::{CallerFacts, PolicySet},
};
use http::Method;
use jiff::{SignedDuration, Timestamp};

use super::{
    Callers, Difference, Example, Outcome, Report,
    atoms::{Atoms, RequestClass},
    callers::{CallerClass, Selectors},
    decision::{Clauses, Decider, differing},
    region::{Cell, Region, Space, products},
    revision::{Revision, changed_targets},
};
use crate::space::{
    TooComplex, hosts,
    paths::{self, Atom, PathClass},
    times::Timeline,
};

/// How many of a difference's classes are tried for an example.
const MAX_TRIES: usize = 256;

/// The longest time that is compared, if a `notAfter` is far away.
const LONGEST: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// Times of at least this length are compared: all changes of clocks and all days of a year are in it.
const YEAR: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Compares two revisions, from `from` on for at least a year.
pub fn diff(old: &PolicySet, new: &PolicySet, from: Timestamp) -> Report {
    let all = old.workloads().iter().chain(new.workloads());
    let selectors = Selectors::of(all);
    let [old, new] = [old, new].map(|policies| Revision::new(policies, &selectors));
    let mut comparison = Comparison {
        changed_targets: changed_targets(&old, &new),
        selectors: &selectors,
        timeline: Timeline::new(from, horizon(&old, &new, from)),
        paths: HashMap::new(),
        differences: Vec::new(),
        known: HashMap::new(),
        incomplete: BTreeSet::new(),
        old,
        new,
    };
    comparison.run();
    let mut differences = comparison.differences;
    differences.sort_by_cached_key(Difference::order);
    Report {
        revisions: [&comparison.old, &comparison.new]
            .map(|side| side.policies.revision().to_owned()),
        from,
        until: comparison.timeline.until(),
        differences,
        incomplete: comparison.incomplete.into_iter().collect(),
        selectors,
    }
}

/// Until when times are compared: a year, and past every `notAfter`.
fn horizon(old: &Revision<'_>, new: &Revision<'_>, from: Timestamp) -> Timestamp {
    let least = from.checked_add(YEAR).unwrap_or(Timestamp::MAX);
    let most = from.checked_add(LONGEST).unwrap_or(Timestamp::MAX);
    let policies = old
        .policies
        .policies()
        .iter()
        .chain(new.policies.policies());
    let ends = policies.filter_map(|policy| policy.conditions.not_after);
    let past = ends.filter_map(|end| end.checked_add(SignedDuration::from_hours(24)).ok());
    past.max().map_or(least, |last| last.clamp(least, most))
}

/// A comparison while it is made.
struct Comparison<'p, 's> {
    old: Revision<'p>,
    new: Revision<'p>,
    selectors: &'s Selectors,
    changed_targets: BTreeSet<&'p ResourceName>,
    timeline: Timeline,
    paths: HashMap<Vec<Atom>, Result<Arc<Vec<PathClass>>, TooComplex>>,
    differences: Vec<Difference>,
    /// The differences with the same outcomes, clauses and example but for the caller.
    known: HashMap<(Outcome, Outcome, Vec<String>, String), Vec<usize>>,
    incomplete: BTreeSet<String>,
}

/// One class of callers, and the workloads that it matches in both revisions.
struct Asking<'p> {
    class: CallerClass,
    old: Vec<&'p ResourceName>,
    new: Vec<&'p ResourceName>,
}

impl<'p> Comparison<'p, '_> {
    fn run(&mut self) {
        let nobody = CallerClass {
            selectors: Vec::new(),
            example: CallerFacts::default(),
        };
        self.compare_callers(nobody);
        for group in self.selectors.groups() {
            if !self.is_concerned(&group) {
                continue;
            }
            let Ok(classes) = self.selectors.classes(&group) else {
                let names = self.new.workloads(&group);
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                self.incomplete.insert(format!(
                    "the selectors of {} overlap in too many ways",
                    names.join(", ")
                ));
                continue;
            };
            for class in classes {
                self.compare_callers(class);
            }
        }
    }

    /// Whether anything is different for callers that match some of these selectors.
    fn is_concerned(&self, group: &[u32]) -> bool {
        let is_same = |selector: &u32| {
            let one = vec![*selector];
            let (old, new) = (self.old.workloads(&one), self.new.workloads(&one));
            old == new && self.touched(&old, &new).is_empty()
        };
        !self.changed_targets.is_empty() || !group.iter().all(is_same)
    }

    /// The targets for which these workloads' policies are not the same.
    fn touched(&self, old: &[&ResourceName], new: &[&ResourceName]) -> BTreeSet<&'p ResourceName> {
        let mut all = self.old.targets(old);
        all.extend(self.new.targets(new));
        all.retain(|target| {
            let before = self.old.candidates(old, target);
            let after = self.new.candidates(new, target);
            self.old.texts(&before) != self.new.texts(&after)
        });
        all
    }

    fn compare_callers(&mut self, class: CallerClass) {
        let asking = Asking {
            old: self.old.workloads(&class.selectors),
            new: self.new.workloads(&class.selectors),
            class,
        };
        let mut concerned = self.touched(&asking.old, &asking.new);
        concerned.extend(&self.changed_targets);
        // Targets that share no host differ each on its own, and are much faster to compare so.
        for together in self.apart(&concerned) {
            if let Err(TooComplex) = self.compare_targets(&asking, &together) {
                let names: Vec<_> = together.iter().map(|name| name.as_str()).collect();
                self.incomplete.insert(format!(
                    "the patterns for {} overlap in too many ways",
                    names.join(", ")
                ));
            }
        }
    }

    /// Targets in groups, such that no host is of targets in two groups.
    fn apart(&self, targets: &BTreeSet<&'p ResourceName>) -> Vec<Vec<&'p ResourceName>> {
        let mut groups: Vec<Vec<&'p ResourceName>> = Vec::new();
        for target in targets {
            let (with, mut others): (Vec<_>, Vec<_>) = groups
                .into_iter()
                .partition(|group| group.iter().any(|other| self.share_hosts(target, other)));
            others.push(with.into_iter().flatten().chain([*target]).collect());
            groups = others;
        }
        groups
    }

    fn share_hosts(&self, one: &ResourceName, two: &ResourceName) -> bool {
        let of = |name| self.both(name).into_iter().flat_map(|target| &target.hosts);
        of(one).any(|own| of(two).any(|other| own.overlaps(other)))
    }

    fn both(&self, name: &ResourceName) -> Vec<&'p Arc<Target>> {
        [&self.old, &self.new]
            .iter()
            .filter_map(|side| side.governed(name))
            .collect()
    }

    fn compare_targets(
        &mut self,
        asking: &Asking<'p>,
        names: &[&'p ResourceName],
    ) -> Result<(), TooComplex> {
        let targets: Vec<_> = names.iter().flat_map(|name| self.both(name)).collect();
        let policies = names.iter().flat_map(|name| {
            let old = self.old.candidates(&asking.old, name);
            old.into_iter()
                .chain(self.new.candidates(&asking.new, name))
        });
        let policies: Vec<_> = policies.collect();
        let atoms = Atoms::of(
            policies.iter().map(|policy| &***policy),
            targets.iter().map(|target| &***target),
        );
        let space = Arc::new(Space {
            hosts: hosts::classes(&atoms.hosts)?,
            paths: self.path_classes(&atoms.paths)?,
            methods: atoms.methods(),
            atoms,
        });
        let ports: BTreeSet<u16> = targets
            .iter()
            .flat_map(|target| target.ports.iter().copied())
            .collect();
        let mut found: BTreeMap<_, Vec<Cell>> = BTreeMap::new();
        for (host, (_, example)) in space.hosts.iter().enumerate() {
            for port in &ports {
                let sides = [&self.old, &self.new].map(|side| side.policies.target(example, *port));
                // A rule may name hosts that its target does not have.
                let is_here = |target: &Arc<Target>| names.contains(&&target.name);
                match sides.map(|side| side.map(is_here)) {
                    [None | Some(false), None | Some(false)] => continue,
                    [Some(false), _] | [_, Some(false)] => return Err(TooComplex),
                    [None | Some(true), None | Some(true)] => {}
                }
                self.compare_place(asking, &space, (host, *port), sides, &mut found);
            }
        }
        for ((targets, before, after, unknown), cells) in found {
            for region in products(&space, &cells) {
                let outcomes = (before.clone(), after.clone());
                self.add(asking, region, targets.clone(), outcomes, unknown.clone());
            }
        }
        Ok(())
    }

    fn path_classes(&mut self, atoms: &[Atom]) -> Result<Arc<Vec<PathClass>>, TooComplex> {
        if let Some(known) = self.paths.get(atoms) {
            return known.clone();
        }
        let classes = paths::classes(atoms).map(Arc::new);
        self.paths.insert(atoms.to_vec(), classes.clone());
        classes
    }

    /// Compares all requests for one host and port.
    fn compare_place(
        &self,
        asking: &Asking<'p>,
        space: &Space,
        (host, port): (usize, u16),
        [old, new]: [Option<&'p Arc<Target>>; 2],
        found: &mut BTreeMap<Found, Vec<Cell>>,
    ) {
        let decider = |revision, workloads, target| Decider {
            revision,
            workloads,
            atoms: &space.atoms,
            target,
        };
        let before = decider(&self.old, asking.old.as_slice(), old);
        let after = decider(&self.new, asking.new.as_slice(), new);
        let names = [old, new].map(|target| target.map(|target| target.name.to_string()));
        for (method_index, method) in space.methods.iter().enumerate() {
            for (path, (path_set, _)) in space.paths.iter().enumerate() {
                let request = RequestClass {
                    hosts: &space.hosts[host].0,
                    paths: path_set,
                    method,
                };
                let mut clauses = Clauses::default();
                let before = before.decide(request, &mut clauses);
                let after = after.decide(request, &mut clauses);
                if before.is_same(&after) {
                    continue;
                }
                for (open, when) in self.timeline.classes(&clauses.windows).iter() {
                    let pairs = differing(&before, &after, &clauses, open);
                    for ((before, after), unknown) in pairs {
                        let key = (names.clone(), before, after, unknown);
                        found.entry(key).or_default().push(Cell {
                            host,
                            port,
                            method: method_index,
                            path,
                            when: when.clone(),
                        });
                    }
                }
            }
        }
    }

    fn add(
        &mut self,
        asking: &Asking<'p>,
        region: Region,
        targets: [Option<String>; 2],
        (before, after): (Outcome, Outcome),
        unknown: Vec<String>,
    ) {
        let text = |names: &[&ResourceName]| names.iter().map(ToString::to_string).collect();
        let callers = Callers {
            workloads: [text(&asking.old), text(&asking.new)],
            example: asking.class.example.clone(),
            class: asking.class.clone(),
        };
        let sample = format!("{:?}", region.samples().next());
        let key = (before.clone(), after.clone(), unknown.clone(), sample);
        let alike = self.known.entry(key).or_default();
        let same = alike
            .iter()
            .find(|index| self.differences[**index].region.is_same(&region));
        if let Some(index) = same {
            self.differences[*index].callers.push(callers);
            return;
        }
        let is_as_said = |example: &Example| {
            example.effect(self.old.policies) == before.effect
                && example.effect(self.new.policies) == after.effect
        };
        let mut examples = region
            .samples()
            .filter_map(|sample| example(&callers.example, sample));
        let first = examples.next();
        let confirmed = first
            .iter()
            .cloned()
            .chain(examples)
            .take(MAX_TRIES)
            .find(is_as_said);
        let is_confirmed = confirmed.is_some();
        let Some(example) = confirmed.or(first) else {
            // The automata accept only canonical paths.
            self.incomplete
                .insert(format!("no example was found for {}", callers.text()));
            return;
        };
        let [reason_before, reason_after] =
            [&self.old, &self.new].map(|side| example.reason(side.policies));
        let before = Outcome {
            reason: reason_before,
            ..before
        };
        let after = Outcome {
            reason: reason_after,
            ..after
        };
        alike.push(self.differences.len());
        self.differences.push(Difference {
            callers: vec![callers],
            targets,
            before,
            after,
            unknown,
            example,
            confirmed: is_confirmed,
            region,
        });
    }
}

/// What differs: the targets, the outcomes, and on which clauses it depends.
type Found = ([Option<String>; 2], Outcome, Outcome, Vec<String>);

fn example(
    caller: &CallerFacts,
    (host, port, method, path, at): (&Host, u16, &Method, &str, Timestamp),
) -> Option<Example> {
    let path = path.parse().ok()?;
    Some(Example {
        caller: caller.clone(),
        method: method.clone(),
        host: host.clone(),
        port,
        path: CanonicalPath::check_with(&path, EncodedSlash::Keep).ok()?,
        at,
    })
}
