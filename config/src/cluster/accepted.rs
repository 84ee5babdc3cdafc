//! What was accepted of the objects, which stays in force while a later version is wrong.

use std::collections::BTreeMap;

use super::{Key, Object, Version};

/// The versions in force.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    in_force: BTreeMap<Key, InForce>,
    /// Versions that were in force until something they refer to went.
    waiting: BTreeMap<Key, InForce>,
}

/// A version in force.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// Of the object that it is a version of.
    pub uid: String,
    /// What it says.
    pub version: Version,
}

impl Accepted {
    /// The version of this very object that was accepted last: from here, or what its status says. An object of the
    /// same name that was deleted since was another one.
    pub(crate) fn of<'a>(&'a self, object: &'a Object) -> Option<&'a Version> {
        let mine = self.in_force.get(&object.key);
        mine.or_else(|| self.waiting.get(&object.key))
            .filter(|in_force| in_force.uid == object.uid)
            .map(|in_force| &in_force.version)
            .or(object.recorded.as_ref())
    }

    /// An object as a text, from which a gateway that starts learns what is in force of it.
    pub fn kept(&self, object: &Object) -> serde_json::Value {
        object.to_json(self.of(object))
    }

    pub(crate) fn put(&mut self, object: &Object, version: Version) {
        let in_force = InForce {
            uid: object.uid.clone(),
            version,
        };
        self.in_force.insert(object.key.clone(), in_force);
    }

    /// Keeps a version that cannot be in force now, for when what it refers to is there again.
    pub(crate) fn put_off(&mut self, object: &Object, version: Version) {
        let in_force = InForce {
            uid: object.uid.clone(),
            version,
        };
        self.waiting.insert(object.key.clone(), in_force);
    }

    /// The version in force of an object.
    pub fn get(&self, key: &Key) -> Option<&InForce> {
        self.in_force.get(key)
    }

    /// All of them, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &InForce)> {
        self.in_force.iter()
    }
}
