//! Whether requests that a rule allows can ever pass the target's routes.
//!
//! Patterns are tested with sample requests. Each pattern yields paths in which every wildcard is filled
//! with a word that nobody writes, so a route matches the sample only if it covers the wildcard. This
//! finds rules that never permit anything; a wide rule of which only a part can never permit is not
//! reported.

use std::{borrow::Cow, cell::RefCell, rc::Rc, str::FromStr, sync::Arc};

use foldhash::HashMap;
use http::uri::PathAndQuery;

use crate::{
    host::{Host, HostPattern},
    model::{Credential, ResourceName, Rule, SlotName, Target},
    path::{CanonicalPath, EncodedSlash, PathPatterns},
    yaml::{Findings, Location},
};

/// The text for a wildcard in samples.
const FILLER: &str = "qz0x7";

/// The samples of each target, made when its first policy is checked.
#[derive(Debug, Default)]
pub(super) struct Samples(RefCell<HashMap<ResourceName, Rc<TargetSamples>>>);

/// The samples for one target.
#[derive(Debug)]
struct TargetSamples {
    hosts: Vec<Host>,
    /// From the patterns of its routes.
    paths: Vec<CanonicalPath>,
}

impl Samples {
    fn of(&self, target: &Target) -> Rc<TargetSamples> {
        let mut all = self.0.borrow_mut();
        if let Some(samples) = all.get(&target.name) {
            return Rc::clone(samples);
        }
        let patterns = target.routes.iter().flat_map(|route| route.paths.written());
        let samples = Rc::new(TargetSamples {
            hosts: target.hosts.iter().filter_map(sample_host).collect(),
            paths: patterns.flat_map(|written| samples(written)).collect(),
        });
        all.insert(target.name.clone(), Rc::clone(&samples));
        samples
    }
}

/// Reports the rules, and the paths of rules, that the target's routes never let through. Without
/// `credentials` (they were reported) every slot counts as filled.
pub(super) fn check(
    target: &Target,
    rules: &[Rule],
    credentials: Option<&[(SlotName, Arc<Credential>)]>,
    samples: &Samples,
    location: &Location<'_>,
    findings: &Findings,
) {
    let is_filled = |slot: &SlotName| {
        credentials.is_none_or(|filled| filled.iter().any(|(filled, _)| filled == slot))
    };
    let of_target = samples.of(target);
    for (index, rule) in rules.iter().enumerate() {
        let location = location.index(index);
        let Some(hosts) = hosts(
            target,
            &of_target.hosts,
            rule,
            &location.key("hosts"),
            findings,
        ) else {
            continue;
        };
        let try_out = |pattern: &str| outcomes(target, &of_target.paths, &hosts, pattern, findings);
        if rule.paths.is_any() {
            if let Some(dead) = verdict(&try_out("/**").outcomes, is_filled) {
                dead.report(target, &location, findings);
            }
            continue;
        }
        for (index, pattern) in rule.paths.written().iter().enumerate() {
            let location = location.key("paths").index(index);
            let tried = try_out(pattern);
            match verdict(&tried.outcomes, is_filled) {
                Some(dead) => dead.report(target, &location, findings),
                None if rule.hosts.is_empty() => tried.report_hosts(target, &location, findings),
                None => {}
            }
        }
    }
}

/// Sample hosts of the target for the rule; `None` if one had to be reported.
fn hosts<'s>(
    target: &Target,
    of_target: &'s [Host],
    rule: &Rule,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Cow<'s, [Host]>> {
    let mut sound = true;
    for (index, pattern) in rule.hosts.iter().enumerate() {
        if !target.hosts.iter().any(|host| host.overlaps(pattern)) {
            sound = false;
            findings.error(
                &location.index(index),
                "host-not-of-target",
                format!(
                    "`{pattern}` is not among the hosts of the target `{}`, so the rule never matches",
                    target.name
                ),
                format!("name one of its hosts: {}", names(&target.hosts)),
            );
        }
    }
    if rule.hosts.is_empty() {
        return Some(Cow::Borrowed(of_target));
    }
    let matches = |patterns: &[HostPattern], host: &Host| {
        patterns.iter().any(|pattern| pattern.matches(host))
    };
    let of_rule = rule
        .hosts
        .iter()
        .filter_map(sample_host)
        .filter(|host| matches(&target.hosts, host));
    let of_target = of_target.iter().cloned();
    let both = of_target
        .filter(|host| matches(&rule.hosts, host))
        .chain(of_rule)
        .collect();
    sound.then_some(both)
}

/// A few of them.
fn names(hosts: &[HostPattern]) -> String {
    const MOST: usize = 12;
    hosts
        .iter()
        .take(MOST)
        .map(|host| format!("`{host}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A host that the pattern matches; `None` if its label becomes too long when the wildcard is filled in.
/// Then nothing is tested.
pub(super) fn sample_host(pattern: &HostPattern) -> Option<Host> {
    pattern
        .exact()
        .cloned()
        .or_else(|| Host::parse(&pattern.to_string().replace('*', FILLER)).ok())
}

/// What a route does with a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Denied(String),
    Attached(SlotName),
    Bare,
}

/// What became of the samples for a pattern.
struct Tried {
    outcomes: Vec<Outcome>,
    /// Hosts at which no route covers it, if it is covered only by routes for whole hosts.
    hosts_without: Vec<String>,
}

impl Tried {
    fn unknown() -> Self {
        Self {
            outcomes: vec![Outcome::Bare],
            hosts_without: Vec::new(),
        }
    }

    /// Warns about a path that only hosts with any path have: often one that is wrong for the others.
    fn report_hosts(&self, target: &Target, location: &Location<'_>, findings: &Findings) {
        let Some(first) = self.hosts_without.first() else {
            return;
        };
        let others = match self.hosts_without.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more hosts"),
        };
        findings.warning(
            location,
            "no-route-at-host",
            format!(
                "the target `{}` has no route for these requests at `{first}`{others}, only at hosts where it has a route for every path",
                target.name
            ),
            "compare the path with the target's routes; if it is right, add `hosts:` to the rule",
        );
    }
}

/// What the target does with requests that match the pattern. A route with paths is more specific than
/// one for a whole host, so the latter count only if there are none of the former. Beyond the bound on
/// tries everything counts as let through.
fn outcomes(
    target: &Target,
    of_routes: &[CanonicalPath],
    hosts: &[Host],
    pattern: &str,
    findings: &Findings,
) -> Tried {
    let own = samples(pattern);
    let mut paths: Vec<_> = own.iter().collect();
    if !of_routes.is_empty() {
        // An invalid pattern was reported where it was first parsed.
        let Ok(pattern) = PathPatterns::parse(&[pattern], false) else {
            return Tried::unknown();
        };
        if !findings.may_try(of_routes.len()) {
            return Tried::unknown();
        }
        paths.extend(of_routes.iter().filter(|path| pattern.matches(path)));
    }
    if !findings.may_try(hosts.len() * paths.len() * target.routes.len()) {
        return Tried::unknown();
    }
    let mut hosts_without = Vec::new();
    let mut by_path = Vec::new();
    let mut by_host = Vec::new();
    for host in hosts {
        let mut routed = false;
        for path in &paths {
            let Some(route) = target.route_for(host, path) else {
                continue;
            };
            routed = true;
            let outcome = match (&route.deny, &route.attach) {
                (Some(detail), _) => Outcome::Denied(detail.clone()),
                (None, Some(attach)) => Outcome::Attached(attach.slot.clone()),
                (None, None) => Outcome::Bare,
            };
            if route.paths.is_any() {
                by_host.push(outcome);
            } else {
                by_path.push(outcome);
            }
        }
        if !routed {
            hosts_without.push(host.to_string().replace(FILLER, "*"));
        }
    }
    if by_path.is_empty() {
        Tried {
            outcomes: by_host,
            hosts_without,
        }
    } else {
        Tried {
            outcomes: by_path,
            hosts_without: Vec::new(),
        }
    }
}

/// Paths that match a pattern, with wildcards filled in, without those that are not canonical.
fn samples(pattern: &str) -> Vec<CanonicalPath> {
    const DEEP: &str = "qz0x7/qz0x7";
    // Without `**` the two would be the same.
    let any: &[&str] = if pattern.contains("**") {
        &[FILLER, DEEP]
    } else {
        &[FILLER]
    };
    any.iter()
        .map(|any| pattern.replace("**", any).replace('*', FILLER))
        .filter_map(|path| {
            let path = PathAndQuery::from_str(&path).ok()?;
            CanonicalPath::check_with(&path, EncodedSlash::Keep).ok()
        })
        .collect()
}

/// Why no request for a pattern is let through.
#[derive(Debug, PartialEq, Eq)]
enum Unreachable {
    Slot(SlotName),
    Denied(String),
    NoRoute,
}

fn verdict(outcomes: &[Outcome], is_filled: impl Fn(&SlotName) -> bool) -> Option<Unreachable> {
    let mut worst = Unreachable::NoRoute;
    for outcome in outcomes {
        match outcome {
            Outcome::Bare => return None,
            Outcome::Attached(slot) => {
                if is_filled(slot) {
                    return None;
                }
                worst = Unreachable::Slot(slot.clone());
            }
            Outcome::Denied(detail) => {
                if worst == Unreachable::NoRoute {
                    worst = Unreachable::Denied(detail.clone());
                }
            }
        }
    }
    Some(worst)
}

impl Unreachable {
    fn report(&self, target: &Target, location: &Location<'_>, findings: &Findings) {
        let target = &target.name;
        match self {
            Self::Slot(slot) => findings.error(
                location,
                "slot-not-filled",
                format!(
                    "the target `{target}` sends these requests with its slot `{slot}`, for which the policy has no credential"
                ),
                format!("add `{slot}:` with a credential to the policy's `credentials`"),
            ),
            Self::Denied(detail) => findings.error(
                location,
                "path-denied",
                format!("the target `{target}` denies these requests to every workload ({detail})"),
                "remove it; workloads must not reach endpoints that issue or revoke credentials, or that are not part of the target",
            ),
            Self::NoRoute => findings.error(
                location,
                "no-route",
                format!("the target `{target}` has no route for these requests"),
                "compare it with the target's routes, or extend the target",
            ),
        }
    }
}
