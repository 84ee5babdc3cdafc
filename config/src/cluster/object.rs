//! One object of a cluster.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use serde_json::{Map, Value, json};

use crate::{
    model::ResourceName,
    resource::{API_VERSION, Kind},
};

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Its name among the resources. A target's has no namespace.
    pub(crate) fn resource_name(&self) -> ResourceName {
        if self.kind.is_namespaced() {
            ResourceName::namespaced(&self.namespace, &self.name)
        } else {
            ResourceName::cluster_wide(&self.name)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What an object says at one generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The API server counts one up with every change of the spec.
    pub generation: i64,
    /// What to read: without what the API server and the controllers add.
    document: Arc<Value>,
    /// Of the document.
    digest: [u8; 16],
}

impl Version {
    /// What an object with this spec says.
    pub fn of_spec(key: &Key, generation: i64, spec: &Value) -> Self {
        Self::new(
            key,
            generation,
            Map::from_iter([("spec".to_owned(), spec.clone())]),
        )
    }

    fn new(key: &Key, generation: i64, rest: Map<String, Value>) -> Self {
        let mut metadata = json!({ "name": key.name });
        if key.kind.is_namespaced() {
            metadata["namespace"] = json!(key.namespace);
        }
        let mut document = Map::from_iter([
            ("apiVersion".to_owned(), json!(API_VERSION)),
            ("kind".to_owned(), json!(key.kind.name())),
            ("metadata".to_owned(), metadata),
        ]);
        document.extend(rest);
        let document = Value::Object(document);
        let whole = digest::digest(&digest::SHA256, document.to_string().as_bytes());
        let mut digest = [0; 16];
        digest.copy_from_slice(&whole.as_ref()[..16]);
        Self {
            generation,
            document: Arc::new(document),
            digest,
        }
    }

    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// Its spec.
    pub fn spec(&self) -> &Value {
        &self.document["spec"]
    }

    pub(crate) fn digest(&self) -> &[u8; 16] {
        &self.digest
    }

    /// Whether both say the same.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// An object as it is in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Which.
    pub key: Key,
    /// Another one after it was deleted and made again.
    pub uid: String,
    /// When it was made, as the API server writes it; of two that exclude each other the older one counts.
    pub created: String,
    /// What it says now.
    pub current: Version,
    /// What its status says was in force while a later generation was wrong.
    pub recorded: Option<Version>,
}

impl Object {
    /// Whether a decision about the other one is the same: a new status is no other version.
    pub(super) fn decides_as(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.created == other.created
            && self.current.generation == other.current.generation
            && self.current.says_the_same(&other.current)
            && (other.recorded.is_none() || self.recorded == other.recorded)
    }

    /// The object as the API server would return it to a gateway that starts: with the version that was accepted last.
    pub(crate) fn to_json(&self, last: Option<&Version>) -> Value {
        let mut whole = Value::clone(self.current.document());
        whole["metadata"] = json!({
            "name": self.key.name,
            "namespace": self.key.namespace,
            "uid": self.uid,
            "generation": self.current.generation,
            "creationTimestamp": self.created,
        });
        if let Some(last) = last.filter(|last| last.generation < self.current.generation) {
            whole["status"] = json!({
                "inForce": { "generation": last.generation, "spec": last.spec() },
            });
        }
        whole
    }

    /// Reads an object as the API server returns it; nothing if it has no known kind or lacks what every object has.
    pub fn read(kind: Kind, object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let text = |name: &str| metadata[name].as_str().map(str::to_owned);
        let key = Key {
            kind,
            namespace: text("namespace")?,
            name: text("name")?,
        };
        let generation = metadata["generation"].as_i64().unwrap_or(1);
        let of_others = ["apiVersion", "kind", "metadata", "status"];
        let rest = object.as_object()?.iter();
        let rest = rest.filter(|(name, _)| !of_others.contains(&name.as_str()));
        let rest = rest.map(|(name, value)| (name.clone(), value.clone()));
        let in_force = &object["status"]["inForce"];
        let recorded = in_force["generation"]
            .as_i64()
            .filter(|recorded| *recorded < generation && in_force["spec"].is_object())
            .map(|recorded| Version::of_spec(&key, recorded, &in_force["spec"]));
        Some(Self {
            current: Version::new(&key, generation, rest.collect()),
            uid: text("uid").unwrap_or_default(),
            created: text("creationTimestamp").unwrap_or_default(),
            recorded,
            key,
        })
    }
}
