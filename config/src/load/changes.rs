//! What differs between two revisions of the operator's resources.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use crate::{
    cluster::Accepted,
    pace::yield_core,
    resource::Kind,
    yaml::{Document, Node, Value},
};

/// How a resource differs from the revision before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is new.
    Added,
    /// It says something else.
    Changed,
    /// It is gone.
    Removed,
}

impl Changed {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// A resource that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub what: Changed,
    /// Its kind.
    pub kind: Kind,
    /// Its name, after its namespace if it has one.
    pub name: String,
}

/// A fingerprint of each of the operator's resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<(Kind, String), u64>);

impl Fingerprints {
    pub(super) fn of(documents: &[Document<'_>], accepted: &Accepted) -> Self {
        let own = documents.iter().filter(|document| !document.source.catalog);
        let known = own.filter_map(|document| {
            yield_core();
            let root = &document.root;
            let kind = Kind::parse(root.text("kind")?)?;
            let (_, metadata) = root.entry("metadata")?;
            let name = metadata.text("name")?;
            let name = match metadata.text("namespace") {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name.to_owned(),
            };
            let mut hasher = DefaultHasher::new();
            hash(root, &mut hasher);
            Some(((kind, name), hasher.finish()))
        });
        let objects = accepted.iter().map(|(key, in_force)| {
            let mut hasher = DefaultHasher::new();
            in_force.version.digest().hash(&mut hasher);
            ((key.kind, key.resource_name().to_string()), hasher.finish())
        });
        Self(known.chain(objects).collect())
    }

    /// What differs in `next`, by kind and name.
    pub fn changes(&self, next: &Self) -> Vec<Change> {
        let change = |what, (kind, name): &(Kind, String)| Change {
            what,
            kind: *kind,
            name: name.clone(),
        };
        let present = next
            .0
            .iter()
            .filter_map(|(key, new)| match self.0.get(key) {
                None => Some(change(Changed::Added, key)),
                Some(old) if old != new => Some(change(Changed::Changed, key)),
                Some(_) => None,
            });
        let gone = self.0.keys().filter(|key| !next.0.contains_key(key));
        let mut changes: Vec<_> = present
            .chain(gone.map(|key| change(Changed::Removed, key)))
            .collect();
        changes.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        changes
    }
}

/// Hashes what a node says, not where it stands.
fn hash(node: &Node, hasher: &mut DefaultHasher) {
    std::mem::discriminant(&node.value).hash(hasher);
    match &node.value {
        Value::Null => {}
        Value::Bool(value) => value.hash(hasher),
        Value::Integer(value) => value.hash(hasher),
        Value::Unsigned(value) => value.hash(hasher),
        Value::Float(value) => value.to_bits().hash(hasher),
        Value::Text(text) => text.hash(hasher),
        Value::List(items) => {
            items.len().hash(hasher);
            for item in items {
                hash(item, hasher);
            }
        }
        Value::Map(entries) => {
            entries.len().hash(hasher);
            for (key, item) in entries {
                key.text.hash(hasher);
                hash(item, hasher);
            }
        }
    }
}
