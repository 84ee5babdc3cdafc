//! The resources of one kind by name, including broken ones.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::head::{self, Head, Parsed};
use crate::{
    model::ResourceName,
    pace::yield_core,
    resource::Kind,
    yaml::{
        Findings, Location,
        read::{closest, did_you_mean},
    },
};

/// The resources of one kind.
#[derive(Debug)]
pub(super) struct ResourceTable<T> {
    kind: Kind,
    /// `None` is a resource that is broken.
    entries: BTreeMap<ResourceName, Option<Arc<T>>>,
    /// Whether the objects of a cluster are read now. They are accepted one by one, so a reference to a broken one is
    /// a mistake of its own; and they are of many tenants, so no name of another namespace is told.
    among_objects: bool,
}

impl<T> ResourceTable<T> {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            entries: BTreeMap::new(),
            among_objects: false,
        }
    }

    /// From now on the objects of a cluster are read.
    pub(super) fn among_objects(&mut self) {
        self.among_objects = true;
    }

    /// Reads and checks every resource of a kind.
    pub(super) fn fill<'d, S: Deserialize<'d>>(
        kind: Kind,
        heads: &[Head<'d>],
        findings: &Findings,
        check: impl Fn(&Parsed<'d, S>) -> Option<T>,
    ) -> Self {
        let mut table = Self::new(kind);
        for head in heads.iter().filter(|head| head.kind == kind) {
            yield_core();
            let spec = head::spec(head, findings);
            let Some(name) = head.name.clone() else {
                continue;
            };
            let value = spec.and_then(|spec| {
                check(&Parsed {
                    name: name.clone(),
                    document: head.document,
                    spec,
                })
            });
            if !head.duplicate {
                table.put(name, value);
            }
        }
        table
    }

    /// Adds a resource; `None` if it is broken.
    pub(super) fn put(&mut self, name: ResourceName, value: Option<T>) {
        self.entries.insert(name, value.map(Arc::new));
    }

    /// The resource with exactly this name, unless it is missing or broken.
    pub(super) fn get(&self, name: &ResourceName) -> Option<&Arc<T>> {
        self.entries.get(name)?.as_ref()
    }

    /// All that are not broken.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.entries.values().flatten()
    }

    /// All that are not broken.
    pub(super) fn into_values(self) -> Vec<Arc<T>> {
        self.entries.into_values().flatten().collect()
    }

    /// Resolves a reference: `name` in the same namespace, or `namespace/name`. A reference to nothing
    /// is a finding; one to a broken resource is not.
    pub(super) fn resolve(
        &self,
        reference: &str,
        namespace: &str,
        location: &Location<'_>,
        findings: &Findings,
    ) -> Option<&Arc<T>> {
        let name = if !self.kind.is_namespaced() {
            ResourceName::cluster_wide(reference)
        } else if let Some((namespace, name)) = reference.split_once('/') {
            ResourceName::namespaced(namespace, name)
        } else {
            ResourceName::namespaced(namespace, reference)
        };
        if let Some(entry) = self.entries.get(&name) {
            if entry.is_none() && self.among_objects {
                findings.error(
                    location,
                    "not-accepted",
                    format!(
                        "the {} `{name}` is not accepted, and no earlier version of it is in force",
                        self.kind
                    ),
                    "correct it first: its own status says what is wrong",
                );
            }
            return entry.as_ref();
        }
        findings.error(
            location,
            "dangling-reference",
            format!("there is no {} `{name}`", self.kind),
            self.remedy(&name, namespace, findings),
        );
        None
    }

    fn remedy(&self, name: &ResourceName, namespace: &str, findings: &Findings) -> String {
        if !findings.may_compare(self.entries.len()) {
            return format!("add a {} of that name", self.kind);
        }
        let may_name = |known: &&ResourceName| {
            !self.among_objects || known.namespace().is_none_or(|other| other == namespace)
        };
        // The same name elsewhere is the likeliest mistake.
        let elsewhere = self
            .entries
            .keys()
            .filter(may_name)
            .find(|known| known.name() == name.name());
        let as_written = |known: &ResourceName| match known.namespace() {
            Some(other) if other == namespace => known.name().to_owned(),
            _ => known.as_str().to_owned(),
        };
        let known: Vec<String> = self
            .entries
            .keys()
            .filter(may_name)
            .map(as_written)
            .collect();
        let mine = as_written(name);
        match elsewhere {
            Some(elsewhere) => format!("did you mean `{}`?", as_written(elsewhere)),
            None if known.is_empty() => format!("add a {} of that name", self.kind),
            None if closest(&mine, known.iter().map(String::as_str)).is_some() => {
                did_you_mean(&mine, known.iter().map(String::as_str))
            }
            None => format!(
                "add it, or name another: {}",
                did_you_mean(&mine, known.iter().map(String::as_str))
            ),
        }
    }
}
