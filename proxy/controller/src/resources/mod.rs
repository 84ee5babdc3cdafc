//! Watches the objects of the four kinds, in all namespaces or in those that the gateway names, and tells what it
//! sees.

use std::time::Duration;

use countersign_config::{
    cluster::{Key, Object, Scope, Seen},
    model::{Cluster, KubernetesSource},
    resource::Kind,
};
use futures_util::{StreamExt as _, future::join_all};
use kube::{
    Api, Client,
    api::ListParams,
    core::{ApiResource, DynamicObject},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::{backoff::Calm, client::client, crd, rights, trouble};

/// How long it waits before it reads the files of the client again.
const RETRY: Duration = Duration::from_secs(5);

/// How long after a failure it is seen whether there were no more: a watch that goes on says so only with its next
/// event. Longer than a watch waits between two attempts.
const LOOK: Duration = Duration::from_secs(25);

/// Watches until it is dropped.
pub async fn watch(cluster: Cluster, source: KubernetesSource, tell: impl Fn(Seen) + Send + Sync) {
    let client = loop {
        match client(&cluster) {
            Ok(client) => break client,
            Err(error) => {
                tracing::warn!(%error, "the objects of the cluster cannot be read");
                for scope in Scope::all_of(&source) {
                    tell(Seen::Trouble(scope, Some(error.to_string())));
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    let labels: Vec<_> = source
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let labels = labels.join(",");
    let scopes = Scope::all_of(&source).into_iter();
    let watches = scopes.filter_map(|scope| ScopeWatch::new(&client, scope, &labels, &tell));
    join_all(watches.map(ScopeWatch::run)).await;
}

/// What the API server calls a kind; `None` for the kind that no cluster holds.
pub(crate) fn api_resource(kind: Kind) -> Option<ApiResource> {
    Some(ApiResource {
        group: crd::GROUP.to_owned(),
        version: crd::version().to_owned(),
        api_version: format!("{}/{}", crd::GROUP, crd::version()),
        kind: kind.name().to_owned(),
        plural: crd::names(kind)?.plural.to_owned(),
    })
}

/// One watch.
struct ScopeWatch<'t, T> {
    client: Client,
    api: Api<DynamicObject>,
    plural: &'static str,
    scope: Scope,
    labels: String,
    tell: &'t T,
    listing: Vec<Object>,
    /// When it failed last, if it may still do so.
    failed: Option<Instant>,
    /// What was said about it.
    told: Option<String>,
}

impl<'t, T: Fn(Seen) + Sync> ScopeWatch<'t, T> {
    fn new(client: &Client, scope: Scope, labels: &str, tell: &'t T) -> Option<Self> {
        let resource = api_resource(scope.kind)?;
        Some(Self {
            api: match &scope.namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            },
            client: client.clone(),
            plural: crd::names(scope.kind)?.plural,
            scope,
            labels: labels.to_owned(),
            tell,
            listing: Vec::new(),
            failed: None,
            told: None,
        })
    }

    async fn run(mut self) {
        let mut config = watcher::Config::default();
        if !self.labels.is_empty() {
            config = config.labels(&self.labels);
        }
        let events = watcher(self.api.clone(), config).backoff(Calm::default());
        let mut events = std::pin::pin!(events);
        loop {
            let look = async {
                match self.failed {
                    Some(failed) => sleep_until(failed + LOOK).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => self.fail(&error).await,
                    None => return,
                },
                () = look => self.look().await,
            }
        }
    }

    fn take(&mut self, event: watcher::Event<DynamicObject>) {
        let kind = self.scope.kind;
        match event {
            // It is about to ask, which says nothing about the answer.
            watcher::Event::Init => {
                self.listing.clear();
                return;
            }
            watcher::Event::InitApply(object) => self.listing.extend(read(kind, object)),
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                (self.tell)(Seen::Listed(self.scope.clone(), listed));
            }
            watcher::Event::Apply(object) => {
                if let Some(object) = read(kind, object) {
                    (self.tell)(Seen::Applied(object));
                }
            }
            watcher::Event::Delete(object) => {
                if let (Some(namespace), Some(name)) =
                    (object.metadata.namespace, object.metadata.name)
                {
                    (self.tell)(Seen::Deleted(Key {
                        kind,
                        namespace,
                        name,
                    }));
                }
            }
        }
        self.recover();
    }

    async fn fail(&mut self, error: &watcher::Error) {
        self.failed = Some(Instant::now());
        let code = trouble::answer(error).map(|status| status.code);
        // It is read again at once, and nothing is lost.
        if code == Some(410) {
            return;
        }
        let missing = if code == Some(403) {
            let namespace = self.scope.namespace.as_deref();
            let needed = [
                (crd::GROUP, self.plural, "list"),
                (crd::GROUP, self.plural, "watch"),
            ];
            rights::missing(&self.client, namespace, &needed).await
        } else {
            None
        };
        let why = match (missing, code) {
            (Some(missing), _) => missing,
            (None, Some(404)) => format!(
                "the API server does not know {}.{}: apply what `countersign schema --crds` prints",
                self.plural,
                crd::GROUP
            ),
            (None, _) => format!(
                "the {} cannot be read: {}",
                self.scope,
                trouble::sentence(error)
            ),
        };
        if self.told.as_ref() != Some(&why) {
            tracing::warn!(%why, "objects of the cluster cannot be read; what was read last stays in force");
            (self.tell)(Seen::Trouble(self.scope.clone(), Some(why.clone())));
            self.told = Some(why);
        }
    }

    /// There was no failure for a while: either it goes on, or it hangs.
    async fn look(&mut self) {
        let one = ListParams::default().limit(1).match_any();
        let answered = self.api.list_metadata(&one).await.is_ok();
        if answered {
            self.recover();
        } else {
            self.failed = Some(Instant::now());
        }
    }

    fn recover(&mut self) {
        self.failed = None;
        if self.told.take().is_some() {
            tracing::info!(scope = %self.scope, "objects of the cluster are read again");
            (self.tell)(Seen::Trouble(self.scope.clone(), None));
        }
    }
}

/// An object as the reader of resources knows it; `None` if it has no name.
pub(crate) fn read(kind: Kind, object: DynamicObject) -> Option<Object> {
    let metadata = object.metadata;
    let mut whole = object.data;
    if !whole.is_object() {
        whole = json!({});
    }
    whole["metadata"] = json!({
        "name": metadata.name?,
        "namespace": metadata.namespace?,
        "uid": metadata.uid,
        "generation": metadata.generation,
        "creationTimestamp": metadata.creation_timestamp.map(|time| time.0.to_string()),
    });
    Object::read(kind, &whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: serde_json::Value) -> DynamicObject {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn all_that_stands_in_an_object_is_read() {
        let object = object(json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "Workload",
            "metadata": {
                "name": "nightly", "namespace": "qa", "uid": "u", "generation": 3,
                "creationTimestamp": "2026-11-30T06:00:00Z", "labels": { "a": "b" },
                "managedFields": [],
            },
            "spec": { "owner": "qa" },
            "staus": { "a": 1 },
            "status": { "inForce": { "generation": 2, "spec": { "owner": "before" } } },
        }));
        let read = read(Kind::Workload, object).unwrap();
        assert_eq!(read.key.to_string(), "Workload qa/nightly");
        assert_eq!((&*read.uid, &*read.created), ("u", "2026-11-30T06:00:00Z"));
        assert_eq!(read.current.generation, 3);
        assert_eq!(read.current.spec()["owner"], "qa");
        let before = read.recorded.unwrap();
        assert_eq!(
            (before.generation, &before.spec()["owner"]),
            (2, &json!("before"))
        );
    }

    /// An older validation may have let in what is no object of ours.
    #[test]
    fn what_has_no_spec_is_an_object_too() {
        let metadata = json!({ "name": "nightly", "namespace": "qa" });
        let object = object(json!({ "metadata": metadata }));
        assert!(read(Kind::Workload, object).is_some());
    }
}
