//! What the server keeps: objects with versions, the changes since its last compaction, and the watches
//! that are told of them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{failure::Failure, kinds::Kind, selector::Selector};

/// Where an object is kept. The collection is `GROUP/RESOURCE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) collection: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Default)]
pub(super) struct Storage {
    pub(super) version: u64,
    /// Changes up to this version are forgotten.
    pub(super) forgotten: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    changes: VecDeque<Change>,
    watchers: Vec<Watcher>,
    /// What is left of lists that were read in pages.
    pub(super) pages: HashMap<String, Page>,
}

#[derive(Clone)]
struct Change {
    version: u64,
    key: Key,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

/// The rest of a list as it was when its first page was read.
pub(super) struct Page {
    pub(super) version: u64,
    pub(super) left: Vec<Arc<Value>>,
}

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Full,
    /// As `PartialObjectMetadata`.
    Metadata,
}

/// One watch.
pub(super) struct Watcher {
    pub(super) kind: Kind,
    /// Empty for the whole cluster.
    pub(super) namespace: String,
    pub(super) selector: Selector,
    pub(super) bookmarks: bool,
    pub(super) form: Form,
    pub(super) lines: mpsc::UnboundedSender<Bytes>,
}

impl Key {
    pub(super) fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        Self {
            collection: kind.collection(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl Watcher {
    fn covers(&self, key: &Key) -> bool {
        self.kind.collection() == key.collection
            && (self.namespace.is_empty() || self.namespace == key.namespace)
    }

    /// Whether anyone still reads.
    pub(super) fn send(&self, kind: &str, object: &Value) -> bool {
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        self.lines.send(Bytes::from(line)).is_ok()
    }

    /// Whether anyone still reads.
    fn tell(&self, change: &Change) -> bool {
        if !self.covers(&change.key) {
            return !self.lines.is_closed();
        }
        let wanted = |object: &&Arc<Value>| self.selector.matches(object);
        let before = change.before.as_ref().filter(wanted);
        let after = change.after.as_ref().filter(wanted);
        let (kind, object) = match (before, after) {
            (None, None) => return !self.lines.is_closed(),
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        let mut shown = shown(object, &self.kind, self.form);
        // A deletion has a version of its own.
        shown["metadata"]["resourceVersion"] = change.version.to_string().into();
        self.send(kind, &shown)
    }

    pub(super) fn bookmark(&self, version: u64, annotations: &Value) -> bool {
        let (api_version, kind) = match self.form {
            Form::Full => (self.kind.api_version(), self.kind.kind.clone()),
            Form::Metadata => (
                "meta.k8s.io/v1".to_owned(),
                "PartialObjectMetadata".to_owned(),
            ),
        };
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        });
        if !annotations.is_null() {
            object["metadata"]["annotations"] = annotations.clone();
        }
        self.send("BOOKMARK", &object)
    }
}

/// An object as a response has it.
pub(super) fn shown(object: &Value, kind: &Kind, form: Form) -> Value {
    match form {
        Form::Metadata => json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": object["metadata"],
        }),
        Form::Full => {
            let mut object = object.clone();
            object["apiVersion"] = kind.api_version().into();
            object["kind"] = kind.kind.clone().into();
            object
        }
    }
}

impl Storage {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The objects of a collection; of all namespaces if it is empty.
    pub(super) fn all<'a>(
        &'a self,
        collection: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let first = Key {
            collection: collection.to_owned(),
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            key.collection == collection && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    /// Keeps an object, or deletes it with `None`, and tells all watches. Returns what is kept.
    pub(super) fn put(&mut self, key: Key, object: Option<Value>) -> Option<Arc<Value>> {
        self.version += 1;
        let after = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            Arc::new(object)
        });
        let before = match &after {
            Some(after) => self.objects.insert(key.clone(), Arc::clone(after)),
            None => self.objects.remove(&key),
        };
        let change = Change {
            version: self.version,
            key,
            before,
            after: after.clone(),
        };
        self.watchers.retain(|watcher| watcher.tell(&change));
        self.changes.push_back(change);
        after
    }

    /// Starts a watch after a version.
    pub(super) fn watch_from(&mut self, version: u64, watcher: Watcher) {
        // It is said within the watch, and ends it.
        if version < self.forgotten {
            let message = format!("too old resource version: {version} ({})", self.version);
            watcher.send("ERROR", &Failure::gone(&message).status());
            return;
        }
        for change in self
            .changes
            .iter()
            .filter(|change| change.version > version)
        {
            watcher.tell(change);
        }
        self.watchers.push(watcher);
    }

    /// Starts a watch with what is there now.
    pub(super) fn watch_all(&mut self, watcher: Watcher, tell_end: bool) {
        let collection = watcher.kind.collection();
        for (_, object) in self.all(&collection, &watcher.namespace) {
            if watcher.selector.matches(object) {
                watcher.send("ADDED", &shown(object, &watcher.kind, watcher.form));
            }
        }
        if tell_end {
            watcher.bookmark(self.version, &json!({"k8s.io/initial-events-end": "true"}));
        }
        self.watchers.push(watcher);
    }

    /// Tells the watchers how far they are.
    pub(super) fn bookmark(&mut self) {
        let version = self.version;
        self.watchers
            .retain(|watcher| !watcher.bookmarks || watcher.bookmark(version, &Value::Null));
    }

    /// Ends all watches, as their `timeoutSeconds` would.
    pub(super) fn end_watches(&mut self) {
        self.watchers.clear();
    }

    /// How many watches are open: of one resource, or of all.
    pub(super) fn watches(&self, resource: Option<&str>) -> usize {
        let open = |watcher: &&Watcher| {
            let wanted = resource.is_none_or(|resource| watcher.kind.resource == resource);
            wanted && !watcher.lines.is_closed()
        };
        self.watchers.iter().filter(open).count()
    }

    /// Forgets what changed until now, as etcd's compaction does.
    pub(super) fn forget_changes(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.changes.clear();
        self.pages.clear();
    }
}
