//! Narrower rules, from what was used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use countersign_config::{
    host::HostPattern,
    model::{Policy, Rule},
    path::PathPatterns,
    policy::{PolicySet, Resources},
};

use crate::usage::{Made, Usage};

/// With more different values than this at one place of a path, it becomes a `*`.
const MAX_VALUES: usize = 8;

/// The most patterns of one rule; with more, nothing is suggested.
const MAX_PATTERNS: usize = 64;

/// A policy with narrower rules.
#[derive(Debug)]
pub struct Suggestion {
    /// The policy.
    pub policy: String,
    /// The rules, as YAML for `spec.allow`.
    pub yaml: String,
    changed: Arc<Policy>,
}

/// Narrower rules for every policy that is wider than what was used.
pub(super) fn suggestions(policies: &PolicySet, usage: &Usage) -> Vec<Suggestion> {
    let all = policies.policies().iter();
    all.filter_map(|policy| suggestion(policy, usage)).collect()
}

fn suggestion(policy: &Arc<Policy>, usage: &Usage) -> Option<Suggestion> {
    let mut any = false;
    let mut allow = Vec::new();
    for (index, rule) in policy.allow.iter().enumerate() {
        match narrower(policy, index, usage) {
            Some(rules) => {
                any = true;
                allow.extend(rules);
            }
            None => allow.push(rule.clone()),
        }
    }
    any.then(|| Suggestion {
        policy: policy.name.to_string(),
        yaml: yaml(policy, &allow),
        changed: Arc::new(Policy {
            allow,
            ..(**policy).clone()
        }),
    })
}

/// The policies with the suggestions in force, to compare with.
pub(super) fn applied(policies: &PolicySet, suggestions: &[Suggestion]) -> PolicySet {
    let all = policies.policies().iter().map(|policy| {
        let changed = suggestions
            .iter()
            .find(|one| one.changed.name == policy.name);
        changed.map_or_else(|| Arc::clone(policy), |one| Arc::clone(&one.changed))
    });
    PolicySet::compile(Resources {
        workloads: policies.workloads().to_vec(),
        targets: policies.targets().to_vec(),
        credentials: policies.credentials().to_vec(),
        policies: all.collect(),
        revision: format!("{}-suggested", policies.revision()),
    })
}

/// Rules that permit what was used by this rule and less than it does; `None` if there are none, if it was not used, or if it
/// is kept for emergencies.
pub(super) fn narrower(policy: &Policy, index: usize, usage: &Usage) -> Option<Vec<Rule>> {
    if policy.approval.break_glass || !policy.target.intercept {
        return None;
    }
    let mut used: BTreeSet<&Made> = BTreeSet::new();
    for workload in &policy.workloads {
        used.extend(usage.requests(workload.name.as_str(), policy.name.as_str(), Some(index))?);
    }
    let rule = &policy.allow[index];
    if used.is_empty() {
        return None;
    }
    // Rules by host and method, put together where they have the same paths.
    let mut paths: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for made in used {
        paths
            .entry((&made.host, &made.method))
            .or_default()
            .insert(&made.path);
    }
    let mut methods: BTreeMap<(&str, Vec<String>), BTreeSet<&str>> = BTreeMap::new();
    for ((host, method), paths) in paths {
        methods
            .entry((host, generalise(&paths)?))
            .or_default()
            .insert(method);
    }
    let rules = methods.into_iter().map(|((host, patterns), methods)| {
        let methods: Option<Vec<_>> = methods.iter().map(|method| method.parse().ok()).collect();
        Some(Rule {
            hosts: vec![HostPattern::parse(host).ok()?],
            methods: methods?,
            paths: PathPatterns::parse(&patterns, false).ok()?,
        })
    });
    let rules: Vec<Rule> = rules.collect::<Option<_>>()?;
    is_narrower(&rules, rule, policy).then_some(rules)
}

/// Whether the rules are not just the old one in other words: it has patterns or methods that none of them needs.
fn is_narrower(rules: &[Rule], old: &Rule, policy: &Policy) -> bool {
    let new_paths: BTreeSet<&String> = rules.iter().flat_map(|rule| rule.paths.written()).collect();
    let new_methods: BTreeSet<&str> = rules
        .iter()
        .flat_map(|rule| &rule.methods)
        .map(http::Method::as_str)
        .collect();
    let new_hosts: BTreeSet<String> = rules
        .iter()
        .flat_map(|rule| &rule.hosts)
        .map(ToString::to_string)
        .collect();
    let old_hosts = if old.hosts.is_empty() {
        &policy.target.hosts
    } else {
        &old.hosts
    };
    old.paths.is_any()
        || old.methods.is_empty()
        || old
            .methods
            .iter()
            .any(|method| !new_methods.contains(method.as_str()))
        || old
            .paths
            .written()
            .iter()
            .any(|pattern| !new_paths.contains(pattern))
        || old_hosts
            .iter()
            .any(|host| !new_hosts.contains(&host.to_string()))
}

/// Patterns for some paths: each by itself, but `*` for a segment in which many differ.
fn generalise(paths: &BTreeSet<&str>) -> Option<Vec<String>> {
    let mut by_length: BTreeMap<usize, Vec<Vec<&str>>> = BTreeMap::new();
    for path in paths {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        by_length.entry(segments.len()).or_default().push(segments);
    }
    let mut patterns = BTreeSet::new();
    for paths in by_length.into_values() {
        merge(paths, 0, &mut patterns);
    }
    (patterns.len() <= MAX_PATTERNS).then(|| patterns.into_iter().collect())
}

/// Paths of one length that are the same before `at`.
fn merge(mut paths: Vec<Vec<&str>>, at: usize, patterns: &mut BTreeSet<String>) {
    let Some(length) = paths.first().map(Vec::len) else {
        return;
    };
    if at == length {
        patterns.insert(format!("/{}", paths[0].join("/")));
        return;
    }
    let values: BTreeSet<&str> = paths.iter().map(|path| path[at]).collect();
    if values.len() > MAX_VALUES && !values.contains("") {
        for path in &mut paths {
            path[at] = "*";
        }
        merge(paths, at + 1, patterns);
        return;
    }
    for value in values {
        let same = paths
            .iter()
            .filter(|path| path[at] == value)
            .cloned()
            .collect();
        merge(same, at + 1, patterns);
    }
}

/// `spec.allow` of a policy, in YAML.
fn yaml(policy: &Policy, allow: &[Rule]) -> String {
    let list = |texts: Vec<String>| {
        // A JSON string is a YAML string.
        let quoted = texts
            .iter()
            .map(|text| serde_json::Value::from(text.as_str()).to_string());
        format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
    };
    let mut text = format!("# AccessPolicy {}\nallow:\n", policy.name);
    for rule in allow {
        let mut keys = Vec::new();
        if !rule.hosts.is_empty() {
            keys.push((
                "hosts",
                list(rule.hosts.iter().map(ToString::to_string).collect()),
            ));
        }
        if !rule.methods.is_empty() {
            keys.push((
                "methods",
                list(rule.methods.iter().map(ToString::to_string).collect()),
            ));
        }
        if !rule.paths.is_any() {
            keys.push(("paths", list(rule.paths.written().to_vec())));
        }
        if keys.is_empty() {
            text.push_str("  - {}\n");
        }
        for (index, (key, value)) in keys.into_iter().enumerate() {
            let _ = writeln!(
                text,
                "  {} {key}: {value}",
                if index == 0 { "-" } else { " " }
            );
        }
    }
    text
}
