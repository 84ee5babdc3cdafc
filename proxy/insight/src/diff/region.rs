//! Where two revisions differ: products of hosts, ports, methods, paths and times.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_config::{host::Host, policy::RequestFacts};
use http::Method;
use jiff::Timestamp;

use super::atoms::Atoms;
use crate::space::{
    Set,
    hosts::{self, HostClass},
    paths::PathClass,
    times::{self, Interval, Intervals},
};

/// The classes that differences are made of, for some patterns.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) atoms: Atoms,
    pub(crate) hosts: Vec<HostClass>,
    pub(crate) paths: Arc<Vec<PathClass>>,
    pub(crate) methods: Vec<Method>,
}

/// One class of requests, by the indices of its parts.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) host: usize,
    pub(crate) port: u16,
    pub(crate) method: usize,
    pub(crate) path: usize,
    pub(crate) when: Intervals,
}

type Indices = BTreeSet<usize>;

/// All combinations of some hosts, ports, methods, paths and times.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) space: Arc<Space>,
    pub(crate) hosts: Indices,
    pub(crate) ports: BTreeSet<u16>,
    pub(crate) methods: Indices,
    pub(crate) paths: Indices,
    pub(crate) when: Arc<Vec<Interval>>,
}

impl Region {
    /// Whether a request at some time is in it.
    pub(crate) fn contains(&self, request: &RequestFacts<'_>, at: Timestamp) -> bool {
        let Space {
            atoms,
            hosts,
            paths,
            methods,
        } = &*self.space;
        let is_host = |set: &Set| self.hosts.iter().any(|index| hosts[*index].0 == *set);
        let is_path = |set: &Set| self.paths.iter().any(|index| paths[*index].0 == *set);
        let is_method = |index: &usize| {
            let method = &methods[*index];
            method == request.method || (atoms.is_other(method) && atoms.is_other(request.method))
        };
        // Where no target keeps them, paths with an encoded slash are refused before and after.
        let is_looked_at = atoms.keeps_encoded_slashes() || !request.path.as_str().contains("%2F");
        is_looked_at
            && times::contains(&self.when, at)
            && self.ports.contains(&request.port)
            && self.methods.iter().any(is_method)
            && is_host(&hosts::matching(&atoms.hosts, request.host))
            && is_path(&atoms.matching_paths(request.path))
    }

    /// Whether it has the same requests, said in the same patterns.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.hosts == other.hosts
            && self.ports == other.ports
            && self.methods == other.methods
            && self.paths == other.paths
            && self.when == other.when
            && self.space.atoms == other.space.atoms
    }

    /// Some of its classes, in a stable order: host, port, method, path, time.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (&Host, u16, &Method, &str, Timestamp)> {
        let Space {
            hosts,
            paths,
            methods,
            ..
        } = &*self.space;
        self.hosts.iter().flat_map(move |host| {
            self.ports.iter().flat_map(move |port| {
                self.methods.iter().flat_map(move |method| {
                    self.paths.iter().flat_map(move |path| {
                        self.when.iter().take(4).map(move |(from, _)| {
                            let path = paths[*path].1.as_str();
                            (&hosts[*host].1, *port, &methods[*method], path, *from)
                        })
                    })
                })
            })
        })
    }
}

/// The fewest products that this finds for some cells: each cell is in exactly one.
pub(crate) fn products(space: &Arc<Space>, cells: &[Cell]) -> Vec<Region> {
    let mut whens: BTreeMap<(usize, u16, usize, usize), Vec<&Intervals>> = BTreeMap::new();
    for Cell {
        host,
        port,
        method,
        path,
        when,
    } in cells
    {
        whens
            .entry((*host, *port, *method, *path))
            .or_default()
            .push(when);
    }
    let mut times: BTreeMap<Vec<Interval>, usize> = BTreeMap::new();
    let mut paths: BTreeMap<_, Indices> = BTreeMap::new();
    for ((host, port, method, path), when) in whens {
        let next = times.len();
        let when = *times.entry(times::union(when.into_iter())).or_insert(next);
        paths
            .entry((host, port, method, when))
            .or_default()
            .insert(path);
    }
    let mut methods: BTreeMap<_, Indices> = BTreeMap::new();
    for ((host, port, method, when), paths) in paths {
        methods
            .entry((host, port, paths, when))
            .or_default()
            .insert(method);
    }
    let mut ports: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
    for ((host, port, paths, when), methods) in methods {
        ports
            .entry((host, methods, paths, when))
            .or_default()
            .insert(port);
    }
    let mut hosts: BTreeMap<_, Indices> = BTreeMap::new();
    for ((host, methods, paths, when), ports) in ports {
        hosts
            .entry((ports, methods, paths, when))
            .or_default()
            .insert(host);
    }
    let times: BTreeMap<usize, Arc<Vec<Interval>>> = times
        .into_iter()
        .map(|(when, index)| (index, Arc::new(when)))
        .collect();
    let regions = hosts
        .into_iter()
        .map(|((ports, methods, paths, when), hosts)| Region {
            space: Arc::clone(space),
            hosts,
            ports,
            methods,
            paths,
            when: Arc::clone(&times[&when]),
        });
    regions.collect()
}
