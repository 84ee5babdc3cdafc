//! What the API server says of pods: labels, images, node, Job and `CronJob`, and whether the pod still
//! runs.
//!
//! This is the store alone. The controller's watch fills it; identification reads it, and every open
//! connection of a pod learns from it when the pod ends or becomes another.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use countersign_config::policy::PodFacts;
use tokio::{sync::watch, time::timeout};

/// How long an identification waits for a pod that was not seen yet: the kubelet tells a moment after
/// the start what a container's image is.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many ended pods are remembered, so that their tokens are refused after the object is gone.
const ENDED_KEPT: usize = 65_536;

/// A pod as the API server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPod {
    /// The pod's uid.
    pub uid: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// What is known of it.
    pub facts: PodFacts,
    /// Whether all of that is known: the image of each container, and the owner of its Job.
    pub complete: bool,
    /// Why it has ended, if it has.
    pub ended: Option<PodEnd>,
}

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodEnd {
    /// Its object was deleted.
    Deleted,
    /// All its containers ended well.
    Succeeded,
    /// It failed, or was evicted.
    Failed,
}

impl PodEnd {
    fn words(self) -> &'static str {
        match self {
            Self::Deleted => "its pod was deleted",
            Self::Succeeded => "its pod has ended (phase Succeeded)",
            Self::Failed => "its pod has ended (phase Failed)",
        }
    }
}

/// Why a pod is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// Something else is known of it now.
    Changed,
    Ended(&'static str),
}

/// What is known of one pod, at one moment.
#[derive(Debug)]
pub(super) struct KnownPod {
    pub(super) facts: Arc<PodFacts>,
    complete: bool,
    namespace: Arc<str>,
    gone: OnceLock<Gone>,
    /// For those who wait for that.
    told: watch::Sender<()>,
}

impl KnownPod {
    /// Why this is no longer so. An atomic load while nothing changed.
    pub(super) fn gone(&self) -> Option<Gone> {
        self.gone.get().copied()
    }

    /// Completes when this is no longer so.
    pub(super) async fn over(&self) {
        let mut told = self.told.subscribe();
        if self.gone().is_none() {
            // The sender is `self`.
            let _ = told.changed().await;
        }
    }

    fn end(&self, why: Gone) {
        if self.gone.set(why).is_ok() {
            self.told.send_replace(());
        }
    }
}

/// What is known of the pod of a token.
#[derive(Debug)]
pub(super) enum Found {
    /// Pods of this namespace are not watched.
    NotWatched,
    Known(Arc<KnownPod>),
    Ended(&'static str),
    /// Why it is not known.
    Unknown(Arc<str>),
}

/// The pods of one cluster.
#[derive(Debug, Default)]
pub struct Pods {
    state: Mutex<State>,
    /// Counts changes, for whoever waits.
    version: watch::Sender<u64>,
    /// The namespaces whose pods policy asks about.
    wanted: watch::Sender<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct State {
    /// By uid.
    pods: HashMap<Arc<str>, Arc<KnownPod>>,
    ended: HashMap<Arc<str>, PodEnd>,
    /// The ended ones in order, the oldest first.
    endings: VecDeque<Arc<str>>,
    namespaces: HashMap<Arc<str>, NamespaceState>,
}

#[derive(Debug, Default)]
struct NamespaceState {
    /// Whether all its pods were read once.
    synced: bool,
    /// Why it cannot be read now.
    trouble: Option<Arc<str>>,
}

impl Pods {
    /// The namespaces whose pods policy asks about.
    pub fn wanted(&self) -> watch::Receiver<BTreeSet<String>> {
        self.wanted.subscribe()
    }

    /// Sets the namespaces whose pods policy asks about.
    pub fn want(&self, namespaces: BTreeSet<String>) {
        self.wanted.send_if_modified(|wanted| {
            let differs = *wanted != namespaces;
            *wanted = namespaces;
            differs
        });
    }

    /// What the API server now says of one pod.
    pub fn observe(&self, pod: ObservedPod) {
        let mut state = self.state();
        if let Some(end) = pod.ended {
            state.end(&pod.uid, end);
        } else if !state.ended.contains_key(&pod.uid) {
            state.know(pod);
        }
        drop(state);
        self.tell();
    }

    /// A pod's object is gone.
    pub fn deleted(&self, uid: &Arc<str>) {
        self.state().end(uid, PodEnd::Deleted);
        self.tell();
    }

    /// All pods of a namespace were read: these. Those that are known and not among them are gone.
    pub fn synced(&self, namespace: &str, uids: &HashSet<Arc<str>>) {
        let mut state = self.state();
        let missing: Vec<Arc<str>> = state
            .pods
            .iter()
            .filter(|(uid, pod)| *pod.namespace == *namespace && !uids.contains(*uid))
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        for uid in missing {
            state.end(&uid, PodEnd::Deleted);
        }
        *state.namespace(namespace) = NamespaceState {
            synced: true,
            trouble: None,
        };
        drop(state);
        self.tell();
    }

    /// Why the pods of a namespace cannot be watched now; `None` once they can again.
    pub fn trouble(&self, namespace: &str, why: Option<&str>) {
        self.state().namespace(namespace).trouble = why.map(Arc::from);
        self.tell();
    }

    /// Pods of a namespace are no longer watched. What was known of them is forgotten.
    pub fn unwatched(&self, namespace: &str) {
        let mut state = self.state();
        state.namespaces.remove(namespace);
        state.pods.retain(|_, pod| {
            let other = *pod.namespace != *namespace;
            if !other {
                pod.end(Gone::Changed);
            }
            other
        });
        drop(state);
        self.tell();
    }

    /// How many pods are known.
    pub fn count(&self) -> usize {
        self.state().pods.len()
    }

    /// The namespaces that policy asks about and that were not read yet, with the reason where one is
    /// known.
    pub fn unsynced(&self) -> Vec<(String, Option<Arc<str>>)> {
        let state = self.state();
        let wanted = self.wanted.borrow();
        let waits = wanted.iter().filter_map(|name| {
            let namespace = state.namespaces.get(name.as_str());
            match namespace {
                Some(namespace) if namespace.synced => None,
                other => Some((name.clone(), other.and_then(|it| it.trouble.clone()))),
            }
        });
        waits.collect()
    }

    /// What is known of a pod. Waits a moment for one that was not seen yet, or not with everything.
    pub(super) async fn find(&self, namespace: &str, uid: &str) -> Found {
        let mut changes = self.version.subscribe();
        let settled = async {
            loop {
                changes.mark_unchanged();
                let found = self.look(namespace, uid);
                let waits = match &found {
                    Found::Known(pod) => !pod.complete,
                    Found::Unknown(_) => true,
                    Found::NotWatched | Found::Ended(_) => false,
                };
                if !waits {
                    return found;
                }
                // The sender lives as long as `self`.
                let _ = changes.changed().await;
            }
        };
        match timeout(PATIENCE, settled).await {
            Ok(found) => found,
            Err(_) => self.look(namespace, uid),
        }
    }

    fn look(&self, namespace: &str, uid: &str) -> Found {
        let state = self.state();
        if let Some(end) = state.ended.get(uid) {
            return Found::Ended(end.words());
        }
        let trouble = || state.namespaces.get(namespace)?.trouble.as_ref();
        if let Some(pod) = state.pods.get(uid) {
            return match trouble() {
                // What is missing may be what decides: the caller learns why it is missing.
                Some(why) if !pod.complete => Found::Unknown(Arc::clone(why)),
                _ => Found::Known(Arc::clone(pod)),
            };
        }
        if !self.wanted.borrow().contains(namespace) {
            return Found::NotWatched;
        }
        let known = state.namespaces.get(namespace);
        let why = match known {
            None => "the watch of its pods has not begun".into(),
            Some(NamespaceState {
                trouble: Some(why), ..
            }) => Arc::clone(why),
            Some(NamespaceState { synced: false, .. }) => "its pods are not all read yet".into(),
            Some(NamespaceState { synced: true, .. }) => {
                "the API server has not shown a pod with this uid".into()
            }
        };
        Found::Unknown(why)
    }

    fn tell(&self) {
        self.version
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn namespace(&mut self, name: &str) -> &mut NamespaceState {
        self.namespaces.entry(name.into()).or_default()
    }

    fn know(&mut self, pod: ObservedPod) {
        let before = self.pods.get(&pod.uid);
        if before.is_some_and(|known| *known.facts == pod.facts && known.complete == pod.complete) {
            return;
        }
        let known = Arc::new(KnownPod {
            facts: Arc::new(pod.facts),
            complete: pod.complete,
            namespace: pod.namespace,
            gone: OnceLock::new(),
            told: watch::Sender::new(()),
        });
        if let Some(before) = self.pods.insert(pod.uid, known) {
            before.end(Gone::Changed);
        }
    }

    fn end(&mut self, uid: &Arc<str>, end: PodEnd) {
        if self.ended.contains_key(uid) {
            return;
        }
        if let Some(pod) = self.pods.remove(uid) {
            pod.end(Gone::Ended(end.words()));
        }
        self.ended.insert(Arc::clone(uid), end);
        self.endings.push_back(Arc::clone(uid));
        if self.endings.len() > ENDED_KEPT
            && let Some(oldest) = self.endings.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
