//! Kubernetes Secrets: each that is in use is watched, so that a change is seen as it happens and
//! a look at it costs nothing.
//!
//! ```text
//! list -> watch from there -> (the watch ends: watch from the last change on)
//!   ^                          (too long ago, or broken: list again)
//! ```
//!
//! A watch that nobody has asked for a while is given up, and what it holds with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_config::model::Cluster;
use countersign_control_plane::kube::{Kube, KubeError, StoredSecret, WatchEvent};
use countersign_core::{flight::LastTime, outage::Outage, secret::Secret};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Form, SourceError};

/// After this time without a look a watch is given up.
const IDLE: Duration = Duration::from_mins(5);

/// The waits between attempts while the API server does not answer, so that a watch goes on within
/// seconds of its return.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the API server may refuse us before that is taken for what it says. It is remembered for
/// a second more.
const REFUSED_LATELY: Duration = Duration::from_secs(29);

/// The Secrets of one cluster that are in use.
#[derive(Debug)]
pub(super) struct Secrets {
    kube: Arc<Kube>,
    watched: Arc<Mutex<HashMap<Id, Entry>>>,
    /// Whether the API server hangs is the same for all of them.
    outage: Arc<Outage>,
}

/// Which Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// A Secret that is watched, and who watches it.
#[derive(Debug)]
struct Entry {
    watched: Arc<Watched>,
    _watcher: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Watched {
    id: Id,
    seen: watch::Sender<Seen>,
    asked: LastTime,
}

/// What is known of a Secret.
#[derive(Debug, Clone)]
enum Seen {
    /// Nothing yet.
    Nothing,
    /// It is this now.
    There(Arc<StoredSecret>),
    /// It is not there.
    Absent,
    /// The API server does not say, and why; since when it refuses us, if it does.
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

    /// What is under a key now. Waits for the API server only if the Secret is not watched yet.
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
        let known = seen.wait_for(|seen| !matches!(seen, Seen::Nothing));
        // The sender lives as long as `watched`.
        let known = self.outage.patiently(known).await.and_then(Result::ok);
        let known = known.map_or(Seen::Nothing, |seen| seen.clone());
        id.field(&known, key, form)
    }

    /// The Secret, watched from now on. The lock is held for the start of a task only.
    fn watched(&self, id: &Id) -> Arc<Watched> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get(id) {
            entry.watched.asked.mark();
            return Arc::clone(&entry.watched);
        }
        let watched = Arc::new(Watched {
            id: id.clone(),
            seen: watch::Sender::new(Seen::Nothing),
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
    fn field(&self, seen: &Seen, key: &str, form: Form) -> Result<Secret, SourceError> {
        let Self { namespace, name } = self.clone();
        let secret = match seen {
            Seen::There(secret) => secret,
            Seen::Absent => return Err(SourceError::NoSecret { namespace, name }),
            Seen::Unknown {
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
            Seen::Nothing => {
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

/// Watches one Secret until nobody has asked for it for a while, and forgets it then.
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
    /// Completes once nobody asks any more; it is forgotten then.
    async fn idle(self: &Arc<Self>, all: &Mutex<HashMap<Id, Entry>>) {
        loop {
            let unasked = self.asked.age().unwrap_or_default();
            sleep_until(Instant::now() + IDLE.saturating_sub(unasked)).await;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever asks does so under the lock.
            if !self.asked.within(IDLE) {
                // Its entry holds this very task, which ends here anyway.
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
                // What was missed in between is in the next list.
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    // Whoever ends each watch at once is not asked without pause.
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

    /// Notes that the API server does not say what is there.
    fn is_unknown(&self, error: KubeError) {
        self.seen.send_modify(|seen| {
            let before = match seen {
                Seen::Unknown { refused_since, .. } => *refused_since,
                Seen::Nothing | Seen::There(_) | Seen::Absent => None,
            };
            let first = error.is_refusal().then(Instant::now);
            *seen = Seen::Unknown {
                refused_since: before.or(first),
                error,
            };
        });
    }

    /// Lists the Secret and watches it from there on, until the watch cannot go on.
    ///
    /// # Errors
    /// When it cannot be listed, or not be watched.
    async fn follow_from_list(&self, kube: &Kube, outages: &[&Outage]) -> Result<(), KubeError> {
        let Id { namespace, name } = &self.id;
        let listed = kube.list_secret(namespace, name).await?;
        self.is_now(listed.secret);
        let lasted = outages.iter().filter_map(|outage| outage.over()).max();
        if let Some(lasted) = lasted {
            let seconds = lasted.as_secs();
            tracing::info!(%namespace, %name, seconds, "a Secret is watched again");
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
                    // Broken off: a list shows whether anything is wrong.
                    Err(KubeError::Gone | KubeError::Transport(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn is_now(&self, secret: Option<StoredSecret>) {
        let seen = match secret {
            Some(secret) => Seen::There(Arc::new(secret)),
            None => Seen::Absent,
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
