//! The patterns of all rules and routes that are compared, each once and with a number.

use std::collections::{BTreeMap, BTreeSet};

use countersign_config::{
    host::HostPattern,
    model::{Policy, Route, Rule, Target},
    path::PathPatterns,
};
use http::Method;

use crate::space::{
    Set,
    paths::{self, Atom},
};

/// A class of requests, but for the caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestClass<'a> {
    /// Which of the host patterns match.
    pub(crate) hosts: &'a Set,
    /// Which of the path patterns match.
    pub(crate) paths: &'a Set,
    pub(crate) method: &'a Method,
}

/// Host patterns, path patterns and methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Atoms {
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) paths: Vec<Atom>,
    pub(crate) methods: BTreeSet<String>,
    slash: Option<u32>,
    host_numbers: BTreeMap<String, u32>,
    path_numbers: BTreeMap<Atom, u32>,
}

/// The pattern of a rule, which stands for itself, so that a difference can name it.
fn of_rule(pattern: &str) -> Atom {
    Atom {
        patterns: vec![pattern.to_owned()],
        lenient: false,
    }
}

/// The patterns of a route, of which it matters only whether any matches.
fn of_route(route: &Route) -> Option<Atom> {
    (!route.paths.is_any()).then(|| Atom {
        patterns: route.paths.written().to_vec(),
        lenient: route.paths.is_lenient(),
    })
}

impl Atoms {
    pub(crate) fn of<'a>(
        policies: impl Iterator<Item = &'a Policy>,
        targets: impl Iterator<Item = &'a Target>,
    ) -> Self {
        let mut hosts: BTreeMap<String, HostPattern> = BTreeMap::new();
        let mut atoms: BTreeSet<Atom> = BTreeSet::new();
        let mut methods = BTreeSet::new();
        let mut add_host = |pattern: &HostPattern| {
            hosts.insert(pattern.to_string(), pattern.clone());
        };
        for rule in policies.flat_map(|policy| &policy.allow) {
            rule.hosts.iter().for_each(&mut add_host);
            methods.extend(rule.methods.iter().map(|method| method.as_str().to_owned()));
            atoms.extend(rule.paths.written().iter().map(|pattern| of_rule(pattern)));
        }
        let mut keeps_slashes = false;
        for target in targets {
            target.hosts.iter().for_each(&mut add_host);
            target
                .routes
                .iter()
                .filter_map(|route| route.host.as_ref())
                .for_each(&mut add_host);
            atoms.extend(target.routes.iter().filter_map(of_route));
            keeps_slashes |= target.encoded_slash == countersign_config::path::EncodedSlash::Keep;
        }
        if keeps_slashes {
            atoms.insert(paths::encoded_slash());
        }
        let paths: Vec<Atom> = atoms.into_iter().collect();
        let path_numbers: BTreeMap<Atom, u32> = paths.iter().cloned().zip(0_u32..).collect();
        Self {
            host_numbers: hosts.keys().cloned().zip(0_u32..).collect(),
            hosts: hosts.into_values().collect(),
            slash: keeps_slashes.then(|| path_numbers[&paths::encoded_slash()]),
            paths,
            path_numbers,
            methods,
        }
    }

    fn host(&self, pattern: &HostPattern, hosts: &Set) -> bool {
        hosts
            .binary_search(&self.host_numbers[&pattern.to_string()])
            .is_ok()
    }

    pub(crate) fn path(&self, atom: &Atom, paths: &Set) -> bool {
        paths.binary_search(&self.path_numbers[atom]).is_ok()
    }

    /// Whether paths with these atoms have an encoded slash. Without a target that keeps these, no path that is
    /// looked at has one.
    pub(crate) fn has_encoded_slash(&self, paths: &Set) -> bool {
        self.slash
            .is_some_and(|slash| paths.binary_search(&slash).is_ok())
    }

    pub(crate) fn keeps_encoded_slashes(&self) -> bool {
        self.slash.is_some()
    }

    pub(crate) fn route(&self, route: &Route, request: RequestClass<'_>) -> bool {
        route
            .host
            .as_ref()
            .is_none_or(|host| self.host(host, request.hosts))
            && of_route(route).is_none_or(|atom| self.path(&atom, request.paths))
    }

    pub(crate) fn rule(&self, rule: &Rule, request: RequestClass<'_>) -> bool {
        let paths = rule.paths.written();
        (rule.methods.is_empty() || rule.methods.contains(request.method))
            && (rule.hosts.is_empty()
                || rule.hosts.iter().any(|host| self.host(host, request.hosts)))
            && (paths.is_empty()
                || paths
                    .iter()
                    .any(|pattern| self.path(&of_rule(pattern), request.paths)))
    }

    /// The classes of methods: each that a rule names, and one for all others.
    pub(crate) fn methods(&self) -> Vec<Method> {
        const USUAL: [&str; 8] = [
            "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND",
        ];
        let mut all: Vec<Method> = self
            .methods
            .iter()
            .filter_map(|method| method.parse().ok())
            .collect();
        let longer = || {
            format!(
                "{}X",
                self.methods
                    .iter()
                    .max_by_key(|name| name.len())
                    .map_or("", |name| name)
            )
        };
        let other = USUAL.into_iter().find(|name| !self.methods.contains(*name));
        all.extend(other.map_or_else(longer, str::to_owned).parse::<Method>());
        all
    }

    /// Whether this method stands for all that no rule names.
    pub(crate) fn is_other(&self, method: &Method) -> bool {
        !self.methods.contains(method.as_str())
    }

    /// The atoms of a path.
    pub(crate) fn matching_paths(&self, path: &countersign_config::path::CanonicalPath) -> Set {
        let matches = |atom: &Atom| {
            let patterns = PathPatterns::parse(&atom.patterns, atom.lenient);
            patterns.is_ok_and(|patterns| patterns.matches(path))
        };
        let all = (0_u32..).zip(&self.paths);
        all.filter(|(_, atom)| matches(atom))
            .map(|(number, _)| number)
            .collect()
    }
}
