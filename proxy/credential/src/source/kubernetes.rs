//! Kubernetes Secrets: each one in use is watched, so that changes are noticed at once and reads are
//! cheap.
//!
//! ```text
//! list -> watch from there -> (the watch ends: watch from the last change on)
//!   ^                          (too long ago, or broken: list again)
//! ```
//!
//! A watch that no one has used for a while is stopped, and its data is released.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_config::model::Cluster;
use countersign_control_plane::kube::{Kube, KubeError, StoredSecret, WatchEvent};
use countersign_core::{outage::Outage, secret::Secret, single_flight::LastTime};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Form, SourceError};

/// A watch that is not used for this long is stopped.
const IDLE: Duration = Duration::from_mins(5);

/// The delays between attempts while the API server does not respond, so that a watch continues within
/// seconds of its return.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the API server may refuse us before the refusal counts. It is cached for one more second.
const REFUSED_LATELY: Duration = Duration::from_secs(29);

/// The Secrets of one cluster that are in use.
#[derive(Debug)]
pub(super) struct Secrets {
    kube: Arc<Kube>,
    watched: Arc<Mutex<HashMap<Id, Entry>>>,
    /// Shared by all: the API server hangs for all of them or for none.
    outage: Arc<Outage>,
}

/// Which Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// A watched Secret, and the task that watches it.
#[derive(Debug)]
struct Entry {
    watched: Arc<Watched>,
    _watcher: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Watched {
    id: Id,
    seen: watch::Sender<SecretState>,
    asked: LastTime,
}

/// What is known about a Secret.
#[derive(Debug, Clone)]
enum SecretState {
    /// Nothing yet.
    Nothing,
    /// Its current state.
    There(Arc<StoredSecret>),
    /// It does not exist.
    Absent,
    /// The API server did not say, and why; since when it refuses us, if it does.
    Unknown {
        error: KubeError,
        refused_since: Option<Instant>,
    },
}

impl Secrets {
    /// Connects to nothing yet.
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            kube: Arc::new(Kube::new(cluster)),
            watched: Arc::default(),
            outage: Arc::default(),
        }
    }

    /// The current value of a key. Waits for the API server only if the Secret is not watched yet.
    pub(super) async fn read(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        form: Form,
    ) -> Result<Secret, SourceError> {
        let id = Id {
            namespace: namespace.into(),
            name: name.into(),
        };
        let watched = self.watched(&id);
        let mut seen = watched.seen.subscribe();
        let known = seen.wait_for(|seen| !matches!(seen, SecretState::Nothing));
        // The sender lives as long as `watched`.
        let known = self.outage.patiently(known).await.and_then(Result::ok);
        let known = known.map_or(SecretState::Nothing, |seen| seen.clone());
        id.field(&known, key, form)
    }

    /// The Secret, watched from now on. The lock is held only to start a task.
    fn watched(&self, id: &Id) -> Arc<Watched> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get(id) {
            entry.watched.asked.mark();
            return Arc::clone(&entry.watched);
        }
        let watched = Arc::new(Watched {
            id: id.clone(),
            seen: watch::Sender::new(SecretState::Nothing),
            asked: LastTime::never(),
        });
        watched.asked.mark();
        let task = follow_while_asked(
            Arc::clone(&self.kube),
            Arc::clone(&watched),
            Arc::clone(&self.watched),
            Arc::clone(&self.outage),
        );
        let entry = Entry {
            watched: Arc::clone(&watched),
            _watcher: AbortOnDropHandle::new(tokio::spawn(task)),
        };
        all.insert(id.clone(), entry);
        watched
    }
}

impl Id {
    fn field(&self, seen: &SecretState, key: &str, form: Form) -> Result<Secret, SourceError> {
        let Self { namespace, name } = self.clone();
        let secret = match seen {
            SecretState::There(secret) => secret,
            SecretState::Absent => return Err(SourceError::NoSecret { namespace, name }),
            SecretState::Unknown {
                error,
                refused_since,
            } => {
                let lately = refused_since.is_some_and(|at| at.elapsed() < REFUSED_LATELY);
                return Err(SourceError::Kube {
                    namespace,
                    name,
                    error: error.clone(),
                    lately,
                });
            }
            // The API server hangs, or the process is shutting down.
            SecretState::Nothing => {
                return Err(SourceError::Kube {
                    namespace,
                    name,
                    error: KubeError::Silent,
                    lately: false,
                });
            }
        };
        match secret.bytes(key) {
            Some(bytes) => form.of(bytes, || {
                format!("the value of `{key}` in the Secret {namespace}/{name}")
            }),
            None => Err(SourceError::NoKey {
                namespace,
                name,
                key: key.into(),
                keys: listed(secret.keys()),
            }),
        }
    }
}

/// Names, for a sentence.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Arc<str> {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "none".into(),
        names => names.join(", ").into(),
    }
}

/// Watches one Secret until it has not been used for a while, and then removes it.
async fn follow_while_asked(
    kube: Arc<Kube>,
    watched: Arc<Watched>,
    all: Arc<Mutex<HashMap<Id, Entry>>>,
    outage: Arc<Outage>,
) {
    tokio::select! {
        () = watched.follow(&kube, &outage) => {}
        () = watched.idle(&all) => {}
    }
}

impl Watched {
    /// Completes when no one uses it any more; it is removed then.
    async fn idle(self: &Arc<Self>, all: &Mutex<HashMap<Id, Entry>>) {
        loop {
            let unasked = self.asked.age().unwrap_or_default();
            sleep_until(Instant::now() + IDLE.saturating_sub(unasked)).await;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            // Every read takes the lock.
            if !self.asked.within(IDLE) {
                // Its entry holds this task, which ends here anyway.
                let entry = all.remove(&self.id);
                drop(all);
                drop(entry);
                return;
            }
        }
    }

    /// Follows the Secret for ever.
    async fn follow(&self, kube: &Kube, outage: &Outage) {
        let Id { namespace, name } = &self.id;
        let (mut pause, own) = (FIRST_PAUSE, Outage::default());
        loop {
            let began = Instant::now();
            let followed = self.follow_from_list(kube, &[outage, &own]).await;
            match followed {
                // The next list has whatever was missed in between.
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    // An API server that ends each watch at once is not asked without a delay.
                    sleep_until(began + FIRST_PAUSE).await;
                }
                Err(error) => {
                    outage.failed(began);
                    if own.failed(began) {
                        tracing::warn!(%namespace, %name, %error, "a Secret cannot be watched");
                    }
                    self.is_unknown(error);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Records that the API server did not say whether the Secret exists.
    fn is_unknown(&self, error: KubeError) {
        self.seen.send_modify(|seen| {
            let before = match seen {
                SecretState::Unknown { refused_since, .. } => *refused_since,
                SecretState::Nothing | SecretState::There(_) | SecretState::Absent => None,
            };
            let first = error.is_refusal().then(Instant::now);
            *seen = SecretState::Unknown {
                refused_since: before.or(first),
                error,
            };
        });
    }

    /// Lists the Secret and watches it from there on, until the watch cannot continue.
    ///
    /// # Errors
    /// When it cannot be listed, or cannot be watched.
    async fn follow_from_list(&self, kube: &Kube, outages: &[&Outage]) -> Result<(), KubeError> {
        let Id { namespace, name } = &self.id;
        let listed = kube.list_secret(namespace, name).await?;
        self.is_now(listed.secret);
        let lasted = outages.iter().filter_map(|outage| outage.over()).max();
        if let Some(lasted) = lasted {
            let seconds = lasted.as_secs();
            tracing::info!(%namespace, %name, seconds, "the Secret is watched again");
        }
        let mut from = listed.resource_version;
        loop {
            let mut watch = match kube.watch_secret(namespace, name, &from).await {
                Err(KubeError::Gone) => return Ok(()),
                watch => watch?,
            };
            loop {
                match watch.next().await {
                    Ok(Some(WatchEvent::Present(secret))) => {
                        secret.resource_version().clone_into(&mut from);
                        self.is_now(Some(secret));
                    }
                    Ok(Some(WatchEvent::Deleted(version))) => {
                        from = version;
                        self.is_now(None);
                    }
                    Ok(Some(WatchEvent::Bookmark(version))) => from = version,
                    // The API server ends each watch after a while.
                    Ok(None) => break,
                    // Broken off: the next list shows whether anything is wrong.
                    Err(KubeError::Gone | KubeError::Transport(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn is_now(&self, secret: Option<StoredSecret>) {
        let seen = match secret {
            Some(secret) => SecretState::There(Arc::new(secret)),
            None => SecretState::Absent,
        };
        self.seen.send_replace(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_for_a_sentence() {
        assert_eq!(&*listed([].into_iter()), "none");
        assert_eq!(&*listed(["a", "b"].into_iter()), "`a`, `b`");
    }
}
