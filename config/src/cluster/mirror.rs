//! The objects of a cluster as its watches see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Boundary, Key, Object};
use crate::{model::KubernetesSource, resource::Kind};

/// The kinds that a cluster holds, in the order in which they refer to each other.
const KINDS: [Kind; 4] = [
    Kind::TargetService,
    Kind::Workload,
    Kind::Credential,
    Kind::AccessPolicy,
];

/// What one watch is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None`: all.
    pub namespace: Option<String>,
}

impl Scope {
    /// What is to be watched of a source.
    pub fn all_of(source: &KubernetesSource) -> Vec<Self> {
        let namespaces = match &source.namespaces {
            None => vec![None],
            Some(names) => names.iter().cloned().map(Some).collect(),
        };
        let of_kind = |kind| {
            namespaces.iter().map(move |namespace| Self {
                kind,
                namespace: namespace.clone(),
            })
        };
        KINDS.into_iter().flat_map(of_kind).collect()
    }

    fn has(&self, key: &Key) -> bool {
        let namespace = self.namespace.as_ref();
        self.kind == key.kind && namespace.is_none_or(|namespace| *namespace == key.namespace)
    }
}

/// As in `AccessPolicy objects of the namespace qa`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} objects", self.kind)?;
        match &self.namespace {
            Some(namespace) => write!(f, " of the namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// What a watch tells.
#[derive(Debug)]
pub enum Seen {
    /// All objects that there are.
    Listed(Scope, Vec<Object>),
    /// An object that is new or changed.
    Applied(Object),
    /// An object that is gone.
    Deleted(Key),
    /// Why nothing can be read now; `None` once it can again.
    Trouble(Scope, Option<String>),
}

/// The objects as they were seen last. While the API server is away they stay.
#[derive(Debug)]
pub struct Mirror {
    objects: BTreeMap<Key, Object>,
    scopes: BTreeMap<Scope, State>,
}

#[derive(Debug, Default)]
struct State {
    /// All was read once.
    listed: bool,
    trouble: Option<String>,
}

impl Mirror {
    /// Nothing was read yet.
    pub fn new(source: &KubernetesSource) -> Self {
        let scopes = Scope::all_of(source).into_iter();
        Self {
            objects: BTreeMap::new(),
            scopes: scopes.map(|scope| (scope, State::default())).collect(),
        }
    }

    /// Takes what a watch tells. Whether there is something to decide anew.
    pub fn see(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::Listed(scope, objects) => self.list(scope, objects),
            Seen::Applied(object) => self.apply(object),
            Seen::Deleted(key) => self.objects.remove(&key).is_some(),
            Seen::Trouble(scope, trouble) => {
                self.scopes.entry(scope).or_default().trouble = trouble;
                false
            }
        }
    }

    fn list(&mut self, scope: Scope, objects: Vec<Object>) -> bool {
        let there: BTreeSet<&Key> = objects.iter().map(|object| &object.key).collect();
        let before = self.objects.len();
        self.objects
            .retain(|key, _| !scope.has(key) || there.contains(key));
        let mut changed = self.objects.len() != before;
        for object in objects {
            changed |= self.apply(object);
        }
        let state = self.scopes.entry(scope).or_default();
        state.trouble = None;
        let is_first = !std::mem::replace(&mut state.listed, true);
        changed || is_first
    }

    fn apply(&mut self, object: Object) -> bool {
        match self.objects.get(&object.key) {
            Some(known) if known.decides_as(&object) => false,
            _ => {
                self.objects.insert(object.key.clone(), object);
                true
            }
        }
    }

    /// Whether everything was read once.
    pub fn is_complete(&self) -> bool {
        self.scopes.values().all(|state| state.listed)
    }

    /// What cannot be read, with the reason where one is known. Before everything was read once, also what is only
    /// waited for.
    pub fn troubles(&self) -> Vec<String> {
        let told =
            self.scopes
                .iter()
                .filter_map(|(scope, state)| match (&state.trouble, state.listed) {
                    (Some(trouble), _) => Some(trouble.clone()),
                    (None, false) => Some(format!("the {scope} are not read yet")),
                    (None, true) => None,
                });
        // One reason may hold for all of them.
        let told: BTreeSet<_> = told.collect();
        told.into_iter().collect()
    }

    /// Whether something that was read once cannot be read now.
    pub fn is_stale(&self) -> bool {
        self.scopes.values().any(|state| state.trouble.is_some())
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> Vec<Object> {
        self.objects.values().cloned().collect()
    }
}

impl From<&KubernetesSource> for Boundary {
    fn from(source: &KubernetesSource) -> Self {
        Self {
            operator_namespace: source.operator_namespace.clone(),
            cluster: source.cluster.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(namespace: &str, name: &str, generation: i64) -> Object {
        let object = json!({
            "metadata": {
                "name": name, "namespace": namespace, "uid": name, "generation": generation,
                "creationTimestamp": "2026-11-30T06:00:00Z",
            },
            "spec": { "owner": generation.to_string() },
        });
        Object::read(Kind::Workload, &object).unwrap()
    }

    fn workloads(namespace: &str) -> Scope {
        Scope {
            kind: Kind::Workload,
            namespace: Some(namespace.to_owned()),
        }
    }

    fn mirror() -> Mirror {
        let source = KubernetesSource {
            namespaces: Some(["qa".to_owned(), "web".to_owned()].into()),
            ..KubernetesSource::default()
        };
        let mut mirror = Mirror::new(&source);
        mirror.see(Seen::Applied(object("qa", "kept", 1)));
        mirror
    }

    fn names(mirror: &Mirror) -> Vec<String> {
        let all = mirror.objects().into_iter();
        all.map(|object| {
            format!(
                "{}/{}@{}",
                object.key.namespace, object.key.name, object.current.generation
            )
        })
        .collect()
    }

    #[test]
    fn it_is_complete_when_every_list_was_read() {
        let mut mirror = mirror();
        for scope in Scope::all_of(&KubernetesSource {
            namespaces: Some(["qa".to_owned(), "web".to_owned()].into()),
            ..KubernetesSource::default()
        }) {
            assert!(!mirror.is_complete());
            assert!(
                mirror
                    .troubles()
                    .contains(&format!("the {scope} are not read yet"))
            );
            assert!(mirror.see(Seen::Listed(scope, Vec::new())));
        }
        assert!(mirror.is_complete());
        assert_eq!(
            names(&mirror),
            Vec::<String>::new(),
            "what is gone is not kept"
        );
        assert_eq!(mirror.troubles(), Vec::<String>::new());
    }

    #[test]
    fn a_list_replaces_its_own_scope_alone() {
        let mut mirror = mirror();
        let listed = vec![object("qa", "a", 1), object("qa", "b", 1)];
        assert!(mirror.see(Seen::Listed(workloads("qa"), listed.clone())));
        assert!(mirror.see(Seen::Listed(workloads("web"), vec![object("web", "c", 1)])));
        assert_eq!(names(&mirror), ["qa/a@1", "qa/b@1", "web/c@1"]);
        assert!(
            !mirror.see(Seen::Listed(workloads("qa"), listed)),
            "nothing changed"
        );
        assert!(mirror.see(Seen::Listed(workloads("qa"), vec![object("qa", "b", 2)])));
        assert_eq!(names(&mirror), ["qa/b@2", "web/c@1"]);
    }

    #[test]
    fn what_decides_nothing_is_no_change() {
        let mut mirror = mirror();
        assert!(
            !mirror.see(Seen::Applied(object("qa", "kept", 1))),
            "such as a new status"
        );
        assert!(mirror.see(Seen::Applied(object("qa", "kept", 2))));
        assert!(mirror.see(Seen::Deleted(object("qa", "kept", 2).key)));
        assert!(!mirror.see(Seen::Deleted(object("qa", "kept", 2).key)));
    }

    #[test]
    fn trouble_takes_nothing_away() {
        let mut mirror = mirror();
        let why = Some("it is away".to_owned());
        assert!(!mirror.see(Seen::Trouble(workloads("qa"), why)));
        assert!(mirror.is_stale());
        assert!(mirror.troubles().contains(&"it is away".to_owned()));
        assert_eq!(names(&mirror), ["qa/kept@1"]);
        mirror.see(Seen::Listed(workloads("qa"), Vec::new()));
        assert!(!mirror.is_stale());
    }
}
